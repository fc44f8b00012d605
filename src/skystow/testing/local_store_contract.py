"""What every store on a local disk must do, beyond the contract of all stores: hostile trees, descriptors, streams."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.hardlink import HardlinkStore
from skystow.adapters.options import StoreOptions
from skystow.adapters.posix import PosixStore
from skystow.adapters.tree import LocalTree
from skystow.errors import BadName, ClaimLost, NameTaken, NoRoom, NotAFile, Stopped, TooLarge, Unreachable
from skystow.model.records import path_bytes
from skystow.ports import Staged, Store
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


class LocalDepot:
    """A store and a source below one temporary directory."""

    def __init__(self, base: Path, kind: type[PosixStore] | type[HardlinkStore], options: StoreOptions) -> None:
        self.source, self.target = base / "source", base / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.origin = LocalTree(os.fsencode(self.source), place=SOURCE)
        self.tree = LocalTree(os.fsencode(self.target), place="store")
        self.store: Store = kind("store", self.tree, {SOURCE: self.origin}, options)

    def put(self, path: PurePosixPath, content: bytes) -> None:
        _write(self.source, path, content)

    def occupy(self, path: PurePosixPath, content: bytes) -> None:
        _write(self.target, path, content)

    def read(self, path: PurePosixPath) -> bytes | None:
        name = os.path.join(os.fsencode(self.target), path_bytes(path))
        if not os.path.isfile(name):
            return None
        with open(name, "rb") as file:
            return file.read()

    def staged_name(self, staged: Staged) -> Path:
        return self.target / ".skystow/staging" / staged.work.token / str(staged.work.id)

    def corrupt(self, staged: Staged) -> None:
        if isinstance(self.store, HardlinkStore):  # the only thing that can go wrong with a link is the inode
            _write(self.source, PurePosixPath("other"), b"LIGHT")
            os.replace(self.source / "other", self.source / os.fsdecode(path_bytes(staged.work.source.path)))
        else:
            self.staged_name(staged).write_bytes(b"LIGHT")

    def leave(self) -> None:
        shutil.rmtree(self.source)

    def visible(self) -> set[str]:
        """Everything that stands in the target but skystow's own."""
        return {str(path.relative_to(self.target)) for path in self.target.rglob("*")} - {
            ".skystow",
            ".skystow/staging",
        }


def _write(root: Path, path: PurePosixPath, content: bytes) -> None:
    name = os.path.join(os.fsencode(root), path_bytes(path))
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as file:
        file.write(content)
    os.utime(name, ns=(MTIME, MTIME))


