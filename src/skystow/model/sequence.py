"""Numbers of one sender: which were lost on the way, which came late, and when it began anew. Pure.

A publisher counts from 0. A number that is larger than expected leaves a gap; one of the gap that comes after all
closes it. A smaller one is the same datagram again, or a publisher that was started anew: that has a later time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

REMEMBERED = 10_000
"""Missing numbers that may still come."""

MOST = 2**53
"""At which the lost are counted no further: anybody can leave gaps as large as he likes."""


@dataclass(slots=True)
class Sequence:
    """`lost`: numbers that never came; `expected` None: nothing was heard yet."""

    expected: int | None = None
    time: float = 0.0
    received: int = 0
    lost: int = 0
    restarts: int = 0
    repeated: int = 0
    heard_at: float = 0.0
    missing: set[int] = field(default_factory=set)

    def hear(self, number: int | None, time: float | None, at: float) -> int:
        """How many were lost before this one. `time` is the sender's, `at` ours."""
        self.received += 1
        self.heard_at = at
        if number is None:
            return 0
        before = self.lost
        if self.expected is None:
            self.expected = number + 1
        elif number >= self.expected:
            self._lose(self.expected, number)
            self.expected = number + 1
        elif number in self.missing:
            self.missing.discard(number)
            self.lost -= 1
        elif time is not None and time > self.time:
            self.restarts += 1
            self.missing.clear()
            self._lose(0, number)
            self.expected = number + 1
        else:
            self.repeated += 1
        self.time = max(self.time, time or 0.0)
        return max(0, self.lost - before)

    def _lose(self, begin: int, end: int) -> None:
        self.lost = min(MOST, self.lost + end - begin)
        if len(self.missing) > REMEMBERED:
            self.missing.clear()
        self.missing.update(range(max(begin, end - REMEMBERED), end))
