"""The ledger in memory: the same law as the SQL one, in plain Python. Read it to learn what a ledger does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import assert_never

from skystow.adapters.memory.rows import FOREVER, ArrivalRow, TransferRow, count, glimpse, next_batch, upstream_first
from skystow.adapters.memory.talks import ImageDoor
from skystow.errors import Abandoned
from skystow.model.records import Arrival, Digest, Health, Notice, Worker, path_bytes
from skystow.model.transfer import (
    DEATHS_ALONE,
    JOURNAL,
    Audience,
    Delivered,
    Destination,
    Held,
    Quarantined,
    Receipt,
    Renumbered,
    Retry,
    RetryPolicy,
    Route,
    State,
    Step,
    Verdict,
    Work,
    abandoned,
    judge,
    mark_of,
    spent_before,
)
from skystow.ports import Admission, Clock, Copy, Counts, Dossier, Event, Glimpse

DEFAULT_POLICY = RetryPolicy()


class MemoryLedger(ImageDoor):
    """A `Ledger` for one process. One lock, held for each call."""

    def __init__(
        self,
        worker: Worker,
        clock: Clock,
        policy: RetryPolicy = DEFAULT_POLICY,
        audiences: Sequence[Audience] = (JOURNAL,),
    ) -> None:
        super().__init__(clock)
        self._worker, self._policy, self._audiences = worker, policy, tuple(audiences)

    def beside(self, worker: Worker, clock: Clock | None = None) -> MemoryLedger:
        """The same ledger, opened by another worker."""
        (other := MemoryLedger(worker, clock or self._clock, self._policy, self._audiences)).share(self)
        return other

    # ── intake ──────────────────────────────────────────────────────────────────────────────────────────────────

    def admit(self, arrivals: Sequence[Arrival], destinations: Sequence[Destination]) -> Admission:
        admitted, refreshed, known = 0, 0, dict[State, int]()
        ordered = upstream_first(destinations)
        with self._lock:
            for arrival in arrivals:
                old = self._rows.latest.get((arrival.source, arrival.key))
                if old is not None and old.arrival.fingerprint.same_content(arrival.fingerprint):
                    known[old.first.state] = known.get(old.first.state, 0) + 1
                elif old is not None and all(t.state is State.WAITING and not t.promised for t in old.transfers):
                    self._refresh(old, arrival)
                    refreshed += 1
                else:
                    self._insert(arrival, ordered)
                    admitted += 1
                    if old is not None:
                        self._supersede(old)
        return Admission(admitted, refreshed, known)

    def _insert(self, arrival: Arrival, destinations: Sequence[Destination]) -> None:
        row = ArrivalRow(len(self._rows.arrivals) + 1, arrival, self._clock.now())
        made: dict[str, TransferRow] = {}
        for d in destinations:
            straight = d.upstream is None
            made[d.name] = TransferRow(
                id=len(self._rows.transfers) + 1,
                row=row,
                route=Route(d.upstream or arrival.source, d.name),
                upstream=made[d.upstream] if d.upstream is not None else None,
                path=arrival.path,
                required=d.required,
                owned=d.owned,
                size=arrival.fingerprint.size if straight else None,
                attempts=arrival.attempts if straight else 0,
                wake_at=0.0 if straight else FOREVER,
            )
            self._rows.transfers.append(made[d.name])
        row.transfers.extend(made.values())
        self._rows.arrivals.append(row)
        self._rows.latest[arrival.source, arrival.key] = row
        self._event(row, Step.ADMITTED)
        if arrival.attempts >= self._policy.max_attempts:
            for first in row.firsts:
                first.reason = spent_before(arrival.attempts)
                self._step(first, Step.QUARANTINED, text=first.reason.text)

    def _refresh(self, row: ArrivalRow, arrival: Arrival) -> None:
        """A claim on the old content is fenced off: it has promised nothing yet, and now never will."""
        row.arrival = arrival
        for transfer in row.transfers:
            transfer.path = arrival.path
            if transfer.upstream is None:
                transfer.size = arrival.fingerprint.size
            transfer.free()
        self._event(row, Step.REFRESHED)

    def _supersede(self, old: ArrivalRow) -> None:
        """The old content is gone from the source: what has no first copy will never have one. But what was promised
        may stand under its final name already, and then it is done; its next claim finds out."""
        for first in old.transfers:
            promised = first.state is State.WAITING and first.promised
            if first.upstream is None and first.state is not State.DONE and not promised:
                for transfer in (first, *first.downstream()):
                    if transfer.state in (State.WAITING, State.QUARANTINED):
                        self._step(transfer, Step.SUPERSEDED)
                        transfer.free()

    # ── pump ────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, route: Route, *, files: int, size: int, seconds: float) -> Sequence[Work]:
        with self._lock:
            now = self._now()
            for transfer in self._waiting(route):
                if transfer.token and transfer.wake_at <= now:
                    self._abandon(transfer)
            batch = next_batch([t for t in self._waiting(route) if t.wake_at <= now], files, size)
            if not batch:
                return []
            self._rows.claims += 1
            token = f"{mark_of(self.identity())}{self._rows.claims:016x}"
            for transfer in batch:
                transfer.token, transfer.worker, transfer.batch = token, self._worker, len(batch)
                transfer.wake_at = now + seconds
                self._step(transfer, Step.CLAIMED)
            return [transfer.work() for transfer in batch]

    def renew(self, works: Sequence[Work], *, seconds: float) -> set[Work]:
        with self._lock:
            ours = self._ours(works)
            for _, transfer in ours:
                transfer.wake_at = self._now() + seconds
            return {work for work, _ in ours}

    def promise(self, receipts: Mapping[Work, Receipt], *, seconds: float) -> set[Work]:
        with self._lock:
            ours = self.renew(list(receipts), seconds=seconds)
            for work, transfer in self._ours(ours):
                transfer.promised = receipts[work].digest
            return ours

    def settle(self, verdicts: Mapping[Work, Verdict]) -> set[Work]:
        with self._lock:
            for work, transfer in self._ours(verdicts):
                transfer.alone = 0  # the process lived to tell: no deaths running
                transfer.settled = work.token, type(verdicts[work])
                self._apply(transfer, verdicts[work])
            return {w for w, v in verdicts.items() if self._transfer(w).settled == (w.token, type(v))}

    def _apply(self, transfer: TransferRow, verdict: Verdict) -> None:
        transfer.free()
        match verdict:
            case Delivered(receipt, already):
                self._deliver(transfer, receipt, "already there" if already else "")
            case Retry(reason, after):
                transfer.attempts += 1
                transfer.reason, transfer.wake_at = reason, self._now() + after
                self._step(transfer, Step.RETRY, text=reason.text)
            case Quarantined(reason):
                transfer.attempts += 1
                transfer.reason = reason
                self._step(transfer, Step.QUARANTINED, text=reason.text)
            case Held(cause, after):
                if cause is not None:  # else we were asked to stop: nothing happened to the file
                    transfer.reason = cause
                    transfer.wake_at = self._now() + after if after else transfer.wake_at
                    self._step(transfer, Step.HELD, text=cause.text)
            case Renumbered(reason, path):
                transfer.reason = reason
                self._renumber(transfer, path, reason.text)
            case _:
                assert_never(verdict)

    def _deliver(self, transfer: TransferRow, receipt: Receipt, text: str) -> None:
        transfer.digest, transfer.size, transfer.done_at = receipt.digest, receipt.size, self._clock.now()
        self._step(transfer, Step.DELIVERED, digest=receipt.digest, text=text)
        if transfer.upstream is None:  # a handoff's source is our own copy, whose inode and ctime the source never had
            transfer.row.arrival = replace(transfer.row.arrival, fingerprint=receipt.source)
        for down in transfer.row.transfers:
            if down.upstream is transfer:
                down.size = receipt.size
                down.free()

    def _renumber(self, transfer: TransferRow, path: PurePosixPath, text: str) -> None:
        for each in (transfer, *transfer.downstream()):
            each.path, each.promised = path, None
            if each is transfer or each.state is State.WAITING:
                self._step(each, Step.RENUMBERED, text=text)
                each.free()

    def _abandon(self, transfer: TransferRow) -> None:
        left = abandoned(transfer.batch, transfer.alone)
        transfer.abandoned += 1
        transfer.cap, transfer.alone = left.cap, left.alone
        self._step(transfer, Step.ABANDONED, text=f"by {transfer.worker}, one of {transfer.batch}")
        transfer.free()
        if transfer.alone >= DEATHS_ALONE:
            transfer.alone = 0
            fault = Abandoned(
                f"the process died {DEATHS_ALONE} times running with this file alone in its hands",
                remedy="look at the end of its log, then retry or ignore the file",
            )
            self._apply(transfer, judge(fault, transfer.id, transfer.attempts, self._policy))

    def next_wake(self, route: Route) -> float | None:
        with self._lock:
            wakes = [t.wake_at for t in self._waiting(route) if not t.blocked]
            return max(0.0, min(wakes) - self._now()) if wakes else None

    # ── start ───────────────────────────────────────────────────────────────────────────────────────────────────

    def reclaim(self, alive: Callable[[Worker], bool | None]) -> int:
        with self._lock:
            held = [t for t in self._rows.transfers if t.token]
            dead = {worker for worker in {t.worker for t in held} if worker and alive(worker) is False}
            orphans = [t for t in held if t.worker in dead]
            for transfer in orphans:
                self._abandon(transfer)
            return len(orphans)

    def live_tokens(self) -> set[str]:
        with self._lock:
            return {t.token for t in self._rows.transfers if t.token}

    # ── outbox, places ──────────────────────────────────────────────────────────────────────────────────────────

    def notices(self, *, limit: int, audience: str = JOURNAL.name) -> Sequence[Notice]:
        with self._lock:
            unsent = (n for who, n in self._rows.notices if who == audience and n.id not in self._rows.sent)
            return list(islice(unsent, limit))

    def sent(self, notices: Sequence[Notice]) -> None:
        with self._lock:
            self._rows.sent.update(n.id for n in notices)

    def note_place(self, name: str, root: str) -> None:
        self._rows.places[name] = root

    def report(self, health: Health) -> None:
        self._rows.healths[health.place] = health

    # ── operators ───────────────────────────────────────────────────────────────────────────────────────────────

    def requeue(self, copies: Sequence[Copy]) -> int:
        return self._order_all(copies, (State.QUARANTINED, State.CANCELLED), Step.REQUEUED, "")

    def ignore(self, copies: Sequence[Copy], reason: str) -> int:
        return self._order_all(copies, (State.WAITING, State.QUARANTINED), Step.IGNORED, reason)

    def _order_all(self, copies: Sequence[Copy], states: tuple[State, ...], step: Step, text: str) -> int:
        with self._lock:
            named = dict.fromkeys(map(self._transfer, copies))
            chosen = [t for t in named if t.state in states]
            for transfer in chosen:
                if step is Step.REQUEUED:
                    transfer.attempts = transfer.abandoned = transfer.cap = transfer.alone = 0
                self._step(transfer, step, text=text)
                transfer.free()
            return len(chosen)

    def renumber(self, copy: Copy, path: PurePosixPath) -> None:
        with self._lock:
            transfer = self._transfer(copy)
            if transfer.state in (State.WAITING, State.QUARANTINED):
                self._renumber(transfer, path, "")

    def audited(self, copy: Copy, step: Step, text: str) -> None:
        with self._lock:
            transfer = self._transfer(copy)
            if transfer.state is State.DONE:
                self._step(transfer, step, digest=transfer.digest, text=text)
                if step is Step.VERIFIED:
                    transfer.verified_at = self._clock.now()

    def removed(self, copies: Sequence[Copy], reason: str) -> int:
        with self._lock:
            there = [t for t in map(self._transfer, copies) if t.removed_at is None and t.state is State.DONE]
            for transfer in there:
                transfer.removed_at = self._clock.now()
                self._step(transfer, Step.REMOVED, text=reason)
            return len(there)

    def retired(self, *dossiers: Dossier) -> None:
        with self._lock:
            for row in (self._rows.arrivals[dossier.id - 1] for dossier in dossiers):
                row.retired_at = self._clock.now()
                self._event(row, Step.RETIRED)
                for first in row.firsts:
                    self._tell(first, Step.RETIRED, row.retired_at, "")

    # ── windows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, name: str | bytes) -> Sequence[int]:
        raw = name if isinstance(name, bytes) else path_bytes(name)
        with self._lock:
            return [row.id for row in reversed(self._rows.arrivals) if raw in map(path_bytes, row.names())]

    def dossier(self, arrival: int) -> Dossier | None:
        with self._lock:
            known = 1 <= arrival <= len(self._rows.arrivals)
            return self._rows.arrivals[arrival - 1].dossier(self._now()) if known else None

    def latest(self, source: str, origins: Sequence[PurePosixPath]) -> Mapping[PurePosixPath, Dossier]:
        with self._lock:
            came = {row.arrival.origin: row for row in self._rows.arrivals if row.arrival.source == source}
            return {origin: came[origin].dossier(self._now(), events=False) for origin in origins if origin in came}

    def copies(
        self, *, after: int, limit: int, state: State, destination: str | None = None, source: str | None = None
    ) -> Sequence[Copy]:
        with self._lock:
            found = (
                t
                for t in self._rows.transfers[max(0, after) :]
                if t.state is state
                and destination in (None, t.route.destination)
                and source in (None, t.row.arrival.source)
            )
            return [t.copy(self._now()) for t in islice(found, limit)]

    def retirable(self, source: str, *, older_than: float, after: int, limit: int) -> Sequence[Dossier]:
        with self._lock:
            now = self._now()
            found = (row for row in self._rows.arrivals[max(0, after) :] if row.ripe(source, now - older_than))
            return [row.dossier(now, events=False) for row in islice(found, limit)]

    def tally(self, routes: Sequence[Route], since: datetime) -> Sequence[Counts]:
        with self._lock:
            news = [t for t in self._rows.transfers if t.state is not State.DONE or (t.done_at or since) >= since]
            return [count(r, those, self._now()) for r in routes if (those := [t for t in news if t.route == r])]

    def counts(self) -> Sequence[Counts]:
        with self._lock:
            routes = dict.fromkeys(t.route for t in self._rows.transfers)
            return [count(r, [t for t in self._rows.transfers if t.route == r], self._now()) for r in routes]

    def glimpse(self, route: Route, *, last: int) -> Glimpse:
        with self._lock:
            return glimpse([t for t in self._rows.transfers if t.route == route], last, self._now())

    def healths(self) -> Sequence[Health]:
        return list(self._rows.healths.values())

    def places(self) -> Mapping[str, str]:
        return dict(self._rows.places)

    def close(self) -> None:
        """Nothing to close."""

    # ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _transfer(self, of: Copy | Work) -> TransferRow:
        return self._rows.transfers[of.id - 1]

    def _waiting(self, route: Route) -> Iterable[TransferRow]:
        return (t for t in self._rows.transfers if t.route == route and t.state is State.WAITING)

    def _ours(self, works: Iterable[Work]) -> list[tuple[Work, TransferRow]]:
        """The fence: a claim that was lost has another token, or none, and changes nothing."""
        return [(work, t) for work in works if (t := self._transfer(work)).token == work.token and work.token]

    def _event(self, row: ArrivalRow, step: Step) -> None:
        row.events.append(Event(self._clock.now(), step, None, str(self._worker), row.arrival.claimed, ""))

    def _step(self, transfer: TransferRow, step: Step, *, digest: Digest | None = None, text: str = "") -> None:
        """One step of one transfer: its state, its event, and what the world is told."""
        transfer.become(step)
        at, where = self._clock.now(), transfer.route.destination
        transfer.row.events.append(Event(at, step, where, str(self._worker), digest, text))
        self._tell(transfer, step, at, text)

    def _tell(self, transfer: TransferRow, step: Step, at: datetime, text: str) -> None:
        key, source = transfer.row.arrival.key, transfer.row.arrival.source
        for audience in self._audiences:
            if step in audience.steps and audience.source in (None, source):
                notice = Notice(len(self._rows.notices) + 1, at, str(step), transfer.body(text), key, transfer.path)
                self._rows.notices.append((audience.name, notice))
