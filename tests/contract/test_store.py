"""The store's contract, on a disk and in memory, and what a disk alone can do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.hardlink import HardlinkStore
from skystow.adapters.memory import MemoryStore, MemoryTree
from skystow.adapters.options import StoreOptions
from skystow.adapters.posix import PosixStore
from skystow.adapters.tree import LocalTree
from skystow.errors import Changed, ConfigError, Conflict, NameTaken, Stopped, TooLarge, UnfitPlace, Unreadable
from skystow.ports import Staged
from skystow.testing.local_store_contract import LocalDepot, LocalStoreContract, almost_all, leaves_min_free, open_below
from skystow.testing.store_contract import (
    CLAIM,
    MTIME,
    SOURCE,
    Flag,
    StoreContract,
    fault_of,
    finish,
    publish,
    stage,
    work_for,
)


class MemoryDepot:
    def __init__(self) -> None:
        self.origin = MemoryTree(SOURCE)
        self.store = MemoryStore("store", {SOURCE: self.origin})

    def put(self, path: PurePosixPath, content: bytes) -> None:
        self.origin.write(path, content, mtime_ns=MTIME)

    def occupy(self, path: PurePosixPath, content: bytes) -> None:
        self.store.files.write(path, content)

    def read(self, path: PurePosixPath) -> bytes | None:
        file = self.store.files.files.get(path)
        return file.content if file else None

    def corrupt(self, staged: Staged) -> None:
        area = self.store.staged[staged.work.token]
        area[staged.handle] = replace(area[staged.handle], content=b"LIGHT")

    def leave(self) -> None:
        self.origin.here = False


class TestMemory(StoreContract):
    @pytest.fixture
    def depot(self) -> MemoryDepot:
        return MemoryDepot()


class TestPosix(LocalStoreContract):
    @pytest.fixture
    def depot(self, tmp_path: Path) -> LocalDepot:
        return LocalDepot(tmp_path, PosixStore, StoreOptions(sync="fsync"))

    def test_modes(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a/b/c"), b"light")
        finish(depot.store, stage(depot.store, work_for("a/b/c")))
        assert (depot.target / "a/b/c").stat().st_mode == 0o100444
        assert [(depot.target / name).stat().st_mode for name in ("a", "a/b")] == [0o42775, 0o42775]
        assert (depot.target / ".skystow/staging").stat().st_mode == 0o40700
        assert (depot.target / "a/b/c").stat().st_nlink == 1

    def test_other_modes_and_owners(self, tmp_path: Path) -> None:
        options = StoreOptions(file_mode=0o640, directory_mode=0o750, owner=os.geteuid(), group=str(os.getegid()))
        depot = LocalDepot(tmp_path, PosixStore, replace(options, keep_mtime=False))
        depot.put(PurePosixPath("a/b"), b"light")
        finish(depot.store, stage(depot.store, work_for("a/b")))
        assert (depot.target / "a").stat().st_mode == 0o40750
        assert (depot.target / "a/b").stat().st_mode == 0o100640
        assert (depot.target / "a/b").stat().st_mtime_ns != MTIME

    @pytest.mark.parametrize(
        "wrong",
        [StoreOptions(owner="nobody-of-that-name"), StoreOptions(group="no-such"), StoreOptions(algorithm="crc")],
        ids=["owner", "group", "algorithm"],
    )
    def test_options_that_make_no_sense(self, tmp_path: Path, wrong: StoreOptions) -> None:
        with pytest.raises(ConfigError):
            LocalDepot(tmp_path, PosixStore, wrong)

    @pytest.mark.parametrize("act", ["append", "truncate", "rewrite", "link"])
    def test_a_source_that_changes_while_it_is_copied(self, depot: LocalDepot, act: str) -> None:
        path = depot.source / "a"
        depot.put(PurePosixPath("a"), bytes(3 << 20))

        def append() -> None:
            with path.open("ab") as file:
                file.write(b"more")

        def rewrite() -> None:
            with path.open("r+b") as file:
                file.write(b"other")

        acts: dict[str, Callable[[], object]] = {
            "append": append,
            "truncate": lambda: os.truncate(path, 100),
            "rewrite": rewrite,
            "link": lambda: os.link(path, depot.source / "b"),
        }
        stop = AtBlock(2, acts[act])
        [(_, outcome)] = depot.store.stage([work_for("a")], stop=stop)
        assert isinstance(outcome, Changed)
        assert depot.store.tokens() == []
        assert open_below(depot.target / ".skystow/staging" / CLAIM) == []

    def test_stops_in_the_middle_of_a_file(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), bytes(3 << 20))
        stop = AtBlock(2, lambda: None, then=True)
        with pytest.raises(Stopped):
            list(depot.store.stage([work_for("a")], stop=stop))
        assert list((depot.target / ".skystow/staging" / CLAIM).iterdir()) == []

    def test_a_large_file_leaves_min_free(self, tmp_path: Path) -> None:
        depot = LocalDepot(tmp_path, PosixStore, StoreOptions(min_free=almost_all(tmp_path)))
        leaves_min_free(depot.source, depot.store)

    def test_a_file_system_that_does_not_tell_its_size_is_not_full(self) -> None:
        store = PosixStore("store", LocalTree("/proc", place="store"), {}, StoreOptions())
        assert (store.room().total, os.statvfs("/proc").f_blocks) == (0, 0)
        assert store.room().spare > 2**40

    def test_a_name_of_the_source_s_own_inode_is_no_copy(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        os.link(depot.source / "a", depot.target / "a")
        [staged] = stage(depot.store, work_for("a"))
        with pytest.raises(Conflict, match="source file itself"):
            publish(depot.store, staged)
        depot.store.drop([staged])

    def test_what_stands_there_and_cannot_be_read_is_one_file_s_fault(
        self, depot: LocalDepot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        depot.occupy(PurePosixPath("a"), b"light")
        found = depot.store.adopt(work_for("a"))
        assert found is not None

        def broken(*_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", broken)
            with pytest.raises(Unreadable):
                depot.store.prove(found, "md5", stop=Flag())
        depot.store.drop([found])

    def test_a_bandwidth_limit_is_shared(self, tmp_path: Path) -> None:
        depot = LocalDepot(tmp_path, PosixStore, StoreOptions(bwlimit=1_000_000))
        for name in "ab":
            depot.put(PurePosixPath(name), bytes(500_000))
        stop = Flag()
        depot.store.drop(
            [s for _, s in depot.store.stage([work_for("a"), work_for("b")], stop=stop) if isinstance(s, Staged)]
        )
        assert stop.waited[0] == pytest.approx(0.5, abs=0.05)
        assert stop.waited[1] == pytest.approx(1.0, abs=0.1)  # nobody really waited for the first

    def test_where_links_are_refused_names_are_given_by_rename(
        self, depot: LocalDepot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        publish(depot.store, staged)
        publish(depot.store, staged)
        depot.store.sync([staged])
        depot.store.drop([staged])
        assert depot.read(PurePosixPath("a")) == b"light"
        depot.occupy(PurePosixPath("b"), b"older")
        [staged] = stage(depot.store, work_for("a", "b"))
        with pytest.raises(NameTaken):
            publish(depot.store, staged)
        assert depot.read(PurePosixPath("b")) == b"older"
        depot.store.drop([staged])
        assert all(finding.ok for finding in depot.store.check(None) if finding.subject == "name")

    def test_where_nothing_gives_a_name_the_place_is_unfit(
        self, depot: LocalDepot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr("skystow.adapters.staging.rename_noreplace", refuse)
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        with pytest.raises(UnfitPlace):
            publish(depot.store, staged)
        depot.store.drop([staged])
        assert depot.visible() == set()


def test_what_a_disk_could_never_hold_is_one_file_s_fault(tmp_path: Path) -> None:
    depot = LocalDepot(tmp_path, PosixStore, StoreOptions(min_free=1.0))
    depot.put(PurePosixPath("large"), bytes(2 << 20))
    assert isinstance(fault_of(depot.store, work_for("large")), TooLarge)
    assert depot.store.tokens() == []


class TestPosixWholeSync(LocalStoreContract):
    """With one `syncfs` instead of many `fsync`s."""

    @pytest.fixture
    def depot(self, tmp_path: Path) -> LocalDepot:
        return LocalDepot(tmp_path, PosixStore, StoreOptions(sync="auto"))


class TestHardlink(LocalStoreContract):
    @pytest.fixture
    def depot(self, tmp_path: Path) -> LocalDepot:
        return LocalDepot(tmp_path, HardlinkStore, StoreOptions())

    def test_it_is_the_same_inode_and_nothing_of_it_changes(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        (depot.source / "a").chmod(0o640)
        finish(depot.store, stage(depot.store, work_for("a", "d/b")))
        there, here = (depot.source / "a").stat(), (depot.target / "d/b").stat()
        assert os.path.samestat(there, here)
        assert (here.st_mode, here.st_nlink, here.st_mtime_ns) == (0o100640, 2, MTIME)

    def test_what_somebody_else_wrote_there_is_synced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        depot = LocalDepot(tmp_path, HardlinkStore, StoreOptions(sync="fsync"))
        depot.occupy(PurePosixPath("a"), b"light")
        found = depot.store.adopt(work_for("a"))
        assert found is not None
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        depot.store.seal([found])
        assert synced == [found.handle]
        depot.store.drop([found])

    def test_never_copies(self, tmp_path: Path) -> None:
        depot = LocalDepot(tmp_path, HardlinkStore, StoreOptions())
        elsewhere = LocalTree("/proc/self", place=SOURCE)
        store = HardlinkStore("store", depot.tree, {SOURCE: elsewhere}, StoreOptions())
        with pytest.raises(UnfitPlace, match="another device"):
            list(store.stage([work_for("status")], stop=Flag()))
        store.sweep(CLAIM)
        assert depot.visible() == set()

    def test_checks_the_link_from_upstream(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        findings = list(depot.store.check(depot.origin))
        assert f"link from {SOURCE}" in {finding.subject for finding in findings if finding.ok}
        assert sorted(entry.name for entry in depot.source.iterdir()) == ["a"]
        assert list(depot.target.iterdir()) == []


class AtBlock(Flag):
    """Does something when it is asked for the nth time: in the middle of a file."""

    def __init__(self, turn: int, act: Callable[[], object], *, then: bool = False) -> None:
        super().__init__()
        self.turn, self.act, self.then = turn, act, then

    def is_set(self) -> bool:
        self.turn -= 1
        if self.turn == 0:
            self.act()
            self.asked = self.then
        return self.asked


UNREADABLE = """
import os, sys
from pathlib import PurePosixPath
from skystow.adapters.posix import PosixStore
from skystow.adapters.options import StoreOptions
from skystow.adapters.tree import LocalTree
from skystow.errors import BadName, ReadOnly, Unreadable
from skystow.testing.store_contract import Flag, fault_of, finish, publish, stage, work_for

