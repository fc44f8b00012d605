"""How the works of a claim are put together for rsync, on their way to a remote store."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from skystow.adapters.remote.rsync import Line
from skystow.adapters.tree import LocalTree, fingerprint, held
from skystow.model.records import Fingerprint, path_bytes
from skystow.model.transfer import Work


@dataclass
class Batch:
    """What one rsync is to carry; `into` is where to, below the remote root, `part` the key of a file that goes alone
    and may go on where it stopped."""

    origin: LocalTree
    top: bytes
    token: str
    names: dict[bytes, tuple[Work, Fingerprint]]
    part: str = ""
    into: str = ""
    landed: list[Line] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(before.size or 0 for _, before in self.names.values())


class Batches:
    """From `large` bytes on a file goes alone."""

    def __init__(self, large: int) -> None:
        self._large = large
        self._rounds: dict[tuple[str, str, int], Batch] = {}
        self._alone: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        yield from self._rounds.values()
        yield from self._alone

    def add(self, work: Work, origin: LocalTree, found: os.stat_result) -> None:
        """`found` is the source as it is now."""
        entry = (work, fingerprint(found))
        if found.st_size >= self._large:
            above, name = held(work.source.path)
            what = f"{origin.place}\0{work.source.path}\0{found.st_size}\0{found.st_mtime_ns}"
            key = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:32]
            self._alone.append(Batch(origin, os.path.join(origin.root, above), work.token, {name: entry}, key))
            return
        raw = path_bytes(work.source.path)
        for turn in itertools.count():
            fresh = Batch(origin, origin.root, work.token, {})
            batch = self._rounds.setdefault((origin.place, work.token, turn), fresh)
            if raw not in batch.names:  # a source that two works have goes twice
                batch.names[raw] = entry
                return
