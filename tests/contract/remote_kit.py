"""Depots with a remote end: an sshd of our own on this very machine, so that both sides can be looked at."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from skystow.adapters.options import StoreOptions
from skystow.adapters.remote.pull import PullStore
from skystow.adapters.remote.push import RemoteStore
from skystow.adapters.remote.ssh import Link
from skystow.adapters.remote.tree import RemoteTree
from skystow.adapters.tree import LocalTree
from skystow.model.records import path_bytes
from skystow.ports import Staged, Store
from skystow.testing.store_contract import MTIME, SOURCE


class RemoteDepot:
    """`pull`: the source is remote; else the store is. From `large` bytes on a file goes alone."""

    def __init__(
        self,
        base: Path,
        link: Link,
        *,
        pull: bool,
        options: StoreOptions | None = None,
        large: int = 1 << 26,
        streams: int = 1,
        target: Path | None = None,
    ) -> None:
        self.source, self.target = base / "source", target or base / "target"
        self.source.mkdir(exist_ok=True)
        self.target.mkdir(exist_ok=True)
        self.link = link
        options = options or StoreOptions(sync="fsync", min_free=0)
        self.store: Store
        if pull:
            origin = RemoteTree(link, str(self.source), place=SOURCE)
            tree = LocalTree(os.fsencode(self.target), place="store")
            self.store = PullStore("store", tree, {SOURCE: origin}, options, large=large, streams=streams)
        else:
            here = LocalTree(os.fsencode(self.source), place=SOURCE)
            there = RemoteTree(link, str(self.target), place="store")
            self.store = RemoteStore("store", there, {SOURCE: here}, options, large=large, streams=streams)

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


def midway(depot: RemoteDepot, act: Callable[[], object], length: int = 300_000) -> threading.Thread:
    """Does it as soon as so many bytes of a copy are there."""
    due = time.monotonic() + 60

    def copied() -> int:
        total = 0
        for path in (depot.target / ".skystow").rglob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def watch() -> None:
        while copied() < length and time.monotonic() < due:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread
