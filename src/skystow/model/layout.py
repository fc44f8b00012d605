"""Where a file goes in the archive: a template over what is known of the file. Pure; the same file, the same path.

    {relative_path}                          the tree as it is at the source
    {ctime5}/{file_type}/{file_name}         the SMuRF archive
    {day_obs}/{relative_dir}/{file_name}     one tree per observing night

A template is checked when it is built, a path when it is made: relative, no `..`, each component at most 255 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from pathlib import PurePosixPath
from string import Formatter

from skystow.errors import BadName, ConfigError
from skystow.model.records import shown

RESERVED = ".skystow"
"""Our own directory at the root of a place (staging, ledger); never a file's first component."""

NAME_MAX = 255
"""Bytes in one component that every file system takes."""

SECOND = 10**9
DAY = 86_400
FOUR_CENTURIES = 146_097
"""Days after which the calendar repeats: it serves years that `datetime` cannot hold, before 1 and after 9999."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a layout may use: the path below the source's root, the mtime in nanoseconds since 1970 (UTC), and what
    else the source knows by name (fields of a table row: pub_id, action)."""

    relative: PurePosixPath
    mtime_ns: int
    extra: Mapping[str, str] = field(default_factory=dict)


def stem_and_suffix(name: str) -> tuple[str, str]:
    """`a.tar.gz` → (`a.tar`, `gz`); without a suffix, and for `.profile` or `name.`, the second is empty."""
    dot = name.rfind(".", len(name) - len(name.lstrip(".")))
    return (name[:dot], name[dot + 1 :]) if 0 < dot < len(name) - 1 else (name, "")


def file_type(path: PurePosixPath) -> str:
    """The last suffix without its dot, `none` where there is none."""
    return stem_and_suffix(path.name)[1] or "none"


@lru_cache(maxsize=64)
def _calendar(day: int) -> tuple[int, date]:
    """The year of a day counted from 1970, and a date with the same month, day and weekday in a year that fits."""
    cycles, rest = divmod(day, FOUR_CENTURIES)
    when = date(1970, 1, 1) + timedelta(days=rest)
    return when.year + 400 * cycles, when


