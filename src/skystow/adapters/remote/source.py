"""A directory at a remote end that files appear in: as `skystow.adapters.directory`, seen through the helper.

The sweep is all there is (nobody tells us of changes), and it asks for many directories at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from skystow.adapters.directory import EMPTY, MAY_NOT, DirectoryOptions, DirectorySource
from skystow.adapters.remote.tree import RemoteTree
from skystow.errors import Unreachable
from skystow.model.layout import RESERVED, Layout
from skystow.model.records import Arrival, Skipped, path_text
from skystow.ports import Clock, Stop

_AT_ONCE = 200
"""Directories in one exchange."""


class RemoteDirectorySource(DirectorySource):
    """Implements `skystow.ports.Source`. One thread at a time. Raises `ConfigError` for a malformed pattern."""

    def __init__(
        self, name: str, tree: RemoteTree, *, archive: str, layout: Layout, options: DirectoryOptions, clock: Clock
    ) -> None:
        super().__init__(name, tree, archive=archive, layout=layout, options=options, clock=clock)
        self._remote = tree

    def told_of_changes(self) -> None:
        """Nothing tells us: `wait` waits."""

    def prove_root(self) -> None:
        found = self._remote.proof()
        if found["empty"] and EMPTY not in self.notes:
            self.notes.append(EMPTY)

    def walk(self, stop: Stop) -> Iterator[Arrival | Skipped]:
        waiting = [b""]
        while waiting:
            self.heed(stop)
            some, waiting = waiting[-_AT_ONCE:], waiting[:-_AT_ONCE]
            empty = dict.fromkeys(range(len(some)), True)
            # Taken whole before it is judged: whoever reads our sweep may take long, and a helper is not to wait.
            for which, entries in list(self._remote.lists([where.rstrip(b"/") for where in some], stop)):
                where = some[which]
                if isinstance(entries, int):
                    empty[which] = False
                    if closed := self._unlisted(where, entries):
                        yield closed
                    continue
                for name, look in entries:
                    self.heed(stop)
                    empty[which] = False
                    directory = stat.S_ISDIR(look.st_mode)
                    if name == RESERVED.encode() and (directory or not where):
                        continue
                    key = where + name
                    relative = path_text(key)
                    if reason := self.left_out(relative, directory=directory):
                        yield Skipped(self.name, PurePosixPath(relative), reason)
                    elif directory:
                        waiting.append(key + b"/")
                    elif found := self.judge(key, relative, look):
                        yield found
            for which, nothing in empty.items():
                if nothing and some[which]:
                    yield self.skipped(some[which], "empty directory")

    def _unlisted(self, where: bytes, code: int) -> Skipped | None:
        error = OSError(code, os.strerror(code))
        if not where:
            raise Unreachable(f"{self.name}: {self._remote}: {error.strerror}", place=self.name) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return None  # it vanished or was replaced meanwhile
        self.prove_root()
        reason = MAY_NOT if isinstance(error, PermissionError) else f"cannot be read: {(error.strerror or '').lower()}"
        return self.skipped(where, reason)
