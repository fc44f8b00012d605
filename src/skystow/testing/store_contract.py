"""What every store must do: each sentence of `skystow.ports.Store`, as a test.

A subclass supplies the fixture `depot`: a store, a source place named `SOURCE`, and hands to look into both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import PurePosixPath
from typing import Protocol

import pytest

from skystow.errors import (
    BadName,
    ClaimLost,
    DigestMismatch,
    FileFault,
    Missing,
    NameTaken,
    NotAFile,
    PlaceFault,
    Stopped,
    Unreachable,
)
from skystow.model.records import ALGORITHMS, Digest, Fingerprint, Location, path_text
from skystow.model.transfer import Route, Work
from skystow.ports import Staged, Store

SOURCE = "source"
CLAIM, OTHER_CLAIM = "00c0ffee", "beef"
MTIME = 1_700_000_000_123_456_789

NAMES = {
    "plain": "a.fits",
    "below": "17000/g3/a.g3",
    "blank": "  two  blanks /and one more ",
    "newline": "line\nbreak/a\nb",
    "quotes": 'it\'s "quoted" `here` $HOME',
    "dash": "-rf/--delete",
    "glob": "*?[a]{b}",
    "backslash": "a\\b",
    "dots": "...",
    "umlaut": "Grüße/観測.fits",
    "not UTF-8": path_text(b"\xff\xfe/\x80.dat"),
    "255 bytes": "x" * 255,
    "deep": "/".join(["deep"] * 60) + "/a.fits",
}


class Flag:
    """A `Stop` that can be set, and that never waits; `waited` are the seconds that it was to wait."""

    def __init__(self) -> None:
        self.asked = False
        self.waited: list[float] = []

    def is_set(self) -> bool:
        return self.asked

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return self.asked


class Depot(Protocol):
    """A store under test, with a source."""

    @property
    def store(self) -> Store: ...
    def put(self, path: PurePosixPath, content: bytes) -> None:
        """Write a source file with the mtime `MTIME`."""

    def occupy(self, path: PurePosixPath, content: bytes) -> None:
        """Somebody else writes under a final name."""

    def read(self, path: PurePosixPath) -> bytes | None:
        """What readers see under a final name; None where there is nothing."""

    def corrupt(self, staged: Staged) -> None:
        """Make what is staged something else than what was read."""

    def leave(self) -> None:
        """The source goes away, with its root."""


_ids = count(1)


def work_for(
    source: PurePosixPath | str, target: PurePosixPath | str = "", *, claimed: Digest | None = None, token: str = CLAIM
) -> Work:
    """A claimed transfer, of the source to the same path where no `target` is given."""
    path = PurePosixPath(source)
    return Work(
        id=next(_ids),
        token=token,
        route=Route(SOURCE, "store"),
        source=Location(SOURCE, path),
        target=PurePosixPath(target or path),
        fingerprint=Fingerprint(),
        claimed=claimed,
        promised=None,
        attempts=0,
    )


def stage(store: Store, *works: Work, stop: Flag | None = None) -> list[Staged]:
    """All of them must land."""
    landed: list[Staged] = []
    for _, outcome in store.stage(works, stop=stop or Flag()):
        assert isinstance(outcome, Staged), outcome
        landed.append(outcome)
    return landed


def fault_of(store: Store, work: Work) -> FileFault:
    """The one fault that staging it must end in."""
    [(_, outcome)] = store.stage([work], stop=Flag())
    assert isinstance(outcome, FileFault), outcome
    return outcome


def publish(store: Store, *group: Staged) -> None:
    """Give them their final names; raises what is wrong with the first that does not get it."""
    for _, fault in store.publish(group):
        if fault is not None:
            raise fault


def finish(store: Store, group: Sequence[Staged]) -> None:
    """From staged to archived, in the engine's order."""
    for staged in group:
        proven = store.prove(staged, staged.digest.algorithm if staged.digest else "blake3", stop=Flag())
        assert staged.digest in (None, proven)
    store.seal(group)
    publish(store, *group)
    store.sync(group)
    store.drop(group)


