"""Values on the wire: each kind reads both dialects and says its own. Scalars come as the text that they are, so that
what YAML 1.1 takes for dates, numbers or `yes` stays text where text is due; null comes as None."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skystow.model.records import shown

LONGEST, MOST, LONGEST_QUEUE = 4096, 1000, 255
"""Characters of a text, texts of a list, bytes of a queue's name (AMQP's limit)."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Half of a UTF-16 pair is nothing in UTF-8; NUL is no part of a file's name, nor of PostgreSQL's texts."""
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")
_TRUE = frozenset(("true", "yes", "on", "1"))


class Wrong(ValueError):
    """Says what is wrong with a value, without its subject: `is a list where text is due`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` makes a field's value of a node (text, None, list or mapping), `say` a value of the body of a field.
    Both raise `Wrong`."""

    read: Callable[[Any], Any]
    say: Callable[[Any], Any]


def instead(node: Any, due: str) -> Wrong:
    """What stands where something else is due."""
    match node:
        case None:
            what = "null"
        case dict():
            what = "a mapping"
        case list():
            what = "a list"
        case _:
            what = f"‘{shown(str(node)[:80])}’"
    return Wrong(f"is {what} where {due} is due")


def _text(node: Any) -> str:
    if not isinstance(node, str):
        raise instead(node, "text")
    if len(node) > LONGEST:
        raise Wrong(f"has {len(node)} characters, more than {LONGEST}")
    if (found := _NO_TEXT.search(node)) is not None:
        raise Wrong(f"has the character U+{ord(found[0]):04X}")
    return node


def _prose(node: Any) -> str:
    """Words for people are cut and cleaned, never refused: what they tell of must arrive."""
    if not isinstance(node, str):
        raise instead(node, "text")
    text = _NO_TEXT.sub("\ufffd", node)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _queue(node: Any) -> str:
    text = _text(node)
    if len(text.encode()) > LONGEST_QUEUE:
        raise Wrong(f"has more than {LONGEST_QUEUE} bytes")
    return text


def _texts(node: Any) -> tuple[str, ...]:
    if not isinstance(node, list | tuple):
        raise instead(node, "a list of texts")
    if len(node) > MOST:
        raise Wrong(f"has {len(node)} entries, more than {MOST}")
    return tuple(map(_text, node))


def _within(low: int, high: int) -> Callable[[Any], int]:
    def number(node: Any) -> int:
        text = str(node)
        if not isinstance(node, str | int) or not _INTEGER.fullmatch(text):
            raise instead(node, "an integer")
        if not low <= (value := int(text)) <= high:
            raise Wrong(f"is {text}, not from {low} to {high}")
        return value

    return number


def _float(node: Any) -> float:
    text = str(node)
    if not isinstance(node, str | float | int) or not _FLOAT.fullmatch(text) or math.isinf(value := float(text)):
        raise instead(node, "a finite number")
    return value


def yes(node: Any) -> None:
    """ACK_BOOL, text or boolean: of a refusal no message of ours can tell."""
    if not isinstance(node, str) or node.lower() not in _TRUE:
        raise instead(node, "TRUE")


_integer, _size = _within(-(2**31), 2**31 - 1), _within(0, 2**63 - 1)

TEXT = Kind(_text, _text)
PROSE = Kind(_prose, _prose)
QUEUE = Kind(_queue, _queue)
TEXTS = Kind(_texts, lambda value: list(_texts(value)))
INTEGER = Kind(_integer, _integer)
SIZE = Kind(_size, _size)
FLOAT = Kind(_float, _float)
