"""Any order of admit, claim, renew, promise, settle, late settle, expiry, crash, clock jump, requeue, ignore, renumber.

Whatever Hypothesis makes of it, no file is lost or doubled, and none ends in a state that nothing handles. The machine
knows only who holds which claim, what was promised and which attempts were spent; the rest the ledger must say itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skystow.model.records import Worker
from skystow.model.transfer import (
    DEATHS_ALONE,
    Delivered,
    Destination,
    Held,
    Quarantined,
    Receipt,
    Renumbered,
    Retry,
    Route,
    State,
    Step,
    Verdict,
    Work,
    numbered,
)
from skystow.ports import Copy, Dossier, Ledger
from skystow.testing.ledger_kit import (
    ANNA,
    ARCHIVE,
    AWAY,
    BEN,
    BROKEN,
    CAMERA,
    CHAIN,
    HANDOFF,
    LEASE,
    ONE,
    REMOTE,
    STRAIGHT,
    Desk,
    Opener,
    arrival,
    receipt_for,
    unlawful,
)

House = Callable[[], AbstractContextManager[Opener]]

ROUTES = (STRAIGHT, HANDOFF, Route(CAMERA, REMOTE))
PLANS: Sequence[Sequence[Destination]] = (ONE, CHAIN, (*CHAIN, Destination(REMOTE)))
VERDICTS: Mapping[str, Callable[[Work], Verdict]] = {
    "delivered": lambda work: Delivered(_proof(work), already=True),
    "retry": lambda _: Retry(BROKEN, 40.5),
    "held": lambda _: Held(AWAY),
    "stopped": lambda _: Held(None),
    "quarantined": lambda _: Quarantined(BROKEN),
    "renumbered": lambda work: Renumbered(BROKEN, numbered(work.target, 1)),
}
SPENDING = (Retry, Quarantined)
OURS = 999  # the mtime of what we made
some = st.lists(st.integers(0, 11), min_size=1, max_size=4)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that nobody has taken away yet, as far as the machine knows."""

    work: Work
    worker: Worker
    ends: float


