"""The door to the ledger: what arrived, where it must go, what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol

from skystow.model.records import Arrival, DeadLetter, Digest, Fingerprint, Health, Notice, Worker
from skystow.model.transfer import JOURNAL, Destination, Receipt, Route, State, Step, Verdict, Work


@dataclass(frozen=True, slots=True)
class Admission:
    """What one call of `admit` found, in numbers of arrivals; they add up to the length of the batch.

    `known` counts, by state at the source's own destination, arrivals that were admitted before and look the same.
    """

    admitted: int = 0
    refreshed: int = 0
    known: Mapping[State, int] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    step: Step
    destination: str | None
    worker: str
    digest: Digest | None
    text: str


@dataclass(frozen=True, slots=True)
class Copy:
    """One transfer as a person sees it. `fault` is the last error's code, `error` its text."""

    id: int
    route: Route
    path: PurePosixPath
    state: State
    required: bool
    owned: bool
    attempts: int
    abandoned: int
    digest: Digest | None
    size: int | None
    fault: str
    error: str
    done_at: datetime | None
    wakes_at: datetime | None
    """When it may be claimed next; None: now. Far in the future: its upstream copy is not done."""
    leased_by: str | None
    verified_at: datetime | None
    removed_at: datetime | None
    blocked: bool = False
    """Waits for its upstream copy."""


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is known of one arrival."""

    id: int
    source: str
    key: bytes
    origin: PurePosixPath
    archive: str
    path: PurePosixPath
    fingerprint: Fingerprint
    claimed: Digest | None
    admitted_at: datetime
    retired_at: datetime | None
    copies: tuple[Copy, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Transfers of one route, by state; `bytes` is of those DONE."""

    route: Route
    waiting: int
    blocked: int
    retrying: int
    done: int
    quarantined: int
    conflicts: int
    cancelled: int
    bytes: int
    oldest_waiting: datetime | None


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The two ends of one route: what became DONE last, newest first, and what has waited longest (`since`: when it
    was admitted)."""

    newest: tuple[Copy, ...] = ()
    oldest: Copy | None = None
    since: datetime | None = None


class Ledger(Protocol):
    """The truth about every file. Each call is one short transaction; safe from any thread.

    Times are the database's clock. A claim is a lease with a token; `settle`, `promise` and `renew` are fenced by it:
    what has been lost changes nothing and is left out of the answer.
    """

    # intake

    def admit(self, arrivals: Sequence[Arrival], destinations: Sequence[Destination]) -> Admission:
        """Write down what arrived: files, arrivals, a transfer for each destination, events. Idempotent.

        Known (same source and key, same fingerprint): nothing. Known, other fingerprint, all of its copies WAITING
        and nothing promised: REFRESHED (the new fingerprint, at once claimable). Else a new version with transfers of
        its own; where a first copy (no upstream) of the older version is neither DONE nor WAITING with a promise (it
        may stand under its final name already), it and what is downstream of it are SUPERSEDED.
        Where an arrival's `attempts` reach the retry limit, its first copies are QUARANTINED at once.
        Only transfers without an upstream are claimable; the others wait until the upstream copy is DONE.
        """
        ...

    def bury(self, letters: Sequence[DeadLetter]) -> int:
        """Write down what cannot be admitted, by source and key; returns how many were not known. Idempotent."""

    def buried(self, source: str, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` that are dead letters."""

    def dead_letters(self, *, after: int, limit: int, source: str | None = None) -> Sequence[DeadLetter]:
        """A page of them, by id."""

    def exhume(self, letters: Sequence[DeadLetter]) -> int:
        """Forget them, so that their sources look at them again; returns how many there were."""

    # pump

    def claim(self, route: Route, *, files: int, size: int, seconds: float) -> Sequence[Work]:
        """Up to `files` transfers of at most `size` bytes together (a larger one goes alone), under one new token.

        First wakes what is due: parked retries, and leases that ran out (counted as abandoned). Order: fewest
        abandonments, highest priority, lowest rank. A batch holds only transfers with as many abandonments as its
        first, and not more than that one's cap. The token begins with `mark_of(identity())`. Reads first; takes the
        write lock only when there is work.
        """
        ...

    def renew(self, works: Sequence[Work], *, seconds: float) -> set[Work]:
        """Extend the lease; returns what is still ours."""
        ...

    def promise(self, receipts: Mapping[Work, Receipt], *, seconds: float) -> set[Work]:
        """Write down what is about to be published (`Work.promised` of any later claim) and renew; returns what
        is still ours: only that may be published."""
        ...

    def settle(self, verdicts: Mapping[Work, Verdict]) -> set[Work]:
        """States, events, notices; returns those that took effect. Delivered wakes the transfers downstream of it and
        sets the arrival's fingerprint to the receipt's.

        Safe to repeat, for an answer can be lost: a verdict of the same kind that the same claim settled before, and
        nobody since, has taken effect and changes nothing more."""
        ...

    def next_wake(self, route: Route) -> float | None:
        """Seconds until the next transfer of the route can be claimed (0: now; leases count until they run out);
        None when none waits but for its upstream."""
        ...

    # start

    def reclaim(self, alive: Callable[[Worker], bool | None]) -> int:
        """Free the claims of dead processes at once, as abandoned. `alive` answers None for processes that it cannot
        see (other host or PID namespace): those wait for their lease. Returns how many transfers were freed."""
        ...

    def live_tokens(self) -> set[str]: ...

    # outbox

    def notices(self, *, limit: int, audience: str = JOURNAL.name) -> Sequence[Notice]:
        """Unsent ones of one audience, oldest first: one for each step that it wants to know (`Audience.steps`) of a
        transfer, written with the step itself (RETIRED: for each first copy). Their `attempts` may be newer than the
        step."""

    def sent(self, notices: Sequence[Notice]) -> None: ...

    # itself and places

    def identity(self) -> str:
        """32 hexadecimal digits, the same for ever and for everybody who opens this ledger; no other has them."""

    def note_place(self, name: str, root: str) -> None:
        """Remember what a place's name stands for, so that a trace can say where a file came from."""
        ...

    def report(self, health: Health) -> None: ...

    # operators

    def requeue(self, copies: Sequence[Copy]) -> int:
        """QUARANTINED or CANCELLED → WAITING, attempts from 0, claimable now; returns how many changed."""
        ...

    def ignore(self, copies: Sequence[Copy], reason: str) -> int:
        """WAITING or QUARANTINED → CANCELLED (a lease on it is lost)."""
        ...

    def renumber(self, copy: Copy, path: PurePosixPath) -> None:
        """The transfer, and those downstream of it, go to `path` instead and are claimable again."""
        ...

    def audited(self, copy: Copy, step: Step, text: str) -> None:
        """VERIFIED, DAMAGED or MISSING: an event, and `verified_at` for the first."""
        ...

    def retired(self, *dossiers: Dossier) -> None:
        """The source files were removed, on purpose and after proof."""
        ...

    def removed(self, copies: Sequence[Copy], reason: str) -> int:
        """Copies that are DONE were removed on purpose: `removed_at`, and an event; returns how many it is news of."""
        ...

    # windows

    def find(self, name: str | bytes) -> Sequence[int]:
        """Ids of arrivals whose origin or archive path is `name` (relative to its place), newest first."""
        ...

    def dossier(self, arrival: int) -> Dossier | None: ...

    def latest(self, source: str, origins: Sequence[PurePosixPath]) -> Mapping[PurePosixPath, Dossier]:
        """The last that came from each of `origins`, where anything did; in their order, without their events."""
        ...

    def copies(
        self, *, after: int, limit: int, state: State, destination: str | None = None, source: str | None = None
    ) -> Sequence[Copy]:
        """A page of transfers by id, for audits and lists."""
        ...

    def retirable(self, source: str, *, older_than: float, after: int, limit: int) -> Sequence[Dossier]:
        """A page of arrivals (by id) of one source, not retired, whose first copy was DONE over `older_than` seconds
        ago; without their events."""
        ...

    def counts(self) -> Sequence[Counts]:
        """Every route in numbers. Reads all that was ever archived: for a person who asks, not for a run."""
        ...

    def now(self) -> datetime:
        """By the clock that tells all times here."""
        ...

    def tally(self, routes: Sequence[Route], since: datetime) -> Sequence[Counts]:
        """These routes in numbers, but `done` and `bytes` only of what became DONE at `since` or later: costs as much
        as there is news, whatever was archived before."""
        ...

    def glimpse(self, route: Route, *, last: int) -> Glimpse:
        """Up to `last` copies that became DONE last, and the one that waits longest: costs as much as there waits,
        whatever was archived before."""
        ...

    def healths(self) -> Sequence[Health]: ...
    def places(self) -> Mapping[str, str]: ...
    def close(self) -> None: ...
