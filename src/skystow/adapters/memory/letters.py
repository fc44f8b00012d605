"""The memory ledger's dead letters, and who it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from threading import RLock

from skystow.adapters.memory.rows import Rows
from skystow.model.records import DeadLetter
from skystow.ports import Clock


class DeadLetters:
    """One part of `MemoryLedger`."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._rows, self._lock = clock, Rows(), RLock()

    def now(self) -> datetime:
        return self._clock.now()

    def bury(self, dead: Sequence[DeadLetter]) -> int:
        with self._lock:
            before = self._rows.buried
            for letter in dead:
                name = (letter.source, letter.key)
                if (old := self._rows.dead.get(name)) is None:
                    self._rows.buried += 1
                    old = replace(letter, id=self._rows.buried, at=self._clock.now())
                self._rows.dead[name] = replace(old, reason=letter.reason)
            return self._rows.buried - before

    def buried(self, source: str, keys: Sequence[bytes]) -> set[bytes]:
        with self._lock:
            return {key for key in keys if (source, key) in self._rows.dead}

    def dead_letters(self, *, after: int, limit: int, source: str | None = None) -> Sequence[DeadLetter]:
        with self._lock:
            found = (d for d in self._rows.dead.values() if d.id > after and source in (None, d.source))
            return list(islice(found, limit))

    def exhume(self, dead: Sequence[DeadLetter]) -> int:
        with self._lock:
            return sum(self._rows.dead.pop((d.source, d.key), None) is not None for d in dead)

    def identity(self) -> str:
        return self._rows.identity
