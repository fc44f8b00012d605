"""SIGKILL before and after every durable act of an archive run, from the first to the last; then it is run again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.crash.kit import Field, make_field, watched

FILES, PARTS = 3, 8
ONE_STREAM = ("--streams", "1")  # so that the acts come in one order


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every durable act of an undisturbed run, in order."""
    root = tmp_path_factory.mktemp("count")
    made = make_field(root, FILES)
    done = made.run({"count": str(root / "acts")}, *ONE_STREAM)
    assert done.returncode == 0, done.stderr.decode()
    made.assert_whole()
    return (root / "acts").read_text().splitlines()


def test_the_acts_are_what_we_think(acts: list[str]) -> None:
    kinds = {act.split()[0] for act in acts}
    assert {"mkdir", "open", "write", "fchmod", "utime", "fsync", "link", "unlink", "commit"} <= kinds
    assert [act for act in acts if act.startswith("link")] != []


def killed_at(root: Path, at: int, when: str, *, last: bool) -> Field:
    made = make_field(root, FILES)
    with watched(made) as seen:
        first = made.run({"kill": {"at": at, "when": when}}, *ONE_STREAM)
        # Two threads share the first commits, so a run has one act more or less: the last may not come.
        assert first.returncode == -signal.SIGKILL or (last and first.returncode == 0), first.stderr.decode()
        assert made.wrong() == []
        again = made.run(None, *ONE_STREAM)
    assert again.returncode == 0, again.stderr.decode()
    assert seen == []
    made.assert_whole()
    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_every_durable_act(tmp_path: Path, acts: list[str], part: int, when: str) -> None:
    points = range(part, len(acts), PARTS)
    assert points
    for at in points:
        try:
            killed_at(tmp_path / str(at), at, when, last=at >= len(acts) - 2)
        except AssertionError as error:
            raise AssertionError(f"killed {when} act {at} ({acts[at]}): {error}") from error


@pytest.mark.timeout(300)
def test_killed_between_link_and_dropping_the_staged_name_then_the_source_changes(tmp_path: Path) -> None:
    """What was published stays what it is; the change is a conflict of its own, for a person."""
    made = make_field(tmp_path, 1)
    (name,) = made.truth
    first = made.run({"kill": {"act": "link", "at": 0, "when": "after"}}, *ONE_STREAM)
    assert first.returncode == -signal.SIGKILL
    path = os.path.join(os.fsencode(made.source), name)
    os.unlink(path)
    published = made.truth[name]
    made.write(name, b"another content")
    made.truth[name] = published
    again = made.run(None, *ONE_STREAM)
    assert again.returncode == 3, again.stderr.decode()
    assert made.visible() == {name: published}
    assert b"conflict" in again.stdout + again.stderr
