"""The site file: YAML → one frozen `Site`, or every error in it at once, each with its line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from skystow.config.checks import complaints, nested, refuse_places
from skystow.config.document import Document, Place, Problem, parse
from skystow.config.model import (
    SECTIONS,
    Directory,
    HardLink,
    Posix,
    PysmurfFiles,
    Remote,
    Retirement,
    Rows,
    Site,
    SuprSync,
    Table,
    kinds,
)
from skystow.config.spelling import closest, meant
from skystow.errors import ConfigError
from skystow.model.records import shown

__all__ = [
    "Directory",
    "HardLink",
    "Posix",
    "PysmurfFiles",
    "Remote",
    "Retirement",
    "Rows",
    "Site",
    "SuprSync",
    "Table",
    "load",
    "nested",
    "read",
    "refuse_places",
]


def load(path: str) -> Site:
    """Read and check a site file; raises `ConfigError` with all that is wrong with it."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except IsADirectoryError as error:
        raise ConfigError(f"{shown(path)} is a directory", remedy="this command wants a site file (YAML)") from error
    except OSError as error:
        raise ConfigError(f"cannot read the site file {shown(path)}: {error.strerror}") from error
    return read(text, directory=os.path.dirname(os.path.abspath(path)), name=shown(path))


def read(text: str | bytes, *, directory: str, name: str = "site file") -> Site:
    """Check the text of a site file; relative roots are relative to `directory`. Raises `ConfigError`."""
    document = parse(text)
    problems = list(document.problems)
    site: Site | None = None
    if document.value is None and not problems:
        problems.append(Problem(0, "the file is empty; it needs sources: and destinations:"))
    elif document.value is not None and not isinstance(document.value, dict):
        problems.append(Problem(1, "should be keys and values, such as sources: and destinations:"))
    elif document.value is not None:
        site, found = _check(document, directory)
        problems += found
    if site is None or problems:
        told = tuple(str(problem) for problem in sorted(set(problems)))
        errors = "1 error" if len(told) == 1 else f"{len(told)} errors"
        raise ConfigError(f"{name}: {errors}", problems=told)
    return site


def _check(document: Document, directory: str) -> tuple[Site | None, list[Problem]]:
    problems = [Problem(document.line(place), text) for place, text in complaints(document.value, directory)]
    try:
        return Site.model_validate(document.value, context={"directory": directory}), problems
    except ValidationError as invalid:
        return None, problems + list(_told(invalid.errors(include_url=False), document))


def _told(errors: list[ErrorDetails], document: Document) -> Iterator[Problem]:
    misspelt: set[Place] = set()
    missing: list[tuple[Place, Problem]] = []
    for error in errors:
        place = _written(error["loc"], document)
        where, value = _named(place), error.get("input")
        match error["type"]:
            case "extra_forbidden":
                key = str(error["loc"][-1])
                section = SECTIONS.get(tuple(str(part) for part in error["loc"][:-1] if isinstance(part, str)))
                known = set(section.model_fields) - set(_at(document.value, place[:-1])) if section else set()
                if (word := closest(key, known)) is not None:
                    misspelt.add((*place[:-1], word))
                hint = meant(key, known)
                yield Problem(document.line(place), f"unknown key {where}{hint}")
            case "missing":
                key = str(error["loc"][-1])
                around = f" in {_named(place)}" if place else ""
                missing.append(((*place, key), Problem(document.line(place), f"{key!r} is missing{around}")))
            case "union_tag_not_found":
                text = f"'kind' is missing in {where}: {_or(kinds(str(error['loc'][0])))}"
                missing.append(((*place, "kind"), Problem(document.line(place), text)))
            case "union_tag_invalid":
                kind = value.get("kind") if isinstance(value, dict) else value
                text = f"{where}.kind: {kind!r} is not known{meant(str(kind), kinds(str(error['loc'][0])))}"
                yield Problem(document.line((*place, "kind")), text)
            case _:
                said = _said(error)
                secret = place[:1] == ("ledger",)  # what should be a URL may hold a password
                culprit = "" if secret or f"‘{value}’" in said else f", not {_culprit(value)}"
                yield Problem(document.line(place), f"{where}: {said}{culprit}")
    yield from (problem for place, problem in missing if place not in misspelt)


def _written(location: tuple[int | str, ...], document: Document) -> Place:
    """pydantic's location as a place in the file: without the tags of unions, and without what is not there."""
    place: Place = ()
    for part in location:
        if (*place, part) in document.lines:
            place = (*place, part)
    return place


def _at(value: Any, place: Place) -> dict[str, Any]:
    for part in place:
        value = value[part]
    return value if isinstance(value, dict) else {}


def _named(place: Place) -> str:
    """`sources[0].root`, counted from 0 as programs do; the line says the rest."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "site file"


def _said(error: ErrorDetails) -> str:
    """pydantic's sentence in our words."""
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "string_pattern_mismatch":
            return "should be letters, digits, '.', '_' or '-', starting with a letter or digit"
        case "literal_error":
            return f"should be {error['ctx']['expected']}"
        case "list_type" | "tuple_type":
            return "should be a list"
        case "model_type" | "model_attributes_type":
            return "should be keys and values"
        case "bool_type":
            return "should be true or false"
        case _:
            said = error["msg"].replace("Input should be", "should be").replace("a valid ", "a ")
            return said.replace("a integer", "a whole number").replace("greater than or equal to", "at least")


def _culprit(value: object) -> str:
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    text = shown(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def _or(words: Sequence[str]) -> str:
    """a, b or c"""
    *rest, last = words
    return f"{', '.join(rest)} or {last}" if rest else last
