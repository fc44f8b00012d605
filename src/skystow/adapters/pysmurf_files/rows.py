"""One row of the table as an arrival, or as a dead letter that says why it cannot be one. Pure.

Every value comes from outside: from datagrams that anybody could send, by way of a database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from skystow.errors import BadName
from skystow.model.layout import OF_TIME, Attributes, Layout
from skystow.model.records import Arrival, DeadLetter, Digest, Fingerprint, path_text, shown

BASE = ("id", "path", "timestamp", "instance_id", "copied", "failed_copy_attempts", "md5sum")
"""Columns that we need whatever the layout."""

KIND = {"v0": "type", "v1": "action"}
"""The column that says what kind of file it is."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file_type": (),
    "action": ("action",),
    "type": ("type",),
    "action_timestamp": ("action_timestamp",),
    "plots_or_outputs": ("plot",),
    "pub_id": ("pub_id",),
    "format": ("format",),
    "site": ("site",),
    "script_id": ("script_id",),
    "instance_id": (),
}
"""The fields that a row gives to a layout, each with the columns that it is made of."""

ABSENT = "none"
"""What stands in a path for NULL."""

PATH_MAX = 4096
"""Bytes of a path that a program can have opened a file by."""

MD5_BYTES = 16

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEADING = re.compile(r"(\d+)_")


def columns(version: str, layout: Layout) -> tuple[str, ...]:
    """The columns that must be there for this layout."""
    wanted = dict.fromkeys(BASE)
    for name in sorted(layout.fields & COLUMNS.keys()):
        wanted |= dict.fromkeys((KIND[version],) if name == "file_type" else COLUMNS[name])
    return tuple(wanted)


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes arrivals of rows. `root` is how the paths of the rows begin."""

    source: str
    archive: str
    root: PurePosixPath
    layout: Layout
    version: str
    priority: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return columns(self.version, self.layout)

    def read(self, row: Mapping[str, Any]) -> Arrival | DeadLetter:
        key = str(row["id"]).encode()
        try:
            return self._arrival(key, row)
        except BadName as fault:
            return DeadLetter(self.source, key, fault.message)

    def _arrival(self, key: bytes, row: Mapping[str, Any]) -> Arrival:
        origin, at = self._origin(row["path"]), _nanoseconds(row["timestamp"])
        if at is None and (timed := self.layout.fields & OF_TIME):
            raise BadName(f"its timestamp is NULL, and the layout needs it for {{{min(timed)}}}")
        attempts = row["failed_copy_attempts"]
        return Arrival(
            source=self.source,
            key=key,
            origin=origin,
            archive=self.archive,
            path=self.layout.path(Attributes(origin, at or 0, self._extra(row, origin, at))),
            fingerprint=Fingerprint(),
            claimed=_claimed(row["md5sum"]),
            priority=self.priority,
            rank=at or 0,
            attempts=max(0, attempts) if isinstance(attempts, int) else 0,
        )

    def _origin(self, value: object) -> PurePosixPath:
        """The path below the root: held there before anybody uses it."""
        if not isinstance(value, str | bytes) or not value:
            raise BadName("its path is NULL" if value is None else f"its path is ‘{shown(str(value))}’")
        text = value if isinstance(value, str) else path_text(value)
        if len(text.encode("utf-8", "surrogateescape")) > PATH_MAX:
            raise BadName(f"its path has {len(text):,} characters, more than a path can have")
        path = PurePosixPath(text)
        if "\0" in text or ".." in path.parts:
            raise BadName(f"its path ‘{shown(text)}’ holds ‘..’ or NUL")
        if not path.is_absolute():
            raise BadName(f"its path ‘{shown(text)}’ is not absolute")
        if not path.is_relative_to(self.root) or path == self.root:
            raise BadName(f"its path ‘{shown(text)}’ is not below {shown(self.root)}")
        return path.relative_to(self.root)

    def _extra(self, row: Mapping[str, Any], origin: PurePosixPath, at: int | None) -> dict[str, str]:
        extra: dict[str, str] = {}
        for name in self.layout.fields & COLUMNS.keys():
            match name:
                case "file_type":
                    extra[name] = _text(row[KIND[self.version]])
                case "plots_or_outputs":
                    extra[name] = "plots" if row["plot"] else "outputs"
                case "action_timestamp":
                    extra[name] = _action_timestamp(row[name], origin.name, at)
                case _:
                    extra[name] = _text(row[name])
        return extra


def _text(value: object) -> str:
    if value is None:
        return ABSENT
    return path_text(value) if isinstance(value, bytes) else str(value)


def _action_timestamp(value: object, name: str, at: int | None) -> str:
    """The column, else the number that the file's name begins with, else whole seconds of the timestamp."""
    if value is not None:
        return _text(value)
    if found := _LEADING.match(name):
        return str(int(found[1]))
    if at is None:
        raise BadName("its action_timestamp and timestamp are NULL, and its name does not begin with a number")
    return str(at // 10**9)


def _claimed(value: object) -> Digest:
    if not isinstance(value, bytes):
        raise BadName("its md5sum is NULL" if value is None else "its md5sum is text, not 16 bytes")
    if len(value) != MD5_BYTES:
        raise BadName(f"its md5sum has {len(value)} bytes, not {MD5_BYTES}")
    return Digest("md5", value.hex())


def _nanoseconds(value: object) -> int | None:
    """Since 1970. A time without a zone is UTC: the publisher's, written and read back without a thought of zones."""
    if value is None:
        return None
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    except ValueError:
        raise BadName(f"its timestamp ‘{shown(_text(value))}’ is no time") from None
    utc = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (utc - _EPOCH) // timedelta(microseconds=1) * 1000
