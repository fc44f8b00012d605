"""A component's own work directory: files of ours that appear whole, durable and read-only, and never overwrite.

    <root>/.skystow/making/<token of the process>/<number>      what is being written: private, locked by its process

A file gets its name by a link to the very inode that was written and synced. What a process that was killed leaves
behind has no lock any more, and is removed by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import threading
from pathlib import PurePosixPath

from skystow.adapters.blame import Side, blame
from skystow.adapters.staging import HOME, empty, make_private
from skystow.adapters.syscalls import allocate
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import NameTaken, Unreachable
from skystow.model.records import shown

MAKING = HOME + b"/making"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGE = 1 << 20


class WorkDirectory:
    """`root` is never created. Safe to share between threads."""

    def __init__(self, root: str, *, place: str) -> None:
        self.tree = LocalTree(root, place=place)
        self.place = place
        self._area: Directory | None = None
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def absolute(self, path: PurePosixPath) -> PurePosixPath:
        return PurePosixPath(os.fsdecode(self.tree.root)) / path

    def relative(self, path: str) -> PurePosixPath:
        """The reverse. Raises `ValueError` for what does not lie below the root by its text; `tree` checks the rest."""
        return PurePosixPath(path).relative_to(os.fsdecode(self.tree.root))

    def write(self, path: PurePosixPath, content: bytes | bytearray | memoryview) -> os.stat_result:
        """Returns when it is durable under its name. Raises `NameTaken`, `BadName`, `PlaceFault`, `UnfitPlace`."""
        parent, name = held(path)
        try:
            area = self._own_area()
            part = b"%d" % next(self._numbers)
            fd = os.open(part, _NEW, 0o600, dir_fd=area.fd)
            try:
                return self._make(fd, parent, name, memoryview(content))
            finally:
                os.close(fd)
                os.unlink(part, dir_fd=area.fd)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise NameTaken(f"{shown(path)}: the name is taken") from error
            self.tree.forget()  # a directory of ours that was removed or replaced is walked to again
            raise blame(error, Side.STAGING, shown(path), place=self.place) from error

    def _make(self, fd: int, parent: bytes, name: bytes, content: memoryview) -> os.stat_result:
        if len(content) > _LARGE:
            allocate(fd, len(content))
        while content:
            content = content[os.write(fd, content) :]
        os.fchmod(fd, 0o444)
        os.fsync(fd)
        found = os.fstat(fd)
        directory = self.tree.directory(parent, _make_public)
        os.link(b"/proc/self/fd/%d" % fd, name, dst_dir_fd=directory.fd, follow_symlinks=True)
        os.fsync(directory.fd)
        while not directory.anchored:  # made a moment ago, by us or by somebody who was killed
            parent = parent.rpartition(b"/")[0]
            above = self.tree.directory(parent)
            os.fsync(above.fd)
            directory.anchored = True
            directory = above
        return found

    # the private area

    def tidy(self) -> None:
        """Remove what dead processes left in the making: another name of a file that was finished, or half of one."""
        with contextlib.suppress(OSError):  # whoever writes here meets it again, and says so
            self._sweep_all()

    def _sweep_all(self) -> Directory:
        making = self.tree.directory(MAKING, make_private)
        for left in os.listdir(making.fd):
            _sweep(making, os.fsencode(left))
        return making

    def _own_area(self) -> Directory:
        with self._lock:
            if self._area is None or os.fstat(self._area.fd).st_nlink == 0:
                self._area = self._new_area()
            return self._area

    def _new_area(self) -> Directory:
        making = self._sweep_all()
        for _ in range(3):
            name = secrets.token_hex(8).encode()
            os.mkdir(name, 0o700, dir_fd=making.fd)
            area = Directory(os.open(name, _ENTER, dir_fd=making.fd))
            # Another process that starts now may take the fresh directory for one that was left behind.
            if _locked(area) and os.fstat(area.fd).st_nlink:
                return area
        raise Unreachable(f"{self.place}: no private directory lasts in {self.tree}", place=self.place)


def _locked(area: Directory) -> bool:
    try:
        fcntl.flock(area.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(making: Directory, name: bytes) -> None:
    """Remove what a dead process left: nobody holds its lock."""
    try:
        area = Directory(os.open(name, _ENTER, dir_fd=making.fd))
        if _locked(area):
            empty(area)
            os.rmdir(name, dir_fd=making.fd)
    except (FileNotFoundError, NotADirectoryError):
        return  # somebody else sweeps too; or it is no area of ours


def _make_public(above: Directory, name: bytes) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=above.fd)
    except FileExistsError:
        return  # another thread was faster
