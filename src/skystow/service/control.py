"""Commands from this host: a socket of its own for each component, mode 0600, one line of JSON each way.

{"verb": "start"}            → {"state": "DISABLED"} or {"state": "STANDBY", "refused": "…", "number": 5701}
{"verb": "state"}            → {"state": "ENABLED", "number": 0, "report": ""}
{"verb": "catch-up", "obsids": ["CC_O_20210304_000001"]}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from skystow.errors import BadName, ConfigError, PlaceFault, Refused, Stopped, Unreachable
from skystow.model.lifecycle import Verb
from skystow.model.messages import lawful_obsid
from skystow.model.records import shown
from skystow.model.reports import CatchUp
from skystow.service.talk import Talk

STATE, CATCH_UP = "state", "catch-up"
LONGEST = 2**20
TIMEOUT = 150.0


def prepare(directory: str) -> None:
    """Make the directory of the sockets, ours alone. Raises `ConfigError` where somebody else could reach into it."""
    with contextlib.suppress(FileExistsError):
        os.makedirs(directory, mode=0o700)
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigError(
            f"{shown(directory)} is no place for control sockets: it must be a directory of this user, mode 0700",
            remedy="name another one with control: in the site file",
        )


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
    if _alive(path):
        raise ConfigError(f"{component} of this site runs already", remedy=f"it listens at {shown(path)}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(TIMEOUT):
                answer = await _answer(talk, await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    before = os.umask(0o177)  # a mode that is changed after bind would be too late
    try:
        server = await asyncio.start_unix_server(serve, path, limit=LONGEST)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


async def _answer(talk: Talk, line: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(line)
        verb = asked["verb"]
        if verb == CATCH_UP:
            reports = [CatchUp(lawful_obsid(str(obsid))) for obsid in asked["obsids"]]
            await asyncio.to_thread(talk.hear, reports)
        elif verb != STATE:
            await asyncio.to_thread(talk.command, Verb(verb))
    except (ValueError, KeyError, TypeError) as error:
        return _state(talk) | {"refused": f"not a command that we know: {error}", "number": 0}
    except (Refused, PlaceFault, Stopped, BadName) as refused:
        return _state(talk) | {"refused": str(refused), "number": getattr(refused, "number", 0)}
    return _state(talk)


def _state(talk: Talk) -> dict[str, Any]:
    number, report = talk.error
    return {"component": talk.conversation.name, "state": talk.state.name, "number": number, "report": report}


def _alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(path)
        except OSError:
            return False
    return True


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
