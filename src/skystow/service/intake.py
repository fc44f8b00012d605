"""Intake: sweep a source, write down what arrived, wait for more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from skystow.engine.admit import admit
from skystow.errors import PlaceFault, Stopped, UnfitHost
from skystow.model.records import Health
from skystow.model.transfer import Destination
from skystow.ports import Clock, Ledger, Source
from skystow.service.halt import Halt
from skystow.service.status import Progress

FIRST_REST, LONGEST_REST = 1.0, 60.0

CLOSED = 1.0
"""Seconds between two looks whether a component that is not ENABLED is so again."""

SHARE = 4.0
"""After a sweep we wait at least this many times as long as it took: a busy huge tree is not swept all day."""


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Inlet:
    """One source and where its files go. Seconds: `sweep_every` between sweeps where nothing rings; `patience` is how
    long a single pass (`once`) waits for files that are still being written. `place` is what a sweep looks at: a
    table is another place than the files that it names (None: the source itself)."""

    source: Source
    destinations: tuple[Destination, ...]
    sweep_every: float = 30.0
    patience: float = 0.0
    place: str | None = None
    ailing: Callable[[], PlaceFault | None] = _nothing
    """What else a sweep found to be wrong, which is no reason to sweep less."""


class Intake:
    def __init__(
        self,
        inlet: Inlet,
        ledger: Ledger,
        clock: Clock,
        progress: Progress,
        halt: Halt,
        threads: Executor,
        enabled: Callable[[], bool] = lambda: True,
    ) -> None:
        """`enabled`: whether the component is to take in anything just now."""
        self.inlet, self.ledger, self.clock, self.progress, self.enabled = inlet, ledger, clock, progress, enabled
        self.halt, self.threads = halt, threads
        self.moved_at = clock.monotonic()
        self.unfit = False
        """Whether a single pass left its source out: a person must change something there."""

    async def run(self, *, once: bool) -> None:
        """Sweep until we are asked to stop; with `once` until everything that is there has been admitted."""
        try:
            await self._run(once)
        finally:
            self.halt.ring()  # a single pass may be over with this

    async def _run(self, once: bool) -> None:
        began, rest, source = self.clock.monotonic(), FIRST_REST, self.inlet.source
        sick = {self.inlet.place or source.name}  # what this sweep last found, or has not looked at yet
        while not self.halt.is_set():
            if not self.enabled():
                await self.halt.nap(CLOSED)
                continue
            swept_at = self.clock.monotonic()
            try:
                await self._in_thread(self._sweep)
            except Stopped:
                return
            except PlaceFault as fault:
                sick.add(fault.place)
                await self._report(Health(fault.place, False, self.clock.now(), str(fault)))
                self.unfit = once and isinstance(fault, UnfitHost)
                if self.unfit:
                    return
                await self.halt.sleep(rest)
                rest = min(LONGEST_REST, rest * 2)
                continue
            rest = FIRST_REST
            ailing = self.inlet.ailing()
            if ailing is not None:
                sick.discard(ailing.place)
            for place in sick:  # the ledger too, where it was what was away; not what others found, who go on looking
                await self._report(Health(place, True, self.clock.now()))
            sick.clear()
            if ailing is not None:
                sick.add(ailing.place)
                old = self.progress.healths.get(ailing.place)
                if old is None or old.well or old.reason != str(ailing):
                    await self._report(Health(ailing.place, False, self.clock.now(), str(ailing)))
            now = self.clock.monotonic()
            settling = source.settling()
            if once and (not settling or now - began > self.inlet.patience):
                return
            await self._in_thread(self._wait, min(0.5, self.inlet.sweep_every) if once else self.inlet.sweep_every)
            await self.halt.sleep(min((now - swept_at) * SHARE, self.inlet.sweep_every))

    def _sweep(self) -> None:
        source, name = self.inlet.source, self.inlet.source.name
        self.progress.begin_sweep(name)
        for batch in source.sweep(stop=self.halt):
            admission, arrivals, skipped, dead = admit(batch, self.ledger, self.inlet.destinations)
            self.progress.saw(name, arrivals, skipped, admission, dead)
            self.moved_at = self.clock.monotonic()
            if admission.admitted or admission.refreshed:
                self.halt.ring()
        self.progress.end_sweep(name, source.settling())

    def _wait(self, seconds: float) -> None:
        self.inlet.source.wait(seconds, stop=self.halt)

    async def _in_thread(self, call: Callable[..., object], *args: float) -> None:
        await asyncio.get_running_loop().run_in_executor(self.threads, call, *args)

    async def _report(self, health: Health) -> None:
        old = self.progress.healths.get(health.place)
        if old is None or old.well != health.well or not health.well:
            self.progress.report(health)
            with contextlib.suppress(PlaceFault):  # the ledger itself may be what is away
                await asyncio.to_thread(self.ledger.report, health)
