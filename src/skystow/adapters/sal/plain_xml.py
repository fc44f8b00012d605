"""XML as data: elements and text, each with its line. A document type, and with it every entity but those of XML
itself, is refused, so that no file can make us read another one, or more than it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from skystow.errors import ConfigError

DEEPEST, MOST = 32, 1_000_000
"""Elements within each other, and of a whole file."""

_REMEDY = "SAL interface XML has none of this: is it another file, or damaged?"


@dataclass(slots=True)
class Node:
    """`text` is what stands before the first child, without the blanks around it."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def first(self, tag: str) -> Node | None:
        return next((each for each in self.children if each.tag == tag), None)

    def said(self, tag: str) -> str:
        """The text of its first child of this kind; "" where it has none."""
        found = self.first(tag)
        return found.text if found is not None else ""


def parse(content: bytes, where: str) -> Node:
    """The root. Raises `ConfigError` with file and line."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = Node("", 0)
    open_: list[Node] = [top]
    pieces: list[str] = []
    elements = 0

    def close_text() -> None:
        if not open_[-1].children:
            open_[-1].text = "".join(pieces).strip()
        pieces.clear()

    def begin(tag: str, _attributes: dict[str, str]) -> None:
        nonlocal elements
        close_text()
        elements += 1
        if elements > MOST:
            refuse(f"more than {MOST:,} elements")
        if len(open_) > DEEPEST:
            refuse(f"elements within each other more than {DEEPEST} deep")
        node = Node(tag, parser.CurrentLineNumber)
        open_[-1].children.append(node)
        open_.append(node)

    def end(_tag: str) -> None:
        close_text()
        open_.pop()

    def refuse(what: str) -> None:
        raise ConfigError(f"{where}, line {parser.CurrentLineNumber}: {what}", remedy=_REMEDY)

    def doctype(*_said: Any) -> None:
        refuse("a document type (DOCTYPE), which is not read")

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = pieces.append
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        text = expat.errors.messages.get(error.code, str(error))
        raise ConfigError(f"{where}, line {error.lineno}: it is no XML ({text})", remedy=_REMEDY) from error
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        raise ConfigError(f"{where}, line 1: it cannot be read ({error})", remedy=_REMEDY) from error
    return top.children[0]
