"""`skystow sal command` and `skystow sal watch`: the other side of a SAL component, for people at a terminal."""

from __future__ import annotations

import queue
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say
from skystow.model.records import shown
from skystow.ports.sal import Code, Event
from skystow.service.halt import Halt
from skystow.wiring.sal import Speech, remote

LOOK = 0.2
QUIET = ("heartbeat", "logMessage")
"""Events that nobody wants to see who did not ask for them."""

_EXITS = {Code.COMPLETE: Exit.WELL, Code.NO_ACK: Exit.UNFINISHED, Code.TIMEOUT: Exit.UNFINISHED}
"""Whatever else a command ends with: it was refused."""


def command(name: str, verb: str, values: Sequence[str], speech: Speech, *, seconds: float, json: bool) -> Exit:
    """Raises `ConfigError`, and `Unreachable` where nobody of that name is there."""
    code = Code.NO_ACK
    with remote(name, speech, _note) as component:
        for ack in component.command(verb, component.given(verb, values), seconds=seconds):
            code = ack.code
            if json:
                emit({"command": verb, "ack": code.name, "code": int(code), "error": ack.number, "result": ack.text})
            else:
                number = f" ({ack.number})" if ack.number else ""
                say(f"{name} {verb}: {code.name}{number}{f': {shown(ack.text)}' if ack.text else ''}")
            sys.stdout.flush()
    return _EXITS.get(code, Exit.USAGE)


def watch(halt: Halt, name: str, events: Sequence[str], speech: Speech, *, count: int | None, json: bool) -> Exit:
    """Until `halt`, or until `count` events have come. Raises `ConfigError`, and `Unreachable` where DDS dies."""
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with remote(name, speech, _note) as component:
        component.listen(events or [each for each in component.events if each not in QUIET], heard.put)
        left = count
        while left != 0 and not halt.is_set():
            component.check()
            try:
                event = heard.get(timeout=LOOK)
            except queue.Empty:
                continue
            left = None if left is None else left - 1
            _show(event, json=json)
    return Exit.WELL


def _show(event: Event, *, json: bool) -> None:
    at = datetime.fromtimestamp(event.said / 1e9, UTC).isoformat(timespec="milliseconds")
    if json:
        emit({"at": at, "event": event.name, **event.values})
    else:
        fields = "  ".join(f"{name}={shown(str(value))}" for name, value in event.values.items())
        say(f"{at}  {event.name}  {fields}".rstrip())
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
