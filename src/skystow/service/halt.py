"""The stop of a running component: set from a signal handler or any thread, seen by threads and tasks alike."""

from __future__ import annotations

import asyncio
import threading

_Sleepers = set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]


class Halt:
    """A `skystow.ports.Stop` that tasks can wait for too, and a bell that ends their naps early."""

    def __init__(self, parent: Halt | None = None) -> None:
        """With a `parent`, this one is set when the parent is (not the other way round)."""
        self._children: list[Halt] = []
        self._event = threading.Event()
        self._naps: _Sleepers = set()
        self._sleeps: _Sleepers = set()
        self._lock = threading.Lock()
        self._rung = 0
        if parent is not None:
            parent._children.append(self)
            if parent.is_set():
                self.set()

    def set(self) -> None:
        self._event.set()
        self.ring()
        with self._lock:
            sleeps = set(self._sleeps)
        _wake(sleeps)
        for child in self._children:
            child.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)

    @property
    def rung(self) -> int:
        """How often the bell rang. Whoever asks before he looks, and tells it to `nap`, sleeps through no ring."""
        return self._rung

    def ring(self) -> None:
        """End every nap: there may be something to do."""
        with self._lock:
            self._rung += 1
            naps = set(self._naps)
            self._naps.clear()
        _wake(naps)

    async def sleep(self, seconds: float) -> bool:
        """Sleep for `seconds`, bells or not; True as soon as we are asked to stop."""
        await self._until_woken(self._sleeps, seconds)
        return self.is_set()

    async def nap(self, seconds: float, *, since: int | None = None) -> None:
        """Sleep for `seconds`, until the bell rings, or until we are asked to stop. `since`: what `rung` was before we
        looked; where it rang meanwhile, we look again at once."""
        await self._until_woken(self._naps, seconds, since)

    async def _until_woken(self, those: _Sleepers, seconds: float, since: int | None = None) -> None:
        sleeper = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            missed = since is not None and since != self._rung
            those.add(sleeper)
        try:
            if seconds > 0 and not self.is_set() and not missed:
                async with asyncio.timeout(seconds):
                    await sleeper[1].wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                those.discard(sleeper)


class Bells:
    """Everybody in this process who waits for messages."""

    def __init__(self) -> None:
        self._halts: list[Halt] = []

    def add(self, halt: Halt) -> None:
        self._halts.append(halt)

    def ring(self) -> None:
        for halt in self._halts:
            halt.ring()


def _wake(those: _Sleepers) -> None:
    for loop, event in those:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)
