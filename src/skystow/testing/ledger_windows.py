"""The ledger's contract, fourth part: restarts, the outbox, places and windows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath

from skystow.errors import Conflict
from skystow.model.records import Health, Worker, path_text, shown
from skystow.model.transfer import Delivered, Destination, Route, State, Step
from skystow.ports import Glimpse
from skystow.testing.ledger_kit import (
    ANNA,
    ARCHIVE,
    BEN,
    CAMERA,
    CHAIN,
    HANDOFF,
    LEASE,
    OODS,
    REMOTE,
    STRAIGHT,
    Desk,
    arrival,
    gone,
    receipt_for,
    unlawful,
)


class Restarts:
    """`Ledger.reclaim`, `live_tokens`, and a ledger opened again."""

    def test_claims_of_the_dead_are_freed_at_once(self, desk: Desk) -> None:
        desk.admit(*"abc")
        lost = desk.claim(files=2)
        kept = desk.claim(by=desk.ben)
        assert desk.ben.reclaim(lambda worker: worker != ANNA) == 2
        assert desk.ledger.settle({w: Delivered(receipt_for(w)) for w in lost}) == set()
        assert desk.ben.renew(kept, seconds=LEASE) == set(kept)
        assert desk.ledger.live_tokens() == {kept[0].token}
        assert [(desk.copy(n).abandoned, desk.copy(n).attempts) for n in "abc"] == [(1, 0), (1, 0), (0, 0)]
        assert len(desk.claim(by=desk.ben)) == 1  # half of two
        assert desk.steps("a")[:2] == [Step.CLAIMED, Step.ABANDONED]

    def test_who_cannot_be_seen_waits_for_the_lease(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        asked: list[Worker] = []

        def cannot_see(worker: Worker) -> None:
            asked.append(worker)

        assert desk.ben.reclaim(cannot_see) == 0
        assert asked == [ANNA]
        assert desk.ledger.renew([work], seconds=LEASE) == {work}

    def test_the_living_keep_theirs(self, desk: Desk) -> None:
        desk.admit("a")
        work = desk.one()
        assert desk.ben.reclaim(lambda _: True) == 0
        assert desk.ledger.settle({work: Delivered(receipt_for(work))}) == {work}

    def test_nobody_is_asked_about_where_nothing_is_claimed(self, desk: Desk) -> None:
        desk.admit("a")
        desk.deliver(desk.claim())
        assert desk.ledger.reclaim(lambda _: False) == 0

    def test_deaths_found_at_start_count_too(self, desk: Desk) -> None:
        desk.admit("a")
        for _ in range(3):
            desk.one()
            assert desk.ben.reclaim(lambda _: False) == 1
        assert (desk.copy("a").attempts, desk.copy("a").fault) == (1, "abandoned")
        assert desk.claim() == []

    def test_live_tokens_are_those_of_claims_that_may_still_be_settled(self, desk: Desk) -> None:
        desk.admit(*"ab")
        first, second = desk.claim(files=1), desk.claim(files=1)
        desk.deliver(first)
        assert desk.ledger.live_tokens() == {second[0].token}
        desk.forget_lease()
        assert desk.ledger.live_tokens() == {second[0].token}
        desk.ledger.ignore([desk.copy("b")], "not wanted")
        assert desk.ledger.live_tokens() == set()

    def test_who_opens_it_again_sees_everything(self, desk: Desk) -> None:
        desk.admit(*"ab", to=CHAIN)
        desk.deliver(desk.claim(files=1))
        desk.claim()
        third = desk.opened_by(replace(ANNA, pid=303), desk.clock)
        assert [third.dossier(i) for i in (1, 2)] == [desk.ledger.dossier(i) for i in (1, 2)]
        assert third.live_tokens() == desk.ledger.live_tokens()
        assert third.counts() == desk.ledger.counts()
        assert third.notices(limit=9) == desk.ledger.notices(limit=9)
        third.close()


class Outbox:
    """`notices`, `sent`: told once, in order, and in the same breath as the verdict."""

    def test_one_for_each_thing_the_world_wants_to_know(self, desk: Desk) -> None:
        desk.admit(*"abc", to=CHAIN)
        a, b, c = desk.claim()
        desk.deliver([a])
        desk.quarantine(b)
        desk.retry(c, after=5)
        desk.ledger.audited(desk.copy("a"), Step.VERIFIED, "")
        desk.ledger.audited(desk.copy("a"), Step.DAMAGED, "one bit")
        desk.ledger.audited(desk.copy("a"), Step.MISSING, "")
        desk.ledger.ignore([desk.copy("c")], "not wanted")
        told = desk.ledger.notices(limit=100)
        assert [n.kind for n in told] == [Step.DELIVERED, Step.QUARANTINED, Step.DAMAGED, Step.MISSING]
        assert [n.id for n in told] == sorted({n.id for n in told})
        assert told[0].at == desk.clock.now()

    def test_a_notice_says_which_file(self, desk: Desk) -> None:
        name = path_text(b"caf\xe9\n.fits")
        desk.admit(name)
        work = desk.one()
        desk.deliver([work])
        body = desk.ledger.notices(limit=1)[0].body
        assert (body["source"], body["origin"], body["archive"]) == (CAMERA, shown(name), "main")
        assert (body["destination"], body["path"]) == (ARCHIVE, shown(work.target))
        assert (body["digest"], body["size"]) == (str(receipt_for(work).digest), 10)

    def test_what_was_sent_is_not_told_again(self, desk: Desk) -> None:
        desk.admit(*"abc")
        desk.deliver(desk.claim())
        first = desk.ledger.notices(limit=2)
        assert len(first) == 2
        assert desk.ledger.notices(limit=2) == first
        desk.ben.sent(first)
        desk.ben.sent(first)
        rest = desk.ledger.notices(limit=2)
        assert [n.id > first[-1].id for n in rest] == [True]
        desk.ledger.sent(rest)
        assert desk.ledger.notices(limit=2) == []
        desk.ledger.sent([])


class Places:
    """`note_place`, `report`, and their windows."""

    def test_what_a_name_stands_for(self, desk: Desk) -> None:
        odd = path_text(b"/data/caf\xe9")
        desk.ledger.note_place(CAMERA, "/data/old")
        desk.ledger.note_place(CAMERA, odd)
        desk.ledger.note_place(ARCHIVE, "/archive")
        assert dict(desk.ben.places()) == {CAMERA: odd, ARCHIVE: "/archive"}

    def test_the_last_report_of_each_place(self, desk: Desk) -> None:
        now = desk.clock.now()
        away = Health(ARCHIVE, well=False, since=now, reason="no route", next_probe=now + timedelta(seconds=30))
        desk.ledger.report(away)
        assert list(desk.ben.healths()) == [away]
        well, full = Health(ARCHIVE, well=True, since=now), Health(OODS, well=False, since=now, reason="full")
        desk.ledger.report(well)
        desk.ledger.report(full)
        assert {h.place: h for h in desk.ben.healths()} == {ARCHIVE: well, OODS: full}

    def test_roots_and_healths_do_not_disturb_each_other(self, desk: Desk) -> None:
        health = Health(ARCHIVE, well=True, since=desk.clock.now())
        desk.ledger.report(health)
        assert ARCHIVE not in desk.ledger.places()
        desk.ledger.note_place(ARCHIVE, "/archive")
        desk.ledger.note_place(CAMERA, "/camera")
        assert list(desk.ledger.healths()) == [health]


class Windows:
    """`find`, `dossier`, `copies`, `retirable`, `counts`."""

    def test_find_takes_either_name_newest_first(self, desk: Desk) -> None:
        desk.admit("a")
        desk.deliver(desk.claim())
        desk.admit(arrival("a", mtime_ns=2), "data/a")
        ids = desk.ledger.find("data/a")
        assert len(ids) == 3
        assert ids == sorted(ids, reverse=True)
        assert set(desk.ledger.find("a")) < set(ids)
        assert desk.ledger.find("data") == desk.ledger.find("A") == desk.ledger.find("") == []

    def test_there_is_no_dossier_of_nothing(self, desk: Desk) -> None:
        assert desk.ledger.dossier(1) is None
        desk.admit("a")
        assert desk.ledger.dossier(0) is desk.ledger.dossier(-1) is desk.ledger.dossier(10**9) is None

    def test_a_life_is_told_in_order(self, desk: Desk) -> None:
        desk.admit("a", to=CHAIN)
        desk.clock.advance(1)
        desk.retry(desk.one(), after=1)
        desk.clock.advance(2)
        desk.one()
        desk.forget_lease()
        work = desk.one(by=desk.ben)
        assert desk.ben.settle({work: Delivered(receipt_for(work))}) == {work}
        desk.deliver(desk.claim(HANDOFF))
        dossier = desk.dossier("a")
        claimed, done = Step.CLAIMED, Step.DELIVERED
        assert desk.steps("a") == [claimed, Step.RETRY, claimed, Step.ABANDONED, claimed, done]
        assert desk.steps("a", OODS) == [claimed, done]
        assert dossier.events[0].step is Step.ADMITTED
        times = [e.at for e in dossier.events]
        assert times == sorted(times)
        assert times[0].utcoffset() == timedelta(0)
        assert {e.worker for e in dossier.events} == {str(ANNA), str(BEN)}
        assert [e.worker for e in dossier.events if e.step is done] == [str(BEN), str(ANNA)]
        assert unlawful(dossier) == []

    def test_pages_of_copies(self, desk: Desk) -> None:
        desk.admit(*"abcde", to=CHAIN)
        desk.deliver(desk.claim(files=3))
        done = desk.ledger.copies(after=0, limit=2, state=State.DONE)
        assert len(done) == 2
        rest = desk.ledger.copies(after=done[-1].id, limit=2, state=State.DONE)
        assert [c.id for c in (*done, *rest)] == [desk.copy(n).id for n in "abc"]
        assert done[0] == desk.copy("a")
        waiting = desk.ledger.copies(after=0, limit=99, state=State.WAITING)
        assert (len(waiting), [c.id for c in waiting]) == (7, sorted(c.id for c in waiting))
        handoffs = desk.ledger.copies(after=0, limit=99, state=State.WAITING, destination=OODS)
        assert {c.route for c in handoffs} == {HANDOFF}
        assert len(handoffs) == 5

    def test_copies_of_one_source(self, desk: Desk) -> None:
        desk.admit("a", arrival("b", source="spectrograph"))
        (copy,) = desk.ledger.copies(after=0, limit=9, state=State.WAITING, source="spectrograph")
        assert copy.route == Route("spectrograph", ARCHIVE)
        assert desk.ledger.copies(after=0, limit=9, state=State.WAITING, source="nobody") == []

    def test_the_latest_of_many_names(self, desk: Desk) -> None:
        strange = path_text(b"caf\xe9/\xff'%s")
        desk.admit("a", "b", strange, arrival("c", source="elsewhere"))
        desk.deliver(desk.claim(files=9))
        desk.admit(arrival("a", mtime_ns=2))
        wanted = [PurePosixPath(each) for each in (strange, "none", "a", "c", "a")]
        found = desk.ledger.latest(CAMERA, wanted)
        assert list(found) == [wanted[0], wanted[2]]
        assert found == {path: replace(desk.dossiers(path)[0], events=()) for path in found}
        assert [copy.state for copy in found[wanted[2]].copies] == [State.WAITING]  # it came once more
        assert desk.ledger.latest(CAMERA, []) == {}

    def test_the_latest_of_thousands(self, desk: Desk) -> None:
        names = [PurePosixPath(f"{n}") for n in range(1_200)]
        desk.admit(*(arrival(name) for name in names))
        assert [each.origin for each in desk.ledger.latest(CAMERA, names).values()] == names

    def test_retirable_is_what_has_been_done_for_long(self, desk: Desk) -> None:
        desk.admit(*"abc", arrival("d", source="spectrograph"), to=CHAIN)
        desk.deliver(desk.claim(files=1))
        desk.deliver(desk.claim(Route("spectrograph", ARCHIVE)))
        desk.clock.advance(100)
        desk.deliver(desk.claim(files=1))
        desk.clock.advance(50)

        def names(older_than: float, after: int = 0, limit: int = 9) -> list[str]:
            page = desk.ledger.retirable(CAMERA, older_than=older_than, after=after, limit=limit)
            assert all(d.events == () for d in page)
            return [d.origin.name for d in page]

        assert (names(10), names(100), names(1000)) == (["a", "b"], ["a"], [])
        assert names(10, limit=1) == ["a"]
        assert names(10, after=desk.dossier("a").id) == ["b"]
        page = desk.ledger.retirable(CAMERA, older_than=10, after=0, limit=9)
        assert page[0] == replace(desk.dossier("a"), events=())
        desk.ledger.retired(page[0])
        assert names(10) == ["b"]

    def test_counts_add_up(self, desk: Desk) -> None:
        assert desk.ledger.counts() == []
        desk.admit(*"abcdef", to=(*CHAIN, Destination(REMOTE)))
        a, b, c, d, e, _ = desk.claim()
        desk.deliver([a])
        desk.quarantine(b)
        desk.ledger.settle({c: gone(Conflict("other content"))})
        desk.retry(d, after=50)
        desk.hold(e)
        desk.admit("g")
        desk.ledger.ignore([desk.copy("g")], "not wanted")
        by_route = {c.route: c for c in desk.ledger.counts()}
        straight, handoff = by_route[STRAIGHT], by_route[HANDOFF]
        assert (straight.done, straight.bytes, straight.quarantined, straight.conflicts) == (1, 10, 1, 1)
        assert (straight.waiting, straight.retrying, straight.blocked, straight.cancelled) == (2, 1, 0, 1)
        assert (handoff.waiting, handoff.blocked, handoff.done, handoff.bytes) == (1, 5, 0, 0)
        assert by_route[Route(CAMERA, REMOTE)].waiting == 6
        desk.clock.advance(51)
        assert next(c.retrying for c in desk.ledger.counts() if c.route == STRAIGHT) == 0

    def test_a_tally_tells_of_news_alone(self, desk: Desk) -> None:
        routes = [STRAIGHT, Route("nobody", "nowhere")]
        desk.admit("old")
        desk.deliver(desk.claim())
        desk.clock.advance(1)
        since = desk.ledger.now()
        assert desk.ledger.tally(routes, since) == []
        desk.clock.advance(1)
        for name in "abc":
            desk.admit(name)
        a, b, c = desk.claim()
        desk.deliver([a])
        desk.quarantine(b)
        desk.ledger.settle({c: gone(Conflict("other content"))})
        desk.admit("d")
        (counts,) = desk.ledger.tally(routes, since)
        assert (counts.route, counts.done, counts.bytes) == (STRAIGHT, 1, 10)
        assert (counts.waiting, counts.quarantined, counts.conflicts, counts.cancelled) == (1, 1, 1, 0)
        assert counts.oldest_waiting == desk.clock.now()
        assert next(each.done for each in desk.ledger.counts() if each.route == STRAIGHT) == 2

    def test_the_oldest_that_waits(self, desk: Desk) -> None:
        start = desk.clock.now()
        desk.admit("a")
        desk.clock.advance(10)
        desk.admit("b")
        (counts,) = desk.ledger.counts()
        assert counts.oldest_waiting == start
        desk.deliver(desk.claim(files=1))
        (counts,) = desk.ledger.counts()
        assert counts.oldest_waiting == start + timedelta(seconds=10)
        desk.deliver(desk.claim())
        (counts,) = desk.ledger.counts()
        assert (counts.oldest_waiting, counts.done) == (None, 2)

    def test_a_glimpse_of_both_ends(self, desk: Desk) -> None:
        assert desk.ledger.glimpse(STRAIGHT, last=2) == Glimpse()
        for name in "abcde":
            desk.admit(name)
            desk.clock.advance(1)
        a, b, c, _, _ = desk.claim()
        for work in (b, a, c):
            desk.deliver([work])
            desk.clock.advance(1)
        seen = desk.ledger.glimpse(STRAIGHT, last=2)
        assert [copy.path.name for copy in seen.newest] == ["c", "a"]
        assert all(copy.state is State.DONE for copy in seen.newest)
        assert seen.oldest is not None
        assert (seen.oldest.path.name, seen.since) == ("d", desk.dossier("d").admitted_at)
        assert desk.ledger.glimpse(HANDOFF, last=2) == Glimpse()
