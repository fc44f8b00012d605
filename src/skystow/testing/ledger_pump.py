"""The ledger's contract, second part: claims, leases and fences."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import pytest

from skystow.model.records import Location
from skystow.model.transfer import (
    Delivered,
    Destination,
    Held,
    Renumbered,
    Retry,
    Route,
    State,
    Step,
)
from skystow.testing.ledger_kit import (
    AWAY,
    BROKEN,
    CHAIN,
    HANDOFF,
    LEASE,
    REMOTE,
    STRAIGHT,
    Desk,
    arrival,
    digest_for,
    gone,
    receipt_for,
    unlawful,
)


class Claims:
    """`Ledger.claim`: what is handed out, in which order and in which portions."""

    def test_work_says_all_that_a_store_needs(self, desk: Desk) -> None:
        desk.admit(arrival("a.fits", claimed=digest_for("content")))
        work = desk.one()
        assert work.id == desk.copy("a.fits").id
        assert work.token
        assert work.route == STRAIGHT
        assert work.source == Location("camera", PurePosixPath("a.fits"))
        assert work.target == PurePosixPath("data/a.fits")
        assert (work.fingerprint, work.claimed) == (arrival("a.fits").fingerprint, digest_for("content"))
        assert (work.promised, work.attempts) == (None, 0)
        assert desk.steps("a.fits") == [Step.CLAIMED]

    def test_order_is_priority_then_rank_then_age(self, desk: Desk) -> None:
        desk.admit("late", arrival("old", rank=-5), arrival("new", rank=9), arrival("urgent", rank=9, priority=1))
        desk.admit("later")
        assert [w.source.path.name for w in desk.claim()] == ["urgent", "old", "late", "later", "new"]

    def test_the_number_of_files_is_bounded(self, desk: Desk) -> None:
        desk.admit(*"abcde")
        assert [len(desk.claim(files=2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_the_bytes_are_bounded(self, desk: Desk) -> None:
        desk.admit(*(arrival(n, size=40) for n in "abcde"))
        assert [len(desk.claim(size=100)) for _ in range(4)] == [2, 2, 1, 0]

    def test_bytes_that_fit_exactly_fit(self, desk: Desk) -> None:
        desk.admit(*(arrival(n, size=50) for n in "abc"))
        assert len(desk.claim(size=100)) == 2

    def test_a_larger_one_goes_alone(self, desk: Desk) -> None:
        desk.admit(*(arrival(n, size=500) for n in "ab"))
        assert [len(desk.claim(size=100)) for _ in range(3)] == [1, 1, 0]

    def test_an_unknown_size_counts_nothing(self, desk: Desk) -> None:
        desk.admit(*(arrival(n, size=None) for n in "abc"))
        assert len(desk.claim(size=1)) == 3

    def test_each_claim_has_a_token_of_its_own(self, desk: Desk) -> None:
        desk.admit(*"abcd")
        first, second = desk.claim(files=2), desk.claim(files=2)
        assert len({w.token for w in first}) == len({w.token for w in second}) == 1
        assert first[0].token != second[0].token
        assert desk.ledger.live_tokens() == desk.ben.live_tokens() == {first[0].token, second[0].token}

    def test_two_workers_never_hold_the_same_file(self, desk: Desk) -> None:
        desk.admit(*"abc")
        assert len(desk.claim()) == 3
        assert desk.claim(by=desk.ben) == []
        assert desk.copy("a").leased_by == "dome:101"

    def test_threads_of_two_workers_share_a_queue(self, desk: Desk) -> None:
        desk.admit(*(f"{n:03}" for n in range(120)))

        def pump(n: int) -> list[int]:
            ledger, mine = (desk.ledger, desk.ben)[n % 2], []
            while works := ledger.claim(STRAIGHT, files=5, size=2**40, seconds=LEASE):
                assert ledger.settle({w: Delivered(receipt_for(w)) for w in works}) == set(works)
                mine += [w.id for w in works]
            return mine

        with ThreadPoolExecutor(4) as pool:
            taken = [i for ids in pool.map(pump, range(4)) for i in ids]
        assert len(taken) == len(set(taken)) == 120
        assert sum(c.done for c in desk.ledger.counts()) == 120

    def test_each_route_is_a_queue_of_its_own(self, desk: Desk) -> None:
        desk.admit("a", to=(Destination("archive"), Destination(REMOTE)))
        assert desk.claim(Route("spectrograph", "archive")) == []
        assert desk.claim(HANDOFF) == []
        assert desk.one(Route("camera", REMOTE)).id != desk.one().id


class Leases:
    """A claim is a lease: it runs out, it is renewed, and what was lost stays lost."""

    def test_a_lease_keeps_others_away_until_it_runs_out(self, desk: Desk) -> None:
        desk.admit("a")
        old = desk.one()
        desk.clock.advance(LEASE - 1)
        assert desk.claim(by=desk.ben) == []
        desk.clock.advance(2)
        new = desk.one(by=desk.ben)
        assert (new.id, new.token != old.token) == (old.id, True)
        assert desk.copy("a").leased_by == "dome:202"

    @pytest.mark.parametrize("seconds", [0.25, 3600.0])
    def test_a_lease_lasts_as_long_as_it_says(self, desk: Desk, seconds: float) -> None:
        desk.admit("a")
        assert len(desk.ledger.claim(STRAIGHT, files=1, size=1, seconds=seconds)) == 1
        desk.clock.advance(seconds - 0.001)
        assert desk.claim(by=desk.ben) == []
        desk.clock.advance(0.002)
        assert len(desk.claim(by=desk.ben)) == 1

    def test_a_lease_that_ran_out_is_an_abandonment_and_no_attempt(self, desk: Desk) -> None:
        desk.admit("a")
        desk.one()
        desk.forget_lease()
        assert desk.one(by=desk.ben).attempts == 0
        copy = desk.copy("a")
        assert (copy.abandoned, copy.attempts) == (1, 0)
        assert desk.steps("a") == [Step.CLAIMED, Step.ABANDONED, Step.CLAIMED]

    @pytest.mark.parametrize("act", ["settle", "renew", "promise"])
    def test_what_nobody_took_is_still_ours(self, desk: Desk, act: str) -> None:
        desk.admit("a")
        work = desk.one()
        desk.forget_lease()
        if act == "settle":
            desk.deliver([work])
            assert desk.copy("a").state is State.DONE
            return
        if act == "renew":
            assert desk.ledger.renew([work], seconds=LEASE) == {work}
        else:
            assert desk.ledger.promise({work: receipt_for(work)}, seconds=LEASE) == {work}
        assert desk.claim(by=desk.ben) == []
        assert desk.copy("a").abandoned == 0

    def test_a_claim_wakes_all_that_ran_out_and_not_only_what_it_takes(self, desk: Desk) -> None:
        desk.admit(*"ab")
        works = desk.claim()
        desk.forget_lease()
        assert len(desk.claim(files=1, by=desk.ben)) == 1
        assert desk.ledger.renew(works, seconds=LEASE) == set()
        assert (desk.copy("a").abandoned, desk.copy("b").abandoned) == (1, 1)

    def test_another_route_leaves_a_lease_alone(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        work = desk.one()
        desk.forget_lease()
        assert desk.claim(HANDOFF, by=desk.ben) == []
        assert desk.ledger.renew([work], seconds=LEASE) == {work}

    def test_renewing_extends(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        for _ in range(5):
            desk.clock.advance(LEASE - 20)
            assert desk.ledger.renew([work], seconds=LEASE) == {work}
            assert desk.claim(by=desk.ben) == []
        assert desk.ledger.next_wake(STRAIGHT) == pytest.approx(LEASE)

    def test_a_late_worker_is_fenced_off(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        old = desk.one()
        desk.forget_lease()
        new = desk.one(by=desk.ben)
        before = desk.dossier("a")
        for verdict in (Delivered(receipt_for(old)), Retry(BROKEN, 5), Held(AWAY), gone()):
            assert desk.ledger.settle({old: verdict}) == set()
        assert desk.ledger.settle({old: Renumbered(BROKEN, PurePosixPath("x"))}) == set()
        assert desk.ledger.promise({old: receipt_for(old)}, seconds=900) == set()
        assert desk.ledger.renew([old], seconds=900) == set()
        assert desk.dossier("a") == before
        assert desk.ledger.notices(limit=10) == []
        assert desk.ben.settle({new: Delivered(receipt_for(new))}) == {new}

    def test_a_verdict_ends_a_claim(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        desk.hold(work)
        assert desk.ledger.settle({work: Delivered(receipt_for(work))}) == set()
        assert desk.ledger.renew([work], seconds=LEASE) == set()
        assert desk.copy("a").leased_by is None
        assert desk.ledger.live_tokens() == set()

    def test_of_a_batch_only_what_is_ours_takes_effect(self, desk: Desk) -> None:
        desk.admit(*"ab")
        lost, kept = desk.claim()
        assert desk.ledger.ignore([desk.copy("a")], "not wanted") == 1
        assert desk.ledger.renew([lost, kept], seconds=LEASE) == {kept}
        assert desk.ledger.promise({w: receipt_for(w) for w in (lost, kept)}, seconds=LEASE) == {kept}
        assert desk.ledger.settle({w: Delivered(receipt_for(w)) for w in (lost, kept)}) == {kept}

    def test_a_promise_is_seen_by_the_next_claim_and_renews(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        desk.clock.advance(LEASE - 5)
        assert desk.ledger.promise({work: receipt_for(work)}, seconds=LEASE) == {work}
        desk.clock.advance(LEASE - 5)
        assert desk.claim(by=desk.ben) == []
        desk.forget_lease()
        assert desk.one(by=desk.ben).promised == receipt_for(work).digest

    def test_a_promise_outlives_a_retry(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        desk.ledger.promise({work: receipt_for(work)}, seconds=LEASE)
        desk.retry(work, after=5)
        desk.clock.advance(6)
        assert desk.one().promised == receipt_for(work).digest

    @pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
    def test_a_clock_that_jumps_delays_work_and_loses_none(self, desk: Desk, seconds: float) -> None:
        desk.admit(*"abc", to=CHAIN)
        leased, parked, settled = desk.claim()
        desk.retry(parked, after=30)
        desk.clock.jump(seconds)
        assert desk.ledger.settle({settled: Delivered(receipt_for(settled))}) == {settled}
        assert desk.ledger.renew([leased], seconds=LEASE) == {leased}
        wake = desk.ledger.next_wake(STRAIGHT)
        assert wake is not None
        assert wake <= LEASE + 3600 + 30
        desk.clock.advance(LEASE + 3600 + 31)
        for route in (STRAIGHT, HANDOFF):
            while works := desk.claim(route):
                desk.deliver(works)
        assert sum(c.done for c in desk.ledger.counts()) == 6
        assert all(unlawful(desk.dossier(n)) == [] for n in "abc")
