"""The ledger's contract, first part: what `admit` writes down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from skystow.model.records import Fingerprint, path_bytes, path_text
from skystow.model.transfer import Delivered, Destination, Receipt, State, Step
from skystow.testing.ledger_kit import (
    ARCHIVE,
    CAMERA,
    CHAIN,
    HANDOFF,
    LEASE,
    ONE,
    OODS,
    REMOTE,
    STRAIGHT,
    Desk,
    arrival,
    digest_for,
    receipt_for,
    unlawful,
)

NAMES = [
    pytest.param(path_text(b"caf\xe9/\xff\xfe.fits"), id="not-utf8"),
    pytest.param("two\nlines/and a blank .fits", id="newline"),
    pytest.param("-rf/'quoted\"/$(boom);*?", id="shell"),
    pytest.param("n" * 255, id="255-bytes"),
    pytest.param("ü" * 127 + "x", id="255-bytes-utf8"),
    pytest.param("/".join(["deep" * 10] * 90), id="deep"),
    pytest.param("望遠鏡/观测.fits", id="cjk"),
    pytest.param("bell\x07\x1b[31m", id="control"),
]


class Admissions:
    """`Ledger.admit`."""

    def test_an_arrival_is_written_down_whole(self, desk: Desk) -> None:
        claimed = digest_for("content")
        before = desk.clock.now()
        found = desk.admit(arrival("a.fits", claimed=claimed), to=CHAIN)
        assert (found.admitted, found.refreshed, sum((found.known or {}).values())) == (1, 0, 0)
        dossier = desk.dossier("a.fits")
        assert (dossier.source, dossier.origin, dossier.archive) == (CAMERA, PurePosixPath("a.fits"), "main")
        assert dossier.path == PurePosixPath("data/a.fits")
        assert dossier.fingerprint == Fingerprint(10, 1, 77, 88)
        assert dossier.claimed == claimed
        assert (dossier.admitted_at, dossier.retired_at) == (before, None)
        archive, oods = sorted(dossier.copies, key=lambda c: c.route.destination)
        assert (archive.route, archive.required, archive.owned, archive.size) == (STRAIGHT, True, True, 10)
        assert (oods.route, oods.required, oods.owned) == (HANDOFF, False, False)
        for copy in (archive, oods):
            assert (copy.state, copy.attempts, copy.abandoned, copy.path) == (State.WAITING, 0, 0, dossier.path)
            assert (copy.leased_by, copy.digest, copy.done_at, copy.removed_at) == (None, None, None, None)
        assert desk.steps("a.fits", None) == [Step.ADMITTED]

    def test_only_transfers_without_an_upstream_are_claimable(self, desk: Desk) -> None:
        desk.admit("a.fits", to=CHAIN)
        assert desk.claim(HANDOFF) == []
        assert not desk.copy("a.fits").blocked
        assert desk.copy("a.fits").wakes_at is None
        blocked = desk.copy("a.fits", OODS)
        assert blocked.blocked
        assert blocked.wakes_at is not None
        assert (blocked.wakes_at - desk.clock.now()).days > 365_000
        assert [w.id for w in desk.claim()] == [desk.copy("a.fits").id]

    def test_a_destination_may_be_named_before_its_upstream(self, desk: Desk) -> None:
        desk.admit("a.fits", to=tuple(reversed(CHAIN)))
        desk.deliver(desk.claim())
        desk.deliver(desk.claim(HANDOFF))
        assert {c.state for c in desk.dossier("a.fits").copies} == {State.DONE}

    def test_it_is_idempotent(self, desk: Desk) -> None:
        desk.admit("a.fits", "b.fits", to=CHAIN)
        before = desk.dossier("a.fits")
        desk.clock.advance(5)
        again = desk.admit("a.fits", "b.fits", to=CHAIN)
        assert (again.admitted, again.refreshed, dict(again.known or {})) == (0, 0, {State.WAITING: 2})
        assert desk.dossiers("a.fits") == [before]
        assert len(desk.claim()) == 2

    def test_numbers_add_up_to_the_batch(self, desk: Desk) -> None:
        desk.admit("done", "stuck", "grown", "same")
        works = {w.source.path.name: w for w in desk.claim()}
        desk.deliver([works["done"]])
        desk.quarantine(works["stuck"])
        found = desk.admit("done", "stuck", arrival("grown", size=11), "same", "new", "new")
        assert (found.admitted, found.refreshed) == (1, 1)
        assert dict(found.known or {}) == {State.DONE: 1, State.QUARANTINED: 1, State.WAITING: 2}

    def test_known_tells_the_state_at_the_sources_own_destination(self, desk: Desk) -> None:
        desk.admit("a.fits", to=CHAIN)
        desk.deliver(desk.claim())
        assert dict(desk.admit("a.fits", to=CHAIN).known or {}) == {State.DONE: 1}

    def test_a_source_that_knows_less_still_says_the_same(self, desk: Desk) -> None:
        """A table row has no inode; a file that was moved has another ctime. Size and mtime tell."""
        desk.admit("a.fits")
        for fingerprint in (Fingerprint(), Fingerprint(size=10), Fingerprint(10, 1, 5, 6)):
            found = desk.admit(arrival("a.fits", fingerprint=fingerprint))
            assert dict(found.known or {}) == {State.WAITING: 1}

    def test_what_was_read_is_what_the_next_sweep_compares_with(self, desk: Desk) -> None:
        desk.admit("a.fits")
        work = desk.one()
        read = Fingerprint(12, 2, 77, 99)
        desk.ledger.settle({work: Delivered(Receipt(digest_for("a"), 12, read))})
        assert desk.dossier("a.fits").fingerprint == read
        assert dict(desk.admit(arrival("a.fits", fingerprint=read)).known or {}) == {State.DONE: 1}
        assert desk.admit(arrival("a.fits", size=10)).admitted == 1

    def test_attempts_of_the_source_are_stored(self, desk: Desk) -> None:
        desk.admit(arrival("a.fits", attempts=3))
        assert (desk.copy("a.fits").attempts, desk.one().attempts) == (3, 3)

    def test_a_big_batch_is_one_batch(self, desk: Desk) -> None:
        names = [f"{n:05}" for n in range(3000)]
        assert desk.admit(*names, to=CHAIN).admitted == 3000
        assert len(desk.claim(files=5000)) == 3000
        assert dict(desk.admit(*names, to=CHAIN).known or {}) == {State.WAITING: 3000}

    def test_nothing_arrives(self, desk: Desk) -> None:
        found = desk.ledger.admit([], ONE)
        assert (found.admitted, found.refreshed, sum((found.known or {}).values())) == (0, 0, 0)

    @pytest.mark.parametrize("name", NAMES)
    def test_names_come_back_byte_for_byte(self, desk: Desk, name: str) -> None:
        told = arrival(name)
        desk.admit(told, to=CHAIN)
        raw = path_bytes(told.origin)
        assert desk.ledger.find(raw) == desk.ledger.find(name) == desk.ledger.find(path_bytes(told.path))
        assert path_bytes(desk.dossier(name).origin) == raw
        work = desk.one()
        assert (path_bytes(work.source.path), path_bytes(work.target)) == (raw, b"data/" + raw)
        desk.deliver([work])
        assert path_bytes(desk.one(HANDOFF).source.path) == b"data/" + raw
        (notice,) = desk.ledger.notices(limit=10)
        assert all(text.isprintable() for text in notice.body.values() if isinstance(text, str))

    def test_names_that_look_alike_are_other_files(self, desk: Desk) -> None:
        alike = ["A.fits", "a.fits", "a.fits ", "ä.fits", "a\u0308.fits", "a.fits\\n", "a.fits\n"]
        assert desk.admit(*alike).admitted == len(alike)
        assert {str(w.source.path) for w in desk.claim()} == set(alike)
        assert all(len(desk.ledger.find(name)) == 1 for name in alike)

    def test_two_arrivals_of_one_file_have_a_verdict_each(self, desk: Desk) -> None:
        first, second = arrival("a.fits"), arrival("a.fits", key=b"row 2", origin=PurePosixPath("twin"))
        assert desk.admit(first, second, to=CHAIN).admitted == 2
        one, two = desk.claim()
        assert one.target == two.target
        desk.deliver([one])
        desk.quarantine(two)
        assert (desk.copy("a.fits").state, desk.copy("twin").state) == (State.DONE, State.QUARANTINED)
        assert len(desk.ledger.find("data/a.fits")) == 2

    def test_one_key_of_two_sources_is_two_arrivals(self, desk: Desk) -> None:
        assert desk.admit("a.fits", arrival("a.fits", source="spectrograph")).admitted == 2

    def test_two_copies_straight_from_the_source(self, desk: Desk) -> None:
        desk.admit("a.fits", to=(Destination(ARCHIVE), Destination(REMOTE)))
        desk.deliver(desk.claim())
        assert (desk.copy("a.fits").state, desk.copy("a.fits", REMOTE).state) == (State.DONE, State.WAITING)


class Changes:
    """`Ledger.admit` of what is known and looks other than before."""

    def test_refreshed_before_it_was_copied(self, desk: Desk) -> None:
        desk.admit("a.fits", to=CHAIN)
        new = arrival("a.fits", size=20, mtime_ns=2, claimed=digest_for(2), path=PurePosixPath("data/2/a.fits"))
        found = desk.admit(new, to=CHAIN)
        assert (found.admitted, found.refreshed) == (0, 1)
        (dossier,) = desk.dossiers("a.fits")
        assert (dossier.fingerprint, dossier.claimed, dossier.path) == (new.fingerprint, new.claimed, new.path)
        work = desk.one()
        assert (work.fingerprint, work.claimed, work.target) == (new.fingerprint, new.claimed, new.path)
        assert Step.REFRESHED in [e.step for e in dossier.events]
        assert desk.claim(HANDOFF) == []
        desk.deliver([work])
        handoff = desk.one(HANDOFF)
        assert (handoff.source.path, handoff.target) == (new.path, new.path)

    def test_refreshed_is_at_once_claimable(self, desk: Desk) -> None:
        desk.admit("a.fits")
        desk.retry(desk.one(), after=500)
        assert desk.claim() == []
        assert desk.admit(arrival("a.fits", size=11)).refreshed == 1
        assert desk.one().attempts == 1

    def test_refreshed_fences_off_a_claim_on_the_old_content(self, desk: Desk) -> None:
        desk.admit("a.fits")
        old = desk.one()
        assert desk.admit(arrival("a.fits", mtime_ns=2)).refreshed == 1
        assert desk.one(by=desk.ben).promised is None
        assert desk.ledger.promise({old: receipt_for(old)}, seconds=LEASE) == set()
        assert desk.ledger.settle({old: Delivered(receipt_for(old))}) == set()
        assert desk.copy("a.fits").state is State.WAITING

    def test_what_was_promised_is_not_refreshed_but_goes_its_way(self, desk: Desk) -> None:
        """It may stand under its final name already: taken for the new content it would be a silent loss, and
        superseded it would be an archived file of which the ledger does not know."""
        desk.admit("a.fits", to=CHAIN)
        old = desk.one()
        assert desk.ledger.promise({old: receipt_for(old)}, seconds=LEASE) == {old}
        found = desk.admit(arrival("a.fits", mtime_ns=2), to=CHAIN)
        assert (found.admitted, found.refreshed) == (1, 0)
        assert desk.ledger.settle({old: Delivered(receipt_for(old))}) == {old}
        new, before = desk.dossiers("a.fits")
        assert {c.route: c.state for c in before.copies} == {STRAIGHT: State.DONE, HANDOFF: State.WAITING}
        assert {c.state for c in new.copies} == {State.WAITING}
        assert (before.fingerprint.mtime_ns, new.fingerprint.mtime_ns) == (1, 2)

    def test_the_later_of_two_in_a_batch_wins(self, desk: Desk) -> None:
        found = desk.admit("a.fits", arrival("a.fits", size=20))
        assert (found.admitted, found.refreshed) == (1, 1)
        assert desk.one().fingerprint.size == 20

    def test_a_new_version_once_it_is_done(self, desk: Desk) -> None:
        """The older one stays, and so do the transfers that take their bytes from its copy."""
        desk.admit("a.fits", to=CHAIN)
        desk.deliver(desk.claim())
        assert desk.admit(arrival("a.fits", mtime_ns=2), to=CHAIN).admitted == 1
        new, old = desk.dossiers("a.fits")
        assert new.id > old.id
        assert (old.fingerprint.mtime_ns, new.fingerprint.mtime_ns) == (1, 2)
        assert {c.route: c.state for c in old.copies} == {STRAIGHT: State.DONE, HANDOFF: State.WAITING}
        assert {c.state for c in new.copies} == {State.WAITING}
        assert [w.id for w in desk.claim(HANDOFF)] == [c.id for c in old.copies if c.route == HANDOFF]

    def test_the_newest_version_is_the_one_compared_with(self, desk: Desk) -> None:
        desk.admit("a.fits")
        desk.deliver(desk.claim())
        desk.admit(arrival("a.fits", mtime_ns=2))
        assert dict(desk.admit(arrival("a.fits", mtime_ns=2)).known or {}) == {State.WAITING: 1}
        desk.deliver(desk.claim())
        assert desk.admit(arrival("a.fits", mtime_ns=1)).admitted == 1
        assert len(desk.dossiers("a.fits")) == 3

    @pytest.mark.parametrize("how", ["quarantined", "ignored"])
    def test_a_new_version_of_what_never_was_copied_supersedes_it(self, desk: Desk, how: str) -> None:
        desk.admit("a.fits", to=CHAIN)
        if how == "quarantined":
            desk.quarantine(desk.one())
        else:
            assert desk.ledger.ignore([desk.copy("a.fits")], "not wanted") == 1
        assert desk.admit(arrival("a.fits", mtime_ns=2), to=CHAIN).admitted == 1
        new, old = desk.dossiers("a.fits")
        assert {c.state for c in old.copies} == {State.CANCELLED}
        superseded = {e.destination for e in old.events if e.step is Step.SUPERSEDED}
        assert superseded == ({ARCHIVE, OODS} if how == "quarantined" else {OODS})
        assert unlawful(old) == []
        assert [w.id for w in desk.claim()] == [c.id for c in new.copies if c.route == STRAIGHT]

    def test_a_superseded_transfer_is_lost_to_its_claim(self, desk: Desk) -> None:
        """Two straight copies, one quarantined and one at work: the content that is at work on is gone."""
        both = (Destination(ARCHIVE), Destination(REMOTE))
        desk.admit("a.fits", to=both)
        desk.quarantine(desk.one())
        late = desk.one(replace(STRAIGHT, destination=REMOTE))
        desk.admit(arrival("a.fits", mtime_ns=2), to=both)
        assert desk.ledger.settle({late: Delivered(receipt_for(late))}) == set()
        assert {c.state for c in desk.dossiers("a.fits")[1].copies} == {State.CANCELLED}
