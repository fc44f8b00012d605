"""A stop of a few threads that end together."""

from __future__ import annotations

import threading

from skystow.ports import Stop


class Ended:
    """A stop of our threads: theirs, or that of the world."""

    def __init__(self, world: Stop) -> None:
        self._world, self._own = world, threading.Event()

    def set(self) -> None:
        self._own.set()

    def is_set(self) -> bool:
        return self._own.is_set() or self._world.is_set()

    def wait(self, timeout: float) -> bool:
        return self.is_set() or self._world.wait(timeout) or self._own.is_set()
