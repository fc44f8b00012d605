"""Count the durable acts of a run, kill another run at one of them, start it again, compare."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.crash.kit import Field, Plan, Runner, watched
from tests.crash.smurf_kit import TABLE

Maker = Callable[[Path], Field]
Blow = tuple[str, Plan, bool]
"""What it is, the plan's `kill`, and whether it may miss."""

SLACK = 3
"""Threads share a few commits (who we are, how places are), so a run has an act or two more or less: a blow at the last
ones may miss."""

HEALTH = "commit places"
"""How a place is: written when it is first seen to be well, by whichever thread sees it first, or not at all."""

QUICK = {"commit transfers": 1, "commit notices": 2, f"commit {TABLE}": 1}
"""So many of these there are in any run. A slow one has more: leases that are renewed, and verdicts that are settled,
and told, one after the other instead of together."""

TELLING = {"ask", "spawn", "commit", "fsync"}
"""Acts whose second word says which sort of them it is, and not only which file."""


def acts_of(made: Field, *options: str) -> list[str]:
    """Every durable act of an undisturbed run, in order."""
    listed = made.root / "acts"
    done = made.run({"count": str(listed)}, *options)
    assert done.returncode == 0, done.stderr.decode()
    made.assert_whole()
    return listed.read_text().splitlines()


def every(acts: list[str], part: int, parts: int, when: str, *, slack: int = SLACK) -> Iterator[Blow]:
    for at in range(part, len(acts), parts):
        yield f"act {at} ({acts[at]})", {"at": at, "when": when}, at >= len(acts) - slack


def each(acts: list[str], when: str, wanted: Callable[[str], bool]) -> Iterator[Blow]:
    """At every act whose sort is `wanted`. Counted within its sort, so that it hits, whatever other threads do."""
    counts = Counter[str]()
    for act in acts:
        sort = sort_of(act)
        if wanted(sort):
            may_miss = sort == HEALTH or counts[sort] >= QUICK.get(sort, len(acts))
            yield sort, {"act": sort, "at": counts[sort], "when": when}, may_miss
        counts[sort] += 1


def sampled(acts: list[str], when: str, *, since: str = "") -> Iterator[Blow]:
    """Before the first act of each sort, or after the last: of the sorts that come after the first act `since`."""
    sorts = set(map(sort_of, acts[acts.index(since) if since else 0 :]))
    chosen: dict[str, Blow] = {}
    for blow in each(acts, when, sorts.__contains__):
        if when == "after" or blow[0] not in chosen:
            chosen[blow[0]] = blow
    yield from chosen.values()


def sort_of(act: str) -> str:
    kind = act.split(" ")[0]
    return act if kind in TELLING else kind


def kill_each(
    root: Path, make: Maker, blows: Iterable[Blow], *options: str, runner: Runner | None = None, attempts: int = 0
) -> None:
    """A run of its own for each blow, then a second one; `attempts`: as many as a file may have spent."""
    n, hits = -1, 0
    for n, (what, blow, may_miss) in enumerate(blows):
        made = make(root / str(n))
        made.runner = runner
        try:
            with watched(made) as seen:
                first = made.run({"kill": blow}, *options)
                hit = first.returncode == -signal.SIGKILL
                assert hit or (may_miss and first.returncode == 0), first.stderr.decode()
                assert made.wrong() == []
                made.finish(*options)
            assert seen == []
            made.assert_whole(attempts=attempts)
        except AssertionError as error:
            raise AssertionError(f"killed {blow['when']} {what}: {error}") from error
        hits += hit
    assert n >= 0, "no blow was struck"
    assert 2 * hits > n, "most of the blows missed"
