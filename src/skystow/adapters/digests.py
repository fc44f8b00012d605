"""Digests of bytes in memory and of open files. Big blocks: the hashers let other threads run meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Protocol

from blake3 import blake3
from xxhash import xxh128

from skystow.errors import ConfigError, Stopped
from skystow.model.records import ALGORITHMS, Digest
from skystow.ports import Stop

BLOCK = 1 << 20
"""Bytes between two looks at `stop`."""


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...
    def hexdigest(self) -> str: ...


def _md5() -> Hasher:
    return hashlib.md5(usedforsecurity=False)  # a checksum that instruments claim, no signature


_HASHERS: dict[str, Callable[[], Hasher]] = {
    "blake3": blake3,
    "sha256": hashlib.sha256,
    "xxh128": xxh128,
    "md5": _md5,
}


class Together:
    """Several hashers over the same bytes."""

    def __init__(self, each: Sequence[Hasher]) -> None:
        self._each = each

    def update(self, data: bytes | memoryview) -> None:
        for one in self._each:
            one.update(data)

    def digests(self, algorithms: Sequence[str]) -> list[Digest]:
        return [Digest(name, one.hexdigest()) for name, one in zip(algorithms, self._each, strict=True)]


def hasher(algorithm: str) -> Hasher:
    """A new hasher; raises `ConfigError` for an algorithm that is not one of `ALGORITHMS`."""
    try:
        return _HASHERS[algorithm]()
    except KeyError:
        raise ConfigError(f"unknown digest {algorithm!r}", remedy=f"use one of {', '.join(ALGORITHMS)}") from None


def _digest_of(data: bytes, algorithm: str) -> Digest:
    one = hasher(algorithm)
    one.update(data)
    return Digest(algorithm, one.hexdigest())


def digest_file(fd: int, size: int, algorithm: str, stop: Stop) -> Digest:
    """Read an open file from its beginning to its end (`size` is what is expected, it bounds the buffer); the file
    position stays. Raises `OSError`, `Stopped`."""
    [digest] = digest_file_by(fd, size, (algorithm,), stop)
    return digest


def digest_file_by(fd: int, size: int, algorithms: Sequence[str], stop: Stop) -> list[Digest]:
    """The same by several algorithms in one pass."""
    at = 0
    if size < BLOCK:
        # One byte more than there should be: a short read is the end, and a file that grew does not look whole.
        data = os.pread(fd, size + 1, 0)
        if len(data) == size:
            return [_digest_of(data, algorithm) for algorithm in algorithms]
    running = Together([hasher(algorithm) for algorithm in algorithms])
    buffer = memoryview(bytearray(BLOCK))
    while count := os.preadv(fd, [buffer], at):
        running.update(buffer[:count])
        at += count
        if stop.is_set():
            raise Stopped("stopped while reading")
    return running.digests(algorithms)
