"""A monitor at work, with the table that it fills and whoever sends it datagrams."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from skystow.adapters.datagrams import BUFFER, UdpDatagrams
from skystow.adapters.pysmurf_files import FilesTable
from skystow.adapters.pysmurf_files.registrar import PysmurfFilesRegistrar
from skystow.adapters.spool import SqliteSpool
from skystow.adapters.tree import LocalTree
from skystow.model.datagram import Reading, Session
from skystow.service.halt import Halt
from skystow.service.monitor import Monitor, Rules
from tests.servers import free_port
from tests.system.cli_kit import until


@dataclass
class Bench:
    """`here` has `data` (the root), `spool` and `table.db`."""

    here: Path
    told: list[str] = field(default_factory=list)
    news: list[Reading | Session] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    create: bool = True
    buffer: int = BUFFER
    before: Callable[[], None] = lambda: None
    """Called when the port is open, and nobody listens yet."""
    halted: bool = False
    """It is to end as soon as it begins."""

    @property
    def data(self) -> Path:
        return self.here / "data"

    def write(self, name: str, content: bytes = b"starlight") -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def registrar(self) -> PysmurfFilesRegistrar:
        table = FilesTable(f"sqlite:///{self.here}/table.db", "v1", place="table")
        return PysmurfFilesRegistrar(table, target="monitor", site="observatory", version="skystow", create=self.create)

    @contextmanager
    def monitor(self, wrap: Callable[[Any], Any] = lambda registrar: registrar, **rules: Any) -> Iterator[Monitor]:
        """At work, until the block is left; everything is closed as after a crash or in order."""
        halt = Halt()
        with ExitStack() as stack:
            registrar = wrap(stack.enter_context(closing(self.registrar())))
            spool = stack.enter_context(closing(SqliteSpool(str(self.here / "spool"))))
            datagrams = stack.enter_context(closing(UdpDatagrams("127.0.0.1", self.port, buffer=self.buffer)))
            self.before()
            roots = {PurePosixPath(self.data): LocalTree(str(self.data), place="data")}
            made = Monitor(
                datagrams,
                spool,
                registrar,
                Rules(roots, **{"settle": 0.0} | rules),
                publish=self.news.append,
                tell=self.told.append,
            )
            thread = threading.Thread(target=made.run, args=(halt, lambda _: None))
            if self.halted:
                halt.set()
            thread.start()
            try:
                yield made
            finally:
                halt.set()
                thread.join(30)
                assert not thread.is_alive()

    def rows(self, query: str = "SELECT path FROM pysmurf_files_v1 ORDER BY id") -> list[Any]:
        if not (self.here / "table.db").exists():
            return []
        with closing(sqlite3.connect(self.here / "table.db", timeout=30)) as session:
            try:
                found = session.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []
        return [row[0] if len(row) == 1 else row for row in found]

    def registered(self, count: int) -> None:
        until(lambda: len(self.rows()) >= count)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.data.mkdir()
    return made
