"""Expiry of the OODS on memory adapters: what goes, what stays, what counts as freed, and what a crash leaves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from skystow.adapters.memory import ManualClock, MemoryLedger, MemoryTree
from skystow.engine import expire as expiry
from skystow.engine.expire import Pass, Policy, Shelf, expire
from skystow.errors import Unreachable
from skystow.model.records import Arrival, Digest, Fingerprint, Worker
from skystow.model.transfer import Delivered, Destination, Receipt, Route, State
from skystow.ports.image import Frame

HOUR = 3600.0
NEVER = threading.Event()
AFTER_AN_HOUR = Policy(older_than=HOUR)


def sha256(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


class House:
    """An OODS in memory. `names`: how many names each file has, 1 where it is not said; `room` is what is free."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), self.clock)
        self.tree = MemoryTree("oods")
        self.names: dict[PurePosixPath, int] = {}
        self.elsewhere: dict[str, bool] = {"offsite": True}
        self.crowded: Callable[[], bool] | None = None

    def ingest(self, name: str, content: bytes = b"light", *, names: int = 1) -> PurePosixPath:
        path = PurePosixPath("2021-03-04", name)
        self.tree.write(path, content, mtime_ns=5)
        self.names[path] = names
        self.deliver(path, content, Destination("oods"), "staging", sha256(content))
        absolute = PurePosixPath("/oods") / path
        frame = Frame(name, 20210304, 1, "22", "00", "r", 1.0, absolute, len(content), sha256(content))
        self.ledger.catalogue.register([frame])
        return path

    def deliver(self, path: PurePosixPath, content: bytes, to: Destination, source: str, digest: Digest) -> None:
        looks = Fingerprint(len(content), 5)
        self.ledger.admit([Arrival(source, str(path).encode(), path, source, path, looks)], [to])
        (work,) = self.ledger.claim(Route(source, to.name), files=9, size=999, seconds=60)
        self.ledger.settle({work: Delivered(Receipt(digest, len(content), looks))})

    def offsite(self, path: PurePosixPath, content: bytes = b"light", digest: Digest | None = None) -> None:
        self.deliver(path, content, Destination("offsite"), "backbone", digest or sha256(content))

    def expire(self, policy: Policy = AFTER_AN_HOUR) -> Pass:
        shelf = Shelf("oods", "/oods", self.tree, self.names.__getitem__, self.crowded, self.elsewhere)
        return expire(shelf, self.ledger.catalogue, self.ledger, policy, stop=NEVER)

    def standing(self) -> list[str]:
        return sorted(path.name for path in self.tree.files)

    def listed(self) -> list[str]:
        return sorted(frame.obsid for _, frame in self.ledger.catalogue.find())


@pytest.fixture
def house() -> House:
    return House()


class TestAge:
    def test_only_what_is_old_enough(self, house: House) -> None:
        house.ingest("a")
        house.clock.advance(HOUR)
        house.ingest("b")
        assert house.expire().removed == 0
        house.clock.advance(1)
        done = house.expire()
        assert (done.removed, done.freed, done.bytes, done.stopped) == (1, 1, 5, "")
        assert (house.standing(), house.listed()) == (["b"], ["b"])

    def test_the_ledger_says_that_it_went_on_purpose(self, house: House) -> None:
        path = house.ingest("a")
        house.clock.advance(HOUR + 1)
        house.expire()
        (copy,) = house.ledger.copies(after=0, limit=9, state=State.DONE)
        assert copy.removed_at == house.clock.now()
        dossier = house.ledger.dossier(next(iter(house.ledger.find(str(path)))))
        assert dossier is not None
        assert dossier.events[-1].text == "expired: ingested over 3600 s ago"

    def test_what_was_never_ingested_stays(self, house: House) -> None:
        house.tree.write(PurePosixPath("2021-03-04/stranger"), b"x", mtime_ns=1)
        house.ingest("a")
        house.clock.advance(HOUR + 1)
        house.expire()
        assert house.standing() == ["stranger"]

    def test_what_is_not_what_was_ingested_stays(self, house: House) -> None:
        path = house.ingest("a")
        house.tree.write(path, b"something else", mtime_ns=9)
        house.clock.advance(HOUR + 1)
        assert house.expire().kept == {"not what was ingested": 1}
        assert house.standing() == ["a"]

    def test_an_empty_mount_point_is_no_shelf_from_which_all_has_gone(self, house: House) -> None:
        house.ingest("a")
        house.clock.advance(HOUR + 1)
        house.tree.here = False
        with pytest.raises(Unreachable):
            house.expire()
        assert house.listed() == ["a"]

    def test_a_shelf_that_has_nothing_yet_may_be_empty(self, house: House) -> None:
        house.tree.here = False
        assert house.expire() == Pass()


