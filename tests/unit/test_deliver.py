"""The engine on memory adapters: what becomes of a batch, fault by fault. Each act of a delivery may fail or die."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from skystow.adapters.memory import ManualClock, MemoryLedger, MemorySource, MemoryStore, MemoryTree
from skystow.engine.admit import admit
from skystow.engine.deliver import LEASE, Rules, Tally, deliver
from skystow.errors import BadName, NoSpace, PlaceFault, Stopped, Unreachable, Unreadable
from skystow.model.records import Digest, Worker
from skystow.model.transfer import Destination, RetryPolicy, Route, State, Step
from skystow.ports import Dossier

ROUTE, WORKER = Route("instrument", "archive"), Worker("host", "boot", "ns", 1, 1)
A, B = PurePosixPath("a.fits"), PurePosixPath("b.fits")


class Died(BaseException):
    """A SIGKILL: nothing after it runs."""


class House:
    """One source, one store, one ledger; `fail` maps (verb, path) to what happens there, once each."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.fail: dict[tuple[str, str], BaseException | Callable[[], None]] = {}
        self.acts: list[str] = []
        self.clock = ManualClock()
        self.ledger = MemoryLedger(WORKER, self.clock)
        self.tree = MemoryTree("instrument", self.cue)
        self.source = MemorySource("instrument", self.tree)
        self.store = MemoryStore("archive", {"instrument": self.tree}, fault=self.cue)
        self.rules = rules or Rules(retry=RetryPolicy(max_attempts=3, first=1, factor=2))
        self.stop = threading.Event()
        self.tally = Tally()

    def cue(self, verb: str, path: PurePosixPath) -> None:
        self.acts.append(f"{verb} {path}")
        act = self.fail.pop((verb, str(path)), None)
        if isinstance(act, BaseException):
            raise act
        if act is not None:
            act()

    def told(self, tally: Tally) -> None:
        self.tally = self.tally + tally

    def sweep(self) -> None:
        for batch in self.source.sweep(stop=self.stop):
            admit(batch, self.ledger, [Destination("archive")])

    def carry(self, *, files: int = 100) -> None:
        works = self.ledger.claim(ROUTE, files=files, size=2**30, seconds=LEASE)
        deliver(works, self.store, self.ledger, self.rules, tell=self.told, clock=self.clock, stop=self.stop)

    def dossier(self, path: PurePosixPath) -> Dossier:
        found = self.ledger.dossier(self.ledger.find(str(path))[0])
        assert found is not None
        return found

    def state(self, path: PurePosixPath) -> State:
        return self.dossier(path).copies[0].state

    def archived(self, path: PurePosixPath) -> bytes | None:
        there = self.store.files.files.get(path)
        return there.content if there else None


@pytest.fixture
def house() -> House:
    house = House()
    house.tree.write(A, b"alpha", mtime_ns=1)
    house.tree.write(B, b"beta", mtime_ns=2)
    house.sweep()
    return house


def test_a_batch_is_archived_proven_and_recorded(house: House) -> None:
    house.carry()
    assert (house.archived(A), house.archived(B)) == (b"alpha", b"beta")
    copy = house.dossier(A).copies[0]
    assert copy.state is State.DONE
    assert copy.digest is not None
    assert copy.digest.algorithm == "blake3"
    assert house.tally == Tally(delivered=2, bytes=9)
    assert not house.store.tokens()


def test_the_order_of_acts_is_prove_seal_publish_sync_drop(house: House) -> None:
    house.carry()
    acts = [act.split()[0] for act in house.acts if act.endswith(str(A))]
    assert acts == ["stage", "read", "prove", "seal", "publish", "sync", "drop"]


def test_bits_flipped_in_staging_are_never_published(house: House) -> None:
    def flip() -> None:
        (area,) = house.store.staged.values()
        for handle, file in area.items():
            if file.content == b"alpha":
                area[handle] = type(file)(b"alphA", file.mtime_ns, file.inode)

    house.fail[("prove", "a.fits")] = flip
    house.carry()
    assert house.archived(A) is None
    assert house.archived(B) == b"beta"
    copy = house.dossier(A).copies[0]
    assert (copy.state, copy.attempts, copy.fault) == (State.WAITING, 1, "digest")
    house.clock.advance(2)
    house.carry()
    assert house.archived(A) == b"alpha"


def test_what_the_source_claims_is_checked_against_what_landed() -> None:
    house = House(Rules(retry=RetryPolicy(max_attempts=1)))
    house.tree.write(A, b"alpha")
    arrival = house.source.arrival(A)
    house.ledger.admit([replace(arrival, claimed=Digest("md5", "0" * 32))], [Destination("archive")])
    house.carry()
    assert house.archived(A) is None
    assert house.state(A) is State.QUARANTINED


def test_one_bad_file_spoils_nothing(house: House) -> None:
    house.fail[("stage", "a.fits")] = Unreadable("a.fits: permission denied")
    house.carry()
    assert house.archived(B) == b"beta"
    assert house.dossier(A).copies[0].attempts == 1
    assert house.tally.retried == 1


