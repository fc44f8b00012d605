"""What a component says to SAL of itself, in the order of ts_salobj."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from skystow.model.authority import Authority, listed
from skystow.model.lifecycle import Summary
from skystow.ports.sal import Front


class Voice:
    """`greeting`: events that are said when we begin. `line` may be called from any thread, all else from one."""

    def __init__(self, front: Front, greeting: Mapping[str, Mapping[str, object]], authority: Authority) -> None:
        self.front, self.greeting = front, greeting
        self.level, self.authority = logging.INFO, authority
        self.said: Summary | None = None
        """The state that SAL knows (None: none yet)."""

    def became(self, state: Summary, number: int, report: str) -> None:
        """A fault's code before the state, and none after it when it is over. The first time we introduce ourselves."""
        before, self.said = self.said, state
        if before is None:
            self._introduce()
        if state is Summary.FAULT:
            self.front.say("errorCode", errorCode=number, errorReport=report, traceback="")
        self.front.say("summaryState", summaryState=int(state))
        if state is not Summary.FAULT and before in (None, Summary.FAULT):
            self.front.say("errorCode", errorCode=0, errorReport="", traceback="")

    def _introduce(self) -> None:
        for event, values in self.greeting.items():
            self.front.say(event, **values)
        self.louder(self.level)
        self.listing(self.authority)

    def louder(self, level: int) -> None:
        self.level = level
        self.front.say("logLevel", level=level, subsystem="")

    def listing(self, authority: Authority) -> None:
        self.authority = authority
        users, barred = listed(authority.users), listed(authority.barred)
        self.front.say("authList", authorizedUsers=users, nonAuthorizedCSCs=barred)

    def line(self, level: int, text: str) -> None:
        """One line of our log."""
        if level >= self.level:
            name = f"skystow.{self.front.name}"
            self.front.say("logMessage", name=name, level=level, message=text, process=os.getpid())