class StoreContract:
    """The whole of it; `Test…` subclasses bring a `depot`."""

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
    def test_every_name_arrives_as_it_is(self, depot: Depot, name: str) -> None:
        path = PurePosixPath(name)
        depot.put(path, b"light")
        finish(depot.store, stage(depot.store, work_for(path)))
        assert depot.read(path) == b"light"
        assert depot.store.tokens() == []

    @pytest.mark.parametrize("size", [0, 1, 65_536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
    def test_every_size_arrives_whole(self, depot: Depot, size: int) -> None:
        content = bytes(i % 251 for i in range(size))
        depot.put(PurePosixPath("a"), content)
        [staged] = stage(depot.store, work_for("a"))
        assert staged.size == size
        finish(depot.store, [staged])
        assert depot.read(PurePosixPath("a")) == content

    def test_many_at_once_and_mtimes_are_kept(self, depot: Depot) -> None:
        names = [f"d{i % 7}/f{i}" for i in range(40)]
        for name in names:
            depot.put(PurePosixPath(name), name.encode())
        finish(depot.store, stage(depot.store, *map(work_for, names)))
        assert {name: depot.read(PurePosixPath(name)) for name in names} == {name: name.encode() for name in names}
        found = [depot.store.tree.stat(PurePosixPath(name)) for name in names]
        assert {fingerprint.mtime_ns for fingerprint in found if fingerprint} == {MTIME}

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_the_claimed_algorithm_is_used(self, depot: Depot, algorithm: str) -> None:
        depot.put(PurePosixPath("a"), b"light")
        finish(depot.store, stage(depot.store, work_for("a")))
        claimed = depot.store.tree.digest(PurePosixPath("a"), algorithm, stop=Flag())
        [staged] = stage(depot.store, work_for("a", "b", claimed=claimed))
        assert staged.digest in (None, claimed)
        assert depot.store.prove(staged, algorithm, stop=Flag()) == claimed
        depot.store.drop([staged])

    def test_nothing_is_visible_before_it_is_published(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        depot.store.prove(staged, "blake3", stop=Flag())
        depot.store.seal([staged])
        assert depot.read(PurePosixPath("a")) is None
        assert depot.store.tokens() == [CLAIM]
        depot.store.drop([staged])
        assert depot.read(PurePosixPath("a")) is None
        assert depot.store.tokens() == []

    def test_publishing_twice_is_publishing_once(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        publish(depot.store, staged)
        publish(depot.store, staged)
        depot.store.drop([staged])
        depot.store.drop([staged])
        assert depot.read(PurePosixPath("a")) == b"light"

    def test_nothing_is_ever_overwritten(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.occupy(PurePosixPath("a"), b"older")
        [staged] = stage(depot.store, work_for("a"))
        with pytest.raises(NameTaken):
            publish(depot.store, staged)
        depot.store.drop([staged])
        assert depot.read(PurePosixPath("a")) == b"older"

    def test_each_of_a_group_has_an_outcome_of_its_own(self, depot: Depot) -> None:
        for name in "abcd":
            depot.put(PurePosixPath(name), name.encode())
        depot.occupy(PurePosixPath("b"), b"older")
        finish(depot.store, stage(depot.store, work_for("d")))
        there = depot.store.adopt(work_for("d"))
        assert there is not None
        group = [*stage(depot.store, *map(work_for, "abc")), there]
        outcomes = list(depot.store.publish(group))
        assert sorted(map(id, group)) == sorted(id(staged) for staged, _ in outcomes)
        assert {str(staged.work.target): type(fault) for staged, fault in outcomes if fault} == {"b": NameTaken}
        depot.store.sync([staged for staged, fault in outcomes if fault is None])
        depot.store.drop(group)
        assert [depot.read(PurePosixPath(name)) for name in "abcd"] == [b"a", b"older", b"c", b"d"]

    def test_a_directory_in_the_way_is_left_alone(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.occupy(PurePosixPath("a/inside"), b"older")
        [staged] = stage(depot.store, work_for("a"))
        with pytest.raises(NameTaken):
            publish(depot.store, staged)
        depot.store.drop([staged])
        assert depot.read(PurePosixPath("a/inside")) == b"older"

    def test_what_changed_in_staging_is_found_out(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        depot.corrupt(staged)
        landed: Digest | None = None
        with suppress(DigestMismatch):  # a link says it itself: another inode is other content
            landed = depot.store.prove(staged, "blake3", stop=Flag())
        assert landed is None or landed != staged.digest
        depot.store.drop([staged])

    def test_a_late_writer_cannot_publish(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        depot.store.sweep(CLAIM)
        assert depot.store.tokens() == []
        with pytest.raises((ClaimLost, PlaceFault)):
            publish(depot.store, staged)
        depot.store.drop([staged])
        assert depot.read(PurePosixPath("a")) is None

    def test_claims_do_not_share(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [mine] = stage(depot.store, work_for("a"))
        [theirs] = stage(depot.store, work_for("a", "b", token=OTHER_CLAIM))
        assert sorted(depot.store.tokens()) == [CLAIM, OTHER_CLAIM]
        depot.store.sweep(CLAIM)
        finish(depot.store, [theirs])
        assert depot.read(PurePosixPath("b")) == b"light"
        depot.store.drop([mine])

    def test_an_area_in_use_is_not_idle(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        assert (depot.store.tokens(idle=3600.0), depot.store.tokens()) == ([], [CLAIM])
        depot.store.drop([staged])

    def test_what_stands_there_is_adopted(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        work = work_for("a")
        assert depot.store.adopt(work) is None
        finish(depot.store, stage(depot.store, work))
        adopted = depot.store.adopt(work)
        assert adopted is not None
        assert (adopted.adopted, adopted.digest, adopted.size) == (True, None, 5)
        expected = depot.store.tree.digest(PurePosixPath("a"), "blake3", stop=Flag())
        finish(depot.store, [adopted])
        assert depot.store.tree.digest(PurePosixPath("a"), "blake3", stop=Flag()) == expected

    def test_other_content_that_stands_there_is_read(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.occupy(PurePosixPath("a"), b"older")
        work = work_for("a", claimed=depot.store.tree.digest(PurePosixPath("a"), "md5", stop=Flag()))
        adopted = depot.store.adopt(work)
        assert adopted is not None
        assert depot.store.prove(adopted, "md5", stop=Flag()) == work.claimed
        depot.store.drop([adopted])
        assert depot.read(PurePosixPath("a")) == b"older"

    def test_a_missing_file_is_its_own_fault_and_spoils_no_other(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.put(PurePosixPath("c"), b"light")
        works = [work_for("a"), work_for("b"), work_for("c")]
        outcomes = dict(depot.store.stage(works, stop=Flag()))
        assert isinstance(outcomes[works[1]], Missing)
        finish(depot.store, [outcome for outcome in outcomes.values() if isinstance(outcome, Staged)])
        assert depot.read(PurePosixPath("c")) == b"light"

    def test_a_directory_is_no_file(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a/b"), b"light")
        assert isinstance(fault_of(depot.store, work_for("a")), NotAFile)

    def test_a_source_that_is_gone_is_the_fault_of_its_place(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.leave()
        with pytest.raises(Unreachable) as gone:
            list(depot.store.stage([work_for("a")], stop=Flag()))
        assert gone.value.place == SOURCE
        assert depot.store.tokens() == []

    @pytest.mark.parametrize("target", ["../a", "a/../../b", "/etc/passwd", "a/.."])
    def test_no_name_leads_out(self, depot: Depot, target: str) -> None:
        depot.put(PurePosixPath("a"), b"light")
        assert isinstance(fault_of(depot.store, work_for("a", target)), BadName)
        assert depot.store.tokens() == []

    def test_stops_when_asked(self, depot: Depot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        stop = Flag()
        stop.asked = True
        with pytest.raises(Stopped):
            list(depot.store.stage([work_for("a")], stop=stop))
        assert depot.store.tokens() == []

    def test_there_is_room(self, depot: Depot) -> None:
        room = depot.store.room()
        assert room.total >= room.free >= room.spare
        assert room.total > 0

    def test_checks_well_and_leaves_nothing_behind(self, depot: Depot) -> None:
        findings = list(depot.store.check(None))
        assert [finding for finding in findings if not finding.ok and finding.subject != "space"] == []
        assert findings
        assert depot.store.tokens() == []
