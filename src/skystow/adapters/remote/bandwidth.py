"""A bandwidth limit that all rsyncs of a store keep together, though none can be told another rate once it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from skystow.errors import Stopped
from skystow.ports import Stop

BRIEF = 60.0
"""Seconds: a transfer that is over by then may have all that is free, for it keeps nobody waiting for long."""
LOOK = 0.2
"""Seconds between two looks at `stop`."""


class Bandwidth:
    """`limit` in bytes per second (None: none) for at most `streams` transfers at a time. Safe to share between
    threads."""

    def __init__(self, limit: float | None, streams: int) -> None:
        self._limit, self._share = limit, (limit or 0.0) / streams
        self._free = limit or 0.0
        self._changed = threading.Condition()

    @contextmanager
    def share(self, size: int, stop: Stop) -> Iterator[float | None]:
        """The rate at which one transfer of `size` bytes may go; waits until there is one. Raises `Stopped`.

        A brief one has all that is free: a stream that works alone is not held to a part of the limit. Any other has
        an equal share, so that a file which takes hours leaves the rest to others.
        """
        if self._limit is None:
            yield None
            return
        with self._changed:
            while self._free < 0.99 * self._share:  # sums of shares are not exact
                if stop.is_set():
                    raise Stopped("stopped while waiting for bandwidth")
                self._changed.wait(LOOK)
            rate = self._free if size <= BRIEF * self._free else min(self._free, self._share)
            self._free -= rate
        try:
            yield rate
        finally:
            with self._changed:
                self._free += rate
                self._changed.notify_all()
