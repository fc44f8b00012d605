"""How a file archiver is, in numbers: what it did, what it owes, and which places are not well.

For windows of other systems: an `Account` looks at the ledger now and then, and while the ledger is away it tells what
it knew last.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from skystow.errors import PlaceFault
from skystow.model.records import Health, shown
from skystow.model.transfer import Route
from skystow.ports import Clock, Copy, Counts, Glimpse, Ledger
from skystow.service.status import Progress

LAST = 10
"""Files that are named."""

WINDOW = 60.0
"""Seconds that a rate is measured over."""

COUNTED = 10_000
"""Dead letters that are counted; more are so many."""


class Rates:
    """Files and bytes per second, of late. Fed with sums."""

    def __init__(self, window: float = WINDOW) -> None:
        self.window = window
        self._looks: deque[tuple[float, int, int]] = deque()

    def look(self, at: float, files: int, size: int) -> tuple[float, float]:
        """`at` in seconds of a clock that never jumps; sums that fall begin anew."""
        if self._looks and files < self._looks[-1][1]:
            self._looks.clear()
        self._looks.append((at, files, size))
        while len(self._looks) > 2 and at - self._looks[1][0] >= self.window:
            self._looks.popleft()
        then, had, held = self._looks[0]
        return ((files - had) / (at - then), (size - held) / (at - then)) if at > then else (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Owed:
    """What the ledger says."""

    counts: Sequence[Counts] = ()
    glimpses: Sequence[Glimpse] = ()
    dead: int = 0


@dataclass
class Account:
    """`routes` are those of each file's first copy; `roots` of all places, by name. `fault`: why nothing runs."""

    ledger: Ledger
    clock: Clock
    progress: Progress
    routes: Sequence[Route]
    roots: Mapping[str, str]
    notes: Mapping[str, Sequence[str]]
    rates: Rates = field(default_factory=Rates)
    _owed: Owed = field(default_factory=Owed)
    _away: Health | None = None

    def __post_init__(self) -> None:
        done = self.progress.done
        self.rates.look(self.clock.monotonic(), done.delivered, done.bytes)

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON. Asks the ledger, and so blocks."""
        self._look()
        done, now = self.progress.done, self.clock.now()
        files, size = self.rates.look(self.clock.monotonic(), done.delivered, done.bytes)
        sums = {name: sum(getattr(each, name) for each in self._owed.counts) for name in _SUMS}
        waiting = [(glimpse.since, glimpse.oldest) for glimpse in self._owed.glimpses if glimpse.oldest]
        newest = sorted((c for g in self._owed.glimpses for c in g.newest), key=_done_at, reverse=True)
        return {
            "timestamp": now.timestamp(),
            "archived": done.delivered,
            "archived_bytes": done.bytes,
            "failed_attempts": done.retried + done.quarantined + done.conflicts,
            "backlog": sums["waiting"] + sums["retrying"],
            "retrying": sums["retrying"],
            "quarantined": sums["quarantined"],
            "conflicts": sums["conflicts"],
            "dead_letters": self._owed.dead,
            "oldest_waiting": self._oldest(waiting, now),
            "last_files": [{"file": self._where(c), "size": c.size, "at": _done_at(c)} for c in newest[:LAST]],
            "rates": {"files_per_s": round(files, 3), "bytes_per_s": round(size, 1)},
            "places": dict(sorted(self._places().items())),
            "notes": [text for texts in self.notes.values() for text in list(texts)],
            "fault": "",
        }

    def _look(self) -> None:
        try:
            counts = self.ledger.tally(self.routes, self.ledger.now())
            glimpses = [self.ledger.glimpse(route, last=LAST) for route in self.routes]
            dead = len(self.ledger.dead_letters(after=0, limit=COUNTED))
        except PlaceFault as fault:
            self._away = Health(fault.place, False, self._away.since if self._away else self.clock.now(), str(fault))
        else:
            self._owed, self._away = Owed(counts, glimpses, dead), None

    def _places(self) -> dict[str, dict[str, Any]]:
        healths = dict(self.progress.healths)
        if self._away is not None:
            healths[self._away.place] = self._away
        used = self.progress.done.delivered > 0
        told: dict[str, dict[str, Any]] = {
            name: {"well": True if used else None, "since": None, "reason": ""} for name in self.roots
        }
        for name, health in healths.items():
            told[name] = {"well": health.well, "since": health.since.timestamp(), "reason": shown(health.reason)}
        return told

    def _oldest(self, waiting: Sequence[tuple[datetime | None, Copy | None]], now: datetime) -> dict[str, Any] | None:
        those = [(since, copy) for since, copy in waiting if since is not None and copy is not None]
        if not those:
            return None
        since, copy = min(those, key=lambda each: each[0])
        age = max(0.0, (now - since).total_seconds())
        return {"file": shown(copy.path), "since": since.timestamp(), "seconds": round(age, 1)}

    def _where(self, copy: Copy) -> str:
        return shown(os.path.join(self.roots.get(copy.route.destination, ""), str(copy.path)))


_SUMS = ("waiting", "retrying", "quarantined", "conflicts")


def _done_at(copy: Copy) -> float:
    return copy.done_at.timestamp() if copy.done_at else 0.0


def degraded(document: Mapping[str, Any]) -> bool:
    """Whether something keeps it from its work."""
    return bool(document["fault"]) or any(place["well"] is False for place in document["places"].values())


def figures(document: Mapping[str, Any]) -> dict[str, int | float | bool]:
    """The numbers of a document, flat, always the same names: letters, digits and underscores."""
    oldest = document["oldest_waiting"]
    names = ("archived", "archived_bytes", "failed_attempts", "backlog", "retrying", "quarantined", "conflicts")
    return {
        **{name: document[name] for name in names},
        "dead_letters": document["dead_letters"],
        "oldest_waiting_s": oldest["seconds"] if oldest else 0.0,
        "files_per_s": document["rates"]["files_per_s"],
        "bytes_per_s": document["rates"]["bytes_per_s"],
        "places_not_well": sum(place["well"] is False for place in document["places"].values()),
        "degraded": degraded(document),
    }
