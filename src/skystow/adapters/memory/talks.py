"""Conversations in memory; and the image door's side of the memory ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import RLock
from typing import Self

from skystow.adapters.memory.board import MemoryBoard
from skystow.adapters.memory.frames import MemoryCatalogue
from skystow.adapters.memory.letters import DeadLetters
from skystow.adapters.memory.mail import EMBEDDED, MemoryBus
from skystow.model.acts import Bury, Mark, Milestone, Note, Say
from skystow.model.messages import Message, day_and_number
from skystow.model.packing import read, written
from skystow.model.records import DeadLetter
from skystow.ports import Clock
from skystow.ports.talk import Line

_HALF_A_DAY = timedelta(hours=12)


@dataclass(slots=True)
class _Talk:
    steps: dict[tuple[str, str], tuple[int, datetime]] = field(default_factory=dict)
    """What was said, as text: its number and time."""
    closed: bool = False


class MemoryTalks:
    """See `skystow.ports.talk.Talks`."""

    def __init__(self, clock: Clock, bus: MemoryBus, bury: Callable[[Sequence[DeadLetter]], int]) -> None:
        self._clock, self._bus, self._bury, self._lock = clock, bus, bury, RLock()
        self._talks: dict[str, dict[str, _Talk]] = {}
        self._count = 0
        self._lines: dict[tuple[str | int, ...], Line] = {}
        self._days: dict[str, int] = {}
        self._kept: dict[str, dict[str, str]] = {}

    def converse(
        self,
        component: str,
        *,
        notes: Sequence[Note] = (),
        says: Sequence[Say] = (),
        marks: Sequence[Mark] = (),
        buries: Sequence[Bury] = (),
        keep: Mapping[str, str] | None = None,
    ) -> None:
        with self._lock:
            for note in notes:
                self._note(self._talks.setdefault(component, {}).setdefault(note.message.key, _Talk()), note)
            for mark in marks:
                self._mark(mark)
            self._bus.publish(says)
            self._bury([bury.letter for bury in buries])
            self._kept.setdefault(component, {}).update(keep or {})

    def _note(self, talk: _Talk, note: Note) -> None:
        step = written(note.message)
        if fresh := step not in talk.steps:
            self._count += 1
            talk.steps[step] = (self._count, self._clock.now())
        if note.closes or fresh:
            talk.closed = note.closes

    def _mark(self, mark: Mark) -> None:
        at = mark.at or self._clock.now()
        more = (mark.number, mark.text) if mark.what is Milestone.FAULT else ()
        line = Line(mark.obsid, mark.what, mark.detector, at, mark.number, mark.text)
        self._lines.setdefault((mark.obsid, mark.detector, mark.what, *more), line)
        named = day_and_number(mark.obsid)
        self._days.setdefault(mark.obsid, named[0] if named else int(f"{at - _HALF_A_DAY:%Y%m%d}"))

    def steps(self, component: str) -> Sequence[tuple[datetime, Message]]:
        with self._lock:
            talks = [talk for talk in self._talks.get(component, {}).values() if not talk.closed]
            steps = sorted((number, at, step) for talk in talks for step, (number, at) in talk.steps.items())
            return [(at, read(*step)) for _, at, step in steps]

    def keep(self, component: str, values: Mapping[str, str]) -> None:
        self.converse(component, keep=values)

    def kept(self, component: str) -> Mapping[str, str]:
        with self._lock:
            return dict(self._kept.get(component, {}))

    def lines(self, *, day_obs: int | None = None, obsid: str | None = None) -> Sequence[Line]:
        if obsid is None and day_obs is None:
            raise ValueError("the lines of which day, or of which exposure?")
        with self._lock:
            found = [
                line
                for line in self._lines.values()
                if obsid in (None, line.obsid) and day_obs in (None, self._days[line.obsid])
            ]
        return sorted(found, key=lambda line: (line.obsid, line.at))

    def days(self) -> Sequence[int]:
        with self._lock:
            return sorted(set(self._days.values()), reverse=True)


class ImageDoor(DeadLetters):
    """One part of `MemoryLedger`: what `SqlLedger` offers under the same names."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.bus = MemoryBus(self.bury)
        self.board = MemoryBoard(clock)
        self.catalogue = MemoryCatalogue(clock)
        self.talks = MemoryTalks(clock, self.bus, self.bury)

    def share(self, other: Self) -> None:
        """Be the same ledger as `other`."""
        self._rows, self._lock = other._rows, other._lock
        self.bus, self.board, self.catalogue, self.talks = other.bus, other.board, other.catalogue, other.talks

    def exhume(self, dead: Sequence[DeadLetter]) -> int:
        self.bus.give_again([int(letter.key) for letter in dead if letter.source == EMBEDDED])
        return super().exhume(dead)
