"""YAML from the network, held to be hostile: what can be built is text, lists and mappings, nothing else.

Documents are built from the parser's events, by the C parser where there is one. No tags but those that are allowed,
no more nodes, depth and aliases than are allowed; what a scalar means is the caller's to say.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from skystow.model.records import shown

PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DIRECTIVE = re.compile(r"(?:^|[\n\r\x85\u2028\u2029])\ufeff?%TAG")
"""libyaml compares each with all before it: a megabyte of them takes 12 s."""


class Unlawful(Exception):
    """Says in a sentence without its subject what is wrong with a text: `is nested too deeply`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`nodes` are scalars, lists, mappings and aliases. `twice`: the same key may stand twice, the last counts."""

    depth: int
    nodes: int
    aliases: int = 0
    tags: frozenset[str | None] = frozenset((None,))
    twice: bool = False


Scalar = Callable[[str, bool], Any]
"""The value of a scalar: of its text, and whether it stood plain, neither quoted nor a block nor said to be a text."""


def documents(content: bytes | str, limits: Limits, scalar: Scalar) -> list[Any]:
    """Every document of a text, which in bytes is UTF-8, or by its mark UTF-16. Raises `Unlawful`."""
    try:
        text = content if isinstance(content, str) else content.decode(_encoding(content))
        if "%TAG" in text and _DIRECTIVE.search(text):
            raise Unlawful("has a %TAG directive")
        return _documents(text, limits, scalar)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two of an escape that is no character
        raise Unlawful(f"is no YAML: {_sentence(error)}") from error


def _encoding(content: bytes) -> str:
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _documents(text: str, limits: Limits, scalar: Scalar) -> list[Any]:
    """What an alias refers to is whole before, and is shared, not copied: neither a loop nor a bomb can be said."""
    anchors: dict[str, Any] = {}
    stack: list[tuple[list[Any], str | None]] = [([], None)]
    nodes = aliases = 0
    for event in yaml.parse(text, Loader=PARSER):
        if isinstance(event, yaml.NodeEvent) and (nodes := nodes + 1) > limits.nodes:
            raise Unlawful(f"has more than {limits.nodes} nodes")
        match event:
            case yaml.ScalarEvent():
                _check(event, limits)
                value, anchor = scalar(event.value, event.implicit[0]), event.anchor
            case yaml.CollectionStartEvent():
                _check(event, limits)
                stack.append(([], event.anchor))
                if len(stack) > limits.depth:
                    raise Unlawful("is nested too deeply")
                continue
            case yaml.CollectionEndEvent():
                value, anchor = stack.pop()
                if isinstance(event, yaml.MappingEndEvent):
                    value = _mapping(value, limits)
            case yaml.AliasEvent():
                if (aliases := aliases + 1) > limits.aliases or event.anchor not in anchors:
                    raise Unlawful("refers to itself")
                value, anchor = anchors[event.anchor], None
            case _:
                continue
        if anchor is not None:
            anchors[anchor] = value
        stack[-1][0].append(value)
    return stack[0][0]


def _mapping(items: list[Any], limits: Limits) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise Unlawful("has a key that is no text")
        if key in built and not limits.twice:
            raise Unlawful(f"has the key {shown(key[:80])} twice")
        built[key] = value
    return built


def _check(event: Any, limits: Limits) -> None:
    if event.tag not in limits.tags:
        raise Unlawful(f"has the tag {shown(str(event.tag))[:80]}")
    if event.anchor is not None and not limits.aliases:
        raise Unlawful(f"has the anchor {shown(str(event.anchor))[:80]}")


def _sentence(error: Exception) -> str:
    """Without the line breaks and marks of YAML's messages."""
    return shown(" ".join(str(error).split()))[:200]
