"""A local tree of files, and the rules of the disk: how anything below a root is reached.

Every path comes from outside. It is walked component by component, each opened from the descriptor of the directory
above with O_NOFOLLOW: neither `..` nor a symlink in the tree can lead out of it, and no path is too long in total.
Directory descriptors are kept between files, because walking costs more than copying a small file.
"""

from __future__ import annotations

import errno
import os
import resource
import stat as stat_bits
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file
from skystow.errors import BadName, Changed, Missing, NotAFile, SkystowError, Unreachable
from skystow.model.records import Digest, Fingerprint, path_bytes, shown
from skystow.ports import Stop

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KEPT = 256
"""Directory descriptors kept per tree."""


class Directory:
    """An open directory; closed when nobody refers to it any more. Keep the object as long as the number is used:
    a number that was closed by another thread may be another directory by then."""

    __slots__ = ("anchored", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.anchored = False
        """Its entry in the directory above is known to be durable (see `LocalStore.sync`)."""

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


Maker = Callable[[Directory, bytes], None]


@lru_cache(maxsize=16_384)
def held(path: PurePosixPath) -> tuple[bytes, bytes]:
    """A path from outside as (parent, name), both relative to the root; raises `BadName` if it could lead out."""
    raw = path_bytes(path)
    if raw.startswith(b"/") or raw == b"." or b"\0" in raw or (b".." in raw and b".." in raw.split(b"/")):
        raise BadName(f"{shown(path)}: not a path below a root")
    parent, _, name = raw.rpartition(b"/")
    return parent, name


def fingerprint(found: os.stat_result) -> Fingerprint:
    return Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)


