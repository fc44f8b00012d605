"""The Archiver as a component that SAL commands: verbs in, states and outcomes out.

    command_*         → `Talk.command`, acknowledged at once, then as long as it takes, then finally
    Become            → errorCode (a fault's first), summaryState; before the final acknowledgement
    outcomes          → imageRetrievalForArchiving, imageInOODS, taken from the ledger when they are published
    lines of the log  → logMessage, from the level that setLogLevel says
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic

from skystow.errors import PlaceFault, Refused, Stopped
from skystow.model.acts import Become, Effect, Tell
from skystow.model.authority import Authority, listed
from skystow.model.lifecycle import Summary, Verb
from skystow.ports.sal import Code, Command, Front
from skystow.service.halt import Halt
from skystow.service.outside import Outside
from skystow.service.talk import OBEYED, Talk

VERBS = {
    "start": Verb.START,
    "enable": Verb.ENABLE,
    "disable": Verb.DISABLE,
    "standby": Verb.STANDBY,
    "exitControl": Verb.EXIT,
}
SETTINGS = ("settingsToApply", "configurationOverride")
"""What `start` is given: the older name, and the newer."""

BEAT = 1.0
LEAVE = 1.5
"""Seconds for what was said last to reach whoever reads."""


class Csc:
    """`outcomes`: what waits to be published; `greeting`: events that are said when we begin; `authorised`: the list of
    who may command is obeyed; `set_level`: of our own log."""

    def __init__(
        self,
        front: Front,
        talk: Talk,
        outcomes: Outside,
        *,
        greeting: Mapping[str, Mapping[str, object]],
        authority: Authority,
        authorised: bool,
        set_level: Callable[[int], None],
    ) -> None:
        self.front, self.talk, self.outcomes, self.greeting = front, talk, outcomes, greeting
        self.authority, self.authorised, self.set_level = authority, authorised, set_level
        self._commands: deque[Command] = deque()
        self._bell = Halt()
        self._said: tuple[Summary, int, str] | None = None
        self.level = logging.INFO

    def open(self) -> None:
        """Blocks. Raises `ConfigError` where another one of our name is alive."""
        self.front.open(self._hear)

    # ── from other threads ──────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, command: Command) -> None:
        self._commands.append(command)
        self._bell.ring()

    def heard(self, _component: str, what: Effect | str) -> None:
        """What the Archiver did, as its log has it."""
        match what:
            case Become(state, number, report):
                self._became(state, number, report)
            case Tell():
                self._bell.ring()
            case _:
                pass

    def line(self, level: int, text: str) -> None:
        """One line of our log."""
        if level >= self.level:
            name = f"skystow.{self.front.name}"
            self.front.say("logMessage", name=name, level=level, message=text, process=0)

    # ── states ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _became(self, state: Summary, number: int, report: str) -> None:
        """In the order of ts_salobj: a fault's code before the state, and none when it is over."""
        before, self._said = self._said, (state, number, report)
        if state is Summary.FAULT:
            self.front.say("errorCode", errorCode=number, errorReport=report, traceback="")
        self.front.say("summaryState", summaryState=int(state))
        if state is not Summary.FAULT and (before is None or before[0] is Summary.FAULT):
            self.front.say("errorCode", errorCode=0, errorReport="", traceback="")

    def _begin(self) -> None:
        for event, values in self.greeting.items():
            self.front.say(event, **values)
        self._say_level()
        self._say_authority()
        self._became(self.talk.state, *self.talk.error)

    # ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, halt: Halt) -> None:
        """Until `halt`; a job of the component. Raises `ConfigError` where another one of our name, which was here
        first, turns up."""
        self._bell, beat = Halt(halt), 0.0
        async with asyncio.TaskGroup() as group:
            while not halt.is_set():
                rung = self._bell.rung
                if self._said is None and self.talk.begun:
                    self._begin()
                elif self._said is not None and self._said[0] is not self.talk.state:
                    self._became(self.talk.state, *self.talk.error)  # it was rebuilt
                while self._said is not None and self._commands:
                    group.create_task(self._obey(self._commands.popleft()))
                if (now := monotonic()) >= beat:
                    self.front.check()
                    self.front.say("heartbeat", heartbeat=True)
                    beat = now + BEAT
                await self.outcomes.publish()
                await self._bell.nap(max(0.0, min(BEAT, beat - monotonic())), since=rung)
        await asyncio.to_thread(self.front.flush, LEAVE)

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _obey(self, command: Command) -> None:
        self.front.ack(command, Code.ACK)
        if self.authorised and not self.authority.allows(command.identity):
            self.front.ack(command, Code.NO_PERMISSION, f"‘{command.identity}’ is not on the list of who may command")
            return
        try:
            self.front.ack(command, Code.COMPLETE, await self._done(command))
        except Refused as refused:
            self.front.ack(command, Code.FAILED, str(refused), number=refused.number)
        except (PlaceFault, Stopped) as fault:
            self.front.ack(command, Code.FAILED, str(fault))

    async def _done(self, command: Command) -> str:
        """Raises `Refused`, `PlaceFault`, `Stopped`."""
        match command.name:
            case name if name in VERBS:
                await self._commanded(command, VERBS[name])
                given = next((str(command.values[each]) for each in SETTINGS if command.values.get(each)), "")
                return f"‘{given}’ is not looked at: the site file is the configuration" if given else ""
            case "resetFromFault":
                if self.talk.state is not Summary.FAULT:
                    raise Refused(f"resetFromFault is not lawful in {self.talk.state.name}", remedy="it is in FAULT")
                await self._commanded(command, Verb.STANDBY)
            case "setLogLevel":
                self.level = int(command.values.get("level", self.level))
                self.set_level(self.level)
                self._say_level()
            case "setAuthList":
                users, barred = (str(command.values[each]) for each in ("authorizedUsers", "nonAuthorizedCSCs"))
                self.authority = self.authority.changed(users, barred)
                self._say_authority()
                return "" if self.authorised else "nobody is asked for it: LSST_DDS_ENABLE_AUTHLIST is not 1"
            case _:
                raise Refused(f"{self.front.name} does not do {command.name}")
        return ""

    async def _commanded(self, command: Command, verb: Verb) -> None:
        self.front.ack(command, Code.IN_PROGRESS, seconds=OBEYED)
        await asyncio.to_thread(self.talk.command, verb)

    def _say_level(self) -> None:
        self.front.say("logLevel", level=self.level, subsystem="")

    def _say_authority(self) -> None:
        users, barred = listed(self.authority.users), listed(self.authority.barred)
        self.front.say("authList", authorizedUsers=users, nonAuthorizedCSCs=barred)
