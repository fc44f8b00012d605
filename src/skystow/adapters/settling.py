"""Which files of a watched directory are finished: those that have been quiet for long enough."""

from __future__ import annotations

from array import array
from bisect import bisect_left


class Settling:
    """Which files are finished: what a file looked like at the last sweep, and since when.

    A look is a 64-bit hash of name, size, mtime, inode and ctime. Of finished files it is all that is kept, 8 bytes
    for each; without it they would settle again at each sweep.
    """

    def __init__(self, quiet_for: float) -> None:
        self.quiet_for = quiet_for
        self.pending: dict[bytes, tuple[int, float]] = {}
        self._finished = array("q")
        self._next_pending: dict[bytes, tuple[int, float]] = {}
        self._next_finished = array("q")

    def begin(self) -> None:
        self._next_pending = {}
        self._next_finished = array("q")

    def finished(self, key: bytes, look: int, *, told: bool, now: float) -> bool:
        """Ask once per file and sweep. `told`: somebody said that it is finished. `now`: monotonic seconds."""
        if not told and not self._known(look):
            before, since = self.pending.get(key, (None, now))
            if before != look:
                since = now
            if now - since < self.quiet_for:
                self._next_pending[key] = (look, since)
                return False
        self._next_finished.append(look)
        return True

    def end(self, *, complete: bool) -> None:
        """What a complete sweep did not see is gone; an interrupted one forgets nothing."""
        if complete:
            self.pending = self._next_pending
            self._finished = array("q", sorted(self._next_finished))
        else:
            self.pending.update(self._next_pending)

    def next_due(self, now: float) -> float | None:
        """Seconds until the first pending file has been quiet for long enough; None where none is pending."""
        if not self.pending:
            return None
        return max(0.0, min(since for _, since in self.pending.values()) + self.quiet_for - now)

    def _known(self, look: int) -> bool:
        i = bisect_left(self._finished, look)
        return i < len(self._finished) and self._finished[i] == look
