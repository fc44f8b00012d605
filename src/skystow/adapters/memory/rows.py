"""What the memory ledger writes on: its rows, and how a reader sees them. Times are seconds since the epoch."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

from skystow.model.records import Arrival, DeadLetter, Digest, Health, Location, Notice, Worker, shown
from skystow.model.transfer import TRANSITIONS, Destination, Reason, Route, State, Step, Work
from skystow.ports import Copy, Counts, Dossier, Event, Glimpse

FOREVER = datetime.max.replace(tzinfo=UTC).timestamp() - 86400
"""When a transfer wakes whose upstream copy is not done: not by itself."""


NO_REASON = Reason("", "")


@dataclass(slots=True, eq=False)
class ArrivalRow:
    """One version of one source file, its transfers and its history."""

    id: int
    arrival: Arrival
    admitted_at: datetime
    retired_at: datetime | None = None
    transfers: list[TransferRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def first(self) -> TransferRow:
        """The copy that comes straight from the source."""
        return self.firsts[0]

    @property
    def firsts(self) -> list[TransferRow]:
        return [t for t in self.transfers if t.upstream is None]

    def names(self) -> list[PurePosixPath]:
        """Under which a person may look for it."""
        return [self.arrival.origin, self.arrival.path, *(t.path for t in self.transfers)]

    def ripe(self, source: str, before: float) -> bool:
        """Whether it came from there, still stands there, and was copied before that time."""
        done = self.first.done_at
        return self.arrival.source == source and not self.retired_at and done is not None and done.timestamp() < before

    def dossier(self, now: float, *, events: bool = True) -> Dossier:
        a = self.arrival
        return Dossier(
            id=self.id,
            source=a.source,
            key=a.key,
            origin=a.origin,
            archive=a.archive,
            path=a.path,
            fingerprint=a.fingerprint,
            claimed=a.claimed,
            admitted_at=self.admitted_at,
            retired_at=self.retired_at,
            copies=tuple(t.copy(now) for t in self.transfers),
            events=tuple(self.events) if events else (),
        )


@dataclass(slots=True, eq=False)
class TransferRow:
    """One file on its way to one place.

    `wake_at`: 0 claimable; the end of the lease; when a retry is due; FOREVER while the upstream copy is not done.
    """

    id: int
    row: ArrivalRow
    route: Route
    upstream: TransferRow | None
    path: PurePosixPath
    required: bool
    owned: bool
    size: int | None
    attempts: int
    wake_at: float
    state: State = State.WAITING
    token: str = ""
    worker: Worker | None = None
    batch: int = 0
    abandoned: int = 0
    cap: int = 0
    alone: int = 0
    promised: Digest | None = None
    digest: Digest | None = None
    reason: Reason = NO_REASON
    done_at: datetime | None = None
    verified_at: datetime | None = None
    removed_at: datetime | None = None
    settled: tuple[str, type] | None = None
    """Token and kind of the last verdict."""

    @property
    def blocked(self) -> bool:
        return self.upstream is not None and self.upstream.state is not State.DONE

    @property
    def order(self) -> tuple[int, int, int, int]:
        return (self.abandoned, -self.row.arrival.priority, self.row.arrival.rank, self.id)

    def downstream(self) -> list[TransferRow]:
        """Those that take their bytes from this copy, and from them, and so on."""
        near = [t for t in self.row.transfers if t.upstream is self]
        return near + [far for t in near for far in t.downstream()]

    def free(self, wake_at: float = 0.0) -> None:
        """No worker has it any more: a late one is fenced off, because its token is gone."""
        self.token, self.worker, self.batch = "", None, 0
        self.wake_at = FOREVER if self.blocked else wake_at

    def become(self, step: Step) -> None:
        """The only line that changes a state; what `TRANSITIONS` does not know is a KeyError."""
        self.state = TRANSITIONS[self.state, step]

    def copy(self, now: float) -> Copy:
        waits = self.state is State.WAITING and self.wake_at > now
        return Copy(
            id=self.id,
            route=self.route,
            path=self.path,
            state=self.state,
            required=self.required,
            owned=self.owned,
            attempts=self.attempts,
            abandoned=self.abandoned,
            digest=self.digest,
            size=self.size,
            fault=self.reason.code,
            error=self.reason.text,
            done_at=self.done_at,
            wakes_at=datetime.fromtimestamp(self.wake_at, UTC) if waits else None,
            leased_by=str(self.worker) if self.worker else None,
            verified_at=self.verified_at,
            removed_at=self.removed_at,
            blocked=self.state is State.WAITING and self.blocked,
        )

    def work(self) -> Work:
        """What its claim is handed: a handoff reads the upstream copy and must have the digest proven there."""
        arrival, up = self.row.arrival, self.upstream
        straight = Location(arrival.source, arrival.origin)
        return Work(
            id=self.id,
            token=self.token,
            route=self.route,
            source=straight if up is None else Location(up.route.destination, up.path),
            target=self.path,
            fingerprint=arrival.fingerprint,
            claimed=arrival.claimed if up is None else up.digest,
            promised=self.promised,
            attempts=self.attempts,
        )

    def body(self, text: str) -> dict[str, str | int | None]:
        """What the world is told about this copy."""
        a = self.row.arrival
        return {
            "arrival": self.row.id,
            "source": a.source,
            "origin": shown(a.origin),
            "archive": a.archive,
            "path": shown(self.path),
            "destination": self.route.destination,
            "digest": str(self.digest) if self.digest else None,
            "size": self.size,
            "attempts": self.attempts,
            "text": text,
        }


@dataclass(slots=True)
class Rows:
    """The tables. Ids are positions, from 1."""

    arrivals: list[ArrivalRow] = field(default_factory=list)
    transfers: list[TransferRow] = field(default_factory=list)
    latest: dict[tuple[str, bytes], ArrivalRow] = field(default_factory=dict)
    notices: list[tuple[str, Notice]] = field(default_factory=list)
    """With their audience."""
    sent: set[int] = field(default_factory=set)
    healths: dict[str, Health] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    claims: int = 0
    dead: dict[tuple[str, bytes], DeadLetter] = field(default_factory=dict)
    buried: int = 0
    identity: str = field(default_factory=lambda: secrets.token_hex(16))


def upstream_first(destinations: Sequence[Destination]) -> list[Destination]:
    """So that each transfer finds the one it takes its bytes from. Raises ValueError where there is none."""
    ordered: list[Destination] = []
    waiting = list(destinations)
    while waiting:
        made = {d.name for d in ordered}
        ready = [d for d in waiting if d.upstream is None or d.upstream in made]
        if not ready:
            raise ValueError(f"{waiting[0].name!r} takes from {waiting[0].upstream!r}, which is not there")
        ordered += ready
        waiting = [d for d in waiting if d not in ready]
    return ordered


def next_batch(claimable: Sequence[TransferRow], files: int, size: int) -> list[TransferRow]:
    """The first of the queue, and as many like it as fit behind it."""
    if not claimable:
        return []
    queue = sorted(claimable, key=lambda t: t.order)
    first = queue[0]
    alike = [t for t in queue if t.abandoned == first.abandoned]
    batch, total = [first], first.size or 0
    for transfer in alike[1 : min(files, first.cap or files)]:
        total += transfer.size or 0
        if total > size:
            break
        batch.append(transfer)
    return batch


def glimpse(transfers: Sequence[TransferRow], last: int, now: float) -> Glimpse:
    """See `Ledger.glimpse`; `transfers` are those of one route."""
    done = sorted(((t.done_at, t.id, t) for t in transfers if t.state is State.DONE and t.done_at), reverse=True)
    newest = tuple(transfer.copy(now) for _, _, transfer in done[:last])
    waiting = sorted((t.row.admitted_at, t.id, t) for t in transfers if t.state is State.WAITING)
    return Glimpse(newest, waiting[0][2].copy(now), waiting[0][0]) if waiting else Glimpse(newest)


def count(route: Route, transfers: Sequence[TransferRow], now: float) -> Counts:
    """One route in numbers; each transfer is in one of them."""
    waiting = [t for t in transfers if t.state is State.WAITING]
    blocked = sum(t.blocked for t in waiting)
    retrying = sum(not t.token and not t.blocked and t.wake_at > now for t in waiting)
    quarantined = [t for t in transfers if t.state is State.QUARANTINED]
    conflicts = sum(t.reason.code == "conflict" for t in quarantined)
    done = [t for t in transfers if t.state is State.DONE]
    return Counts(
        route=route,
        waiting=len(waiting) - blocked - retrying,
        blocked=blocked,
        retrying=retrying,
        done=len(done),
        quarantined=len(quarantined) - conflicts,
        conflicts=conflicts,
        cancelled=sum(t.state is State.CANCELLED for t in transfers),
        bytes=sum(t.size or 0 for t in done),
        oldest_waiting=min((t.row.admitted_at for t in waiting), default=None),
    )