class LedgerMachine(RuleBasedStateMachine):
    """A subclass says in `house` how to open an empty ledger (as in `LedgerContract.make`)."""

    house: ClassVar[House]

    def __init__(self) -> None:
        super().__init__()
        self.opened = type(self).house()
        self.desk = Desk(self.opened.__enter__())
        self.held: dict[int, Claim] = {}
        self.lost: list[Work] = []
        self.promised: dict[int, str] = {}
        self.spent: Counter[int] = Counter()
        self.abandoned: Counter[int] = Counter()
        self.settled: dict[int, tuple[Work, type]] = {}
        self.upstream: dict[int, int | None] = {}
        self.arrivals: list[int] = []
        self.done: set[int] = set()
        self.jumps = 0

    # ── rules ───────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize()
    def start(self) -> None:
        self.admit("a", False, 1, 10, CHAIN)
        self.admit("b", False, 1, 60, CHAIN)

    @rule(
        name=st.sampled_from("abc"),
        twin=st.booleans(),
        version=st.integers(1, 2),
        size=st.sampled_from([10, 60, None]),
        plan=st.sampled_from(PLANS),
    )
    def admit(self, name: str, twin: bool, version: int, size: int | None, plan: Sequence[Destination]) -> None:
        """New, the same, changed, or the same file under another key."""
        path = PurePosixPath("data", name)
        told = arrival(f"twin of {name}" if twin else name, path=path, mtime_ns=version, size=size)
        before = next(iter(self.desk.dossiers(told.origin)), None)
        found = self.desk.admit(told, to=plan)
        if before is not None and before.fingerprint.same_content(told.fingerprint):
            assert dict(found.known or {}) == {_first(before).state: 1}
        elif before is not None and all(c.state is State.WAITING and not self._open(c) for c in before.copies):
            assert (found.admitted, found.refreshed) == (0, 1)
            self._lose([self.held[c.id] for c in before.copies if c.id in self.held])
        else:
            assert (found.admitted, found.refreshed) == (1, 0)
            self._expect(self.desk.dossier(told.origin), plan)
            if before is not None:
                self._check_superseded(before)
        self._lose_what_is_free()

    @rule(
        worker=st.sampled_from([ANNA, BEN]),
        pick=st.integers(0, 11),
        files=st.integers(1, 4),
        size=st.sampled_from([25, 2**40]),
    )
    def claim(self, worker: Worker, pick: int, files: int, size: int) -> None:
        now, ledger = self._now(), self._ledger(worker)
        routes = [r for r in ROUTES if ledger.next_wake(r) == 0] or ROUTES
        route = routes[pick % len(routes)]
        works = ledger.claim(route, files=files, size=size, seconds=LEASE)
        self._abandon([c for c in self.held.values() if c.work.route == route and c.ends <= now])
        assert len(works) <= files
        assert len({w.token for w in works}) <= 1
        states = {c.id: c.state for c in self._copies()}
        for work in works:
            assert work.id not in self.held, "held by two"
            assert states.get(self.upstream[work.id] or 0, State.DONE) is State.DONE, "its upstream is not done"
            assert work not in self.lost, "a token came back"
            assert work.route == route
            assert (str(work.promised) if work.promised else None) == self.promised.get(work.id)
            self.held[work.id] = Claim(work, worker, now + LEASE)
        assert works or ledger.next_wake(route) != 0, "claimable, and not claimed"

    @rule(worker=st.sampled_from([ANNA, BEN]), pick=st.integers(0, 11))
    def pump(self, worker: Worker, pick: int) -> None:
        self.claim(worker, pick, 4, 2**40)  # a batch without trouble, and all that the worker still holds
        self._settle({c.work: Delivered(_proof(c.work)) for c in self.held.values() if c.worker == worker})

    @precondition(lambda self: self.held or self.lost)
    @rule(picks=some)
    def renew(self, picks: list[int]) -> None:
        works = self._pick(picks)
        assert self.desk.ledger.renew(works, seconds=LEASE) == self._ours(works)
        self._extend(works)

    @precondition(lambda self: self.held or self.lost)
    @rule(picks=some)
    def promise(self, picks: list[int]) -> None:
        works = self._pick(picks)
        receipts = {work: _proof(work) for work in works}
        assert self.desk.ledger.promise(receipts, seconds=LEASE) == self._ours(works)
        self.promised |= {w.id: str(receipts[w].digest) for w in self._ours(works)}
        self._extend(works)

    @precondition(lambda self: self.held or self.lost)
    @rule(picks=some, kinds=st.lists(st.sampled_from(sorted(VERDICTS)), min_size=4, max_size=4))
    def settle(self, picks: list[int], kinds: list[str]) -> None:
        self._settle({w: VERDICTS[kind](w) for w, kind in zip(self._pick(picks), kinds, strict=False)})

    @precondition(lambda self: self.lost)
    @rule(pick=st.integers(0, 30), kind=st.sampled_from(sorted(VERDICTS)))
    def settle_late(self, pick: int, kind: str) -> None:
        work = self.lost[pick % len(self.lost)]
        self._settle({work: VERDICTS[kind](work)})

    @rule(seconds=st.sampled_from([0.7, 31.0, 61.3, 701.0]))
    def advance(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def jump(self, seconds: float) -> None:
        self.jumps += 1
        self.desk.clock.jump(seconds)

    @rule(dead=st.sampled_from([ANNA, BEN]))
    def crash(self, dead: Worker) -> None:
        claims = [c for c in self.held.values() if c.worker == dead]
        witness = self._ledger(BEN if dead == ANNA else ANNA)
        assert witness.reclaim(lambda worker: False if worker == dead else None) == len(claims)
        self._abandon(claims)

    @precondition(lambda self: self.upstream)
    @rule(picks=some)
    def requeue(self, picks: list[int]) -> None:
        copies = self._pick_copies(picks)
        again = [c for c in copies if c.state in (State.QUARANTINED, State.CANCELLED)]
        assert self.desk.ledger.requeue(copies) == len(again)
        for copy in again:
            self.spent[copy.id] = self.abandoned[copy.id] = 0

    @precondition(lambda self: self.upstream)
    @rule(pick=st.integers(0, 11))
    def ignore(self, pick: int) -> None:
        copies = self._pick_copies([pick])
        changed = [c for c in copies if c.state in (State.WAITING, State.QUARANTINED)]
        assert self.desk.ledger.ignore(copies, "not wanted") == len(changed)
        self._lose([self.held[c.id] for c in changed if c.id in self.held])

    @precondition(lambda self: any(c.state in (State.WAITING, State.QUARANTINED) for c in self._copies()))
    @rule(pick=st.integers(0, 11))
    def renumber(self, pick: int) -> None:
        open_ = [c for c in self._copies() if c.state in (State.WAITING, State.QUARANTINED)]
        copy = open_[pick % len(open_)]
        self.desk.ledger.renumber(copy, numbered(copy.path, 1))
        self.promised.pop(copy.id, None)
        self._lose_what_is_free()

    # ── what holds after each ───────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def every_transfer_is_in_one_state_that_something_handles(self) -> None:
        copies = {c.id: c for c in self._copies()}
        assert copies.keys() == self.upstream.keys()
        wakes = {route: self.desk.ledger.next_wake(route) for route in ROUTES}
        now = self.desk.clock.now()
        for copy in copies.values():
            upstream = self.upstream[copy.id]
            waits = copy.state is State.WAITING
            assert copy.blocked == (waits and upstream is not None and copies[upstream].state is not State.DONE)
            assert (copy.leased_by is not None) == (copy.id in self.held)
            if waits and not copy.blocked:
                wake, own = wakes[copy.route], (copy.wakes_at - now).total_seconds() if copy.wakes_at else 0.0
                assert wake is not None
                assert 0 <= wake <= max(0.0, own) + 0.001
                assert own <= self._longest_wait()
        assert self.desk.ledger.live_tokens() == {c.work.token for c in self.held.values()}

    @invariant()
    def done_is_done(self) -> None:
        done = {c.id for c in self._copies() if c.state is State.DONE}
        assert self.done <= done
        self.done = done

    @invariant()
    def only_a_verdict_spends_an_attempt(self) -> None:
        for copy in self._copies():
            assert copy.abandoned == self.abandoned[copy.id]
            for_deaths = copy.attempts - self.spent[copy.id]
            assert 0 <= for_deaths * DEATHS_ALONE <= copy.abandoned

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.desk.ledger.counts()
        kinds = [(c.waiting, c.blocked, c.retrying, c.done, c.quarantined, c.conflicts, c.cancelled) for c in counts]
        assert sum(map(sum, kinds)) == len(self.upstream)

    def teardown(self) -> None:
        try:
            self._check_histories()
            self._drive_to_the_end()
            self._check_histories()
        finally:
            self.desk.close()
            self.opened.__exit__(None, None, None)

    def _check_histories(self) -> None:
        told = Counter(n.kind for n in self.desk.ledger.notices(limit=10_000))
        delivered = 0
        for number in self.arrivals:
            dossier = self.desk.ledger.dossier(number)
            assert dossier is not None
            assert unlawful(dossier) == []
            assert dossier.fingerprint.mtime_ns != OURS, "the source looks like our own copy"
            for copy in dossier.copies:
                steps = [e.step for e in dossier.events if e.destination == copy.route.destination]
                assert steps.count(Step.DELIVERED) == (copy.state is State.DONE)
                delivered += copy.state is State.DONE
                since = steps[len(steps) - steps[::-1].index(Step.REQUEUED) :] if Step.REQUEUED in steps else steps
                assert copy.attempts == since.count(Step.RETRY) + since.count(Step.QUARANTINED)
        assert told[Step.DELIVERED] == delivered

    def _drive_to_the_end(self) -> None:
        """From here on everything goes well: whatever waits must be done in the end."""
        for _ in range(1_000):
            works = [work for route in ROUTES for work in self.desk.claim(route)]
            self.desk.deliver(works)
            wakes = [w for w in map(self.desk.ledger.next_wake, ROUTES) if w is not None]
            if not wakes:
                break
            assert min(wakes) <= self._longest_wait()
            self.desk.clock.advance(min(wakes) + 0.001)
        copies = {c.id: c for c in self._copies()}
        for copy in copies.values():
            upstream = self.upstream[copy.id]
            parked = upstream is not None and copies[upstream].state in (State.QUARANTINED, State.CANCELLED)
            assert copy.state is not State.WAITING or parked, f"forgotten: {copy}"

    # ── the machine's own books ─────────────────────────────────────────────────────────────────────────────────

    def _settle(self, verdicts: dict[Work, Verdict]) -> None:
        ours = self._ours(verdicts)
        again = {w for w, v in verdicts.items() if self.settled.get(w.id) == (w, type(v))}
        assert self.desk.ledger.settle(verdicts) == ours | again
        for work in ours:
            self.settled[work.id] = work, type(verdicts[work])
            self.spent[work.id] += isinstance(verdicts[work], SPENDING)
            if isinstance(verdicts[work], Renumbered):
                self.promised.pop(work.id, None)
        self._lose([self.held[w.id] for w in ours])

    def _expect(self, dossier: Dossier, plan: Sequence[Destination]) -> None:
        assert dossier.id not in self.arrivals
        assert {c.route.destination for c in dossier.copies} == {d.name for d in plan}
        self.arrivals.append(dossier.id)
        ids = {c.route.destination: c.id for c in dossier.copies}
        self.upstream |= {c.id: ids.get(c.route.source) for c in dossier.copies}

    def _check_superseded(self, before: Dossier) -> None:
        """What never was copied gives way to the new version; what was copied goes its way."""
        if any(c.route.destination == REMOTE for c in before.copies):
            return  # two copies from one source, each with a fate of its own
        after = self.desk.ledger.dossier(before.id)
        assert after is not None
        if _first(before).state is State.DONE or self._open(_first(before)):
            assert [c.state for c in after.copies] == [c.state for c in before.copies]
        else:
            assert {c.state for c in after.copies} == {State.CANCELLED}

    def _open(self, copy: Copy) -> bool:
        """Whether it may stand under its final name, unsettled."""
        return copy.state is State.WAITING and copy.id in self.promised

    def _abandon(self, claims: Sequence[Claim]) -> None:
        self.abandoned.update(c.work.id for c in claims)
        self._lose(claims)

    def _lose(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            del self.held[claim.work.id]
            self.lost.append(claim.work)

    def _lose_what_is_free(self) -> None:
        free = {c.id for c in self._copies() if c.leased_by is None}
        self._lose([c for c in self.held.values() if c.work.id in free])

    def _extend(self, works: Sequence[Work]) -> None:
        for work in self._ours(works):
            self.held[work.id] = Claim(work, self.held[work.id].worker, self._now() + LEASE)

    def _ours(self, works: Sequence[Work] | Mapping[Work, Verdict]) -> set[Work]:
        return {w for w in works if w.id in self.held and self.held[w.id].work == w}

    def _pick(self, picks: list[int]) -> list[Work]:
        works = [*(c.work for c in self.held.values()), *self.lost]
        return list({(w := works[p % len(works)]).id: w for p in picks}.values())  # nobody has two claims of one

    def _pick_copies(self, picks: list[int]) -> list[Copy]:
        copies = self._copies()
        return list({copies[p % len(copies)].id: copies[p % len(copies)] for p in picks}.values())

    def _copies(self) -> list[Copy]:
        pages = (self.desk.ledger.copies(after=0, limit=10_000, state=state) for state in State)
        found = sorted((c for page in pages for c in page), key=lambda c: c.id)
        assert len({c.id for c in found}) == len(found), "one transfer in two states"
        return found

    def _ledger(self, worker: Worker) -> Ledger:
        return self.desk.ledger if worker == ANNA else self.desk.ben

    def _longest_wait(self) -> float:
        """Leases and retries are short; only a clock that was set back makes them longer."""
        return 3_600.0 * self.jumps + 1_000.0

    def _now(self) -> float:
        return self.desk.clock.now().timestamp()


def _first(dossier: Dossier) -> Copy:
    return next(c for c in dossier.copies if c.route.destination == ARCHIVE)


def _proof(work: Work) -> Receipt:
    """Of a handoff, the receipt tells of our own copy, which looks other than the source."""
    receipt = receipt_for(work)
    return replace(receipt, source=replace(receipt.source, mtime_ns=OURS)) if work.route == HANDOFF else receipt
