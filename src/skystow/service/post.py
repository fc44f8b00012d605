"""The post: what a component says leaves its outbox in the ledger by a broker, and only then is it gone from there.

A broker that is away delays messages and loses none; a crash between the confirm and our note sends one twice, which
whoever hears it must stand anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from datetime import timedelta
from time import monotonic

from skystow.errors import PlaceFault
from skystow.model.acts import Say
from skystow.model.records import Health
from skystow.ports import Clock, Ledger
from skystow.ports.talk import Bus, Delivery, outbox
from skystow.service.halt import Halt
from skystow.service.status import Progress
from skystow.service.talk import BUS

BATCH = 500
NAP = 1.0

REPLAYED = 0.4
"""Seconds between two looks for what is replayed, where a broker carries all else."""

FIRST_REST, LONGEST_REST = 0.5, 30.0


class Relay:
    """A `Bus` of two: the ledger's own, for what never goes over a broker and for what is replayed, and the broker's,
    for the addresses in `carried`. What is said goes by the outbox (`Post`)."""

    def __init__(self, own: Bus, broker: Bus, carried: Collection[str] = ()) -> None:
        self.own, self.broker, self.carried = own, broker, carried
        self._looked: dict[str, float] = {}
        """When there was nothing of our own, by address."""

    @property
    def away(self) -> PlaceFault | None:
        return self.broker.away

    def publish(self, says: Sequence[Say]) -> None:
        self.broker.publish(says)

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        own = self._own(address, limit)
        return own if len(own) >= limit else [*own, *self.broker.receive(address, limit=limit - len(own))]

    def _own(self, address: str, limit: int) -> Sequence[Delivery]:
        """At an address that the broker carries only what a person replays, which may wait: the ledger is not asked
        again for each message of the broker's."""
        now = monotonic()
        if address in self.carried and now - self._looked.get(address, float("-inf")) < REPLAYED:
            return []
        found = self.own.receive(address, limit=limit)
        if not found:
            self._looked[address] = now
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """A broker that is away meanwhile gives its own again."""
        if own := [each for each in deliveries if each.id > 0]:
            self.own.accept(own)
        if others := [each for each in deliveries if each.id < 0]:
            self.broker.accept(others)


class Post:
    """The postman of one component."""

    def __init__(self, component: str, own: Bus, broker: Bus, ledger: Ledger, clock: Clock, progress: Progress) -> None:
        self.tray, self.own, self.broker = outbox(component), own, broker
        self.ledger, self.clock, self.progress = ledger, clock, progress
        self._halt, self._most = Halt(), BATCH

    def ring(self) -> None:
        """There is something in the outbox."""
        self._halt.ring()

    async def run(self, halt: Halt) -> None:
        """Until `halt`."""
        self._halt = halt = Halt(halt)  # a bell of its own: nobody else has anything to do
        rest, resting = FIRST_REST, set[str]()
        while not halt.is_set():
            rung = halt.rung
            try:
                gone = await asyncio.to_thread(self.carry)
            except PlaceFault as fault:
                now = self.clock.now()
                resting.add(fault.place)
                await self._report(Health(fault.place, False, now, str(fault), now + timedelta(seconds=rest)))
                await self._rest(halt, rest, fault.place)
                rest = min(LONGEST_REST, rest * 2)
                continue
            if resting and self.broker.away is None:
                for place in resting:
                    await self._report(Health(place, True, self.clock.now()))
                rest, resting = FIRST_REST, set[str]()
            if gone < BATCH:
                await halt.nap(NAP, since=rung)

    def carry(self) -> int:
        """Publish one batch, then take it out of the outbox (never the other way); returns how many.
        Raises `PlaceFault` while broker or ledger are away; then the next batch is half as large, lest a line that
        breaks again and again carries the same ones for ever."""
        most = min(BATCH, self._most)
        parcels = self.own.receive(self.tray, limit=most)
        if parcels:
            self._most = max(1, len(parcels) // 2)
            self.broker.publish([Say(each.to, each.message) for each in parcels])
            self._most = max(most, 2 * len(parcels))
            self.own.accept(parcels)
        return len(parcels)

    async def _rest(self, halt: Halt, seconds: float, place: str) -> None:
        """A broker that is back is used at once: its connection has waited long enough."""
        due = monotonic() + seconds
        while (left := due - monotonic()) > 0 and not await halt.sleep(min(FIRST_REST, left)):
            if place == BUS and self.broker.away is None:
                return

    async def _report(self, health: Health) -> None:
        self.progress.report(health)
        with contextlib.suppress(PlaceFault):  # the ledger itself may be what is away
            await asyncio.to_thread(self.ledger.report, health)
