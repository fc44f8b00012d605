"""The stop of a running component: set from a signal handler or any thread, seen by threads and tasks alike."""

from __future__ import annotations

import asyncio
import threading


class Halt:
    """A `skystow.ports.Stop` that tasks can wait for too, and a bell that ends their naps early."""

    def __init__(self, parent: Halt | None = None) -> None:
        """With a `parent`, this one is set when the parent is (not the other way round)."""
        self._children: list[Halt] = []
        self._event = threading.Event()
        self._naps: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        if parent is not None:
            parent._children.append(self)
            if parent.is_set():
                self.set()

    def set(self) -> None:
        self._event.set()
        self.ring()
        for child in self._children:
            child.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)

    def ring(self) -> None:
        """End every nap: there may be something to do."""
        with self._lock:
            naps = list(self._naps)
        for loop, nap in naps:
            if not loop.is_closed():
                loop.call_soon_threadsafe(nap.set)

    async def sleep(self, seconds: float) -> bool:
        """Sleep for `seconds`, bells or not; True as soon as we are asked to stop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        while not self.is_set() and (left := due - loop.time()) > 0:
            await self.nap(left)
        return self.is_set()

    async def nap(self, seconds: float) -> None:
        """Sleep for `seconds`, until the bell rings, or until we are asked to stop."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._naps.add(entry)
        try:
            if not self.is_set():
                async with asyncio.timeout(seconds):
                    await entry[1].wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._naps.discard(entry)
