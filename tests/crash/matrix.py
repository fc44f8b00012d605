"""Count the durable acts of a run, kill another run at one of them, start it again, compare."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.crash.kit import Field, Plan, Runner, watched

Maker = Callable[[Path], Field]

SLACK = 3
"""Threads share a few commits (who we are, how places are), so a run has an act or two more or less: a blow at the last
ones may miss."""


def acts_of(made: Field, *options: str) -> list[str]:
    """Every durable act of an undisturbed run, in order."""
    listed = made.root / "acts"
    done = made.run({"count": str(listed)}, *options)
    assert done.returncode == 0, done.stderr.decode()
    made.assert_whole()
    return listed.read_text().splitlines()


def kill_each(
    root: Path, make: Maker, blows: Iterable[tuple[str, Plan, bool]], *options: str, runner: Runner | None = None
) -> None:
    """(what it is, the plan's `kill`, whether it may miss) of each blow: a run of its own, then a second one."""
    n = -1
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
            made.assert_whole()
        except AssertionError as error:
            raise AssertionError(f"killed {blow['when']} {what}: {error}") from error
    assert n >= 0, "no blow was struck"
