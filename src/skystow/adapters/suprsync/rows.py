"""One row of `supersync_v0` as an arrival, or as a dead letter that says why it cannot be one. Pure.

Every value comes from outside: from datagrams that anybody could send, by way of a database.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from skystow.errors import BadName
from skystow.model.layout import Attributes, Layout
from skystow.model.records import Arrival, DeadLetter, Digest, Fingerprint, shown
from skystow.ports import Dossier

COLUMNS = ("id", "local_path", "local_md5sum", "archive_name", "remote_path", "timestamp", "failed_copy_attempts")
"""What a row is read by."""

PATH_MAX = 4096
"""Bytes of a path that a program can have opened a file by."""

LATEST = 9 * 10**9
"""Seconds from 1970, as far as a ledger can sort them."""

_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_AS_IT_IS = Layout("{relative_path}")


def key_of(number: int, local: object, md5: object, remote: object) -> bytes:
    """What a row is known by: its id, and what it says of its file. SQLite gives ids anew, where the last row was
    deleted or a backup restored; and a row that a person has corrected is to be believed."""
    if isinstance(remote, str) and ("//" in remote or "/." in remote):
        remote = str(PurePosixPath(remote))
    return b"%d.%s" % (number, hashlib.sha256(repr((local, md5, remote)).encode()).hexdigest()[:16].encode())


def number_of(key: bytes) -> int:
    """The id of the row that is, or was, known by it."""
    return int(key.partition(b".")[0])


class Claim(NamedTuple):
    """What a row says of its file, as the driver gives it; text where it was admitted."""

    local_path: Any
    local_md5sum: Any
    remote_path: Any

    def key(self, number: int) -> bytes:
        return key_of(number, *self)

    def is_of(self, number: int, dossier: Dossier) -> bool:
        """Whether the row with this id still is what was admitted; we ourselves may have told it where its file is."""
        if self.key(number) == dossier.key:
            return True
        before = self._replace(remote_path=str(dossier.path))
        places = {copy.path for copy in dossier.copies}
        return (
            isinstance(self.remote_path, str)
            and PurePosixPath(self.remote_path) in places
            and before.key(number) == dossier.key
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes arrivals of rows. Local paths must lie below `root`, and below one of `within` where there are any."""

    source: str
    archive: str
    root: PurePosixPath
    within: Sequence[PurePosixPath] = ()
    priority: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS

    def read(self, row: Mapping[str, Any]) -> Arrival | DeadLetter:
        key = key_of(row["id"], row["local_path"], row["local_md5sum"], row["remote_path"])
        try:
            return self._arrival(key, row)
        except BadName as fault:
            return DeadLetter(self.source, key, fault.message)

    def _arrival(self, key: bytes, row: Mapping[str, Any]) -> Arrival:
        attempts = row["failed_copy_attempts"]
        return Arrival(
            source=self.source,
            key=key,
            origin=self._origin(row["local_path"]),
            archive=self.archive,
            path=_remote(row["remote_path"]),
            fingerprint=Fingerprint(),
            claimed=_claimed(row["local_md5sum"]),
            priority=self.priority,
            rank=_rank(row["timestamp"]),
            attempts=min(max(0, attempts), 10**6) if isinstance(attempts, int) else 0,
        )

    def _origin(self, value: object) -> PurePosixPath:
        """The path below the root: held there before anybody uses it."""
        path = PurePosixPath(text := _path("local_path", value))
        if not path.is_absolute():
            raise BadName(f"its local_path ‘{shown(text)}’ is not absolute")
        if not path.is_relative_to(self.root) or path == self.root:
            raise BadName(f"its local_path ‘{shown(text)}’ is not below {shown(self.root)}")
        if self.within and not any(path.is_relative_to(each) and path != each for each in self.within):
            places = ", ".join(map(shown, self.within))
            raise BadName(f"its local_path ‘{shown(text)}’ is in none of {places}")
        return path.relative_to(self.root)


def _path(column: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadName(f"its {column} is " + ("empty" if value == "" else "NULL" if value is None else "no text"))
    try:
        size = len(value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise BadName(f"its {column} ‘{shown(value)}’ holds half of a UTF-16 pair") from None
    if size > PATH_MAX:
        raise BadName(f"its {column} has {len(value):,} characters, more than a path can have")
    if "\0" in value or ".." in value.split("/"):
        raise BadName(f"its {column} ‘{shown(value)}’ holds ‘..’ or NUL")
    return value


def _remote(value: object) -> PurePosixPath:
    """Below the remote base directory, and nowhere else."""
    text = _path("remote_path", value)
    if text.startswith("/"):
        raise BadName(f"its remote_path ‘{shown(text)}’ is absolute: it must be relative to the remote base directory")
    if text.split("/")[0] == ".":
        raise BadName(f"its remote_path ‘{shown(text)}’ begins with ‘./’, which would hide its timecode")
    if text.endswith("/"):
        raise BadName(f"its remote_path ‘{shown(text)}’ names a directory")
    return _AS_IT_IS.path(Attributes(PurePosixPath(text), 0))


def _claimed(value: object) -> Digest:
    if not isinstance(value, str):
        raise BadName("its local_md5sum is " + ("NULL" if value is None else "no text"))
    digits = value.lower()
    if not _MD5.fullmatch(digits):
        raise BadName(f"its local_md5sum ‘{shown(value[:64])}’ is not 32 hexadecimal digits")
    return Digest("md5", digits)


def _rank(value: object) -> int:
    """Nanoseconds since 1970; what is no time goes first."""
    if not isinstance(value, int | float) or value != value:
        return 0
    return int(max(-LATEST, min(LATEST, value)) * 10**9)
