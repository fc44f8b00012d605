"""Whether a file that a datagram names is there, whole, and what it is: what a monitor writes down of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Protocol

from skystow.errors import Changed, FileFault
from skystow.model.datagram import Registration, candidates, deletable, rooted
from skystow.model.records import Fingerprint, shown
from skystow.ports import Stop, Tree
from skystow.ports.monitor import Entry

AGAIN = 1.0
"""Seconds, at least, until a file that changed while it was read is read again."""


class Root(Tree, Protocol):
    """A tree that keeps directories open."""

    @property
    def place(self) -> str: ...

    def forget(self) -> None:
        """Walk again: a directory may have been moved away, and another stand in its place."""


class Fresh(Changed):
    """It may still be written; look again after `wait` seconds."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


def prove(said: Registration, roots: Mapping[PurePosixPath, Root], *, settle: float, stop: Stop) -> Entry:
    """The file as it is, where nothing was written for `settle` seconds, nor while it was read.
    Raises `FileFault`, `PlaceFault`, `Malformed` (below none of the roots), `Stopped`."""
    first: FileFault | None = None
    for path in candidates(said):
        root, relative = rooted(path, tuple(roots))
        tree = roots[root]
        try:
            size, md5 = _read(tree, relative, path, settle, stop)
        except Fresh:
            raise
        except FileFault as fault:
            first = first or fault
            continue
        return Entry(said, path, md5, size, deletable(said.archive, relative))
    assert first is not None  # noqa: S101 - there is always a candidate
    raise first


def _read(tree: Root, relative: PurePosixPath, path: str, settle: float, stop: Stop) -> tuple[int, bytes]:
    before = tree.stat(relative)
    _settled(path, before, settle)
    digest = tree.digest(relative, "md5", stop=stop)
    if before is None or tree.stat(relative) != before:
        raise Fresh(f"{shown(path)}: it was written while it was read", max(settle, AGAIN))
    return before.size or 0, bytes.fromhex(digest.hex)


def _settled(path: str, found: Fingerprint | None, settle: float) -> None:
    """A time that lies ahead says nothing: some clock is wrong, and waiting would not help."""
    if found is None or found.mtime_ns is None:
        return
    age = time.time() - found.mtime_ns / 1e9
    if 0 <= age < settle:
        raise Fresh(f"{shown(path)}: it was written just now", settle - age)
