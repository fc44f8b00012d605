"""The ledger's contract, third part: abandonments, verdicts and when to wake."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from skystow.errors import Conflict
from skystow.model.records import Location
from skystow.model.transfer import (
    Delivered,
    Destination,
    Held,
    Quarantined,
    Reason,
    Receipt,
    Renumbered,
    Retry,
    Route,
    State,
    Step,
    Verdict,
    Work,
)
from skystow.testing.ledger_kit import (
    AWAY,
    BROKEN,
    CHAIN,
    HANDOFF,
    LEASE,
    OODS,
    REMOTE,
    STRAIGHT,
    Desk,
    arrival,
    digest_for,
    receipt_for,
    unlawful,
)


class Abandonments:
    """Claims that ended without a verdict: the deadly file is found, and an innocent one spends no attempt."""

    def test_batches_halve_and_the_abandoned_go_behind(self, desk: Desk) -> None:
        desk.admit(*"abcdefgh")
        sizes = []
        for _ in range(5):
            sizes.append(len(desk.claim()))
            desk.forget_lease()
        assert sizes == [8, 4, 4, 2, 2]
        desk.admit("new")
        assert desk.one().source.path.name == "new"

    def test_what_was_abandoned_oftener_is_not_in_the_batch(self, desk: Desk) -> None:
        desk.admit(*"ab")
        desk.claim()
        desk.forget_lease()
        desk.admit(*"cd")
        assert [[w.source.path.name for w in desk.claim()] for _ in range(3)] == [["c", "d"], ["a"], ["b"]]

    def test_three_deaths_alone_are_a_verdict(self, desk: Desk) -> None:
        desk.admit("a")
        for death in range(3):
            assert desk.one().attempts == 0
            assert desk.copy("a").abandoned == death
            desk.forget_lease()
        assert desk.claim() == []
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.abandoned, copy.fault) == (State.WAITING, 1, 3, "abandoned")
        assert desk.steps("a")[-1] is Step.RETRY
        desk.clock.advance(desk.ledger.next_wake(STRAIGHT) or 0)
        assert desk.one().attempts == 1

    def test_deaths_in_company_are_nobodys_attempt(self, desk: Desk) -> None:
        desk.admit(*"ab")
        sizes = []
        for _ in range(3):  # together, then each alone twice
            sizes += [len(desk.claim()), len(desk.claim())]
            desk.forget_lease()
        assert sizes == [2, 0, 1, 1, 1, 1]
        desk.one()
        assert [(desk.copy(n).abandoned, desk.copy(n).attempts) for n in "ab"] == [(3, 0), (3, 0)]

    def test_deaths_count_when_they_are_running(self, desk: Desk) -> None:
        """A verdict in between shows that the process can live with the file."""
        desk.admit("a")
        for _ in range(3):
            desk.one()
            desk.forget_lease()
            desk.one()
            desk.forget_lease()
            desk.hold(desk.one())
        desk.one()
        assert (desk.copy("a").abandoned, desk.copy("a").attempts) == (6, 0)

    def test_a_file_that_always_kills_is_quarantined(self, desk: Desk) -> None:
        desk.admit("a")
        claims = 0
        for _ in range(30):
            claims += len(desk.claim())
            desk.clock.advance((desk.ledger.next_wake(STRAIGHT) or 0) + 0.001)
        assert claims == 15
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.fault) == (State.QUARANTINED, 5, "abandoned")
        assert [n.kind for n in desk.ledger.notices(limit=9)] == ["quarantined"]
        assert unlawful(desk.dossier("a")) == []


class Verdicts:
    """`Ledger.settle`, verdict by verdict."""

    def test_delivered(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        desk.clock.advance(7)
        receipt = Receipt(digest_for("a"), 12, work.fingerprint)
        assert desk.ledger.settle({work: Delivered(receipt)}) == {work}
        copy = desk.copy("a")
        assert (copy.state, copy.digest, copy.size) == (State.DONE, receipt.digest, 12)
        assert (copy.done_at, copy.attempts, copy.leased_by, copy.wakes_at) == (desk.clock.now(), 0, None, None)
        event = desk.dossier("a").events[-1]
        assert (event.step, event.digest, event.worker) == (Step.DELIVERED, receipt.digest, "dome:101")
        desk.forget_lease()
        assert desk.claim() == []

    def test_delivered_wakes_what_is_downstream(self, desk: Desk) -> None:
        desk.admit(arrival("a", size=None, claimed=digest_for("md5 of the source")), to=CHAIN)
        work = desk.one()
        receipt = Receipt(digest_for("proven"), 500, work.fingerprint)
        desk.ledger.settle({work: Delivered(receipt)})
        copy = desk.copy("a", OODS)
        assert (copy.blocked, copy.wakes_at, copy.size) == (False, None, 500)
        handoff = desk.one(HANDOFF)
        assert handoff.source == Location("archive", work.target)
        assert (handoff.claimed, handoff.promised, handoff.target) == (receipt.digest, None, work.target)

    def test_a_handoff_does_not_change_what_the_source_looks_like(self, desk: Desk) -> None:
        """Its receipt tells of our own copy, which has another inode, and another mtime where a site says so."""
        desk.admit("a", to=CHAIN)
        desk.deliver(desk.claim())
        handoff = desk.one(HANDOFF)
        seen = arrival("ours", mtime_ns=999, size=10).fingerprint
        desk.ledger.settle({handoff: Delivered(Receipt(digest_for("a"), 10, seen))})
        assert desk.dossier("a").fingerprint == arrival("a").fingerprint
        assert dict(desk.admit("a", to=CHAIN).known or {}) == {State.DONE: 1}

    def test_a_chain_of_three(self, desk: Desk) -> None:
        desk.admit("a", to=(*CHAIN, Destination(REMOTE, upstream=OODS)))
        last = Route(OODS, REMOTE)
        for route in (STRAIGHT, HANDOFF, last):
            assert desk.claim(last) == [] or route == last
            desk.forget_lease()
            works = desk.claim(route)
            desk.deliver(works)
            assert works
        assert {c.state for c in desk.dossier("a").copies} == {State.DONE}

    def test_retry_spends_an_attempt_and_waits(self, desk: Desk) -> None:
        desk.admit("a")
        desk.retry(desk.one(), after=30)
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.fault, copy.error) == (State.WAITING, 1, BROKEN.code, BROKEN.text)
        assert copy.wakes_at is not None
        assert (copy.wakes_at - desk.clock.now()).total_seconds() == pytest.approx(30)
        assert desk.ledger.next_wake(STRAIGHT) == pytest.approx(30)
        desk.clock.advance(29)
        assert desk.claim() == []
        desk.clock.advance(1.5)
        assert (desk.ledger.next_wake(STRAIGHT), desk.one().attempts) == (0, 1)
        assert desk.steps("a") == [Step.CLAIMED, Step.RETRY, Step.CLAIMED]

    def test_held_spends_nothing(self, desk: Desk) -> None:
        desk.admit("a")
        desk.hold(desk.one())
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.wakes_at, copy.leased_by) == (State.WAITING, 0, None, None)
        assert (desk.steps("a")[-1], desk.dossier("a").events[-1].text) == (Step.HELD, AWAY.text)
        assert desk.one().attempts == 0

    def test_held_for_a_while_lets_the_others_go_on(self, desk: Desk) -> None:
        desk.admit("a", "b")
        work = desk.claim(files=1)[0]
        assert desk.ledger.settle({work: Held(AWAY, 600.0)}) == {work}
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.fault) == (State.WAITING, 0, AWAY.code)
        assert [other.id for other in desk.claim()] == [desk.copy("b").id]
        assert desk.ledger.next_wake(STRAIGHT) is not None
        desk.clock.advance(599)
        assert work.id not in [other.id for other in desk.claim()]
        desk.clock.advance(1.5)
        assert work.id in [other.id for other in desk.claim()]

    def test_held_because_we_were_asked_to_stop_is_no_news(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        assert desk.ledger.settle({work: Held(None)}) == {work}
        assert Step.HELD not in desk.steps("a")
        assert desk.copy("a").fault == ""
        assert desk.one().attempts == 0

    def test_quarantined_waits_for_a_person(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        desk.quarantine(desk.one())
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.fault) == (State.QUARANTINED, 1, BROKEN.code)
        desk.clock.advance(10**6)
        assert desk.claim() == desk.claim(HANDOFF) == []
        assert desk.copy("a", OODS).blocked
        assert desk.ledger.next_wake(STRAIGHT) is None

    def test_renumbered_goes_beside(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        work = desk.one()
        desk.ledger.promise({work: receipt_for(work)}, seconds=LEASE)
        beside = PurePosixPath("data/a.1")
        taken = Reason.of(Conflict("taken"))
        assert desk.ledger.settle({work: Renumbered(taken, beside)}) == {work}
        again = desk.one()
        assert (again.target, again.promised, again.attempts) == (beside, None, 0)
        assert again.source == work.source
        assert desk.steps("a")[-2:] == [Step.RENUMBERED, Step.CLAIMED]
        assert desk.claim(HANDOFF) == []
        desk.deliver([again])
        handoff = desk.one(HANDOFF)
        assert (handoff.source, handoff.target) == (Location("archive", beside), beside)
        assert desk.ledger.find("data/a.1") == desk.ledger.find("data/a")

    def test_a_batch_with_every_verdict(self, desk: Desk) -> None:
        desk.admit(*"abcde")
        a, b, c, d, e = desk.claim()
        verdicts: dict[Work, Verdict] = {
            a: Delivered(receipt_for(a)),
            b: Retry(BROKEN, 5),
            c: Held(AWAY),
            d: Quarantined(BROKEN),
            e: Renumbered(BROKEN, PurePosixPath("data/e.1")),
        }
        assert desk.ledger.settle(verdicts) == set(verdicts)
        waits = State.WAITING
        states = [desk.copy(n).state for n in "abcde"]
        assert states == [State.DONE, waits, waits, State.QUARANTINED, waits]
        assert [desk.copy(n).attempts for n in "abcde"] == [0, 1, 0, 1, 0]

    @pytest.mark.parametrize("way", ["delivered", "retry", "held", "stopped", "quarantined", "renumbered"])
    def test_a_verdict_whose_answer_was_lost_is_said_again(self, desk: Desk, way: str) -> None:
        """The commit was done, the connection died: it took effect, once."""
        desk.admit("a", to=CHAIN)
        work = desk.one()
        verdicts: dict[str, Verdict] = {
            "delivered": Delivered(receipt_for(work)),
            "retry": Retry(BROKEN, 5),
            "held": Held(AWAY),
            "stopped": Held(None),
            "quarantined": Quarantined(BROKEN),
            "renumbered": Renumbered(BROKEN, PurePosixPath("data/a.1")),
        }
        verdict = verdicts[way]
        assert desk.ledger.settle({work: verdict}) == {work}
        before, told = desk.dossier("a"), desk.ledger.notices(limit=9)
        assert desk.ledger.settle({work: verdict}) == desk.ben.settle({work: verdict}) == {work}
        assert (desk.dossier("a"), desk.ledger.notices(limit=9)) == (before, told)

    def test_only_the_same_verdict_of_the_same_claim_is_a_repetition(self, desk: Desk) -> None:
        desk.admit(*"ab")
        a, b = desk.claim()
        desk.retry(a, after=5)
        assert desk.ledger.settle({a: Delivered(receipt_for(a)), b: Delivered(receipt_for(b))}) == {b}
        desk.forget_lease()
        again = desk.one()
        assert desk.ledger.settle({a: Retry(BROKEN, 5)}) == {a}  # while the next claim works on it
        desk.deliver([again])
        assert desk.ledger.settle({a: Retry(BROKEN, 5)}) == set()
        assert desk.copy("a").attempts == 1

    def test_a_verdict_for_deaths_is_not_that_of_the_dead(self, desk: Desk) -> None:
        desk.admit("a")
        for _ in range(3):
            dead = desk.one()
            desk.forget_lease()
        assert desk.claim() == []
        assert desk.copy("a").attempts == 1
        assert desk.ledger.settle({dead: Retry(BROKEN, 5)}) == set()

    def test_nothing_to_settle(self, desk: Desk) -> None:
        assert desk.ledger.settle({}) == desk.ledger.promise({}, seconds=1) == desk.ledger.renew([], seconds=1) == set()


class Wakes:
    """`Ledger.next_wake`."""

    def test_none_when_there_is_nothing(self, desk: Desk) -> None:
        assert desk.ledger.next_wake(STRAIGHT) is None

    def test_none_when_all_wait_for_their_upstream(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        assert (desk.ledger.next_wake(STRAIGHT), desk.ledger.next_wake(HANDOFF)) == (0, None)
        desk.deliver(desk.claim())
        assert (desk.ledger.next_wake(STRAIGHT), desk.ledger.next_wake(HANDOFF)) == (None, 0)

    def test_leases_count_until_they_run_out(self, desk: Desk) -> None:
        desk.admit("a")
        desk.one()
        assert desk.ben.next_wake(STRAIGHT) == pytest.approx(LEASE)
        desk.clock.advance(LEASE + 5)
        assert desk.ben.next_wake(STRAIGHT) == 0

    def test_the_soonest_counts(self, desk: Desk) -> None:
        desk.admit(*"abc")
        leased, soon, late = desk.claim()
        desk.retry(late, after=40)
        desk.retry(soon, after=10)
        assert desk.ledger.next_wake(STRAIGHT) == pytest.approx(10)
        desk.clock.advance(11)
        assert desk.ledger.next_wake(STRAIGHT) == 0
        assert leased.token in desk.ledger.live_tokens()
