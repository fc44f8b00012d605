"""Removal at the source and the second reading, on memory adapters: each reason that speaks against it."""

from __future__ import annotations

import threading
from pathlib import PurePosixPath

import pytest

from skystow.adapters.memory import ManualClock, MemoryLedger, MemorySource, MemoryStore, MemoryTree
from skystow.engine.admit import admit
from skystow.engine.audit import verify
from skystow.engine.deliver import Rules, Tally, deliver
from skystow.engine.retire import Decision, Policy, retire
from skystow.errors import Unreachable, Unreadable
from skystow.model.records import Arrival, Fingerprint, Worker
from skystow.model.transfer import Destination, Route, Step
from skystow.ports import Dossier

A = PurePosixPath("a.fits")
DAY = 86_400.0
NEVER = threading.Event()
AFTER_A_DAY = Policy(after=DAY)


class House:
    def __init__(self, *destinations: Destination) -> None:
        self.clock = ManualClock()
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), self.clock)
        self.tree = MemoryTree("instrument")
        self.source = MemorySource("instrument", self.tree)
        self.store = MemoryStore("archive", {"instrument": self.tree})
        self.tree.write(A, b"alpha", mtime_ns=5)
        self.destinations = destinations or (Destination("archive"),)
        for batch in self.source.sweep(stop=NEVER):
            admit(batch, self.ledger, self.destinations)

    def carry(self) -> None:
        works = self.ledger.claim(Route("instrument", "archive"), files=9, size=999, seconds=60)
        deliver(works, self.store, self.ledger, Rules(), tell=_ignore, clock=self.clock, stop=NEVER)

    def retire(self, policy: Policy = AFTER_A_DAY, *, dry_run: bool = False) -> list[Decision]:
        trees = {"archive": self.store.tree}
        return list(retire(self.ledger, self.source, trees, policy, dry_run=dry_run, stop=NEVER))

    def verify(self) -> list[tuple[Step, str]]:
        return [(c.step, c.text) for c in verify(self.ledger, {"archive": self.store.tree}, stop=NEVER)]


def _ignore(tally: Tally) -> None:
    """Nobody listens."""


@pytest.fixture
def house() -> House:
    house = House()
    house.carry()
    return house


def test_goes_only_after_its_time_and_only_once(house: House) -> None:
    assert house.retire() == []
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert decision.remove
    assert A not in house.tree.files
    assert house.retire() == []


def test_a_dry_run_removes_nothing(house: House) -> None:
    house.clock.advance(DAY + 1)
    (decision,) = house.retire(dry_run=True)
    assert decision.remove
    assert A in house.tree.files
    assert len(house.retire(dry_run=True)) == 1


def test_what_its_source_says_against_it_counts(house: House) -> None:
    house.clock.advance(DAY + 1)
    said = {b"a.fits": "its row is not deletable"}
    policy = Policy(DAY, against=lambda dossier: said.get(dossier.key, ""))
    assert [(each.remove, each.reason) for each in house.retire(policy)] == [(False, "its row is not deletable")]
    said.clear()
    assert [each.remove for each in house.retire(policy)] == [True]


def test_a_file_that_came_under_two_keys_goes_for_both_or_not_at_all(house: House) -> None:
    """As rows of a table that name it twice."""
    again = Arrival("instrument", b"another key", A, "archive", PurePosixPath("again.fits"), Fingerprint())
    admit([again], house.ledger, house.destinations)
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert (decision.remove, "under another key" in decision.reason) == (False, True)
    house.carry()
    house.clock.advance(DAY + 1)
    policy = Policy(DAY, against=lambda dossier: "no" if dossier.key == b"another key" else "")
    assert {each.remove for each in house.retire(policy)} == {False}
    first, second = house.retire()
    assert (first.remove, second.reason) == (True, "not at the source any more")
    assert house.retire() == []


def test_its_source_is_asked_right_before_the_removal(house: House) -> None:
    """It may say so while all copies are read again; and what costs more than a word is done only if it does not."""
    acts: list[str] = []

    def forbidden(verb: str, path: PurePosixPath) -> None:
        acts.append(verb)

    def against(_dossier: Dossier) -> str:
        acts.append("asked")
        return "its row is not deletable" if "digest" in acts else ""

    house.tree.fault = forbidden
    house.clock.advance(DAY + 1)
    (decision,) = house.retire(Policy(DAY, against=against))
    assert (decision.remove, decision.reason) == (False, "its row is not deletable")
    assert A in house.tree.files
    assert (acts.count("asked"), acts[-1]) == (2, "asked")
    acts[:] = ["digest"]  # it says so at once
    assert not house.retire(Policy(DAY, against=against))[0].remove
    assert acts.count("digest") == 1


def test_kept_types_stay(house: House) -> None:
    house.clock.advance(DAY + 1)
    (decision,) = house.retire(Policy(DAY, frozenset({"fits"})))
    assert (decision.remove, A in house.tree.files) == (False, True)


@pytest.mark.parametrize("damage", [b"alphA", None])
def test_a_damaged_or_missing_archive_copy_keeps_the_source(house: House, damage: bytes | None) -> None:
    del house.store.files.files[A]
    if damage:
        house.store.files.write(A, damage, mtime_ns=5)
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert (decision.remove, A in house.tree.files) == (False, True)
    assert "archive" in decision.reason


@pytest.mark.parametrize(("content", "mtime_ns"), [(b"alpha!", 5), (b"alpha", 6), (b"alphA", 5)])
def test_a_source_that_is_not_what_was_archived_stays(house: House, content: bytes, mtime_ns: int) -> None:
    house.tree.write(A, content, mtime_ns=mtime_ns)
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert (decision.remove, A in house.tree.files) == (False, True)
    assert "source" in decision.reason


def test_every_required_copy_must_be_done() -> None:
    house = House(Destination("archive"), Destination("oods", upstream="archive"))
    house.carry()
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert (decision.remove, decision.reason) == (False, "the copy at oods is waiting")


def test_what_replaces_the_file_while_it_is_read_again_stays(house: House) -> None:
    """The same size and mtime, as `rsync -a` brings a corrected file; its content was never archived."""

    acts: list[str] = []

    def replaced(verb: str, path: PurePosixPath) -> None:
        acts.extend({verb} - {"present"})
        if acts[-2:] == ["digest", "stat"]:  # it was read to its end, and is looked at for the last time
            house.tree.write(path, b"ALPHA", mtime_ns=5)

    house.tree.fault = replaced
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert not decision.remove
    assert house.tree.files[A].content == b"ALPHA"


def test_a_copy_at_a_place_that_the_site_no_longer_names_is_no_proof(house: House) -> None:
    house.clock.advance(DAY + 1)
    (decision,) = retire(house.ledger, house.source, {}, AFTER_A_DAY, dry_run=False, stop=NEVER)
    assert (decision.remove, A in house.tree.files) == (False, True)
    assert "names no such place" in decision.reason


def test_a_source_file_that_cannot_be_looked_at_holds_up_no_other(house: House) -> None:
    house.tree.write("b.fits", b"beta", mtime_ns=6)
    for batch in house.source.sweep(stop=NEVER):
        admit(batch, house.ledger, house.destinations)
    house.carry()

    def closed(verb: str, path: PurePosixPath) -> None:
        if (verb, path) == ("stat", A):
            raise Unreadable("a.fits: permission denied")

    house.tree.fault = closed
    house.clock.advance(DAY + 1)
    assert [decision.remove for decision in house.retire()] == [False, True]
    assert set(house.tree.files) == {A}


def test_gone_already_is_written_down(house: House) -> None:
    del house.tree.files[A]
    house.clock.advance(DAY + 1)
    (decision,) = house.retire()
    assert (decision.remove, decision.reason) == (False, "not at the source any more")
    assert house.retire() == []


def test_a_source_that_is_away_is_no_news_of_its_files(house: House) -> None:
    house.tree.here = False
    house.clock.advance(DAY + 1)
    with pytest.raises(Unreachable):
        house.retire()


def test_a_source_that_goes_away_meanwhile_is_no_news_of_its_files(house: House) -> None:
    """A disk that is unmounted leaves an empty directory."""
    house.clock.advance(DAY + 1)
    del house.tree.files[A]

    def unmounted(verb: str, path: PurePosixPath) -> None:
        house.tree.here = house.tree.here and verb != "stat"

    house.tree.fault = unmounted
    with pytest.raises(Unreachable):
        house.retire()
    house.tree.fault, house.tree.here = lambda verb, path: None, True
    (decision,) = house.retire()  # it has not been written down yet
    assert decision.reason == "not at the source any more"


def test_verify_says_verified_damaged_missing(house: House) -> None:
    assert house.verify() == [(Step.VERIFIED, "")]
    house.store.files.write(A, b"alphA")
    ((step, text),) = house.verify()
    assert step is Step.DAMAGED
    assert "a.fits" in text
    del house.store.files.files[A]
    house.store.files.write("other", b"")
    assert [step for step, _ in house.verify()] == [Step.MISSING]
    dossier = house.ledger.dossier(house.ledger.find("a.fits")[0])
    assert dossier is not None
    assert [event.step for event in dossier.events][-3:] == [Step.VERIFIED, Step.DAMAGED, Step.MISSING]


def test_a_reader_may_remove_names_that_we_do_not_own() -> None:
    house = House(Destination("archive", owned=False))
    house.carry()
    del house.store.files.files[A]
    assert house.verify() == []


def test_an_archive_that_is_away_has_no_missing_files(house: House) -> None:
    house.store.files.here = False
    with pytest.raises(Unreachable):
        house.verify()
