"""The store on a local or mounted directory: copies files, hashing as it goes, each into an inode of its own.

One descriptor goes with a file all the way: it is written, read back, made read-only, synced and linked through it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from skystow.adapters.blame import Side, blame
from skystow.adapters.copying import CopyingStore
from skystow.adapters.digests import BLOCK, Hasher, hasher
from skystow.adapters.options import StoreOptions
from skystow.adapters.space import SMALL, no_room
from skystow.adapters.syscalls import allocate
from skystow.adapters.tree import Directory, LocalTree, fingerprint, held
from skystow.errors import Changed, Conflict, FileFault, NameTaken, Stopped
from skystow.model.records import Digest, shown
from skystow.model.transfer import Work
from skystow.ports import Staged, Stop

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Throttle:
    """So many bytes per second, over all threads that share it."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def spend(self, size: int, stop: Stop) -> None:
        """Wait until `size` bytes more may flow. Raises `Stopped`."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self._rate
            delay = self._free_at - now
        if stop.wait(delay):
            raise Stopped("stopped while waiting for bandwidth")


class PosixStore(CopyingStore):
    """The `Store` port. `sources` are the trees that `Work.source.place` may name. Safe to share between threads;
    a claim, and each group of it, belongs to one of them at a time."""

    def __init__(self, name: str, tree: LocalTree, sources: Mapping[str, LocalTree], options: StoreOptions) -> None:
        super().__init__(name, tree, sources, options)
        self._throttle = Throttle(options.bwlimit) if options.bwlimit else None
        hasher(options.algorithm)  # an unknown one is an error now, not at the first file

    def stage(self, works: Sequence[Work], *, stop: Stop) -> Iterator[tuple[Work, Staged | FileFault]]:
        buffer = memoryview(bytearray(BLOCK))
        yield from self.one_by_one(works, lambda work: self._copy(work, buffer, stop), stop)

    def give_name(self, staged: Staged) -> None:
        """A name that is taken by the source's own inode is no copy of it, though every digest agrees."""
        try:
            super().give_name(staged)
        except NameTaken:
            if self._is_the_source(staged.work):
                raise Conflict(
                    f"{shown(staged.work.target)} in {self.name} is the source file itself (a hard link, or the same "
                    "directory mounted twice), no copy of it",
                    remedy="remove or rename it there, then skystow retry",
                ) from None
            raise

    def _is_the_source(self, work: Work) -> bool:
        source, there = self.origin(work.source.place).look(work.source.path), self._tree.look(work.target)
        return source is not None and there is not None and os.path.samestat(source, there)

    # one file

    def _copy(self, work: Work, buffer: memoryview, stop: Stop) -> Staged:
        held(work.target)  # a name that cannot be published is not worth a copy
        algorithm = work.claimed.algorithm if work.claimed else self.options.algorithm
        source, before = self.origin(work.source.place).open_file(work.source.path)
        target = -1
        landed = False
        try:
            target = self._create(work, before.st_size)
            running = hasher(algorithm)
            size = self._pour(work, source, target, before.st_size, running, buffer, stop)
            after = os.fstat(source)
            if size != before.st_size or fingerprint(after) != fingerprint(before):
                raise Changed(f"{shown(work.source.path)}: changed while it was copied")
            landed = True
        except OSError as error:
            raise blame(error, Side.STAGING, shown(work.target), place=self.name) from error
        finally:
            os.close(source)
            if not landed and target >= 0:
                os.close(target)
                self.unstage(work)
        digest = Digest(algorithm, running.hexdigest())
        return self.hold(Staged(work, digest, size, fingerprint(after), target))

    def _create(self, work: Work, size: int) -> int:
        """A new, empty inode in the claim's staging area."""

        def create(name: bytes, area: Directory) -> int:
            return os.open(name, _NEW, 0o600, dir_fd=area.fd)

        if size > SMALL and (fault := no_room(work, size, self.measure(), place=self.name)):
            raise fault
        target = self.in_area(work, create)
        if size > BLOCK:
            try:
                allocate(target, size)
            except OSError:
                os.close(target)
                self.unstage(work)
                raise
        return target

    def _pour(
        self, work: Work, source: int, target: int, size: int, running: Hasher, buffer: memoryview, stop: Stop
    ) -> int:
        """Copy and hash until the end, or until there is more than `size`; returns the bytes read."""
        total = 0
        while True:
            try:
                count = os.readv(source, [buffer])
            except OSError as error:
                raise self.origin(work.source.place).fault(error, work.source.path) from error
            block = buffer[:count]
            running.update(block)
            total += count
            if count == 0 or total > size:
                return total
            while block:
                block = block[os.write(target, block) :]
            if self._throttle:
                self._throttle.spend(count, stop)
            if total == size and count < len(buffer):  # a short read is the end: a small file takes a single one
                return total
            if stop.is_set():
                raise Stopped("stopped while copying")
