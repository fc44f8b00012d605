"""Being told of changes below a directory. Only speed and the word "moved in" come from here; the sweep is the truth.

Whatever inotify cannot do (no more watches, a queue that ran over, a file system of another host) makes the sweeps
periodic; each such limit is said once, in `notes`.
"""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import suppress

from asyncinotify import Event, Inotify, Mask, Watch

from skystow.model.records import shown
from skystow.ports import Stop

POLL = 0.1
"""Seconds between two looks at `stop`."""

_MOVED_IN = Mask.MOVED_TO
_CLOSED = Mask.CLOSE_WRITE
_WATCHED = Mask.CREATE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.ONLYDIR


class Watcher:
    """Watches directories, one by one as the sweep meets them. Names are bytes, relative to the source's root.

    `finished` gains the files that were moved in or, with `on_close`, closed by a writer, since the last `drain`.
    A directory that is moved in says nothing of the files in it. Raises `OSError` where there is no inotify.
    """

    def __init__(self, *, on_close: bool) -> None:
        # A timeout of 0 makes the library's iterator end where it would block.
        self._inotify = Inotify(cache_size=256, sync_timeout=0)
        self._mask = _WATCHED | (_CLOSED if on_close else Mask.ZERO)
        self._telling = _MOVED_IN | (_CLOSED if on_close else Mask.ZERO)
        self._directories: dict[int, bytes] = {}
        self._watches: dict[bytes, Watch] = {}
        self._full = False
        self.finished: set[bytes] = set()
        self.notes: list[str] = []

    def watch(self, fd: int, relative: bytes) -> None:
        """Watch the directory that is open as `fd`; call it before listing, so that nothing falls in between."""
        if self._full or relative in self._watches:
            return
        try:
            # Through the descriptor: nobody can put a symlink in the way.
            watch = self._inotify.add_watch(f"/proc/self/fd/{fd}", self._mask)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._full = True
                self._note("there are no more inotify watches; raise fs.inotify.max_user_watches")
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self._note(f"inotify does not watch ‘{shown(os.fsdecode(relative))}’: {error.strerror}")
            return
        # A watch belongs to the inode: a directory that was moved keeps its number, and gets its new name here.
        self._watches.pop(self._directories.get(watch.wd, b"\0"), None)
        self._directories[watch.wd] = relative
        self._watches[relative] = watch

    def drain(self) -> bool:
        """Take in what has happened; True if a sweep may find something new."""
        news = False
        for event in self._inotify:
            news |= self._hear(event)
        return news

    def wait(self, seconds: float, *, stop: Stop) -> bool:
        """Up to `seconds` long; True as soon as there is something."""
        poll = select.poll()
        poll.register(self._inotify.fd, select.POLLIN)
        until = time.monotonic() + seconds
        while not stop.is_set() and (left := until - time.monotonic()) > 0:
            if poll.poll(min(left, POLL) * 1000) and self.drain():
                return True
        return False

    def close(self) -> None:
        self._inotify.close()

    def _hear(self, event: Event) -> bool:
        if Mask.Q_OVERFLOW in event.mask:
            self._note("the inotify queue ran over; raise fs.inotify.max_queued_events")
            return True
        watch = event.watch
        if watch is None or watch.wd not in self._directories:
            return False
        if Mask.IGNORED in event.mask:
            self._watches.pop(self._directories.pop(watch.wd), None)
            return False
        if event.name is None:
            return False
        relative = self._directories[watch.wd] + os.fsencode(event.name)
        if Mask.ISDIR in event.mask:
            if Mask.MOVED_FROM in event.mask:
                self._forget(relative + b"/")
                return False
            return True
        if event.mask & self._telling:
            self.finished.add(relative)
        return Mask.MOVED_FROM not in event.mask

    def _forget(self, prefix: bytes) -> None:
        """A directory left: what happens in it now does not happen under its old name. If it came back elsewhere,
        the next sweep watches it again."""
        for relative in [known for known in self._watches if known.startswith(prefix)]:
            watch = self._watches.pop(relative)
            del self._directories[watch.wd]
            with suppress(OSError):
                self._inotify.rm_watch(watch)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