def raise_open_files() -> int:
    """Raise our limit of open files as far as we may, and return it: a group of staged files is kept open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


class LocalTree:
    """The `Tree` port on a local or mounted directory. Safe to share between threads.

    `root` may be a symlink; it is resolved once. It is never created. A root that is on another device than at first
    is not our root any more (a disk that was unmounted leaves its mount point), unless `marker`, a path below the
    root, proves it. `parts`: directories below the root that must hold something for it to be there.
    """

    def __init__(
        self, root: str | bytes, *, place: str, marker: str | None = None, parts: Sequence[bytes] = ()
    ) -> None:
        self.root = os.path.realpath(os.fsencode(root))
        self.place = place
        self.marker, self.parts = marker, tuple(parts)
        self._device: int | None = None
        self._kept: dict[bytes, Directory] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return shown(os.fsdecode(self.root))

    # the port

    def present(self) -> None:
        root = self._open_root()
        if self.marker is None:
            self._full(root, str(self))
        for part in self.parts:
            where = f"{self}/{shown(os.fsdecode(part))}"
            try:
                directory = Directory(os.open(part, _DIRECTORY, dir_fd=root.fd))
            except OSError as error:
                raise Unreachable(f"{self.place}: {where}: {error.strerror}", place=self.place) from error
            self._full(directory, where)

    def _full(self, directory: Directory, where: str) -> None:
        """An empty directory proves nothing: it may be the mount point of a disk that is not there."""
        try:
            with os.scandir(directory.fd) as entries:
                empty = next(entries, None) is None
        except OSError as error:
            raise Unreachable(f"{self.place}: {where}: {error.strerror}", place=self.place) from error
        if empty:
            raise Unreachable(
                f"{self.place}: {where} is empty",
                place=self.place,
                remedy="mount it, or name a marker file that proves it",
            )

    def stat(self, path: PurePosixPath) -> Fingerprint | None:
        found = self.look(path)
        return fingerprint(found) if found else None

    def digest(self, path: PurePosixPath, algorithm: str, *, stop: Stop) -> Digest:
        fd, found = self.open_file(path)
        try:
            return digest_file(fd, found.st_size, algorithm, stop)
        except OSError as error:
            raise self.fault(error, path) from error
        finally:
            os.close(fd)

    def remove(self, path: PurePosixPath, expected: Fingerprint) -> None:
        self.unlink(path, expected)
        self.sync([path])

    def unlink(self, path: PurePosixPath, expected: Fingerprint) -> None:
        parent, name = held(path)
        if self.look(path) is None:
            raise Missing(f"{shown(path)}: no such file")
        try:
            directory = self.directory(parent)
            found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if not stat_bits.S_ISREG(found.st_mode) or not fingerprint(found).untouched(expected):
                raise Changed(f"{shown(path)}: changed since it was looked at, not removed")
            os.unlink(name, dir_fd=directory.fd)
        except OSError as error:
            raise blame(error, Side.PUBLISH, shown(path), place=self.place) from error

    def sync(self, paths: Sequence[PurePosixPath]) -> None:
        for parent in {held(path)[0] for path in paths}:
            try:
                directory = self.directory(parent)
                os.fsync(directory.fd)
            except (FileNotFoundError, NotADirectoryError):
                self._open_root()  # gone with its disk is not the same as gone
            except OSError as error:
                raise blame(error, Side.PUBLISH, f"syncing {self}", place=self.place) from error

    # for stores and sources

    def look(self, path: PurePosixPath) -> os.stat_result | None:
        """Like `stat`, with everything that the system knows."""
        parent, name = held(path)
        try:
            directory = self.directory(parent)
            found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            self._open_root()  # gone with its disk is not the same as gone
            return None
        except OSError as error:
            raise self.fault(error, path) from error
        return found if stat_bits.S_ISREG(found.st_mode) else None

    def open_file(self, path: PurePosixPath) -> tuple[int, os.stat_result]:
        """A descriptor (the caller closes it) of a regular file, to read, and what it looks like.
        Raises `Missing` (where the root is proven to be there), `Unreadable`, `NotAFile`, `BadName`, `PlaceFault`."""
        parent, name = held(path)
        fd = -1
        try:
            directory = self.directory(parent)
            fd = os.open(name, _READ, dir_fd=directory.fd)
            found = os.fstat(fd)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise self.fault(error, path) from error
        if not stat_bits.S_ISREG(found.st_mode):
            os.close(fd)
            raise NotAFile(f"{shown(path)}: not a regular file")
        return fd, found

    def directory(self, path: bytes, make: Maker | None = None) -> Directory:
        """The directory `path` below the root (b"": the root), which has gone through `held`. `make` is called for
        each component that does not exist, with the directory above. Raises `OSError`, `Unreachable` (the root)."""
        kept = self._kept.get(path)
        if kept is not None:
            return kept
        names: list[bytes] = []
        above: Directory | None = None
        while path and (above := self._kept.get(path)) is None:
            path, _, name = path.rpartition(b"/")
            names.append(name)
        at = above or self._keep(b"", self._kept.get(b"") or self._open_root())
        for name in reversed(names):
            path = path + b"/" + name if path else name
            at = self._keep(path, _enter(at, name, make))
        return at

    def forget(self) -> None:
        """Close the kept directories: the next use walks again, and sees what was moved or mounted meanwhile."""
        with self._lock:
            self._kept = {}

    def fault(self, error: OSError, path: PurePosixPath) -> SkystowError:
        """Whose fault it is that `path` cannot be read; a file is `Missing`, or its medium bad, only where the root
        is proven."""
        found = blame(error, Side.SOURCE, shown(path), place=self.place)
        if isinstance(found, Missing) or error.errno == errno.EIO:
            self.present()
        return found

    # inside

    def _keep(self, path: bytes, directory: Directory) -> Directory:
        with self._lock:
            if len(self._kept) >= _KEPT and path not in self._kept:
                del self._kept[next(iter(self._kept))]  # the oldest; whoever works with it still holds it
            return self._kept.setdefault(path, directory)

    def _open_root(self) -> Directory:
        try:
            # Nothing above the root is held to be hostile, and `root` is resolved: symlinks were followed once.
            root = Directory(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            device = os.fstat(root.fd).st_dev
            if self.marker is not None:
                os.stat(os.fsencode(self.marker), dir_fd=root.fd, follow_symlinks=False)
        except OSError as error:
            what = str(self) if error.filename == self.root else f"{self}, marker {self.marker}"
            raise Unreachable(f"{self.place}: {what}: {error.strerror}", place=self.place) from error
        if self._device is None:
            self._device = device
        if device != self._device and self.marker is None:
            raise Unreachable(
                f"{self.place}: {self} is on another device than before",
                place=self.place,
                remedy="mount it again and restart, or name a marker file that proves it",
            )
        root.anchored = True  # whoever made the root has synced the directory above
        return root


def _enter(above: Directory, name: bytes, make: Maker | None) -> Directory:
    try:
        return Directory(os.open(name, _DIRECTORY, dir_fd=above.fd))
    except FileNotFoundError:
        if make is None:
            raise
    make(above, name)
    return Directory(os.open(name, _DIRECTORY, dir_fd=above.fd))
