"""The Archiver as a component that SAL commands: verbs in, states and outcomes out.

command_*         → `Talk.command`, acknowledged at once, then as long as it takes, then finally
Become            → errorCode (a fault's first), summaryState; before the final acknowledgement
outcomes          → imageRetrievalForArchiving, imageInOODS, taken from the ledger when they are published
lines of the log  → logMessage, from the level that setLogLevel says
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from skystow.errors import PlaceFault, Refused, Stopped
from skystow.hosts.voice import Voice
from skystow.model.acts import Become, Effect, Tell
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
    """`outcomes`: what waits to be published; `authorised`: the list of who may command is obeyed; `set_level`: of our
    own log."""

    def __init__(
        self,
        front: Front,
        talk: Talk,
        voice: Voice,
        outcomes: Outside,
        *,
        authorised: bool,
        set_level: Callable[[int], None],
    ) -> None:
        self.front, self.talk, self.voice, self.outcomes = front, talk, voice, outcomes
        self.authorised, self.set_level = authorised, set_level
        self._commands: deque[Command] = deque()
        self._called, self._told = Halt(), Halt()  # bells: of commands, of outcomes

    def open(self) -> None:
        """Blocks. Raises `ConfigError` where another one of our name is alive."""
        self.front.open(self._hear)

    def _hear(self, command: Command) -> None:
        """In a thread of the front's."""
        self._commands.append(command)
        self._called.ring()

    def heard(self, _component: str, what: Effect | str) -> None:
        """What the Archiver did, as its log has it."""
        match what:
            case Become(state, number, report):
                told = self.voice.begin if self.voice.said is None else self.voice.became  # nobody knows us yet
                told(state, number, report)
            case Tell():
                self._told.ring()
            case _:
                pass

    async def run(self, halt: Halt) -> None:
        """Until `halt`; a job of the component. Raises `ConfigError` where another one of our name, which was here
        first, turns up."""
        self._called, self._told = Halt(halt), Halt(halt)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(self._told))
            group.create_task(self._beat(Halt(halt)))
            while not halt.is_set():
                rung = self._called.rung
                while self._commands:
                    group.create_task(self._obey(self._commands.popleft()))
                await self._called.nap(BEAT, since=rung)
        await asyncio.to_thread(self.front.flush, LEAVE)
        if self.talk.state is Summary.OFFLINE:  # others in this process may go on
            await asyncio.to_thread(self.front.close)

    async def _beat(self, halt: Halt) -> None:
        turn = 0
        while not halt.is_set():
            self.front.check()
            state, said, begun = self.talk.state, self.voice.said, self.talk.begun
            if said is None and begun:
                self.voice.begin(state, *self.talk.error)
            elif said is not None and said is not state:  # it was rebuilt
                self.voice.became(state, *self.talk.error)
            if begun or turn % 10 == 0:
                self.front.say("heartbeat", heartbeat=True)
            turn += 1
            await halt.sleep(BEAT if begun else BEAT / 10)

    async def _publish(self, halt: Halt) -> None:
        while not halt.is_set():
            rung = halt.rung
            await self.outcomes.publish()
            await halt.nap(BEAT, since=rung)

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _obey(self, command: Command) -> None:
        self.front.ack(command, Code.ACK)
        if self.authorised and not self.voice.authority.allows(command.identity):
            self.front.ack(command, Code.NO_PERMISSION, f"‘{command.identity}’ is not on the list of who may command")
            return
        if command.wrong:
            self.front.ack(command, Code.FAILED, command.wrong)
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
                self.voice.louder(int(command.values["level"]))
                self.set_level(self.voice.level)
            case "setAuthList":
                users, barred = (str(command.values[each]) for each in ("authorizedUsers", "nonAuthorizedCSCs"))
                self.voice.listing(self.voice.authority.changed(users, barred))
                return "" if self.authorised else "nobody is asked for it: LSST_DDS_ENABLE_AUTHLIST is not 1"
            case _:
                raise Refused(f"{self.front.name} does not do {command.name}")
        return ""

    async def _commanded(self, command: Command, verb: Verb) -> None:
        self.front.ack(command, Code.IN_PROGRESS, seconds=OBEYED)
        await asyncio.to_thread(self.talk.command, verb)