def open_below(base: Path) -> list[str]:
    """What this process holds open below a directory."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [name for name in names if name.startswith(str(base))]


def almost_all(where: Path) -> float:
    """A `min_free` that lets 1 GiB more be written there."""
    found = os.statvfs(where)
    return (found.f_bavail * found.f_frsize - 2**30) / (found.f_blocks * found.f_frsize)


def leaves_min_free(source: Path, store: Store) -> None:
    """A store with `almost_all` refuses a file of 4 GiB before a byte of it flows, and takes the small one with it."""
    (source / "small").write_bytes(b"light")
    (source / "large").touch()
    os.truncate(source / "large", 2**32)
    large, small = work_for("large"), work_for("small")
    outcomes = dict(store.stage([large, small], stop=Flag()))
    assert isinstance(outcomes[large], NoRoom | TooLarge)  # TooLarge where the disk is a very small one
    landed = outcomes[small]
    assert isinstance(landed, Staged)
    finish(store, [landed])
    assert store.tree.stat(small.target) is not None


class LocalStoreContract(StoreContract):
    """What both local stores do besides."""

    def test_a_link_in_the_way_is_left_alone(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        (depot.target / "a").symlink_to("nowhere")
        [staged] = stage(depot.store, work_for("a"))
        with pytest.raises(NameTaken):
            publish(depot.store, staged)
        depot.store.drop([staged])
        assert depot.store.adopt(staged.work) is None
        assert os.readlink(depot.target / "a") == "nowhere"

    def test_an_area_that_nobody_touched_for_long_is_idle(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        hour_ago = time.time() - 3600
        os.utime(depot.target / ".skystow/staging" / CLAIM, (hour_ago, hour_ago))
        assert (depot.store.tokens(idle=3000.0), depot.store.tokens(idle=4000.0)) == ([CLAIM], [])
        depot.store.drop([staged])

    def test_a_linked_directory_leads_nowhere(self, depot: LocalDepot, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        (depot.target / "out").symlink_to(outside)
        (depot.source / "out").symlink_to(outside)
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a", "out/a"))
        with pytest.raises(BadName):
            publish(depot.store, staged)
        depot.store.drop([staged])
        assert isinstance(fault_of(depot.store, work_for("out/secret", "b")), NotAFile)
        assert [entry.name for entry in outside.iterdir()] == ["secret"]
        assert depot.visible() == {"out"}

    @pytest.mark.parametrize("kind", ["fifo", "socket", "link", "loop"])
    def test_what_is_no_file_is_not_opened(self, depot: LocalDepot, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(depot.source)  # a socket's name is short
        (depot.source / "real").write_bytes(b"light")
        make: dict[str, Callable[[], object]] = {
            "fifo": lambda: os.mkfifo("odd"),
            "link": lambda: os.symlink("real", "odd"),
            "loop": lambda: os.symlink("odd", "odd"),
        }
        if kind == "socket":
            with socket.socket(socket.AF_UNIX) as odd:
                odd.bind("odd")
        else:
            make[kind]()
        assert isinstance(fault_of(depot.store, work_for("odd")), NotAFile)
        assert depot.store.tokens() in ([], [CLAIM])
        depot.store.sweep(CLAIM)
        assert depot.visible() == set()

    def test_a_device_is_no_file(self) -> None:
        tree = LocalTree("/dev", place=SOURCE)
        with pytest.raises(NotAFile):
            tree.open_file(PurePosixPath("null"))

    def test_skystow_s_own_directory_takes_no_files(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        for target in (".skystow", ".skystow/ledger.db", ".skystow/staging/beef/1"):
            [staged] = stage(depot.store, work_for("a", target))
            with pytest.raises(BadName):
                publish(depot.store, staged)
            depot.store.drop([staged])

    def test_a_name_that_is_too_long_is_one_file_s_fault(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a", "x" * 256))
        with pytest.raises(BadName):
            publish(depot.store, staged)
        depot.store.drop([staged])

    def test_a_path_longer_than_the_system_takes(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        path = PurePosixPath("/".join(["d" * 250] * 40), "a")  # 10,000 bytes
        finish(depot.store, stage(depot.store, work_for("a", path)))
        assert depot.tree.digest(path, "md5", stop=Flag()) == depot.origin.digest(
            PurePosixPath("a"), "md5", stop=Flag()
        )

    @pytest.mark.parametrize("token", ["", "..", "../..", "a/b", "xyz", "BEEF", "a\n"])
    def test_a_token_is_held_inside(self, depot: LocalDepot, token: str) -> None:
        with pytest.raises(BadName):
            depot.store.sweep(token)

    def test_sweeping_what_is_not_there(self, depot: LocalDepot) -> None:
        depot.store.sweep("beef")
        assert depot.store.tokens() == []

    def test_a_staged_name_that_an_earlier_try_left_is_no_obstacle(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        work = work_for("a")
        left = depot.target / ".skystow/staging" / CLAIM / str(work.id)
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
        finish(depot.store, stage(depot.store, work))
        assert depot.read(PurePosixPath("a")) == b"light"

    def test_a_root_that_is_gone(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.target.rmdir()
        with pytest.raises(Unreachable) as gone:
            stage(depot.store, work_for("a"))
        assert gone.value.place == "store"
        assert [finding.ok for finding in depot.store.check(None)] == [False]

    @pytest.mark.parametrize("lost", [".skystow", ".skystow/staging", ""], ids=["home", "staging", "root"])
    def test_what_was_removed_and_came_back_is_found_again(self, depot: LocalDepot, lost: str) -> None:
        depot.put(PurePosixPath("a"), b"light")
        finish(depot.store, stage(depot.store, work_for("a", "first")))
        depot.store.tokens()  # opens the staging area
        shutil.rmtree(depot.target / lost)
        depot.target.mkdir(exist_ok=True)
        depot.store.room()
        finish(depot.store, stage(depot.store, work_for("a", "second")))
        assert depot.read(PurePosixPath("second")) == b"light"

    def test_a_writer_whose_area_was_swept_lost_its_claim(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        depot.put(PurePosixPath("b"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        depot.store.sweep(CLAIM)
        group = stage(depot.store, work_for("b"))  # the same claim goes on, in a new area
        with pytest.raises(ClaimLost):
            publish(depot.store, staged)
        depot.store.drop([staged, *group])
        assert depot.visible() == set()

    def test_an_idle_store_holds_nothing_of_its_source_open(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("d/a"), b"light")
        finish(depot.store, stage(depot.store, work_for("d/a")))
        assert open_below(depot.source) == []

    def test_no_descriptor_leaks(self, depot: LocalDepot, tmp_path: Path) -> None:
        names = [f"d{i}/f" for i in range(30)]
        for name in names:
            depot.put(PurePosixPath(name), b"light")
        for turn in range(3):
            works = [work_for(name, f"{turn}/{name}") for name in names]
            finish(depot.store, stage(depot.store, *works))
            fault_of(depot.store, work_for("missing"))
        stop = Flag()
        half = depot.store.stage([work_for(name) for name in names], stop=stop)
        _, first = next(half)
        stop.asked = True
        with pytest.raises(Stopped):
            next(half)
        assert isinstance(first, Staged)
        depot.store.drop([first])
        depot.tree.forget()
        depot.origin.forget()
        del half, first
        assert open_below(tmp_path) == []

    def test_two_streams_in_the_same_new_directories(self, depot: LocalDepot) -> None:
        names = [f"a/{i % 5}/{i % 3}/f{i}" for i in range(200)]
        for name in names:
            depot.put(PurePosixPath(name), name.encode())
        faults: list[BaseException] = []

        def stream(mine: list[str], token: str) -> None:
            try:
                for i in range(0, len(mine), 10):
                    finish(depot.store, stage(depot.store, *(work_for(n, token=token) for n in mine[i : i + 10])))
            except BaseException as fault:
                faults.append(fault)
                raise

        threads = [threading.Thread(target=stream, args=(names[i::4], f"{i:08x}")) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert {name for name in names if depot.read(PurePosixPath(name)) == name.encode()} == set(names)
        assert depot.store.tokens() == []

    def test_a_directory_removed_meanwhile_is_made_again(self, depot: LocalDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        first, second = stage(depot.store, work_for("a", "d/1"), work_for("a", "d/2"))
        publish(depot.store, first)
        shutil.rmtree(depot.target / "d")
        with pytest.raises(Unreachable):
            publish(depot.store, second)
        publish(depot.store, second)
        assert depot.visible() >= {"d", "d/2"}
        depot.store.drop([first, second])

    def test_every_directory_on_the_way_is_synced_before_it_is_relied_on(
        self, depot: LocalDepot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also those that were there: somebody else may have made them a moment ago. Once is enough."""
        synced: list[str] = []
        fsync = os.fsync

        def told(fd: int) -> None:
            synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), depot.target))
            fsync(fd)

        (depot.target / "a/b").mkdir(parents=True)
        for name in ("1", "2"):
            depot.put(PurePosixPath(name), b"light")
        group = stage(depot.store, work_for("1", "a/b/c/1"), work_for("2", "a/2"))
        depot.store.seal(group)
        for staged in group:
            publish(depot.store, staged)
        monkeypatch.setattr(os, "fsync", told)
        depot.store.sync(group)
        assert sorted(synced) == [".", "a", "a/b", "a/b/c"]
        synced.clear()
        depot.store.sync(group)
        assert sorted(synced) == ["a", "a/b/c"]
        depot.store.drop(group)