def _yyyymmdd(seconds: int) -> str:
    year, when = _calendar(seconds // DAY)
    return f"{year:04d}{when:%m%d}"


Field = Callable[[Attributes], str]

FIELDS: Mapping[str, tuple[Field, str]] = {
    "relative_path": (lambda a: str(a.relative), "the path below the source's root, file name included"),
    "relative_dir": (
        lambda a: str(a.relative.parent),
        "the same without the name; nothing for a file at the root",
    ),
    "file_name": (lambda a: a.relative.name, "the last component"),
    "stem": (lambda a: stem_and_suffix(a.relative.name)[0], "the file name without its last suffix: a.tar.gz → a.tar"),
    "file_type": (
        lambda a: file_type(a.relative),
        "the last suffix without its dot: a.tar.gz → gz; `none` where there is none, as in .profile",
    ),
    "ctime5": (
        lambda a: f"{a.mtime_ns // (100_000 * SECOND):05d}",
        "floor(mtime in seconds / 100000), 5 digits: about 28 hours each; never st_ctime, which chmod and link change",
    ),
    "year": (lambda a: f"{_calendar(a.mtime_ns // SECOND // DAY)[0]:04d}", "of the mtime, UTC, 4 digits"),
    "month": (lambda a: f"{_calendar(a.mtime_ns // SECOND // DAY)[1]:%m}", "of the mtime, UTC, 2 digits"),
    "day": (lambda a: f"{_calendar(a.mtime_ns // SECOND // DAY)[1]:%d}", "of the mtime, UTC, 2 digits"),
    "hour": (lambda a: f"{a.mtime_ns // SECOND % DAY // 3600:02d}", "of the mtime, UTC, 2 digits"),
    "date": (lambda a: _yyyymmdd(a.mtime_ns // SECOND), "YYYYMMDD of the mtime, UTC"),
    "day_obs": (
        lambda a: _yyyymmdd(a.mtime_ns // SECOND - DAY // 2),
        "YYYYMMDD of the mtime, UTC − 12 h: the observing day, so that a night is not cut in two",
    ),
}
"""Every field with its meaning; the user guide's table is made from it."""

ROW_FIELDS: Mapping[str, str] = {
    "file_type": "the row's `type` (v0) or `action` (v1)",
    "type": "the same, of a v0 table",
    "action": "the same, of a v1 table",
    "action_timestamp": "the column; without it the number that the file's name begins with (`1564799250_…`), else "
    "whole seconds of the row's `timestamp`",
    "plots_or_outputs": "`plots` where `plot` is 1, else `outputs`",
    "pub_id": "the column",
    "format": "the column",
    "site": "the column",
    "script_id": "the column",
    "instance_id": "the column",
}
"""Fields of a row of a `pysmurf_files` table with their meaning; NULL is `none`. They go before those of a file, whose
mtime is the row's `timestamp`."""

OF_TIME = frozenset({"ctime5", "year", "month", "day", "hour", "date", "day_obs"})
"""Fields that are made of the mtime."""

PER_FILE = frozenset({"relative_path", "file_name", "stem"})
MANY_COMPONENTS = frozenset({"relative_path", "relative_dir"})

_Part = str | Field


class Layout:
    """A checked template. `extra` names fields that the source gives in `Attributes.extra`; they go before ours of the
    same name.

    Raises `ConfigError` for an unknown field, an absolute template, `.`, `..`, an empty component, a name of ours, or
    a template that gives all files one name.
    """

    def __init__(self, template: str, extra: Iterable[str] = ()) -> None:
        self.template = template
        self._extra = frozenset(extra)
        # A component is a list of literals and fields; a lone str names a field of many components.
        self._components: list[str | list[_Part]] = [self._compile(part) for part in self._split()]
        self.fields = frozenset(name for _, name, _, _ in Formatter().parse(template) if name)
        if not self.fields & PER_FILE:
            raise self._wrong("gives every file the same name", "add {relative_path}, {file_name} or {stem}")
        self._identity = template == "{relative_path}"

    def __repr__(self) -> str:
        return f"Layout({self.template!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self.template, self._extra) == (other.template, other._extra)

    def __hash__(self) -> int:
        return hash(self.template)

    def path(self, attributes: Attributes) -> PurePosixPath:
        """The path below the archive's root. Raises `BadName` where a value or the result is no lawful name."""
        relative = attributes.relative
        if relative.is_absolute() or not relative.name:
            raise BadName(f"‘{shown(relative)}’ is not a path below the source's root")
        if self._identity:
            components = relative.parts
        else:
            components = tuple(c for part in self._components for c in self._render(part, attributes))
        for component in components:
            _lawful(component, relative)
        if components[0] == RESERVED:
            raise BadName(f"‘{shown(relative)}’ would be archived below {RESERVED}, which is ours")
        return relative if self._identity else PurePosixPath(*components)

    def _render(self, part: str | list[_Part], attributes: Attributes) -> tuple[str, ...]:
        relative = attributes.relative
        if isinstance(part, str):
            return relative.parts if part == "relative_path" else relative.parent.parts
        values = []
        for piece in part:
            if isinstance(piece, str):
                values.append(piece)
                continue
            value = piece(attributes)
            _lawful(value, relative)
            values.append(value)
        return ("".join(values),)

    # ── building ────────────────────────────────────────────────────────────────────────────────────────────────

    def _wrong(self, what: str, remedy: str) -> ConfigError:
        return ConfigError(f"layout ‘{shown(self.template)}’ {what}", remedy=remedy)

    def _split(self) -> list[str]:
        parts = self.template.split("/")
        if not self.template:
            raise self._wrong("is empty", "write for instance {relative_path}")
        if not parts[0]:
            raise self._wrong("is absolute", "leave out the first slash: layouts are relative to the destination")
        if parts[0] == RESERVED:
            raise self._wrong(f"begins with {RESERVED}, which is ours", "choose another directory")
        if "" in parts:
            raise self._wrong("has a component without a name", "leave out the doubled or last slash")
        if "." in parts or ".." in parts:
            raise self._wrong("has a component ‘.’ or ‘..’", "write the directory's name")
        return parts

    def _compile(self, component: str) -> str | list[_Part]:
        try:
            pieces = list(Formatter().parse(component))
        except ValueError as error:
            raise self._wrong(f"cannot be read: {error}", "write {{ and }} for braces that are meant") from error
        parts: list[_Part] = []
        for literal, name, spec, conversion in pieces:
            if literal:
                parts.append(literal)
            if name is None:
                continue
            if spec or conversion:
                raise self._wrong(f"formats the field ‘{name}’", f"write {{{name}}} alone: fields have fixed widths")
            if name in MANY_COMPONENTS and (literal or len(pieces) > 1):
                raise self._wrong(f"joins {{{name}}} with a name", "it must stand alone between slashes")
            if name in MANY_COMPONENTS:
                return name
            parts.append(self._field(name))
        literals = "".join(p for p in parts if isinstance(p, str))
        if _fault(literals or "x"):
            raise self._wrong(f"has a component that is no name: {_fault(literals)}", "choose another name")
        return parts

    def _field(self, name: str) -> Field:
        if name in self._extra:
            return lambda a: a.extra.get(name, "")
        if name in FIELDS:
            return FIELDS[name][0]
        known = [*FIELDS, *sorted(self._extra - FIELDS.keys())]
        close = get_close_matches(name, known, n=1)
        remedy = f"did you mean {{{close[0]}}}?" if close else "there are " + ", ".join(f"{{{k}}}" for k in known)
        raise self._wrong(f"has an unknown field ‘{name}’", remedy)


def _fault(name: str) -> str:
    """Why `name` cannot be one component of a path; empty if it can."""
    if name in ("", ".", ".."):
        return "it is empty" if not name else f"it is ‘{name}’"
    if "/" in name:
        return "it holds a slash"
    if "\0" in name:
        return "it holds a NUL"
    if len(name) <= NAME_MAX and name.isascii():
        return ""
    try:
        size = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "it holds half of a UTF-16 pair"
    return f"it has {size} bytes, and {NAME_MAX} are the limit" if size > NAME_MAX else ""


def _lawful(name: str, relative: PurePosixPath) -> None:
    if fault := _fault(name):
        raise BadName(f"‘{shown(name)}’ of ‘{shown(relative)}’ cannot be a name in the archive: {fault}")
