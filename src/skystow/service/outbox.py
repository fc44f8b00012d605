"""The outbox: what the ledger's verdicts want told, told at least once."""

from __future__ import annotations

import asyncio

from skystow.errors import PlaceFault
from skystow.ports import Announcer, Ledger
from skystow.service.halt import Halt

BATCH = 200
FIRST_REST, LONGEST_REST = 1.0, 60.0


class Outbox:
    def __init__(self, ledger: Ledger, announcer: Announcer, halt: Halt) -> None:
        self.ledger, self.announcer, self.halt = ledger, announcer, halt

    async def run(self) -> None:
        rest = FIRST_REST
        while not self.halt.is_set():
            try:
                told = await asyncio.to_thread(self.tell)
            except PlaceFault:
                await self.halt.sleep(rest)
                rest = min(LONGEST_REST, rest * 2)
                continue
            rest = FIRST_REST
            if not told:
                await self.halt.nap(FIRST_REST)

    def tell(self) -> int:
        """Announce one batch, then mark it sent (never the other way); returns how many."""
        notices = self.ledger.notices(limit=BATCH)
        for notice in notices:
            self.announcer.announce(notice)
        self.ledger.sent(notices)
        return len(notices)
