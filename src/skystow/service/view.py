"""The view: what the ledger keeps of a component is shown to others on the scoreboard, at each change, and again when
it is gone from there. Nobody of ours reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from skystow.errors import PlaceFault
from skystow.model.records import Health
from skystow.ports import Clock
from skystow.ports.talk import Panel
from skystow.service.halt import Halt
from skystow.service.status import Progress

LOOK = 3.0
"""Seconds between two looks whether all still stands there: it may have been flushed, or be away."""


class View:
    """A job of one component."""

    def __init__(self, panel: Panel, clock: Clock, progress: Progress, *, session: str = "") -> None:
        self.panel, self.clock, self.progress = panel, clock, progress
        self._facts: dict[str, str] = {}
        self._session = session
        self._halt = Halt()
        self._away = ""

    def keep(self, facts: Mapping[str, str]) -> None:
        """These are kept in the ledger now, those before them still. Never waits; from one thread at a time."""
        self._facts = self._facts | {"session": self._session} | dict(facts)
        self._halt.ring()

    async def run(self, halt: Halt) -> None:
        self._halt = own = Halt(halt)  # a bell of its own: nobody else has anything to do
        over = False
        while not over:
            rung, over = own.rung, own.is_set()  # what it became last is shown, too
            if self._facts:
                await self._look(self._facts)
            if not over:
                await own.nap(LOOK, since=rung)

    async def _look(self, facts: Mapping[str, str]) -> None:
        try:
            if not await asyncio.to_thread(self.panel.shows, facts):
                await asyncio.to_thread(self.panel.show, facts)
        except PlaceFault as fault:
            self._away, now = fault.place, self.clock.now()
            self.progress.report(Health(fault.place, False, now, str(fault), now + timedelta(seconds=LOOK)))
        else:
            if self._away:
                self.progress.report(Health(self._away, True, self.clock.now()))
                self._away = ""
