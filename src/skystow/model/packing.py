"""Messages and reports as plain JSON values, for the ledger and for the embedded bus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from skystow.errors import BadName
from skystow.model import reports
from skystow.model.messages import Message
from skystow.model.records import shown


def _all(base: type[Message]) -> dict[str, type[Message]]:
    found: dict[str, type[Message]] = {}
    for each in base.__subclasses__():
        found |= _all(each)
        # By name: a dataclass with slots is made twice, and its first form stays among the subclasses.
        if not each.__name__.startswith("_") and each.__name__ != reports.Report.__name__:
            found[each.__name__] = each
    return found


KINDS: Mapping[str, type[Message]] = _all(Message)
"""Every message by its name."""


def packed(message: Message) -> tuple[str, dict[str, Any]]:
    """Its kind, and its fields as JSON values."""
    body: dict[str, Any] = {}
    for each in fields(message):
        value = getattr(message, each.name)
        if isinstance(value, datetime):
            value = value.isoformat()
        body[each.name] = list(value) if isinstance(value, tuple) else value
    return type(message).__name__, body


def unpacked(kind: str, body: Mapping[str, Any]) -> Message:
    """The reverse of `packed`; a field of a later version that we do not know is left out.
    Raises `BadName` for an unknown kind or a field that is missing."""
    if (cls := KINDS.get(kind)) is None:
        raise BadName(f"‘{shown(kind)}’ is no message that we know")
    known: dict[str, Any] = {}
    for each in fields(cls):
        if each.name not in body:
            continue
        value = body[each.name]
        if isinstance(value, list):
            value = tuple(value)
        elif value is not None and each.name == "at":
            value = datetime.fromisoformat(value)
        known[each.name] = value
    try:
        return cls(**known)
    except TypeError as error:
        raise BadName(f"{kind}: {error}") from error


def written(message: Message) -> tuple[str, str]:
    """Its kind, and its fields as one JSON text in ASCII: the same message is the same text."""
    kind, body = packed(message)
    return kind, json.dumps(body, sort_keys=True, separators=(",", ":"))


def read(kind: str, text: str) -> Message:
    """The reverse of `written`. Raises `BadName` for whatever is no message of ours."""
    try:
        body = json.loads(text)
        if not isinstance(body, dict):
            raise BadName(f"{shown(kind)}: its body is no JSON object")
        return unpacked(kind, body)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadName(f"{shown(kind)}: {error}") from error


def spoken(kind: str, text: str) -> Message:
    """The same of what came over a bus: what hands report to their own component is nobody else's to say."""
    message = read(kind, text)
    if isinstance(message, reports.Report):
        raise BadName(f"{shown(kind)} is no message between components")
    return message
