"""What a service manager is told, by the protocol of sd_notify(3): that we are ready, what we do, that we still turn.

The package sdnotify would save these few lines, and swallow every error there is, KeyboardInterrupt among them; its
socket blocks the loop where nobody reads it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from skystow.errors import ConfigError
from skystow.model.lifecycle import Summary
from skystow.model.records import shown
from skystow.service.halt import Halt
from skystow.service.talk import Talk

LOOK = 1.0
"""Seconds between two looks whether there is something to tell."""

LONGEST = 500
"""Characters of a status."""


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager that started us. `address`: of its socket, "": there is none. `watchdog`: seconds of our
    silence after which it kills us, None: never."""

    address: str = ""
    watchdog: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Manager:
        """As `NOTIFY_SOCKET` and `WATCHDOG_USEC` say. Raises `ConfigError`."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address and (address[0] not in "/@" or len(os.fsencode(address)) > 107):
            raise ConfigError(f"NOTIFY_SOCKET is ‘{shown(address)}’", remedy="it should be a path, or @ and a name")
        if environment.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
            return cls(address)  # another process is meant
        said = environment.get("WATCHDOG_USEC", "0") or "0"
        if not said.isdecimal() or len(said) > 18:
            raise ConfigError(f"WATCHDOG_USEC is ‘{shown(said)}’", remedy="it should be a number of microseconds")
        return cls(address, int(said) / 1e6 or None)

    def status(self, text: str) -> bool:
        """One line, for `systemctl status`."""
        return self.tell("STATUS=" + " ".join(text.split())[:LONGEST])

    def tell(self, word: str) -> bool:
        """Whether it was told; where its socket is full, or gone, or there is none, it was not: nobody waits for it."""
        if not self.address:
            return False
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
            try:
                line.sendto(word.encode(errors="backslashreplace"), address)
            except OSError:
                return False
        return True


@asynccontextmanager
async def informed(manager: Manager, talks: Sequence[Talk], halt: Halt) -> AsyncIterator[None]:
    """While the block runs, the manager is told how the components of this process are. READY=1: each was restored.
    WATCHDOG=1: this loop turns, and each of them came round within half of the manager's patience."""
    if not manager.address:
        yield
        return
    telling = asyncio.create_task(_keep_telling(manager, talks, halt))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _keep_telling(manager: Manager, talks: Sequence[Talk], halt: Halt) -> None:
    patience = manager.watchdog / 2 if manager.watchdog else None
    ready, told, petted = False, "", 0.0
    try:
        while not halt.is_set():
            status = _status(talks)
            if status != told and manager.status(status):
                told = status
            if not ready and all(talk.begun for talk in talks):
                ready = manager.tell("READY=1")
            now = monotonic()
            if ready and patience and now - petted >= patience - LOOK and not _hung(talks, now - patience):
                petted = now if manager.tell("WATCHDOG=1") else petted
            await halt.sleep(min(LOOK, patience / 2) if patience else LOOK)
    finally:
        manager.tell("STOPPING=1")


def _hung(talks: Sequence[Talk], since: float) -> bool:
    return any(talk.turned < since and talk.state is not Summary.OFFLINE for talk in talks)


def _status(talks: Sequence[Talk]) -> str:
    """`CCArchiver ENABLED, oods STANDBY; the ledger: connection refused`"""
    states = ", ".join(f"{talk.conversation.name} {talk.state.name if talk.begun else 'begins'}" for talk in talks)
    away = {each.place: each.reason for talk in talks for each in talk.progress.resting}
    return "; ".join([states, *away.values()])
