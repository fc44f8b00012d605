"""What became of the exposures of a night, from their milestones: complete or not, how fast, what is owed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from skystow.model.acts import Milestone
from skystow.model.messages import day_and_number
from skystow.ports.talk import Line


@dataclass(frozen=True, slots=True)
class Exposure:
    """`at`: when each milestone of the whole exposure was reached; `detectors`: the same for each CCD.
    `expected` may be empty: nobody said what belongs to it. `faults`: (detector, number, text), oldest first."""

    obsid: str
    expected: tuple[str, ...]
    at: Mapping[Milestone, datetime]
    detectors: Mapping[str, Mapping[Milestone, datetime]]
    faults: tuple[tuple[str, int, str], ...] = ()
    late: str = ""

    @property
    def ignored(self) -> bool:
        return Milestone.IGNORED in self.at and Milestone.STARTED not in self.at

    @property
    def complete(self) -> bool:
        return Milestone.COMPLETE in self.at

    @property
    def number(self) -> int | None:
        named = day_and_number(self.obsid)
        return named[1] if named else None

    @property
    def began(self) -> datetime | None:
        return min(self.at.values(), default=None)

    def reached(self, what: Milestone) -> list[str]:
        """The CCDs that have come so far."""
        return sorted(ccd for ccd, at in self.detectors.items() if what in at)

    def missing(self, what: Milestone = Milestone.INGESTED) -> list[str]:
        return sorted(set(self.expected) - set(self.reached(what)))

    def seconds(self, what: Milestone, since: Milestone = Milestone.READ_OUT) -> list[float]:
        """From one milestone of the exposure to another of each CCD."""
        if (begin := self.at.get(since)) is None:
            return []
        return [(at[what] - begin).total_seconds() for at in self.detectors.values() if what in at]

    def sentence(self, what: Milestone = Milestone.INGESTED) -> str:
        """`203 of 205 at 6.1 s, missing R22_S11, R41_SW0`."""
        have, missing = self.reached(what), self.missing(what)
        told = f"{len(have)} of {len(self.expected) or '?'}"
        if spent := self.seconds(what):
            told += f" at {max(spent):.1f} s"
        return told + (f", missing {', '.join(missing)}" if missing else "")


@dataclass(frozen=True, slots=True)
class Night:
    """One observing day. `latencies`: percentile → seconds from endReadout, `to published` and `to ingested`."""

    day_obs: int
    exposures: tuple[Exposure, ...]
    gaps: tuple[tuple[int, int], ...]
    """First and last of each run of sequence numbers that is missing between two that are there."""
    published: Mapping[int, float] = field(default_factory=dict)
    ingested: Mapping[int, float] = field(default_factory=dict)

    @property
    def archived(self) -> list[Exposure]:
        return [each for each in self.exposures if not each.ignored]

    @property
    def owed(self) -> list[Exposure]:
        return [each for each in self.archived if not each.complete]

    def files(self, what: Milestone) -> int:
        return sum(len(each.reached(what)) for each in self.exposures)


def exposures(lines: Iterable[Line]) -> list[Exposure]:
    """In the order in which they began."""
    by: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by[line.obsid].append(line)
    found = [_exposure(obsid, each) for obsid, each in by.items()]
    return sorted(found, key=lambda each: (each.began is None, each.began, each.obsid))


def _exposure(obsid: str, lines: Sequence[Line]) -> Exposure:
    whole: dict[Milestone, datetime] = {}
    ccds: dict[str, dict[Milestone, datetime]] = defaultdict(dict)
    expected: tuple[str, ...] = ()
    faults, late = [], ""
    for line in lines:
        if line.what is Milestone.FAULT:
            faults.append((line.detector, line.number, line.text))
        elif line.detector:
            ccds[line.detector].setdefault(line.what, line.at)
        else:
            whole.setdefault(line.what, line.at)
        if line.what is Milestone.STARTED:
            expected = tuple(line.text.split())
        if line.what is Milestone.LATE:
            late = line.text
    return Exposure(obsid, expected, whole, dict(ccds), tuple(faults), late)


def night(day_obs: int, lines: Iterable[Line]) -> Night:
    found = exposures(lines)
    taken = [each for each in found if not each.ignored]
    published = [spent for each in taken for spent in each.seconds(Milestone.LINKED)]
    ingested = [spent for each in taken for spent in each.seconds(Milestone.INGESTED)]
    return Night(day_obs, tuple(found), gaps(found), percentiles(published), percentiles(ingested))


def gaps(found: Iterable[Exposure]) -> tuple[tuple[int, int], ...]:
    """In the sequence numbers of one day, by each camera and controller (`CC_O`)."""
    by: dict[str, set[int]] = defaultdict(set)
    for each in found:
        if (number := each.number) is not None:
            by[each.obsid.rpartition("_")[0]].add(number)
    runs = []
    for numbers in by.values():
        ordered = sorted(numbers)
        runs += [(a + 1, b - 1) for a, b in pairwise(ordered) if b - a > 1]
    return tuple(sorted(runs))


def percentiles(values: Sequence[float], which: Sequence[int] = (50, 90, 99, 100)) -> dict[int, float]:
    """By nearest rank; empty where there are no values."""
    ordered = sorted(values)
    return {p: ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)] for p in which} if ordered else {}
