"""Between records and columns: times, hashes, fingerprints, digests, text. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, TypeVar

from skystow.adapters.ledger.schema import FOREVER
from skystow.model.records import Digest, Fingerprint, path_text

T = TypeVar("T")

CHUNK = 500
"""Values in one IN list."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = 2**63 - 1


def chunks(values: Iterable[T]) -> Iterator[Sequence[T]]:
    every = list(values)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]


def micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    return datetime.max.replace(tzinfo=UTC) if at >= FOREVER else _EPOCH + at * _MICROSECOND


def maybe_moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def name_key(source: str, key: bytes) -> bytes:
    return hashlib.sha256(source.encode() + b"\0" + key).digest()


def file_key(archive: str, path: bytes) -> bytes:
    return hashlib.sha256(archive.encode() + b"\0" + path).digest()


def hashed(*parts: str | int) -> bytes:
    """What makes a row the same row: all parts, in this order. Any text will do, halves of UTF-16 pairs too."""
    whole = hashlib.sha256()
    for part in parts:
        raw = str(part).encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(raw) + raw)
    return whole.digest()


def lookup(path: bytes) -> int:
    """A short hash to find bytes by; who finds must compare the bytes."""
    return int.from_bytes(hashlib.sha256(path).digest()[:8], "big", signed=True)


def path_of(raw: bytes) -> PurePosixPath:
    return PurePosixPath(path_text(raw))


def plain(text: str) -> str:
    """Text that every database takes: no lone surrogates, no NUL."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def clamped(number: int) -> int:
    return max(-_LARGEST, min(_LARGEST, number))


def storable(seen: Fingerprint) -> Fingerprint:
    """What no column can hold (a date after 2262, an inode of the upper half) counts as unknown."""
    numbers = (seen.size, seen.mtime_ns, seen.inode, seen.ctime_ns)
    if all(n is None or -_LARGEST <= n <= _LARGEST for n in numbers):
        return seen
    return Fingerprint(*(n if n is not None and abs(n) <= _LARGEST else None for n in numbers))


def looks(seen: Fingerprint) -> dict[str, Any]:
    """A `storable` fingerprint as columns."""
    return {"size": seen.size, "mtime_ns": seen.mtime_ns, "inode": seen.inode, "ctime_ns": seen.ctime_ns}


def digest_of(algorithm: str | None, hexadecimal: str | None) -> Digest | None:
    return Digest(algorithm, hexadecimal) if algorithm and hexadecimal else None


def digest_from(text: str | None) -> Digest | None:
    return Digest(*text.split(":", 1)) if text else None
