"""The header service's YAML: a mapping of sections, each a list of {keyword, value, comment}.

It comes from the network, so it is held to be hostile: no tags, few aliases, no depth, not too many cards. Scalars are
read as JSON would: what YAML 1.1 takes for dates, base-60 numbers (`12:34:56`) or `yes` stays the text that it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from skystow.errors import Unreadable
from skystow.model.records import shown

MOST_ALIASES, MOST_CARDS, DEEPEST = 64, 200_000, 8

Value = str | int | float | bool | None

_CORE = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass(frozen=True, slots=True)
class Card:
    keyword: str
    value: Value
    comment: str = ""


Header = Mapping[str, Sequence[Card]]
"""Cards by section: `PRIMARY`, `R22S00_PRIMARY`, `R22S00_Segment10` …"""


class _Loader(yaml.CSafeLoader):
    """Scalars as PyYAML writes them (whatever it would take for a number, it quotes in a text), without its fancies."""


_Loader.yaml_implicit_resolvers = {}
for _kind, _first, _pattern in (
    ("null", "~nN", r"~|null|Null|NULL|"),
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
    ("int", "-+0123456789", r"[-+]?(?:0|[1-9][0-9]{0,17})"),
    (
        "float",
        "-+.0123456789",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def parse(content: bytes) -> Header:
    """Raises `Unreadable` with a sentence for whatever is not a header."""
    try:
        _inspect(content)
        document = yaml.load(content, Loader=_Loader)  # noqa: S506 - a safe loader, and no tags are left in it
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise Unreadable(f"no YAML: {_sentence(error)}") from error
    if not isinstance(document, dict) or not document:
        raise Unreadable("the header is no mapping of sections")
    header: dict[str, Sequence[Card]] = {}
    count = 0
    for name, cards in document.items():
        if not isinstance(name, str) or not isinstance(cards, list):
            raise Unreadable(f"section {shown(str(name))} is no list of cards")
        if (count := count + len(cards)) > MOST_CARDS:
            raise Unreadable(f"the header has more than {MOST_CARDS} cards")
        header[name] = [_card(name, card) for card in cards]
    return header


def _inspect(content: bytes) -> None:
    """Look at the events before anything is built of them: an anchor in an anchor never gets to grow."""
    depth = aliases = 0
    for event in yaml.parse(content, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST or aliases > MOST_ALIASES:
            raise Unreadable("the header is nested too deeply, or refers to itself too often")
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _CORE:
            raise Unreadable(f"the header has the tag {shown(str(tag))}")


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
