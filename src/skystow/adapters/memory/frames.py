"""The OODS's table of files in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import PurePosixPath
from threading import RLock

from skystow.errors import Conflict
from skystow.model.records import shown
from skystow.ports import Clock
from skystow.ports.image import Frame

_NEVER = datetime.min.replace(tzinfo=UTC)


class MemoryCatalogue:
    """See `skystow.ports.image.Catalogue`."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, RLock()
        self._frames: dict[int, Frame] = {}
        self._ids: dict[PurePosixPath, int] = {}
        self.reasons: dict[int, str] = {}
        """Why a file expired."""

    def register(self, frames: Sequence[Frame]) -> int:
        with self._lock:
            seen = {path: self._frames[number] for path, number in self._ids.items()}
            for frame in frames:
                there = seen.setdefault(frame.path, frame)
                if there.digest != frame.digest:
                    text = f"{shown(frame.path)} is known with {there.digest}, and now has {frame.digest}"
                    raise Conflict(text, remedy="look which of them is right; nothing was changed")
            before, now = len(self._ids), self._clock.now()
            for frame in frames:
                number = self._ids.setdefault(frame.path, len(self._ids) + 1)
                old = self._frames.get(number)
                if old is None or old.expired_at is not None:
                    self._frames[number] = replace(old or frame, ingested_at=now, expired_at=None)
            return len(self._ids) - before

    def find(
        self,
        *,
        day_obs: int | None = None,
        obsid: str | None = None,
        raft: str | None = None,
        sensor: str | None = None,
        path: PurePosixPath | None = None,
        expired: bool = False,
        after: int = 0,
        limit: int = 1000,
    ) -> Sequence[tuple[int, Frame]]:
        def wanted(frame: Frame) -> bool:
            pairs = ((day_obs, frame.day_obs), (obsid, frame.obsid), (raft, frame.raft), (sensor, frame.sensor))
            return all(a in (None, b) for a, b in (*pairs, (path, frame.path))) and (
                expired or frame.expired_at is None
            )

        with self._lock:
            found = ((number, frame) for number, frame in self._frames.items() if number > after and wanted(frame))
            return list(islice(found, limit))

    def expirable(self, *, older_than: float, after: int, limit: int) -> Sequence[tuple[int, Frame]]:
        with self._lock:
            until = self._clock.now() - timedelta(seconds=older_than)
            last = (self._since(after), after) if after in self._frames else (_NEVER, 0)
            old = [(self._since(n), n) for n, frame in self._frames.items() if frame.expired_at is None]
            page = sorted(each for each in old if last < each and each[0] < until)[:limit]
            return [(number, self._frames[number]) for _, number in page]

    def _since(self, number: int) -> datetime:
        return self._frames[number].ingested_at or _NEVER

    def expired(self, ids: Sequence[int], reason: str) -> None:
        with self._lock:
            for number in ids:
                if number in self._frames and self._frames[number].expired_at is None:
                    self._frames[number] = replace(self._frames[number], expired_at=self._clock.now())
                    self.reasons[number] = reason
