"""One SAL command, from its first acknowledgement to its last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skystow.errors import PlaceFault, Refused, Stopped
from skystow.hosts.voice import Voice
from skystow.model.lifecycle import Summary, Verb
from skystow.ports.sal import Code, Command, Front
from skystow.service.talk import Talk

VERBS = {
    "start": Verb.START,
    "enable": Verb.ENABLE,
    "disable": Verb.DISABLE,
    "standby": Verb.STANDBY,
    "exitControl": Verb.EXIT,
}
SETTINGS = ("settingsToApply", "configurationOverride")
"""What `start` is given: the older name, and the newer."""

PROGRESS, LONGEST = 60.0, 3600.0
"""Seconds from one CMD_INPROGRESS to the next, and for which a command may be under way (a commander's own limit)."""


class Obedience:
    """`authorised`: only who is on the list may command; `set_level`: of our own log."""

    def __init__(
        self, front: Front, talk: Talk, voice: Voice, *, authorised: bool, set_level: Callable[[int], None]
    ) -> None:
        self.front, self.talk, self.voice = front, talk, voice
        self.authorised, self.set_level = authorised, set_level

    async def obey(self, command: Command, *, late: str = "") -> None:
        """`late`: why nobody expects any more that it is begun."""
        self.front.ack(command, Code.ACK)
        if self.authorised and not self.voice.authority.allows(command.identity):
            self.front.ack(command, Code.NO_PERMISSION, f"‘{command.identity}’ is not on the list of who may command")
            return
        if why := late or command.wrong:
            self.front.ack(command, Code.FAILED, why)
            return
        try:
            self.front.ack(command, Code.COMPLETE, await self._done(command))
        except Refused as refused:
            self.front.ack(command, Code.FAILED, str(refused), number=refused.number)
        except Stopped as fault:
            self.front.ack(command, Code.FAILED, str(fault))
        except PlaceFault as fault:  # begun, and nobody knows how it ends: the state will tell
            self.front.ack(command, Code.ABORTED, str(fault))

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
        obeyed = asyncio.ensure_future(asyncio.to_thread(self.talk.command, verb, LONGEST))
        while not obeyed.done():
            self.front.ack(command, Code.IN_PROGRESS, seconds=2 * PROGRESS)
            await asyncio.wait([obeyed], timeout=PROGRESS)
        await obeyed
