"""A directory that files appear in: the source behind `skystow archive` and behind a site's `kind: directory`.

A sweep walks the tree depth first through directory descriptors and follows no symlink, so nothing outside the root is
ever seen. It holds one open directory and the names of directories still to visit, never a list of files.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, Protocol

from skystow.adapters.settling import Settling
from skystow.errors import BadName, Stopped, Unreachable
from skystow.model.layout import RESERVED, Attributes, Layout
from skystow.model.patterns import TEMPORARY, Patterns, called
from skystow.model.records import Arrival, Fingerprint, Skipped, path_text, shown
from skystow.ports import Clock, Stop, Tree

if TYPE_CHECKING:
    from skystow.adapters.inotify import Watcher

BATCH = 1000
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_UTF8 = sys.getfilesystemencoding() == "utf-8"
_INT64 = 1 << 63
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
EMPTY = "the root is empty; if a disk belongs there, mount it, or name a marker file that proves it"
MAY_NOT = "cannot be read: permission denied; give the user that skystow runs as read and search permission"


class Looked(Protocol):
    """What a file looks like: of `os.stat_result`, what a sweep needs."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...


class RootedTree(Tree, Protocol):
    """What `LocalTree` is. `root` is absolute; `marker` is a path below it that proves it, or None."""

    @property
    def root(self) -> bytes: ...
    @property
    def marker(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """How to look at a directory.

    Without `follow` every regular file is an arrival as it is, at once. With it a file is one when it is finished:
    moved in, or linked in (it has a second name), or unchanged in size, mtime, ctime and inode for `quiet_for` seconds
    of the monotonic clock, or (`finished_on="close"`) closed by its writer, where inotify tells so. After a restart
    each file is quiet anew before it is said again. `temporary` counts with `follow` only; see
    `skystow.model.patterns` for it and for `exclude`.
    """

    follow: bool = False
    quiet_for: float = 10.0
    finished_on: Literal["quiet", "close"] = "quiet"
    temporary: tuple[str, ...] = TEMPORARY
    exclude: tuple[str, ...] = ()
    order: Literal["oldest", "newest"] = "oldest"
    priority: int = 0


class DirectorySource:
    """Implements `skystow.ports.Source`. `notes` says, once each, what keeps it from being told of changes.

    One thread at a time. Raises `ConfigError` for a malformed pattern.
    """

    def __init__(
        self, name: str, tree: RootedTree, *, archive: str, layout: Layout, options: DirectoryOptions, clock: Clock
    ) -> None:
        self.name = name
        self.tree: Tree = tree
        self._marker = tree.marker
        self.options = options
        self.notes: list[str] = []
        self._root = tree.root
        self._archive = archive
        self._layout = layout
        self._clock = clock
        self._exclude = Patterns(options.exclude)
        self._temporary = Patterns(options.temporary if options.follow else ())
        self._settling = Settling(options.quiet_for)
        self._told: set[bytes] = set()
        self._device: int | None = None
        self._watcher = self.told_of_changes() if options.follow else None

    def sweep(self, *, stop: Stop) -> Iterator[Sequence[Arrival | Skipped]]:
        """One pass, see `skystow.ports.Source`. Raises `Unreachable`, and `Stopped` when asked to stop on the way."""
        self.prove_root()
        self._hear()
        self._settling.begin()
        complete = False
        try:
            batch: list[Arrival | Skipped] = []
            for found in self.walk(stop):
                batch.append(found)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch
            complete = True
        finally:
            self._settling.end(complete=complete)
            if complete:
                self._told.clear()

    def settling(self) -> int:
        return len(self._settling.pending)

    def wait(self, seconds: float, *, stop: Stop) -> None:
        """Returns early when inotify tells of something, or when the first settling file has been quiet long enough."""
        due = self._settling.next_due(self._clock.monotonic())
        if due is not None:
            seconds = min(seconds, due)
        if self._watcher is None:
            stop.wait(seconds)
        else:
            self._watcher.wait(seconds, stop=stop)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()

    # ── walking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def walk(self, stop: Stop) -> Iterator[Arrival | Skipped]:
        try:
            root = os.open(self._root, _OPEN & ~os.O_NOFOLLOW)
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            waiting = [b""]  # directories still to visit, each with a slash at its end
            while waiting:
                self.heed(stop)
                where = waiting.pop()
                try:
                    fd = _open_below(root, where)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it vanished or was replaced meanwhile
                except OSError as error:
                    if not where:
                        raise self._unreachable(error) from error
                    yield self._unread(where, error)
                    continue
                try:
                    if self._watcher is not None:
                        self._watcher.watch(fd, where)
                    yield from self._list(fd, where, waiting, stop)
                finally:
                    os.close(fd)
        finally:
            os.close(root)

    def _list(self, fd: int, where: bytes, waiting: list[bytes], stop: Stop) -> Iterator[Arrival | Skipped]:
        """One directory: yields what is in it, adds its directories to `waiting`."""
        empty = True
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    empty = False
                    self.heed(stop)
                    name = os.fsencode(entry.name)
                    directory = entry.is_dir(follow_symlinks=False)
                    if entry.name == RESERVED and (directory or not where):
                        continue
                    key = where + name
                    relative = path_text(key) if where or not _UTF8 else entry.name
                    if reason := self.left_out(relative, directory=directory):
                        yield Skipped(self.name, PurePosixPath(relative), reason)
                    elif directory:
                        waiting.append(key + b"/")
                    else:
                        try:
                            info = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        except PermissionError:
                            raise  # the directory may not be searched: true of all that is in it
                        except OSError as error:
                            yield self._unread(key, error)
                            continue
                        if found := self.judge(key, relative, info):
                            yield found
        except OSError as error:
            if not where:
                raise self._unreachable(error) from error
            yield self._unread(where, error)
            return
        if empty and where:
            yield self.skipped(where, "empty directory")

    def heed(self, stop: Stop) -> None:
        if stop.is_set():
            raise Stopped(f"asked to stop in the sweep of {self.name}")

    def judge(self, key: bytes, relative: str, info: Looked) -> Arrival | Skipped | None:
        """The arrival; None where it is not finished yet."""
        origin = PurePosixPath(relative)
        kind = stat.S_IFMT(info.st_mode)
        if kind != stat.S_IFREG:
            return None if kind == stat.S_IFDIR else Skipped(self.name, origin, _KINDS.get(kind, "no regular file"))
        size, mtime, inode, ctime = info.st_size, info.st_mtime_ns, info.st_ino, info.st_ctime_ns
        if not -_INT64 <= mtime < _INT64:
            # 64 bits of nanoseconds end there, in our ledger as in most.
            return Skipped(self.name, origin, "its mtime lies outside the years 1677 to 2262; give it another (touch)")
        if self.options.follow:
            told = info.st_nlink > 1 or key in self._told
            look = hash((key, size, mtime, inode, ctime))
            if not self._settling.finished(key, look, told=told, now=self._clock.monotonic()):
                return None
        try:
            path = self._layout.path(Attributes(origin, mtime))
        except BadName as error:
            return Skipped(self.name, origin, str(error))
        return Arrival(
            source=self.name,
            key=key,
            origin=origin,
            archive=self._archive,
            path=path,
            fingerprint=Fingerprint(size, mtime, inode, ctime),
            priority=self.options.priority,
            rank=mtime if self.options.order == "oldest" else -mtime,
        )

    def left_out(self, relative: str, *, directory: bool) -> str:
        if pattern := self._exclude.match(relative, directory=directory):
            return f"excluded by {called(pattern)}"
        if pattern := self._temporary.match(relative, directory=directory):
            return f"temporary name ({called(pattern)})"
        return ""

    def skipped(self, relative: bytes, reason: str) -> Skipped:
        return Skipped(self.name, PurePosixPath(path_text(relative)), reason)

    def _unread(self, relative: bytes, error: OSError) -> Skipped:
        """What we cannot see into, so that a person learns of it. Raises `Unreachable` if it is not this directory
        or file alone, but the whole place."""
        self.prove_root()
        if isinstance(error, PermissionError):
            return self.skipped(relative, MAY_NOT)
        return self.skipped(relative, f"cannot be read: {(error.strerror or str(error)).lower()}")

    def prove_root(self) -> None:
        """Raise `Unreachable` unless the root is there. A tree calls an empty root unproven; here it is lawful, since
        we conclude nothing from what is not in it, as long as no other file system was seen there before."""
        try:
            self.tree.present()
        except Unreachable:
            device = _empty_device(self._root)
            if self._marker is not None or device is None or self._device not in (None, device):
                raise
            if EMPTY not in self.notes:
                self.notes.append(EMPTY)
        else:
            self._device = os.stat(self._root).st_dev

    def _unreachable(self, error: OSError) -> Unreachable:
        remedy = "give the user that skystow runs as read and search permission"
        what = f"{self.name}: {shown(path_text(self._root))} cannot be read: {(error.strerror or str(error)).lower()}"
        return Unreachable(what, place=self.name, remedy=remedy if isinstance(error, PermissionError) else "")

    # ── being told ──────────────────────────────────────────────────────────────────────────────────────────────

    def told_of_changes(self) -> Watcher | None:
        from skystow.adapters.inotify import Watcher  # imports asyncio, which only those who follow should wait for

        try:
            watcher = Watcher(on_close=self.options.finished_on == "close")
        except OSError as error:
            self.notes.append(f"inotify is not to be had ({error.strerror}); raise fs.inotify.max_user_instances")
            return None
        self.notes = watcher.notes
        return watcher

    def _hear(self) -> None:
        if self._watcher is not None:
            self._watcher.drain()
            self._told |= self._watcher.finished
            self._watcher.finished.clear()


def _empty_device(root: bytes) -> int | None:
    """The device of a directory that can be read and is empty, else None."""
    try:
        with os.scandir(root) as entries:
            return None if next(entries, None) else os.stat(root).st_dev
    except OSError:
        return None


def _open_below(root: int, where: bytes) -> int:
    """Open a directory component by component, so that no symlink is followed and no path is too long.
    Raises `NotADirectoryError` where one was put into the place of a directory."""
    fd = os.dup(root)
    for component in where.split(b"/")[:-1]:
        try:
            below = os.open(component, _OPEN, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd
