"""The embedded scoreboard in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import RLock

from skystow.ports import Clock
from skystow.ports.talk import Listed


class MemoryBoard:
    """See `skystow.ports.talk.Scoreboard`."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, RLock()
        self._list: dict[str, Listed] = {}
        self._keys: dict[str, tuple[str, datetime]] = {}

    def register(self, name: str, address: str, presence_key: str) -> None:
        with self._lock:
            self._list[name] = Listed(name, address, presence_key)  # a name that is on the list keeps its turn

    def pop(self) -> Listed | None:
        with self._lock:
            first = next(iter(self._list), None)
            return None if first is None else self._list.pop(first)

    def beat(self, key: str, value: str, seconds: float) -> None:
        with self._lock:
            now = self._clock.now()
            self._keys = {k: (said, until) for k, (said, until) in self._keys.items() if until > now}
            self._keys[key] = (value, now + timedelta(seconds=seconds))

    def alive(self, key: str) -> bool:
        with self._lock:
            return key in self._keys and self._keys[key][1] > self._clock.now()

    def forget(self, key: str) -> None:
        with self._lock:
            self._keys.pop(key, None)
