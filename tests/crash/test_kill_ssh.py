"""Over SSH, both ways: our end is killed at each of its acts, the helper at the other end at each of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.kit import Field, Runner, watched
from tests.crash.matrix import acts_of, every, kill_each, sampled
from tests.crash.smurf_kit import FarSite, make_far
from tests.nursery import Nursery
from tests.sshd import Sshd, sshd

WAYS = ("pull", "push")
PARTS = 4
HELPER_BLOWS = [("pull", "after"), pytest.param("push", "before", marks=pytest.mark.long), ("push", "after")]
"""Of a pull it does nothing but answer."""
SABOTEUR = Path(__file__).with_name("far_saboteur.py")


def site(root: Path, server: Sshd, way: str) -> FarSite:
    return make_far(
        root, 3, sync="fsync", pull=server if way == "pull" else None, push=server if way == "push" else None
    )


# ── our end ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory, far: Sshd, nursery: Nursery) -> dict[str, list[str]]:
    """Of an undisturbed run, by the way that the files go."""
    found = {}
    for way in WAYS:
        made = site(tmp_path_factory.mktemp(way), far, way)
        made.runner = nursery.run
        found[way] = acts_of(made)
    return found


def test_the_acts_are_what_we_think(acts: dict[str, list[str]]) -> None:
    both = {"spawn ssh", "spawn rsync", "commit transfers"}
    assert both | {f"ask {op}" for op in ("area", "land", "seal", "publish", "sync", "drop")} <= set(acts["push"])
    assert both <= set(acts["pull"])
    kinds = {way: Counter(act.split()[0] for act in found) for way, found in acts.items()}
    assert (kinds["pull"]["link"], kinds["pull"]["rename"], kinds["push"]["link"]) == (3, 3, 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", WAYS)
def test_our_end_is_killed(
    tmp_path: Path, far: Sshd, nursery: Nursery, acts: dict[str, list[str]], way: str, when: str
) -> None:
    """At each sort of act. What we asked for may still be done at the other end while the next run is at work."""
    blows = sampled(acts[way], when, since="spawn ssh")
    kill_each(tmp_path, lambda root: site(root, far, way), blows, runner=nursery.run)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("way", WAYS)
def test_our_end_is_killed_everywhere(
    tmp_path: Path, far: Sshd, nursery: Nursery, acts: dict[str, list[str]], way: str, part: int, when: str
) -> None:
    kill_each(tmp_path, lambda root: site(root, far, way), every(acts[way], part, PARTS, when), runner=nursery.run)


# ── the other end ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Hand:
    """An other end whose helpers write down what they do, and one of which dies where it is told to."""

    server: Sshd
    here: Path

    def plan(self, when: str = "", at: int = 0, act: str = "") -> None:
        """The `at`-th act of that name; none."""
        (self.here / "plan").write_text(f"{when} {at} {act}")
        (self.here / "acts").write_text("")

    def acts(self) -> list[str]:
        return (self.here / "acts").read_text().splitlines()

    def struck(self) -> bool:
        return not (self.here / "plan").exists()


@contextmanager
def hand_at(here: Path) -> Iterator[Hand]:
    program = here / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SABOTEUR}" "{here}" "$@"\n')
    program.chmod(0o755)
    with sshd(here / "it", path=f"{program.parent}:/usr/bin:/bin") as server:
        yield Hand(server, here)


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with hand_at(tmp_path_factory.mktemp("hand")) as made:
        yield made


@pytest.fixture(scope="module")
def far_acts(tmp_path_factory: pytest.TempPathFactory, hand: Hand, nursery: Nursery) -> dict[str, list[str]]:
    """The same of the other end's helpers."""
    found = {}
    for way in WAYS:
        made = site(tmp_path_factory.mktemp(way), hand.server, way)
        made.runner = nursery.run
        hand.plan()
        made.finish()
        found[way] = hand.acts()
        made.assert_whole()
    return found


def kill_the_helper(made: Field, hand: Hand, blow: tuple[str, int, str], runner: Runner, *, may_miss: bool) -> None:
    """Our end goes on by itself, in the same run, and blames no file."""
    made.runner = runner
    hand.plan(*blow)
    with watched(made) as seen:
        done = made.run({"rest": 0.05})
        assert done.returncode == 0, (blow, done.stderr.decode())
        assert hand.struck() or may_miss, blow
        assert made.visible() == made.placed, blow
        made.finish()  # sweeps what the helper left in staging
    assert seen == [], blow
    made.assert_whole()


def test_the_far_acts_are_what_we_think(far_acts: dict[str, list[str]]) -> None:
    counts = {way: Counter(found) for way, found in far_acts.items()}
    assert {"hear present", "hear list", "hear look"} <= set(counts["pull"])
    assert {act for act in counts["pull"] if not act.startswith("hear ")} == set()
    assert {"mkdir", "fchmod", "utime", "fsync", "hear publish", "hear drop", "rmdir"} <= set(counts["push"])
    assert [counts["push"][act] for act in ("rename", "link")] == [3, 3]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("way", "when"), HELPER_BLOWS)
def test_the_helper_is_killed(
    tmp_path: Path, hand: Hand, nursery: Nursery, far_acts: dict[str, list[str]], way: str, when: str
) -> None:
    """Before the first act of each sort, after the last; after the first of each request was heard."""
    counts = Counter(far_acts[way])
    heard = {act for act in counts if act.startswith("hear ")}
    for n, act in enumerate(counts.keys() - heard if when == "before" else counts):
        at = counts[act] - 1 if when == "after" and act not in heard else 0
        made = site(tmp_path / str(n), hand.server, way)
        kill_the_helper(made, hand, (when, at, act), nursery.run, may_miss=False)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("way", "when"), HELPER_BLOWS)
def test_the_helper_is_killed_everywhere(
    tmp_path: Path, hand: Hand, nursery: Nursery, far_acts: dict[str, list[str]], way: str, when: str
) -> None:
    """How often we look is a matter of time, so that the last looks may not be."""
    counts = Counter[str]()
    for n, act in enumerate(far_acts[way]):
        heard = act.startswith("hear ")
        if when == "after" or not heard:
            made = site(tmp_path / str(n), hand.server, way)
            kill_the_helper(made, hand, (when, counts[act], act), nursery.run, may_miss=heard)
        counts[act] += 1
