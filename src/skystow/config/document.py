"""A YAML file as plain values, each with the line that it stands in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top, such as ("sources", 0, "root")."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, and its line (from 1; 0: the file as a whole)."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass
class Document:
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest thing around it that is written down."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


class _Loader(yaml.SafeLoader):
    """YAML as a person means it: `0444` is a mode and `10:30` a time, not numbers, and `2024-01-01` may be a name."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] not in ("int", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)\Z"), list("-+0123456789"))


_TAGS = ("map", "seq", "str", "int", "float", "bool", "null", "merge")


def parse(text: str | bytes) -> Document:
    """Never raises for what is in the text: what is wrong goes to `problems`."""
    document = Document()
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        document.problems.append(Problem(0, f"not a text file in UTF-8: {error.reason}"))
        return document
    try:
        root = loader.get_single_node()
        if root is not None:
            document.value = _value(loader, root, (), document, ())
    except RecursionError:
        document.problems.append(Problem(0, "not a site file: nested without end"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        document.problems.append(Problem(line, f"not YAML: {error.problem or error.context}"))
    except yaml.reader.ReaderError as error:
        document.problems.append(Problem(0, f"not a text file in UTF-8: {error.reason}"))
    finally:
        loader.dispose()
    return document


def _value(loader: _Loader, node: yaml.Node, place: Place, document: Document, above: tuple[int, ...]) -> Any:
    document.lines.setdefault(place, node.start_mark.line + 1)
    if id(node) in above:
        document.problems.append(Problem(node.start_mark.line + 1, "an alias that contains itself"))
        return None
    above = (*above, id(node))
    if node.tag.rsplit(":", 1)[-1] not in _TAGS:
        document.problems.append(Problem(node.start_mark.line + 1, f"not YAML that a site file may hold: {node.tag}"))
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, (*place, n), document, above) for n, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, place, document, above)
    try:
        return loader.construct_object(node)
    except ValueError as error:  # a tag that the text does not keep, such as `!!int four`
        document.problems.append(Problem(node.start_mark.line + 1, f"{node.value!r}: {error}"))
        return None


def _mapping(
    loader: _Loader, node: yaml.MappingNode, place: Place, document: Document, above: tuple[int, ...]
) -> dict[str, Any]:
    written: dict[str, int] = {}
    for key, _ in node.value:
        line, name = key.start_mark.line + 1, str(key.value)
        if name in written and name != "<<":
            document.problems.append(Problem(line, f"{name!r} is given twice; first in line {written[name]}"))
        written.setdefault(name, line)
    loader.flatten_mapping(node)  # `<<: *defaults`
    values: dict[str, Any] = {}
    for key, child in node.value:
        name = str(key.value)
        document.lines[(*place, name)] = key.start_mark.line + 1
        values[name] = _value(loader, child, (*place, name), document, above)
    return values
