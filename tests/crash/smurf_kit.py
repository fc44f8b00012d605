"""Sites whose ends are far: a source or an archive over SSH, and a `pysmurf_files` table that registers files.

All of it is on this machine, so both sides can be looked at.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from skystow.adapters.pysmurf_files import FilesTable
from skystow.model.records import path_bytes
from tests.crash.kit import Site, fill, staged, wait_until
from tests.sshd import Sshd

FIRST = datetime(2019, 8, 3, 2, 27, 30, tzinfo=UTC)
"""When the first file was registered; the five digits of its time are 15647."""

ACTIONS = ("tune_band", "tracking_setup", None)
TARGET = "crate1slot2"
TABLE = "pysmurf_files_v1"


def host_of(server: Sshd, patience: float) -> dict[str, Any]:
    """As a site file says it."""
    return {"name": server.name, "config_file": str(server.here / "ssh_config"), "timeout": patience}


@dataclass
class FarSite(Site):
    """A site with its source at one remote host (`pull`), or its archive (`push`)."""

    handoff: bool = False
    pull: Sshd | None = None
    push: Sshd | None = None
    patience: float = 10
    """Seconds of silence after which the other end is held to be gone."""

    def __post_init__(self) -> None:
        if self.push is not None and self.ledger is None:
            self.ledger = self.root / "ledger.db"

    def source_section(self) -> dict[str, Any]:
        # Nobody writes there meanwhile, and a second look comes only after four times the time that ssh took.
        far = {"host": host_of(self.pull, self.patience), "quiet_for": 0} if self.pull else {}
        return super().source_section() | far

    def archive_section(self) -> dict[str, Any]:
        far = {"kind": "remote", "host": host_of(self.push, self.patience)} if self.push else {}
        return super().archive_section() | far

    def assert_whole(self, *, attempts: int = 0) -> None:
        """And nothing is left of a copy at either side, or was ever written at the source."""
        if (server := self.push) is not None and staged(self.dest):
            # A helper that outlived our end came after the sweep of the next run: the one after that takes it.
            wait_until(lambda: not server.children(), "that nobody is at work at the other end")
            self.finish()
        super().assert_whole(attempts=attempts)
        assert not (self.source / ".skystow").exists()
        for tree in self.trees.values():
            assert list((tree / ".skystow" / "partial").rglob("*")) == []


@dataclass(frozen=True)
class Row:
    """As it was registered."""

    name: bytes
    action: str | None
    at: datetime
    md5: bytes

    @property
    def told(self) -> str:
        """Its timestamp as the monitor writes it: UTC, without saying so."""
        return self.at.strftime("%Y-%m-%d %H:%M:%S")

    @property
    def archived(self) -> bytes:
        """Its path below the archive."""
        return os.fsencode(f"{int(self.at.timestamp())}"[:5] + f"/{self.action or 'none'}/") + self.name.split(b"/")[-1]


@dataclass
class Smurf(FarSite):
    """The same with a table: `table` is its URL, password and all ("": in an SQLite file). Rows by their ids."""

    table: str = ""
    rows: dict[int, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.table = self.table or f"sqlite:///{self.root}/smurf.db"

    @property
    def placed(self) -> dict[bytes, bytes]:
        return {row.archived: self.truth[row.name] for row in self.rows.values()}

    def source_section(self) -> dict[str, Any]:
        source = {"name": "smurf", "kind": "pysmurf_files", "root": str(self.source), "poll": 0.1}
        far = {"host": host_of(self.pull, self.patience)} if self.pull else {}
        return source | {"table": {"url": self.table}, "version": "v1", "targets": [TARGET]} | far

    # ── the table, as its monitor and its readers see it ────────────────────────────────────────────────────────

    @contextmanager
    def session(self) -> Iterator[sa.Connection]:
        """A transaction of somebody else's, over a connection of its own."""
        url = sa.make_url(self.table)
        driver = "mysql+pymysql" if url.get_backend_name() == "mysql" else "sqlite+pysqlite"
        engine = sa.create_engine(url.set(drivername=driver), poolclass=sa.NullPool)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def make_table(self) -> None:
        """Empty."""
        self.root.mkdir(parents=True, exist_ok=True)
        table = FilesTable(self.table, "v1", place="the table")
        table.create()
        table.close()
        with self.session() as connection:
            connection.exec_driver_sql(f"DELETE FROM {TABLE}")  # noqa: S608

    def register(self, name: bytes, *, action: str | None = ACTIONS[0], at: datetime = FIRST) -> int:
        """A row for a file that was written; its id."""
        content = self.truth[name]
        row = Row(name, action, at, hashlib.md5(content, usedforsecurity=False).digest())
        values = {
            "path": os.fsdecode(self.at_source(name)),
            "action": action,
            "timestamp": row.told,
            "instance_id": TARGET,
            "copied": 0,
            "failed_copy_attempts": 0,
            "md5sum": row.md5,
        }
        marks = ", ".join(f":{each}" for each in values)
        with self.session() as connection:
            done = connection.execute(sa.text(f"INSERT INTO {TABLE} ({', '.join(values)}) VALUES ({marks})"), values)  # noqa: S608
        number = int(done.lastrowid)
        self.rows[number] = row
        return number

    def read_table(self) -> dict[int, Mapping[str, Any]]:
        """What stands in it now."""
        columns = "id, path, action, timestamp, instance_id, copied, failed_copy_attempts, md5sum"
        with self.session() as connection:
            found = connection.execute(sa.text(f"SELECT {columns} FROM {TABLE}"))  # noqa: S608
            return {row["id"]: dict(row) for row in found.mappings()}

    def assert_table(self, *, failures: int = 0) -> None:
        """Each row is copied, says where its file is now, and is otherwise as it was registered."""
        found = self.read_table()
        assert found.keys() == self.rows.keys()
        for number, row in self.rows.items():
            now = found[number]
            assert (now["copied"], os.fsencode(now["path"])) == (1, os.path.join(os.fsencode(self.dest), row.archived))
            assert (now["failed_copy_attempts"] or 0) <= failures, (row.name, now)
            assert (now["action"], str(now["timestamp"])[:19], now["instance_id"]) == (row.action, row.told, TARGET)
            assert bytes(now["md5sum"]) == row.md5

    def assert_whole(self, *, attempts: int = 0) -> None:
        """Table, tree and ledger are what was registered. `attempts`: as many as a file may have spent."""
        super().assert_whole(attempts=attempts)
        self.assert_table(failures=attempts)
        known = {(path_bytes(dossier.origin), path_bytes(dossier.path)) for dossier in self.dossiers()}
        assert known == {(row.name, row.archived) for row in self.rows.values()}


def make_far(root: Path, files: int, *, seed: int = 1, largest: int = 20_000, **options: Any) -> FarSite:
    made = FarSite(root, **options)
    fill(made, files, seed=seed, largest=largest)
    return made


def make_smurf(root: Path, files: int, *, seed: int = 1, largest: int = 20_000, **options: Any) -> Smurf:
    """Files as a SMuRF server names them, each with its row; the table is emptied first."""
    made, dice = Smurf(root, **options), random.Random(seed)
    made.make_table()
    for n in range(files):
        at = FIRST + timedelta(seconds=n)
        session = b"20190803/%s/%d/outputs/" % (TARGET.encode(), FIRST.timestamp())
        name = session + b"%d_noise %03d.npy" % (at.timestamp(), n)
        made.write(name, dice.randbytes(0 if n == 7 else dice.randint(1, largest)))
        made.register(name, action=ACTIONS[n % len(ACTIONS)], at=at)
    return made
