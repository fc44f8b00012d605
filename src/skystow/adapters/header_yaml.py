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

from skystow.adapters.plain_yaml import Limits, Unlawful, documents
from skystow.errors import Unreadable
from skystow.model.records import shown

MOST_ALIASES, MOST_CARDS, DEEPEST = 64, 200_000, 8

Value = str | int | float | bool | None

_CORE = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_LIMITS = Limits(DEEPEST, 20 * MOST_CARDS, MOST_ALIASES, frozenset((None, "!", *_CORE)), twice=True)

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
        found = documents(content, _LIMITS, _scalar)
    except Unlawful as error:
        raise Unreadable(f"the header {error}") from error
    document = found[0] if len(found) == 1 else None
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


def _scalar(text: str, plain: bool) -> Value:
    if not plain:
        return text
    if text in _NAMED:
        return _NAMED[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _card(section: str, card: Any) -> Card:
    if not isinstance(card, dict) or not isinstance(card.get("keyword"), str):
        raise Unreadable(f"section {shown(section)} has a card without a keyword")
    value, comment = card.get("value"), card.get("comment")
    if not isinstance(value, str | int | float | bool | None):
        raise Unreadable(f"{shown(section)}: the value of {shown(card['keyword'])} is no scalar")
    return Card(card["keyword"], value, "" if comment is None else str(comment))
