"""Notices as lines of JSON in a file, for whoever wants to follow along (`tail -F`)."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

from skystow.errors import NoSpace, PlaceFault, ReadOnly, Unreachable
from skystow.model.records import Notice, shown


class JournalAnnouncer:
    """Implements `skystow.ports.Announcer`: one line per notice, appended and synced before it returns.

    At least once: after a crash the same `id` may stand there twice. The file is opened each time, so that it may be
    rotated away. Raises `PlaceFault`.
    """

    def __init__(self, path: str | Path, *, place: str = "journal") -> None:
        self.path = Path(path)
        self.place = place

    def announce(self, notices: Sequence[Notice]) -> None:
        if not notices:
            return
        records = ({"id": n.id, "at": n.at.isoformat(), "kind": n.kind, "body": n.body} for n in notices)
        try:
            self._append(b"".join(json.dumps(record).encode("ascii") + b"\n" for record in records))
        except OSError as error:
            raise self._fault(error) from error

    def _append(self, lines: bytes) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                # A crash or a full disk cut the last line; ours must not be joined to it.
                lines = b"\n" + lines
            while lines:
                lines = lines[os.write(fd, lines) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if not size:
            self._sync_directory()

    def _sync_directory(self) -> None:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _fault(self, error: OSError) -> PlaceFault:
        kind = {errno.ENOSPC: NoSpace, errno.EDQUOT: NoSpace, errno.EROFS: ReadOnly}.get(error.errno or 0, Unreachable)
        what = f"the journal {shown(str(self.path))} cannot be written: {(error.strerror or str(error)).lower()}"
        return kind(what, place=self.place, remedy="make room there, or give this user permission to write it")