def test_attempts_end_in_quarantine(house: House) -> None:
    for _ in range(3):
        house.fail[("stage", "a.fits")] = Unreadable("no")
        house.carry()
        house.clock.advance(100)
    assert house.state(A) is State.QUARANTINED
    assert house.dossier(A).events[-1].step is Step.QUARANTINED


@pytest.mark.parametrize("verb", ["stage", "prove", "seal", "publish", "sync"])
def test_a_places_fault_spends_no_attempt_and_loses_nothing(house: House, verb: str) -> None:
    house.fail[(verb, "b.fits")] = NoSpace("full", place="archive")
    with pytest.raises(PlaceFault):
        house.carry()
    assert not house.store.tokens()
    house.carry()
    assert (house.archived(A), house.archived(B)) == (b"alpha", b"beta")
    assert {house.dossier(p).copies[0].attempts for p in (A, B)} == {0}


def test_a_verdict_of_done_waits_for_the_synced_directory(house: House) -> None:
    """The sync fails: nothing may be recorded as done, though both names stand."""
    house.fail[("sync", "a.fits")] = NoSpace("full", place="archive")
    with pytest.raises(PlaceFault):
        house.carry()
    assert {house.state(A), house.state(B)} == {State.WAITING}
    house.carry()
    assert {house.state(A), house.state(B)} == {State.DONE}


def test_missing_is_the_files_fault_where_others_are_there(house: House) -> None:
    del house.tree.files[A]
    house.carry()
    assert house.dossier(A).copies[0].fault == "missing"
    assert house.state(B) is State.DONE


def test_a_batch_of_which_everything_is_missing_is_the_places_fault(house: House) -> None:
    house.tree.files.clear()
    with pytest.raises(Unreachable, match="all 2 files"):
        house.carry()
    assert {house.dossier(p).copies[0].attempts for p in (A, B)} == {0}
    house.carry(files=1)  # the probe of a pump: of a file alone nothing more can be told
    assert sum(house.dossier(p).copies[0].attempts for p in (A, B)) == 1


def test_the_same_content_under_the_final_name_is_success(house: House) -> None:
    house.store.files.write(A, b"alpha")
    house.carry()
    assert house.state(A) is State.DONE
    assert house.tally.already == 1


def test_other_content_under_the_final_name_is_a_conflict_and_stays(house: House) -> None:
    house.store.files.write(A, b"somebody's")
    house.carry()
    assert house.archived(A) == b"somebody's"
    copy = house.dossier(A).copies[0]
    assert (copy.state, copy.fault) == (State.QUARANTINED, "conflict")
    assert house.tally.conflicts == 1
    assert "skystow resolve" in copy.error


def test_conflicts_are_numbered_by_digest_where_the_site_says_so() -> None:
    house = House(Rules(number_conflicts=True))
    house.tree.write(A, b"alpha")
    house.store.files.write(A, b"other")
    house.store.files.write("a.fits.1", b"another")
    house.sweep()
    house.carry()
    house.carry()
    assert house.archived(PurePosixPath("a.fits.2")) == b"alpha"
    assert house.dossier(A).copies[0].path == PurePosixPath("a.fits.2")


def test_stop_puts_everything_back(house: House) -> None:
    house.fail[("stage", "b.fits")] = house.stop.set
    with pytest.raises(Stopped):
        house.carry()
    assert not house.store.tokens()
    house.stop.clear()
    house.carry()
    assert {house.state(A), house.state(B)} == {State.DONE}
    assert {house.dossier(p).copies[0].attempts for p in (A, B)} == {0}


@pytest.mark.parametrize("verb", ["stage", "read", "prove", "seal", "publish", "sync", "drop"])
@pytest.mark.parametrize("path", [A, B], ids=str)
def test_death_at_any_act_loses_and_doubles_nothing(house: House, verb: str, path: PurePosixPath) -> None:
    house.fail[(verb, str(path))] = Died()
    with pytest.raises(Died):
        house.carry()
    house.ledger.reclaim(lambda _: False)
    while house.ledger.next_wake(ROUTE) == 0:
        house.carry()
    for each, content in ((A, b"alpha"), (B, b"beta")):
        assert house.archived(each) == content
        dossier = house.dossier(each)
        assert dossier.copies[0].state is State.DONE
        assert dossier.copies[0].attempts == 0
        assert sum(event.step is Step.DELIVERED for event in dossier.events) == 1


@pytest.mark.parametrize("after", ["changed", "gone"])
def test_death_between_publish_and_verdict_then_the_source_changes(house: House, after: str) -> None:
    """What was promised stands: it is done, whatever became of the source; the change is a matter of its own."""
    house.fail[("sync", "a.fits")] = Died()
    with pytest.raises(Died):
        house.carry()
    assert house.archived(A) == b"alpha"
    del house.tree.files[A]
    if after == "changed":
        house.tree.write(A, b"ALPHA!", mtime_ns=9)
    house.ledger.reclaim(lambda _: False)
    while house.ledger.next_wake(ROUTE) == 0:
        house.carry()
    assert house.state(A) is State.DONE
    assert house.archived(A) == b"alpha"
    if after == "changed":
        house.sweep()
        house.carry()
        assert house.archived(A) == b"alpha"
        assert house.dossier(A).copies[0].fault == "conflict"


