"""The store's contract where the files come over ssh, and what rsync and a remote end can do besides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from tests.sshd import Sshd, sshd

from skystow.adapters.remote.pull import PullStore
from skystow.adapters.remote.ssh import Link
from skystow.adapters.remote.tree import RemoteTree
from skystow.adapters.staging import StoreOptions
from skystow.adapters.tree import LocalTree
from skystow.model.records import path_bytes
from skystow.ports import Staged, Store
from skystow.testing.store_contract import MTIME, SOURCE, StoreContract


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd") / "it") as one:
        yield one


@pytest.fixture(scope="module")
def link(server: Sshd) -> Iterator[Link]:
    one = Link(server.host())
    yield one
    one.close()


class PullDepot:
    def __init__(self, base: Path, link: Link) -> None:
        self.source, self.target = base / "source", base / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.origin = RemoteTree(link, str(self.source), place=SOURCE)
        self.tree = LocalTree(os.fsencode(self.target), place="store")
        self.store: Store = PullStore("store", self.tree, {SOURCE: self.origin}, StoreOptions(sync="fsync"))

    def put(self, path: PurePosixPath, content: bytes) -> None:
        write(self.source, path, content)

    def occupy(self, path: PurePosixPath, content: bytes) -> None:
        write(self.target, path, content)

    def read(self, path: PurePosixPath) -> bytes | None:
        name = os.path.join(os.fsencode(self.target), path_bytes(path))
        if not os.path.isfile(name):
            return None
        with open(name, "rb") as file:
            return file.read()

    def corrupt(self, staged: Staged) -> None:
        (self.target / ".skystow/staging" / staged.work.token / str(staged.work.id)).write_bytes(b"LIGHT")

    def leave(self) -> None:
        shutil.rmtree(self.source)


def write(root: Path, path: PurePosixPath, content: bytes) -> None:
    name = os.path.join(os.fsencode(root), path_bytes(path))
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as file:
        file.write(content)
    os.utime(name, ns=(MTIME, MTIME))


class TestPull(StoreContract):
    @pytest.fixture
    def depot(self, tmp_path: Path, link: Link) -> PullDepot:
        return PullDepot(tmp_path, link)
