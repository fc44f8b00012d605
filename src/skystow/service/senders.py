"""Who speaks to a monitor, and how far each has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skystow.model.datagram import Envelope
from skystow.model.sequence import Sequence

MOST, SHOWN = 1_000, 50
"""Senders that are remembered; in a document, those who spoke last. Anybody may invent some."""

FIELDS = ("received", "lost", "restarts", "repeated", "heard_at")


class Senders:
    """Of one thread; `document` from any."""

    def __init__(self, known: Mapping[str, Sequence]) -> None:
        self._numbers = dict(known)

    def hear(self, said: Envelope, at: float) -> tuple[Sequence, int]:
        """Its numbers, and how many were lost before this one. `at` in unix seconds."""
        numbers = self._numbers.pop(said.sender, None) or Sequence()
        self._numbers[said.sender] = numbers  # who spoke last is last
        if len(self._numbers) > MOST:
            del self._numbers[next(iter(self._numbers))]
        return numbers, numbers.hear(said.number, said.time, at)

    def document(self) -> dict[str, Any]:
        last = {name: replace(each, missing=set()) for name, each in list(self._numbers.items())[-SHOWN:]}
        return {
            name: {"last": (each.expected or 0) - 1} | {field: getattr(each, field) for field in FIELDS}
            for name, each in last.items()
        }
