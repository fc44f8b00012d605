"""A clock that only moves when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


class ManualClock:
    """A `Clock` in somebody's hand. `advance` is time that passes; `jump` is a clock that is set."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Time passes for both clocks."""
        if seconds < 0:
            raise ValueError("time does not pass backwards; `jump` sets the clock")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock is set, forward or back; the monotonic one does not notice."""
        self._now += timedelta(seconds=seconds)
