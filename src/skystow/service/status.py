"""What a running component shows: live numbers of this run. Written by its jobs, read by windows."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from skystow.engine.deliver import Tally
from skystow.model.records import Arrival, Health, Skipped
from skystow.model.transfer import State
from skystow.ports import Admission

NAMED = 1_000
"""Skipped files that are kept by name, per source; all are counted."""


@dataclass
class Seen:
    """What the latest sweep of one source saw. `known`: admitted before and unchanged, by state of the first copy."""

    files: int = 0
    bytes: int = 0
    admitted: int = 0
    refreshed: int = 0
    known: Counter[State] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    names: list[Skipped] = field(default_factory=list)
    dead: int = 0
    """New dead letters."""
    settling: int = 0
    sweeping: bool = True


class Progress:
    """Numbers of this run; sizes are bytes. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._known_first: dict[str, int] = {}
        self._done = Tally()
        self._admitted = 0
        self.healths: dict[str, Health] = {}

    # ── written by intake and pumps ─────────────────────────────────────────────────────────────────────────────

    def begin_sweep(self, source: str) -> None:
        """A sweep sees everything again: its counts start anew."""
        with self._lock:
            self._seen[source] = Seen()

    def saw(
        self, source: str, arrivals: Sequence[Arrival], skipped: Sequence[Skipped], admission: Admission, dead: int = 0
    ) -> None:
        with self._lock:
            seen = self._seen[source]
            seen.files += len(arrivals)
            seen.bytes += sum(each.fingerprint.size or 0 for each in arrivals)
            seen.admitted += admission.admitted
            seen.refreshed += admission.refreshed
            seen.known.update(admission.known or {})
            seen.skipped.update(each.reason for each in skipped)
            seen.names.extend(skipped[: max(0, NAMED - len(seen.names))])
            seen.dead += dead
            self._admitted += admission.admitted

    def end_sweep(self, source: str, settling: int) -> None:
        with self._lock:
            self._seen[source].settling = settling
            self._seen[source].sweeping = False
            self._known_first.setdefault(source, self._seen[source].known[State.DONE])

    def add(self, tally: Tally) -> None:
        with self._lock:
            self._done = self._done + tally

    def report(self, health: Health) -> None:
        with self._lock:
            self.healths[health.place] = health

    # ── read by windows ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def done(self) -> Tally:
        """What became of files in this run."""
        return self._done

    @property
    def already(self) -> int:
        """Files that were archived before this run: what the first whole sweep of each source knew. (Later sweeps
        know what this run archived, too.)"""
        return sum(self._known_first.get(name, seen.known[State.DONE]) for name, seen in self.sources.items())

    @property
    def admitted(self) -> int:
        """Arrivals new in this run."""
        return self._admitted

    @property
    def sources(self) -> dict[str, Seen]:
        with self._lock:
            return dict(self._seen)

    @property
    def seen(self) -> Seen:
        """The latest sweep of all sources, added up."""
        total = Seen(sweeping=False)
        for each in self.sources.values():
            total.files += each.files
            total.bytes += each.bytes
            total.admitted += each.admitted
            total.refreshed += each.refreshed
            total.known.update(each.known)
            total.skipped.update(each.skipped)
            total.names.extend(each.names)
            total.settling += each.settling
            total.dead += each.dead
            total.sweeping = total.sweeping or each.sweeping
        return total

    @property
    def resting(self) -> list[Health]:
        with self._lock:
            return [health for health in self.healths.values() if not health.well]
