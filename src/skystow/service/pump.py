"""A pump carries the files of one route: claim, deliver in a thread, rest while a place is not well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from skystow.engine.deliver import LEASE, Rules, Tally, deliver
from skystow.errors import NoSpace, PlaceFault, Stopped, UnfitHost
from skystow.model.records import Health
from skystow.model.transfer import Route, Work
from skystow.ports import Clock, Ledger, Store
from skystow.service.halt import Halt
from skystow.service.status import Progress

POLL = 2.0
"""Seconds between two looks into an empty queue; intake and other pumps ring the bell for what this process adds."""

FIRST_REST, LONGEST_REST = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Lane:
    """One route and how it is served. `files` and `size` (bytes) bound a batch."""

    route: Route
    store: Store
    rules: Rules
    streams: int = 2
    files: int = 1_000
    size: int = 256 * 2**20


class Pulse:
    """The stop that a delivery looks at per block: each look shows that something moves."""

    def __init__(self, halt: Halt, clock: Clock) -> None:
        self.halt, self.clock = halt, clock
        self.at = clock.monotonic()

    def is_set(self) -> bool:
        self.at = self.clock.monotonic()
        return self.halt.is_set()

    def wait(self, timeout: float) -> bool:
        return self.halt.wait(timeout)


class Rest:
    """Whether a route's places are well. While they are not: one probe after each wait, and the waits grow."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.places: set[str] = set()
        self.unfit = False
        self.waits = 0.0
        self.until = 0.0

    def begin(self, fault: PlaceFault) -> float:
        """Seconds until the next probe. Streams that were under way meet the same fault: only a probe's lengthens."""
        if self.left == 0:
            self.waits = min(LONGEST_REST, self.waits * 2) if self.places else FIRST_REST
            self.until = self.clock.monotonic() + self.waits
        self.places.add(fault.place)
        self.unfit = isinstance(fault, UnfitHost)
        return self.left

    @property
    def left(self) -> float:
        """Seconds until the next probe."""
        return max(0.0, self.until - self.clock.monotonic())


class Pump:
    """`streams` workers over one queue; each runs a batch at a time in a thread of the destination's own pool."""

    def __init__(
        self,
        lane: Lane,
        ledger: Ledger,
        clock: Clock,
        progress: Progress,
        halt: Halt,
        threads: Executor,
        *,
        told: Callable[[], None],
        awaited: bool,
    ) -> None:
        """`told`: there may be something for the outboxes. `awaited`: others of `halt` wait for what is done here."""
        self.told, self.awaited = told, awaited
        self.lane, self.ledger, self.clock, self.progress = lane, ledger, clock, progress
        self.halt, self.threads = halt, threads
        self.rest = Rest(clock)
        self.claimed: dict[int, list[Work]] = {}
        self.pulses: dict[int, Pulse] = {}
        self._moved_at = clock.monotonic()

    @property
    def moved_at(self) -> float:
        """Monotonic: when something moved here, be it a block of a file that takes hours."""
        return max([self._moved_at, *(pulse.at for pulse in list(self.pulses.values()))])

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep_leases())
            await asyncio.wait([group.create_task(self._stream(n)) for n in range(self.lane.streams)])
            keeper.cancel()

    async def next_wake(self) -> float | None:
        """Seconds until something can be claimed here, 0 while a batch is on its way; None when nothing waits."""
        return 0.0 if self.claimed else await asyncio.to_thread(self.ledger.next_wake, self.lane.route)

    async def _stream(self, n: int) -> None:
        while not self.halt.is_set():
            if self.rest.places and (n > 0 or self.rest.left > 0):
                await self.halt.nap(self.rest.left or FIRST_REST)  # stream 0 probes for all
                continue
            rung = self.halt.rung
            try:
                wake = await asyncio.get_running_loop().run_in_executor(self.threads, self._round, n)
            except PlaceFault as fault:
                await self._begin_rest(fault)
            except Stopped:
                return
            else:
                if wake != 0:
                    await self.halt.nap(POLL if wake is None else min(POLL, max(0.05, wake)), since=rung)

    def _round(self, n: int) -> float | None:
        """In a thread: one batch. Seconds until the next (0: at once); None where nothing waits. While a place rests it
        is one file alone, a probe."""
        lane = self.lane
        wake = self.ledger.next_wake(lane.route)
        due = wake == 0
        if not due and not self.rest.places:
            return wake
        room = lane.store.room()
        if room.spare <= 0:
            raise NoSpace(
                f"{lane.store.name} has {room.free / 2**30:.2f} GiB free, no more than its min_free",
                place=lane.store.name,
                remedy="make room there; skystow goes on by itself",
            )
        if not due:
            self._end_rest()  # as far as can be told without a file
            return wake
        files = 1 if self.rest.places else lane.files
        works = self.ledger.claim(lane.route, files=files, size=min(lane.size, room.spare), seconds=LEASE)
        if not works:
            return POLL  # others took them
        self.claimed[n] = list(works)
        self.pulses[n] = pulse = Pulse(self.halt, self.clock)
        try:
            deliver(works, lane.store, self.ledger, lane.rules, tell=self._told, clock=self.clock, stop=pulse)
        finally:
            del self.claimed[n], self.pulses[n]
            if self.awaited:
                self.halt.ring()
        self._moved_at = max(self._moved_at, pulse.at)
        self._end_rest()
        return 0.0

    def _told(self, tally: Tally) -> None:
        if tally != Tally(held=tally.held):
            self._moved_at = self.clock.monotonic()
            self.told()
            if self.awaited:
                self.halt.ring()
        self.progress.add(tally)

    async def _begin_rest(self, fault: PlaceFault) -> None:
        seconds, now = self.rest.begin(fault), self.clock.now()
        old = self.progress.healths.get(fault.place)
        since = old.since if old and not old.well else now
        health = Health(fault.place, False, since, str(fault), now + timedelta(seconds=seconds))
        self.progress.report(health)
        await asyncio.to_thread(self._write_health, health)

    def _end_rest(self) -> None:
        if places := self.rest.places:
            self.rest = Rest(self.clock)
            for place in places:
                health = Health(place, True, self.clock.now())
                self.progress.report(health)
                self._write_health(health)
            self.halt.ring()

    def _write_health(self, health: Health) -> None:
        try:
            self.ledger.report(health)
        except PlaceFault as fault:  # the ledger itself may be what is away: then only this process knows
            self.progress.report(Health(fault.place, False, health.since, str(fault)))

    async def _keep_leases(self) -> None:
        away: str | None = None
        while True:
            await asyncio.sleep(LEASE / 3)
            for works in list(self.claimed.values()):
                try:
                    await asyncio.to_thread(self.ledger.renew, works, seconds=LEASE)
                except PlaceFault as fault:
                    away = fault.place
                    self.progress.report(Health(away, False, self.clock.now(), str(fault)))
                else:
                    if away is not None:
                        self.progress.report(Health(away, True, self.clock.now()))
                    away = None
