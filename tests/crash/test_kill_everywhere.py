"""SIGKILL before and after every durable act, from the first to the last; then it is run again."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.kit import ONE_STREAM, Field, Plan, make_field, make_site
from tests.crash.matrix import SLACK, acts_of, every, kill_each
from tests.nursery import Nursery

PARTS = 8
MANY_PARTS = 16


def few(root: Path) -> Field:
    """An fsync for each."""
    return make_field(root, 3)


def many(root: Path) -> Field:
    """So many that one syncfs is cheaper."""
    return make_field(root, 20, largest=5_000)


def handed_off(root: Path) -> Field:
    return make_site(root, 3)


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return acts_of(few(tmp_path_factory.mktemp("count")), *ONE_STREAM)


@pytest.fixture(scope="module")
def acts_of_many(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return acts_of(many(tmp_path_factory.mktemp("count")), *ONE_STREAM)


@pytest.fixture(scope="module")
def acts_of_site(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return acts_of(handed_off(tmp_path_factory.mktemp("count")))


def test_the_acts_are_what_we_think(acts: list[str], acts_of_many: list[str], acts_of_site: list[str]) -> None:
    common = {"mkdir", "open", "write", "fchmod", "utime", "link", "unlink", "rmdir", "commit"}
    counts, of_many, of_site = (Counter(act.split()[0] for act in each) for each in (acts, acts_of_many, acts_of_site))
    assert common | {"fsync"} <= set(counts)
    assert common | {"syncfs"} <= set(of_many)
    assert "syncfs" not in counts
    assert (counts["link"], of_many["syncfs"], of_site["link"]) == (3, 1, 9)  # a handoff links into staging, then out


def test_the_nursery_runs_the_same_program(tmp_path: Path, nursery: Nursery, acts: list[str]) -> None:
    made = few(tmp_path)
    made.runner = nursery.run
    mine, plain = (
        Counter(act for act in each if not act.startswith("commit")) for each in (acts_of(made, *ONE_STREAM), acts)
    )
    assert len(mine - plain) == len(plain - mine) == 2  # the token, made and removed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_every_durable_act(tmp_path: Path, nursery: Nursery, acts: list[str], part: int, when: str) -> None:
    kill_each(tmp_path, few, every(acts, part, PARTS, when), *ONE_STREAM, runner=nursery.run)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.long)])
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_every_durable_act_with_a_handoff(
    tmp_path: Path, nursery: Nursery, acts_of_site: list[str], part: int, when: str
) -> None:
    kill_each(tmp_path, handed_off, every(acts_of_site, part, PARTS, when), runner=nursery.run)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("chosen", ["syncfs", "commit", "others"])
def test_kill_where_one_syncfs_serves_all(
    tmp_path: Path, nursery: Nursery, acts_of_many: list[str], chosen: str, when: str
) -> None:
    """Every syncfs and every commit; the second and the last but one of each other kind."""

    def blows() -> Iterator[tuple[str, Plan, bool]]:
        for kind, count in Counter(act.split()[0] for act in acts_of_many).items():
            if chosen == (kind if kind in ("syncfs", "commit") else "others"):
                points = range(count) if chosen != "others" else sorted({min(1, count - 1), max(0, count - 2)})
                for at in points:
                    blow = {"act": kind, "at": at, "when": when}
                    yield f"{kind} {at} of {count}", blow, kind == "commit" and at >= count - SLACK

    kill_each(tmp_path, many, blows(), *ONE_STREAM, runner=nursery.run)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(MANY_PARTS))
def test_kill_at_every_durable_act_of_many_files(
    tmp_path: Path, nursery: Nursery, acts_of_many: list[str], part: int, when: str
) -> None:
    kill_each(tmp_path, many, every(acts_of_many, part, MANY_PARTS, when), *ONE_STREAM, runner=nursery.run)


@pytest.mark.timeout(300)
def test_killed_between_link_and_dropping_the_staged_name_then_the_source_changes(tmp_path: Path) -> None:
    """What was published stays what it is; the change is a conflict of its own, for a person."""
    made = make_field(tmp_path, 1)
    (name,) = made.truth
    first = made.run({"kill": {"act": "link", "at": 0, "when": "after"}}, *ONE_STREAM)
    assert first.returncode == -signal.SIGKILL
    os.unlink(made.at_source(name))
    published = made.truth[name]
    made.write(name, b"another content")
    made.truth[name] = published
    again = made.run(None, *ONE_STREAM)
    assert again.returncode == 3, again.stderr.decode()
    assert made.visible() == {name: published}
    assert b"conflict" in again.stdout + again.stderr


@pytest.mark.timeout(300)
def test_the_source_vanishes_between_publication_and_verdict(tmp_path: Path) -> None:
    """It was promised and it stands there: it counts as archived, and nobody asks the source again."""
    made = few(tmp_path)
    first = made.run({"kill": {"act": "link", "at": 0, "when": "after"}}, *ONE_STREAM)
    assert first.returncode == -signal.SIGKILL
    (published,) = made.visible()
    os.unlink(made.at_source(published))
    assert made.finish(*ONE_STREAM)["archived"] == 3
    made.assert_whole()
