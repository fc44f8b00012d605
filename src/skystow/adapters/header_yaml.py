"""The header service's YAML: a mapping of sections, each a list of {keyword, value, comment}.

It comes from the network, so it is held to be hostile: no tags, few aliases, no depth, not too many cards. Scalars are
read as JSON would: what YAML 1.1 takes for dates, base-60 numbers (`12:34:56`) or `yes` stays the text that it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from skystow.errors import Unreadable
from skystow.model.records import shown

MOST_ALIASES, MOST_CARDS, DEEPEST = 64, 200_000, 8

Value = str | int | float | bool | None

_CORE = {None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))}
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NAMED: Mapping[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "-.inf", ".nan", ".NaN", ".NAN"), math.nan),
}
"""What is not finite is undefined in FITS."""
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
"""As PyYAML has them, which quotes texts that look so, less base 60, base 2, 8 and 16, and `_`."""


@dataclass(frozen=True, slots=True)
class Card:
    keyword: str
    value: Value
    comment: str = ""


Header = Mapping[str, Sequence[Card]]
"""Cards by section: `PRIMARY`, `R22S00_PRIMARY`, `R22S00_Segment10` …"""


def parse(content: bytes) -> Header:
    """Raises `Unreadable` with a sentence for whatever is not a header."""
    try:
        document = _document(content)
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise Unreadable(f"no YAML: {_sentence(error)}") from error
    if not isinstance(document, dict) or not document:
        raise Unreadable("the header is no mapping of sections")
    header: dict[str, Sequence[Card]] = {}
    count = 0
    for name, cards in document.items():
        if not isinstance(cards, list):
            raise Unreadable(f"section {shown(name)} is no list of cards")
        if (count := count + len(cards)) > MOST_CARDS:
            raise Unreadable(f"the header has more than {MOST_CARDS} cards")
        header[name] = [_card(name, card) for card in cards]
    return header


def _document(content: bytes) -> Any:
    """Built from the events, so that nothing but text, numbers, lists and mappings can come of it. What an alias
    refers to is whole before, and is shared, not copied: neither a loop nor a bomb can be said."""
    anchors: dict[str, Any] = {}
    stack: list[tuple[list[Any], str | None]] = [([], None)]
    aliases = 0
    for event in yaml.parse(content, Loader=_PARSER):
        match event:
            case yaml.ScalarEvent():
                value: Any = _scalar(event)
            case yaml.CollectionStartEvent():
                _check(event)
                stack.append(([], event.anchor))
                if len(stack) > DEEPEST:
                    raise Unreadable("the header is nested too deeply")
                continue
            case yaml.CollectionEndEvent():
                items, anchor = stack.pop()
                value = _mapping(items) if isinstance(event, yaml.MappingEndEvent) else items
                if anchor is not None:
                    anchors[anchor] = value
            case yaml.AliasEvent():
                aliases += 1
                if aliases > MOST_ALIASES or event.anchor not in anchors:
                    raise Unreadable("the header refers to itself")
                value = anchors[event.anchor]
            case _:
                continue
        if isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            anchors[event.anchor] = value
        stack[-1][0].append(value)
    documents, _ = stack[0]
    return documents[0] if len(documents) == 1 else None


def _mapping(items: list[Any]) -> dict[str, Any]:
    keys = items[::2]
    if not all(isinstance(key, str) for key in keys):
        raise Unreadable("a mapping has a key that is no text")
    return dict(zip(keys, items[1::2], strict=True))


def _scalar(event: yaml.ScalarEvent) -> Value:
    _check(event)
    text = str(event.value)
    if not event.implicit[0]:  # quoted, a block, or said to be a text
        return text
    if text in _NAMED:
        return _NAMED[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _check(event: Any) -> None:
    if event.tag not in _CORE:
        raise Unreadable(f"the header has the tag {shown(str(event.tag))[:80]}")


def _card(section: str, card: Any) -> Card:
    if not isinstance(card, dict) or not isinstance(card.get("keyword"), str):
        raise Unreadable(f"section {shown(section)} has a card without a keyword")
    value, comment = card.get("value"), card.get("comment")
    if not isinstance(value, str | int | float | bool | None):
        raise Unreadable(f"{shown(section)}: the value of {shown(card['keyword'])} is no scalar")
    return Card(card["keyword"], value, "" if comment is None else str(comment))


def _sentence(error: Exception) -> str:
    """Without the line breaks and marks of YAML's messages."""
    return shown(" ".join(str(error).split()))[:200]
