"""An outbox: what the ledger's verdicts want told to one audience, told at least once."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from skystow.errors import PlaceFault
from skystow.model.records import Health
from skystow.ports import Announcer, Clock, Ledger
from skystow.service.halt import Halt
from skystow.service.status import Progress

BATCH = 200
FIRST_REST, LONGEST_REST = 1.0, 60.0

GATHER = 0.003
"""Seconds from a ring to the look: routes that deliver a file at nearly the same time are told of together."""


class Outbox:
    """One audience's. While it is away, its notices wait in the ledger, and it is shown as not well."""

    def __init__(
        self, audience: str, announcer: Announcer, ledger: Ledger, clock: Clock, progress: Progress, halt: Halt
    ) -> None:
        self.audience, self.announcer = audience, announcer
        self.ledger, self.clock, self.progress, self.halt = ledger, clock, progress, halt
        self.resting: str | None = None

    async def run(self) -> None:
        rest = FIRST_REST
        while not self.halt.is_set():
            rung = self.halt.rung
            try:
                told = await asyncio.to_thread(self.tell)
            except PlaceFault as fault:
                now = self.clock.now()
                await self._report(Health(fault.place, False, now, str(fault), now + timedelta(seconds=rest)))
                self.resting = fault.place
                await self.halt.sleep(rest)
                rest = min(LONGEST_REST, rest * 2)
                continue
            if self.resting is not None:  # or somebody else has told all of it
                await self._report(Health(self.resting, True, self.clock.now()))
                self.resting = None
            rest = FIRST_REST
            if told < BATCH:
                await self.halt.nap(FIRST_REST, since=rung)
                await self.halt.sleep(GATHER)

    def tell(self) -> int:
        """Announce one batch, then mark it sent (never the other way); returns how many."""
        notices = self.ledger.notices(limit=BATCH, audience=self.audience)
        if notices:
            self.announcer.announce(notices)
            self.ledger.sent(notices)
        return len(notices)

    def tell_all(self) -> bool:
        """Until nothing is left to tell; False where it could not be told. A line that broke is made anew once."""
        for _ in range(2):
            with contextlib.suppress(PlaceFault):
                while self.tell():
                    pass
                return True
        return False

    async def _report(self, health: Health) -> None:
        self.progress.report(health)
        with contextlib.suppress(PlaceFault):  # the ledger itself may be what is away
            await asyncio.to_thread(self.ledger.report, health)