class TestWatermark:
    def test_oldest_first_and_no_more_than_needed(self, house: House) -> None:
        for name in "abcd":
            house.ingest(name)
            house.clock.advance(60)
        house.clock.advance(HOUR)
        house.crowded = lambda: len(house.tree.files) > 2
        done = house.expire()
        assert (done.removed, done.freed, done.stopped) == (2, 2, "")
        assert house.standing() == ["c", "d"]

    def test_nothing_goes_while_there_is_room(self, house: House) -> None:
        house.ingest("a")
        house.clock.advance(HOUR + 1)
        house.crowded = lambda: False
        assert house.expire() == Pass()
        assert house.standing() == ["a"]

    def test_links_of_files_that_have_other_names_here_stay(self, house: House) -> None:
        """To remove them would free nothing, and take from readers what they have."""
        house.ingest("a", names=2)
        house.ingest("b")
        house.clock.advance(HOUR + 1)
        house.crowded = lambda: True
        done = house.expire()
        assert (done.removed, done.freed, house.standing()) == (1, 1, ["a"])
        assert done.stopped == (
            "there is still too little room, and nothing more may go, 1 with other names on this device"
        )

    def test_too_little_room_and_nothing_old_enough(self, house: House) -> None:
        house.ingest("a")
        house.crowded = lambda: True
        done = house.expire()
        assert (done.removed, house.standing()) == (0, ["a"])
        assert done.stopped == "there is still too little room, and nothing more may go"


class TestRequires:
    POLICY = Policy(older_than=HOUR, requires=("offsite",))

    def test_only_what_is_done_there(self, house: House) -> None:
        house.offsite(house.ingest("a"))
        house.ingest("b")
        house.clock.advance(HOUR + 1)
        done = house.expire(self.POLICY)
        assert (done.removed, done.kept) == (1, {"not proven at offsite": 1})
        assert house.standing() == ["b"]

    def test_not_where_the_copy_was_removed(self, house: House) -> None:
        house.offsite(house.ingest("a"))
        there = [
            each
            for each in house.ledger.copies(after=0, limit=9, state=State.DONE)
            if each.route.destination == "offsite"
        ]
        house.ledger.removed(there, "by hand")
        house.clock.advance(HOUR + 1)
        assert house.expire(self.POLICY).removed == 0

    def test_not_where_it_is_another_content_of_the_same_size(self, house: House) -> None:
        house.offsite(house.ingest("a", b"light"), b"LIGHT")
        house.clock.advance(HOUR + 1)
        assert house.expire(self.POLICY).kept == {"not proven at offsite": 1}

    @pytest.mark.parametrize(("there", "removed"), [(b"light", 1), (b"LIGHT", 0)])
    def test_a_digest_of_another_kind_is_compared_by_reading(self, house: House, there: bytes, removed: int) -> None:
        md5 = Digest("md5", hashlib.md5(there, usedforsecurity=False).hexdigest())
        house.offsite(house.ingest("a"), b"light", md5)
        house.clock.advance(HOUR + 1)
        assert house.expire(self.POLICY).removed == removed

    def test_the_same_device_is_no_other_place(self, house: House) -> None:
        house.elsewhere = {"offsite": False}
        house.offsite(house.ingest("a"))
        house.clock.advance(HOUR + 1)
        done = house.expire(self.POLICY)
        assert done.stopped == "offsite is on the same device: what stands there is no second copy"
        assert house.standing() == ["a"]

    def test_another_destination_may_be_where_it_likes(self, house: House) -> None:
        house.elsewhere = {"offsite": True, "tape": False}
        house.offsite(house.ingest("a"))
        house.clock.advance(HOUR + 1)
        assert house.expire(self.POLICY).removed == 1


class TestFreed:
    def test_only_last_names_count(self, house: House) -> None:
        house.ingest("a", names=2)
        house.ingest("b")
        house.clock.advance(HOUR + 1)
        done = house.expire()
        assert (done.removed, done.freed, done.bytes, done.stopped) == (2, 1, 5, "")

    def test_a_pass_that_frees_nothing_stops_and_says_why(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(expiry, "PAGE", 2)
        for name in "abcde":
            house.ingest(name, names=2)
        house.clock.advance(HOUR + 1)
        done = house.expire()
        assert (done.removed, done.freed) == (2, 0)
        assert done.stopped == "2 names went and no room was made: the files have other names on this device"
        assert house.standing() == ["c", "d", "e"]


def test_page_by_page(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also past pages of which nothing may go."""
    monkeypatch.setattr(expiry, "PAGE", 2)
    for name in "abcdefg":
        path = house.ingest(name)
        if name in "efg":
            house.offsite(path)
    house.clock.advance(HOUR + 1)
    done = house.expire(TestRequires.POLICY)
    assert (done.removed, done.kept) == (3, {"not proven at offsite": 4})
    assert house.standing() == list("abcd")


def test_a_crash_between_removing_and_saying_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ingest("a")
    house.clock.advance(HOUR + 1)

    class Killed(BaseException):
        pass

    def die(*_: object) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(house.ledger, "removed", die)
        with pytest.raises(Killed):
            house.expire()
    assert (house.standing(), house.listed()) == ([], ["a"])
    done = house.expire()
    assert (done.removed, done.freed) == (0, 0)
    assert house.listed() == []
    (copy,) = house.ledger.copies(after=0, limit=9, state=State.DONE)
    assert copy.removed_at is not None


def test_it_ends_when_it_is_asked_to(house: House) -> None:
    house.ingest("a")
    house.clock.advance(HOUR + 1)
    stop = threading.Event()
    stop.set()
    shelf = Shelf("oods", "/oods", house.tree, house.names.__getitem__)
    assert expire(shelf, house.ledger.catalogue, house.ledger, AFTER_AN_HOUR, stop=stop) == Pass()
    assert house.standing() == ["a"]