base = sys.argv[1]
store = PosixStore("store", LocalTree(base + "/target", place="store"),
                   {"source": LocalTree(base + "/source", place="source")}, StoreOptions())
assert isinstance(fault_of(store, work_for("closed")), Unreadable)
os.chmod(base + "/target", 0o555)
try:
    stage(store, work_for("open", token="beef"))
except ReadOnly as refused:
    print(refused)
finally:
    os.chmod(base + "/target", 0o755)

# The root takes no names any more, though the staging area is open: nobody's file is to blame.
finish(store, stage(store, work_for("open", "there/first")))
group = stage(store, work_for("open", "a"), work_for("open", "new/a"), work_for("open", "there/a"))
os.chmod(base + "/target", 0o555)
os.chmod(base + "/target/there", 0o555)
for staged, kind in zip(group, (ReadOnly, ReadOnly, BadName), strict=True):
    try:
        publish(store, staged)
    except kind as refused:
        print(refused)
    else:
        raise AssertionError(staged)
os.chmod(base + "/target", 0o755)
"""


def test_permissions_hold(tmp_path: Path, unprivileged: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/open").write_bytes(b"light")
    (tmp_path / "source/closed").write_bytes(b"light")
    (tmp_path / "source/closed").chmod(0)
    done = unprivileged([sys.executable, "-c", UNREADABLE, tmp_path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "Permission denied" in done.stdout
