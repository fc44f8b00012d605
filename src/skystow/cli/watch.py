"""Live progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from skystow.cli.present import files, of_place, size, tell
from skystow.model.records import Health
from skystow.wiring import House

REDRAW = 0.2
LINES_EVERY = 5.0
RATE_OVER = 3.0
"""Seconds over which a rate is taken: files are settled in groups, a second apart."""


class Pace:
    """What the numbers of a run say in a line: so far, and how fast since the last line."""

    def __init__(self, house: House) -> None:
        self.progress = house.progress
        self._copies = len(house.lanes) > len(house.inlets)  # a file with two copies is carried twice
        self._before = (time.monotonic(), 0)
        self._rate = 0.0

    def line(self) -> str:
        done, seen = self.progress.done, self.progress.seen
        made = f"{done.delivered:,} copies made" if self._copies else f"{files(done.delivered)} archived"
        parts = [made, f"{size(done.bytes)}", f"{size(self._measure(done.bytes))}/s"]
        parts.append(f"{seen.files:,} seen" + (" so far" if seen.sweeping else ""))
        for count, what in (
            (done.retried, "tried again"),
            (done.quarantined, "quarantined"),
            (done.conflicts, "in conflict"),
            (seen.settling, "still being written"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        return ", ".join(parts)

    def resting(self) -> list[str]:
        return [f"resting: {of_place(health)}{_again(health)}" for health in self.progress.resting]

    def _measure(self, total: int) -> float:
        now, (at, before) = time.monotonic(), self._before
        if now - at >= RATE_OVER or (self._rate == 0 and now - at >= 1.0):
            self._rate = (total - before) / (now - at)
            self._before = (now, total)
        return self._rate


def _again(health: Health) -> str:
    return f" (next look at {health.next_probe:%H:%M:%S}Z)" if health.next_probe else ""


@contextmanager
def watching(house: House, *, quiet: bool = False, line: Callable[[Pace], None] | None = None) -> Iterator[None]:
    """Show the progress of what runs inside. `line` replaces the plain lines (and the bar) by something else."""
    if quiet:
        yield
        return
    over = threading.Event()
    target = _lines if line or not sys.stderr.isatty() else _bar
    args = (Pace(house), over, line or _told) if target is _lines else (Pace(house), over)
    thread = threading.Thread(target=target, args=args, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)


def _told(pace: Pace) -> None:
    tell(f"skystow: {pace.line()}", *(f"skystow: {line}" for line in pace.resting()))


def _lines(pace: Pace, over: threading.Event, line: Callable[[Pace], None]) -> None:
    known: list[str] = []
    spoken, done = time.monotonic(), pace.progress.done
    while not over.wait(REDRAW):
        places = [f"{health.place}: {health.reason}" for health in pace.progress.resting]
        moved = pace.progress.done != done and time.monotonic() - spoken >= LINES_EVERY
        if places != known or moved:  # a place that fails or returns is news; that nothing happens is none
            known, spoken, done = places, time.monotonic(), pace.progress.done
            line(pace)


def _bar(pace: Pace, over: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
    with Bars(*columns, console=console, transient=True, auto_refresh=False) as bars:
        main = bars.add_task("looking …", total=None)
        shown: list[TaskID] = []
        while not over.wait(REDRAW):
            progress = pace.progress
            seen, done = progress.seen, progress.done
            settled = progress.already + done.delivered + done.quarantined + done.conflicts
            total = None if seen.sweeping else max(seen.files, settled)
            bars.update(main, description=pace.line(), completed=settled, total=total)
            for task in shown:
                bars.remove_task(task)
            shown = [bars.add_task(line, total=1, completed=0) for line in pace.resting()]
            bars.refresh()
