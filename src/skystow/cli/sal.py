"""`skystow sal command` and `skystow sal watch`: the other side of a SAL component, for people at a terminal."""

from __future__ import annotations

import queue
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say
from skystow.errors import ConfigError
from skystow.model.records import shown
from skystow.ports.sal import Code
from skystow.service.halt import Halt
from skystow.wiring.sal import remote

if TYPE_CHECKING:
    from skystow.adapters.sal.definitions import Field, Topic
    from skystow.adapters.sal.node import Sample

LOOK = 0.2

_EXITS = {Code.COMPLETE: Exit.WELL, Code.NO_ACK: Exit.UNFINISHED, Code.TIMEOUT: Exit.UNFINISHED}
"""Whatever else a command ends with: it was refused."""


def command(
    name: str, verb: str, values: Sequence[str], *, site: str | None, definitions: str | None, seconds: float, json: bool
) -> Exit:
    """Raises `ConfigError`, and `Unreachable` where nobody of that name is there."""
    with remote(name, site, definitions, _note) as (component, _, known):
        given = _given(known.topic(f"command_{verb}"), values) if verb in known.commands else {}
        code = Code.NO_ACK
        for ack in component.command(verb, given, seconds=seconds):
            code = ack.code
            if json:
                emit({"command": verb, "ack": code.name, "code": int(code), "error": ack.number, "result": ack.text})
            else:
                number = f" ({ack.number})" if ack.number else ""
                say(f"{name} {verb}: {code.name}{number}{f': {shown(ack.text)}' if ack.text else ''}")
    return _EXITS.get(code, Exit.USAGE)


def watch(
    halt: Halt, name: str, events: Sequence[str], *, site: str | None, definitions: str | None, count: int | None, json: bool
) -> Exit:
    """Until `halt`, or until `count` events have come. Raises `ConfigError`."""
    heard: queue.SimpleQueue[Sample] = queue.SimpleQueue()
    with remote(name, site, definitions, _note) as (_, node, known):
        named = events or [each for each in known.events if each not in ("heartbeat", "logMessage")]
        if unknown := sorted(set(named) - set(known.events)):
            raise ConfigError(f"{name} has no event ‘{shown(unknown[0])}’", remedy=f"it has {', '.join(known.events)}")
        for each in named:
            node.reader(known.topic(f"logevent_{each}"), heard.put, history=True)
        left = count
        while left != 0 and not halt.is_set():
            try:
                sample = heard.get(timeout=LOOK)
            except queue.Empty:
                continue
            left = None if left is None else left - 1
            _print(sample, json=json)
    return Exit.WELL


def _print(sample: Sample, *, json: bool) -> None:
    at = datetime.fromtimestamp(sample.said / 1e9, UTC).isoformat(timespec="milliseconds")
    event = sample.topic.name.removeprefix("logevent_")
    values = {field.name: sample.values[field.name] for field in sample.topic.public}
    if json:
        emit({"at": at, "event": event, **values})
    else:
        say(f"{at}  {event}  {'  '.join(f'{key}={shown(str(value))}' for key, value in values.items())}")
    sys.stdout.flush()


def _given(topic: Topic, values: Sequence[str]) -> dict[str, object]:
    """`level=10` → {"level": 10}, as the topic has it. Raises `ConfigError`."""
    found: dict[str, object] = {}
    for each in values:
        name, equals, text = each.partition("=")
        if not equals or not topic.has(name):
            known = ", ".join(field.name for field in topic.public) or "none"
            raise ConfigError(f"‘{shown(each)}’ is no field=value of {topic.name}", remedy=f"its fields: {known}")
        found[name] = _value(topic.field(name), text)
    return found


def _value(field: Field, text: str) -> object:
    try:
        match field.kind:
            case "string" | "char":
                return text
            case "boolean":
                return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
            case "float" | "double":
                return float(text)
            case _:
                return int(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"‘{shown(text)}’ is no {field.kind}, which {field.name} is") from error


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
