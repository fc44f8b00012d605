"""What a person should see in a log of what others do wrong: not all of it, since anybody can do wrong all day."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

QUIET = 60.0
"""Seconds in which a sender is complained of once."""

LINES = 60
"""In so many seconds, of all senders: anybody may invent some."""

SENDERS = 1_000
SHOWN = 20


class Complaints:
    """Safe from any thread. Times are unix seconds; a clock that is set back keeps nobody quiet."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.refusals: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._tell = tell
        self._heard: dict[str, float] = {}
        self._begun, self._lines = 0.0, 0
        self._lock = threading.Lock()

    def refuse(self, sender: str, why: str, at: float) -> None:
        self.refusals.append({"sender": sender, "why": why, "at": at})
        self.once(sender, f"a datagram of {sender} is refused: {why}", at)

    def once(self, of: str, text: str, at: float) -> None:
        with self._lock:
            if 0 <= at - self._heard.get(of, 0.0) < QUIET:
                return
            if len(self._heard) > SENDERS:
                self._heard.clear()
            self._heard[of] = at
        self.say(text, at)

    def say(self, text: str, at: float) -> None:
        with self._lock:
            unsaid = 0
            if not 0 <= at - self._begun < QUIET:
                unsaid = max(0, self._lines - LINES)
                self._begun, self._lines = at, 0
            self._lines += 1
            loud = self._lines <= LINES
        if unsaid:
            self._tell(f"{unsaid} more complaints were not logged")
        if loud:
            self._tell(text)
