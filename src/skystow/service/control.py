"""Commands from this host: a socket of its own for each component, mode 0600, one line of JSON each way.

{"verb": "start"}            → {"state": "DISABLED"} or {"state": "STANDBY", "refused": "…", "number": 5701}
                             (with "later": true where only the ledger is away)
{"verb": "state"}            → {"state": "ENABLED", "number": 0, "report": ""}, where it is so with "degraded": ["…"],
                             and "ignored": {"XferParamsAck": 2}: what came twice, late, or for nothing
{"verb": "catch-up", "obsids": ["CC_O_20210304_000001"]}
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from skystow.errors import BadName, ConfigError, PlaceFault, Refused, Stopped, Unreachable
from skystow.model.lifecycle import Verb
from skystow.model.messages import lawful_obsid
from skystow.model.records import shown
from skystow.model.reports import CatchUp
from skystow.service.talk import Talk

STATE, CATCH_UP = "state", "catch-up"
CONNECTIONS = ("ledger", "bus", "scoreboard")
"""While one of these is away a component is degraded: its state is kept, nobody's silence is judged."""

LONGEST = 2**20
TIMEOUT = 150.0
GRACE = 2.0
"""Seconds for the last answers."""


def prepare(directory: str) -> None:
    """Make the directory of the sockets, ours alone. Raises `ConfigError` where somebody else could reach into it."""
    remedy = "name another one with control: in the site file"
    try:
        with contextlib.suppress(FileExistsError):
            os.makedirs(directory, mode=0o700)
        found = os.lstat(directory)
    except OSError as error:
        raise ConfigError(f"{shown(directory)}, for control sockets: {error.strerror}", remedy=remedy) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        text = "it must be a directory of this user, mode 0700"
        raise ConfigError(f"{shown(directory)} is no place for control sockets: {text}", remedy=remedy)


def socket_path(directory: str, component: str) -> str:
    """Raises `ConfigError` where the name is longer than the kernel takes."""
    path = os.path.join(directory, f"{component}.sock")
    if len(os.fsencode(path)) > 107:
        raise ConfigError(f"{shown(path)} is too long for a socket's name", remedy="name a shorter control: directory")
    return path


@asynccontextmanager
async def listening(component: str, talk: Talk, directory: str) -> AsyncIterator[None]:
    """Obey commands for one component, by its name in the site, while the block runs.
    Raises `ConfigError` where it runs already."""
    prepare(directory)
    path = socket_path(directory, component)
    answering = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            answering.add(task)
            task.add_done_callback(answering.discard)
        # Whoever says nothing, too much, or goes away, gets no answer; the component has better things to do.
        with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
            async with asyncio.timeout(TIMEOUT):
                line = await reader.readline()
            if line:
                writer.write(json.dumps(await _answer(talk, line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    with _alone(f"{path.removesuffix('.sock')}.lock", component), _bound(path) as ours:
        server = await asyncio.start_unix_server(serve, sock=ours, limit=LONGEST)
        try:
            yield
        finally:
            server.close()
            if answering:  # `exit` is answered after we have ended
                await asyncio.wait(answering, timeout=GRACE)


@contextmanager
def _alone(path: str, component: str) -> Iterator[None]:
    """The kernel lets go of the lock with the process, so that nothing stale is left."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise ConfigError(
            f"{component} of this site runs already", remedy=f"it holds {shown(path)}; skystow control speaks to it"
        ) from error
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def _bound(path: str) -> Iterator[socket.socket]:
    """A socket that is 0600 from its first moment: the kernel takes the mode from the descriptor. A umask would be
    that of every thread of the process."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a run that was killed: we hold its lock
    with socket.socket(socket.AF_UNIX) as ours:
        os.fchmod(ours.fileno(), 0o600)
        ours.bind(path)
        try:
            yield ours
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


async def _answer(talk: Talk, line: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(line)
        verb = asked["verb"]
        if verb == CATCH_UP:
            reports = [CatchUp(lawful_obsid(obsid)) for obsid in asked["obsids"]]
            await asyncio.to_thread(talk.hear, reports)
        elif verb != STATE:
            await asyncio.to_thread(talk.command, Verb(verb))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return _state(talk) | {"refused": f"not a command that we know: {error}", "number": 0}
    except (PlaceFault, Stopped) as fault:
        return _state(talk) | {"refused": str(fault), "number": 0, "later": True}
    except (Refused, BadName) as refused:
        return _state(talk) | {"refused": str(refused), "number": getattr(refused, "number", 0)}
    return _state(talk)


def _state(talk: Talk) -> dict[str, Any]:
    number, report = talk.error
    said = {"component": talk.conversation.name, "state": talk.state.name, "number": number, "report": report}
    away = [each.reason for each in talk.progress.resting if each.place in CONNECTIONS]
    ignored = dict(getattr(talk.conversation, "ignored", {}))
    return said | ({"degraded": away} if away else {}) | ({"ignored": ignored} if ignored else {})


def ask(directory: str, component: str, question: dict[str, Any]) -> dict[str, Any]:
    """The client's side; blocks. Raises `Unreachable` where the component does not run here."""
    path = socket_path(directory, component)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(TIMEOUT)
        try:
            line.connect(path)
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answer:
                said = answer.readline(LONGEST)
        except OSError as error:
            raise Unreachable(
                f"{component} cannot be reached at {shown(path)}: {error.strerror or error}",
                place=component,
                remedy="does it run, on this host, as this user?",
            ) from error
    if not said:
        raise Unreachable(f"{component} ended before it answered", place=component)
    found: dict[str, Any] = json.loads(said)
    return found
