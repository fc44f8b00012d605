"""A bandwidth limit over SSH, measured: kept by all streams together, and whole for one that works alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.options import StoreOptions
from skystow.adapters.remote.ssh import Link
from skystow.testing.store_contract import finish, stage, work_for
from tests.contract.remote_kit import RemoteDepot
from tests.sshd import sshd

LIMIT = 2_000_000
SIZE = 4_000_000
BOTH = pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    with sshd(tmp_path_factory.mktemp("sshd") / "it") as server:
        one = Link(server.host())
        yield one
        one.close()


@BOTH
def test_a_limit_is_kept_by_all_streams_together_and_whole_for_one(link: Link, tmp_path: Path, pull: bool) -> None:
    options = StoreOptions(bwlimit=LIMIT, min_free=0, sync="fsync")
    depot = RemoteDepot(tmp_path, link, pull=pull, options=options, streams=2)
    for name in ("alone", "a", "b"):
        depot.put(PurePosixPath(name), os.urandom(SIZE))

    def carry(name: str, token: str) -> None:
        finish(depot.store, stage(depot.store, work_for(name, token=token)))

    depot.store.room()
    began = time.monotonic()
    carry("alone", "a1")
    alone = time.monotonic() - began
    assert SIZE / LIMIT * 0.8 < alone < SIZE / LIMIT * 1.8  # half of the limit would take twice as long
    began = time.monotonic()
    threads = [threading.Thread(target=carry, args=(name, token)) for name, token in (("a", "b1"), ("b", "b2"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = time.monotonic() - began
    assert together > 2 * SIZE / LIMIT * 0.8
    assert depot.read(PurePosixPath("a")) is not None
    assert depot.read(PurePosixPath("b")) is not None