def test_a_worker_that_lost_its_lease_publishes_nothing(house: House) -> None:
    other = house.ledger.beside(Worker("other", "boot", "ns", 2, 2))

    def overtaken() -> None:
        house.clock.advance(LEASE + 1)
        while works := other.claim(ROUTE, files=100, size=2**30, seconds=LEASE):
            deliver(works, house.store, other, house.rules, tell=house.told, clock=house.clock, stop=house.stop)

    house.fail[("seal", "a.fits")] = overtaken
    house.carry()
    assert house.tally == Tally(delivered=2, bytes=9, lost=2)
    assert sum(act.startswith("publish") for act in house.acts) == 2
    for path in (A, B):
        assert sum(event.step is Step.DELIVERED for event in house.dossier(path).events) == 1


def test_what_could_not_be_sealed_is_never_sealed_again_but_staged_anew(house: House) -> None:
    """The kernel tells once that it could not write something back; a second sync would call it durable."""
    house.fail[("seal", "a.fits")] = PlaceFault("I/O error", place="archive")
    with pytest.raises(PlaceFault):
        house.carry()
    assert (house.archived(A), house.state(A)) == (None, State.WAITING)
    house.carry()
    assert [act for act in house.acts if act in ("stage a.fits", "seal a.fits", "publish a.fits")] == [
        *("stage a.fits", "seal a.fits"),
        *("stage a.fits", "seal a.fits", "publish a.fits"),
    ]


@pytest.mark.parametrize("number", [False, True])
def test_a_taken_name_that_cannot_be_read_is_one_file_s_fault(house: House, number: bool) -> None:
    house.rules = replace(house.rules, number_conflicts=number)
    house.store.files.write(A, b"other")
    house.fail[("adopt", "a.fits")] = lambda: house.fail.update({("prove", "a.fits"): Unreadable("I/O error")})
    house.carry()
    assert house.state(B) is State.DONE
    assert (house.dossier(A).copies[0].fault, house.dossier(A).copies[0].attempts) == ("unreadable", 1)


def test_a_name_too_long_for_a_number_is_one_file_s_fault() -> None:
    house, long = House(Rules(number_conflicts=True)), PurePosixPath("x" * 255)
    house.tree.write(long, b"alpha")
    house.tree.write(B, b"beta")
    house.sweep()
    house.store.files.write(long, b"other")
    house.store.files.fault = too_long
    house.carry()
    assert house.state(B) is State.DONE
    assert house.dossier(long).copies[0].fault == "bad-name"


def too_long(_verb: str, path: PurePosixPath) -> None:
    if len(path.name) > 255:
        raise BadName(f"{path}: file name too long")


def test_a_numbered_name_that_cannot_be_read_is_taken(house: House) -> None:
    house.rules = Rules(number_conflicts=True)
    house.store.files.write(A, b"other")
    house.store.files.write("a.fits.1", b"alpha")
    house.store.files.fault = lambda verb, path: unreadable() if (verb, path.name) == ("digest", "a.fits.1") else None
    house.carry()
    assert house.dossier(A).copies[0].path == PurePosixPath("a.fits.2")


def unreadable() -> None:
    raise Unreadable("I/O error")


def test_what_was_promised_but_cannot_be_read_back_is_staged_again(house: House) -> None:
    house.fail[("sync", "a.fits")] = Died()
    with pytest.raises(Died):
        house.carry()
    house.ledger.reclaim(lambda _: False)
    house.fail[("prove", "a.fits")] = Unreadable("I/O error")
    while house.ledger.next_wake(ROUTE) == 0:
        house.carry()
    assert {house.state(A), house.state(B)} == {State.DONE}


def test_what_was_promised_is_taken_up_in_groups(house: House) -> None:
    """Each holds a descriptor, and a batch of a thousand may have died."""
    for name in "cd":
        house.tree.write(name, name.encode(), mtime_ns=9)
    house.sweep()
    house.fail[("sync", "a.fits")] = Died()
    with pytest.raises(Died):
        house.carry()
    house.ledger.reclaim(lambda _: False)
    house.store.max_group, house.acts = 1, []
    house.carry()
    adopted = [act for act in house.acts if act.split()[0] in ("adopt", "drop")]
    assert adopted == ["adopt a.fits", "drop a.fits", "adopt b.fits", "drop b.fits"]


@pytest.mark.parametrize("fault", [Stopped("asked"), NoSpace("full", place="archive")], ids=["stop", "place"])
def test_what_was_opened_to_be_compared_is_let_go(house: House, fault: BaseException) -> None:
    house.store.files.write(A, b"alpha")
    house.fail[("adopt", "a.fits")] = lambda: house.fail.update({("prove", "a.fits"): fault})
    with pytest.raises(type(fault)):
        house.carry()
    assert house.acts.count("adopt a.fits") == 1
    assert house.acts.count("drop a.fits") == 2  # as staged, and as what stands there
    house.carry()
    assert {house.state(A), house.state(B)} == {State.DONE}
