"""The ledger's contract, fifth part: what a person orders, and what an audit finds."""

from __future__ import annotations

from pathlib import PurePosixPath

from skystow.errors import Conflict
from skystow.model.records import Location, path_text
from skystow.model.transfer import Delivered, Renumbered, State, Step
from skystow.testing.ledger_kit import (
    ARCHIVE,
    BROKEN,
    CHAIN,
    HANDOFF,
    LEASE,
    OODS,
    STRAIGHT,
    Desk,
    arrival,
    gone,
    receipt_for,
    unlawful,
)


class Operators:
    """`requeue`, `ignore`, `renumber`, `audited`, `retired`."""

    def test_requeue_starts_from_nothing(self, desk: Desk) -> None:
        desk.admit("a")
        desk.one()
        desk.forget_lease()
        desk.quarantine(desk.one())
        assert desk.ledger.requeue([desk.copy("a")]) == 1
        copy = desk.copy("a")
        assert (copy.state, copy.attempts, copy.abandoned, copy.wakes_at) == (State.WAITING, 0, 0, None)
        assert desk.ledger.next_wake(STRAIGHT) == 0
        desk.deliver([desk.one()])
        assert desk.steps("a")[-3:] == [Step.REQUEUED, Step.CLAIMED, Step.DELIVERED]

    def test_requeue_forgets_how_many_died_with_it(self, desk: Desk) -> None:
        desk.admit("a")
        for _ in range(2):
            desk.one()
            desk.forget_lease()
        desk.claim()
        desk.ledger.ignore([desk.copy("a")], "it kills")
        desk.ledger.requeue([desk.copy("a")])
        desk.admit("b")
        assert len(desk.claim()) == 2
        desk.forget_lease()
        desk.claim()
        assert desk.copy("a").attempts == 0

    def test_requeue_changes_nothing_else(self, desk: Desk) -> None:
        desk.admit(*"ab", to=CHAIN)
        desk.deliver(desk.claim(files=1))
        work = desk.one()
        assert desk.ledger.requeue([desk.copy("a"), desk.copy("b"), desk.copy("a", OODS)]) == 0
        assert desk.ledger.renew([work], seconds=LEASE) == {work}

    def test_requeue_of_a_handoff_waits_for_its_upstream(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        desk.ledger.ignore([desk.copy("a", OODS)], "not now")
        assert desk.ledger.requeue([desk.copy("a", OODS)]) == 1
        assert desk.copy("a", OODS).blocked
        assert desk.claim(HANDOFF) == []
        desk.deliver(desk.claim())
        desk.deliver([desk.one(HANDOFF)])

    def test_requeue_of_a_handoff_after_its_upstream(self, desk: Desk) -> None:
        desk.admit(arrival("a", size=None), to=CHAIN)
        desk.ledger.ignore([desk.copy("a", OODS)], "not now")
        desk.deliver(desk.claim())
        assert desk.claim(HANDOFF) == []
        assert desk.ledger.requeue([desk.copy("a", OODS)]) == 1
        assert (desk.copy("a", OODS).blocked, desk.copy("a", OODS).size) == (False, 10)
        desk.deliver([desk.one(HANDOFF)])

    def test_ignore_ends_waiting_and_quarantine(self, desk: Desk) -> None:
        desk.admit(*"abc")
        a, b, _ = desk.claim()
        desk.deliver([a])
        desk.quarantine(b)
        copies = [desk.copy(n) for n in "abc"]
        assert desk.ledger.ignore(copies, "test frames") == 2
        assert desk.ledger.ignore(copies, "test frames") == 0
        assert [desk.copy(n).state for n in "abc"] == [State.DONE, State.CANCELLED, State.CANCELLED]
        last = desk.dossier("b").events[-1]
        assert (last.step, last.text) == (Step.IGNORED, "test frames")
        desk.forget_lease()
        assert desk.claim() == []

    def test_a_lease_on_what_is_ignored_is_lost(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        desk.ledger.ignore([desk.copy("a")], "not wanted")
        assert desk.ledger.promise({work: receipt_for(work)}, seconds=LEASE) == set()
        assert desk.ledger.settle({work: Delivered(receipt_for(work))}) == set()
        assert (desk.copy("a").state, desk.copy("a").leased_by) == (State.CANCELLED, None)

    def test_renumber_sends_it_beside(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        work = desk.one()
        desk.ledger.promise({work: receipt_for(work)}, seconds=LEASE)
        desk.ledger.settle({work: gone(Conflict("other content"))})
        beside = PurePosixPath(path_text(b"data/a\xff.1"))
        desk.ledger.renumber(desk.copy("a"), beside)
        again = desk.one()
        assert (again.target, again.promised, again.source) == (beside, None, work.source)
        assert desk.copy("a", OODS).path == beside
        assert desk.claim(HANDOFF) == []
        desk.deliver([again])
        assert desk.one(HANDOFF).source == Location(ARCHIVE, beside)
        assert desk.ledger.find(b"data/a\xff.1") == [desk.dossier("a").id]
        assert unlawful(desk.dossier("a")) == []

    def test_renumber_of_a_handoff_alone(self, desk: Desk) -> None:
        """It still reads the upstream copy where that one is."""
        desk.admit("a", to=CHAIN)
        desk.deliver(desk.claim())
        handoff = desk.one(HANDOFF)
        desk.ledger.settle({handoff: gone(Conflict("other content"))})
        desk.ledger.renumber(desk.copy("a", OODS), PurePosixPath("data/a.1"))
        again = desk.one(HANDOFF)
        assert (again.target, again.source) == (PurePosixPath("data/a.1"), handoff.source)
        assert desk.copy("a").path == PurePosixPath("data/a")

    def test_two_go_to_one_number(self, desk: Desk) -> None:
        """The ledger takes any path; whether it is free is the store's to say."""
        desk.admit(*"ab")
        beside = PurePosixPath("data/a.1")
        desk.ledger.settle({w: Renumbered(BROKEN, beside) for w in desk.claim()})
        assert [w.target for w in desk.claim()] == [beside, beside]

    def test_audited(self, desk: Desk) -> None:
        desk.admit("a")
        desk.deliver(desk.claim())
        desk.clock.advance(100)
        desk.ledger.audited(desk.copy("a"), Step.DAMAGED, "one bit")
        assert desk.copy("a").verified_at is None
        desk.ledger.audited(desk.copy("a"), Step.VERIFIED, "")
        copy = desk.copy("a")
        assert (copy.verified_at, copy.state) == (desk.clock.now(), State.DONE)
        assert desk.steps("a")[-2:] == [Step.DAMAGED, Step.VERIFIED]
        assert [e.text for e in desk.dossier("a").events if e.step is Step.DAMAGED] == ["one bit"]

    def test_removed(self, desk: Desk) -> None:
        desk.admit("a")
        assert desk.ledger.removed([desk.copy("a")], "too early") == 0
        desk.deliver(desk.claim())
        desk.clock.advance(100)
        assert desk.ledger.removed([desk.copy("a")], "expired") == 1
        assert desk.ledger.removed([desk.copy("a")], "again") == 0
        copy = desk.copy("a")
        assert (copy.removed_at, copy.state) == (desk.clock.now(), State.DONE)
        assert [e.text for e in desk.dossier("a").events if e.step is Step.REMOVED] == ["expired"]

    def test_retired(self, desk: Desk) -> None:
        desk.admit("a")
        desk.deliver(desk.claim())
        desk.clock.advance(100)
        desk.ledger.retired(desk.dossier("a"))
        dossier = desk.dossier("a")
        assert (dossier.retired_at, dossier.events[-1].step) == (desk.clock.now(), Step.RETIRED)
        assert desk.copy("a").state is State.DONE
