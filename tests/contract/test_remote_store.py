"""The store's contract over ssh, both ways, and names that a shell or rsync could misread."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from tests.contract.remote_kit import RemoteDepot
from tests.sshd import Sshd, sshd

from skystow.adapters.options import StoreOptions
from skystow.adapters.remote.session import Session
from skystow.adapters.remote.ssh import Link
from skystow.errors import BadName
from skystow.model.records import path_text
from skystow.ports import Stop
from skystow.testing.local_store_contract import almost_all, leaves_min_free
from skystow.testing.store_contract import CLAIM, StoreContract, finish, publish, stage, work_for

ODD = [
    "#comment",
    ";comment",
    ":colon",
    "-rf",
    "--delete",
    "host:path",
    "a\\#012b",
    "tab\tand\rreturn",
    "$(reboot)`id`;&|<>",
    path_text(b"\xff\xfe\x80"),
    "y" * 255,
    "trailing ",
    ".hidden",
    "a/./b".replace("/./", "/.x/"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd") / "it") as one:
        yield one


@pytest.fixture(scope="module")
def link(server: Sshd) -> Iterator[Link]:
    one = Link(server.host())
    yield one
    one.close()


class Remote(StoreContract):
    def test_odd_names_go_together_in_one_batch(self, depot: RemoteDepot) -> None:
        for name in ODD:
            depot.put(PurePosixPath(name), name.encode("utf-8", "surrogateescape"))
        finish(depot.store, stage(depot.store, *map(work_for, ODD)))
        for name in ODD:
            assert depot.read(PurePosixPath(name)) == name.encode("utf-8", "surrogateescape")
        assert depot.store.tokens() == []

    def test_an_area_that_nobody_touched_for_long_is_idle(self, depot: RemoteDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        hour_ago = time.time() - 3600
        os.utime(depot.target / ".skystow/staging" / CLAIM, (hour_ago, hour_ago))
        assert (depot.store.tokens(idle=3000.0), depot.store.tokens(idle=4000.0)) == ([CLAIM], [])
        depot.store.drop([staged])

    def test_one_source_for_two_names(self, depot: RemoteDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        finish(depot.store, stage(depot.store, work_for("a", "b"), work_for("a", "c")))
        assert (depot.read(PurePosixPath("b")), depot.read(PurePosixPath("c"))) == (b"light", b"light")
        assert (depot.target / "b").stat().st_nlink == 1

    def test_modes(self, depot: RemoteDepot) -> None:
        depot.put(PurePosixPath("a/b/c"), b"light")
        finish(depot.store, stage(depot.store, work_for("a/b/c")))
        assert (depot.target / "a/b/c").stat().st_mode == 0o100444
        assert [(depot.target / name).stat().st_mode for name in ("a", "a/b")] == [0o42775, 0o42775]
        assert (depot.target / ".skystow/staging").stat().st_mode == 0o40700


@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
def test_a_large_file_leaves_min_free(link: Link, tmp_path: Path, pull: bool) -> None:
    options = StoreOptions(sync="fsync", min_free=almost_all(tmp_path))
    depot = RemoteDepot(tmp_path, link, pull=pull, options=options)
    leaves_min_free(depot.source, depot.store)
    assert depot.store.tokens() == []


class TestPull(Remote):
    @pytest.fixture
    def depot(self, tmp_path: Path, link: Link) -> RemoteDepot:
        return RemoteDepot(tmp_path, link, pull=True)


class TestPullAlone(StoreContract):
    """Every file is a large one."""

    @pytest.fixture
    def depot(self, tmp_path: Path, link: Link) -> RemoteDepot:
        return RemoteDepot(tmp_path, link, pull=True, large=0)


class TestPush(Remote):
    @pytest.fixture
    def depot(self, tmp_path: Path, link: Link) -> RemoteDepot:
        return RemoteDepot(tmp_path, link, pull=False)

    def test_a_group_is_named_in_one_exchange(self, depot: RemoteDepot, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"d{i % 7}/{i}" for i in range(60)]
        for name in names:
            depot.put(PurePosixPath(name), b"light")
        group = stage(depot.store, *map(work_for, names))
        asked: list[str] = []
        call = Session.call

        def told(session: Session, request: dict[str, Any], stop: Stop | None) -> dict[str, Any]:
            asked.append(request["op"])
            return call(session, request, stop)

        monkeypatch.setattr(Session, "call", told)
        publish(depot.store, *group)
        assert asked == ["publish"]
        depot.store.sync(group)
        depot.store.drop(group)
        assert {depot.read(PurePosixPath(name)) for name in names} == {b"light"}

    def test_skystow_s_own_directory_takes_no_files(self, depot: RemoteDepot) -> None:
        depot.put(PurePosixPath("a"), b"light")
        group = stage(depot.store, work_for("a", ".skystow/ledger.db"), work_for("a", "b"))
        assert [type(fault) for _, fault in depot.store.publish(group)] == [BadName, type(None)]
        depot.store.drop(group)
        assert not (depot.target / ".skystow/ledger.db").exists()


class TestPushAlone(StoreContract):
    @pytest.fixture
    def depot(self, tmp_path: Path, link: Link) -> RemoteDepot:
        return RemoteDepot(tmp_path, link, pull=False, large=0)
