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
from time import monotonic

from skystow.hosts.obedience import Obedience
from skystow.hosts.voice import Voice
from skystow.model.acts import Become, Effect, Tell
from skystow.model.lifecycle import Summary
from skystow.ports.sal import Code, Command, Front
from skystow.service.halt import Halt
from skystow.service.outside import Outside
from skystow.service.talk import Talk

BEAT, LOOK = 1.0, 0.1
STALE = 5.0
"""Seconds after which nobody expects any more that a command is begun: the component was resting after an error."""

MANY = 1000
"""Commands that may wait."""

LEAVE = 1.5
"""Seconds for what was said last to reach whoever reads."""


class Csc:
    """`outcomes`: what waits to be published. `leave`: ends all that we have on SAL; called when we are OFFLINE, since
    others in this process may go on."""

    def __init__(
        self, talk: Talk, voice: Voice, obedience: Obedience, outcomes: Outside, leave: Callable[[], None]
    ) -> None:
        self.front: Front = voice.front
        self.talk, self.voice, self.obedience, self.outcomes, self.leave = talk, voice, obedience, outcomes, leave
        self._commands: deque[tuple[float, Command]] = deque()
        self._called, self._told = Halt(), Halt()  # bells: of commands, of outcomes

    def open(self) -> None:
        """Blocks. Raises `ConfigError` where another one of our name is alive."""
        self.front.open(self._hear)

    def _hear(self, command: Command) -> None:
        """In a thread of the front's."""
        if len(self._commands) >= MANY:
            self.front.ack(command, Code.FAILED, f"{MANY} commands wait already")
            return
        self._commands.append((monotonic(), command))
        self._called.ring()

    def heard(self, _component: str, what: Effect | str) -> None:
        """What the Archiver did, as its log has it."""
        match what:
            case Become(state, number, report):
                self.voice.became(state, number, report)
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
                    came, command = self._commands.popleft()
                    late = "" if monotonic() - came < STALE else f"{self.front.name} was not at work when it came"
                    group.create_task(self.obedience.obey(command, late=late))
                await self._called.nap(BEAT, since=rung)
        await asyncio.to_thread(self.front.flush, LEAVE)
        if self.talk.state is Summary.OFFLINE:  # others in this process may go on
            await asyncio.to_thread(self.leave)

    async def _beat(self, halt: Halt) -> None:
        beat = 0.0
        while not halt.is_set():
            if self.talk.begun and self.voice.said is not self.talk.state:  # at first, and when it was rebuilt
                self.voice.became(self.talk.state, *self.talk.error)
            if (now := monotonic()) >= beat:
                self.front.check()
                self.front.say("heartbeat", heartbeat=True)
                beat = now + BEAT
            await halt.sleep(max(0.0, beat - monotonic()) if self.talk.begun else LOOK)

    async def _publish(self, halt: Halt) -> None:
        while not halt.is_set():
            rung = halt.rung
            await self.outcomes.publish()
            await halt.nap(BEAT, since=rung)
