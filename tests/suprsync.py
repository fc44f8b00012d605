"""suprsync's database as socs makes and writes it: both tables word for word, in WAL, by a session of somebody else."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """\
CREATE TABLE supersync_v0 (
	id INTEGER NOT NULL,
	local_path VARCHAR NOT NULL,
	local_md5sum VARCHAR NOT NULL,
	archive_name VARCHAR NOT NULL,
	remote_path VARCHAR NOT NULL,
	timestamp FLOAT NOT NULL,
	remote_md5sum VARCHAR,
	copied FLOAT,
	removed FLOAT,
	failed_copy_attempts INTEGER,
	deletable BOOLEAN,
	"ignore" BOOLEAN,
	PRIMARY KEY (id)
);
CREATE TABLE timecode_dirs_v0 (
	id INTEGER NOT NULL,
	timecode INTEGER NOT NULL,
	archive_name VARCHAR NOT NULL,
	completed BOOLEAN,
	synced BOOLEAN,
	finalized BOOLEAN,
	finalize_file_id INTEGER,
	PRIMARY KEY (id),
	FOREIGN KEY(finalize_file_id) REFERENCES supersync_v0 (id)
);
"""
"""As SQLAlchemy writes it for socs 0.6.4 (compared once; tabs and all)."""


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def timecode(ago: int = 0) -> int:
    """That of this moment, or of so many before."""
    return int(time.time() // 100_000) - ago


def within_one_timecode() -> None:
    """A test that begins now ends before the next timecode does."""
    while time.time() % 100_000 > 99_940:
        time.sleep(1)


@dataclass
class Database:
    path: Path

    def make(self) -> None:
        within_one_timecode()
        with closing(sqlite3.connect(self.path)) as session:
            session.execute("PRAGMA journal_mode=WAL")
            session.executescript(SCHEMA)

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=30)) as session:
            found = session.execute(statement, values).fetchall()
            session.commit()
            return found

    def register(self, *rows: Mapping[str, Any]) -> list[int]:
        """As `add_file` does it, in one transaction; returns the ids."""
        usual = {"timestamp": time.time(), "failed_copy_attempts": 0, "deletable": 1, "ignore": 0}
        ids = []
        with closing(sqlite3.connect(self.path, timeout=30)) as session:
            for row in rows:
                values = usual | dict(row)
                names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
                done = session.execute(
                    f"INSERT INTO supersync_v0 ({names}) VALUES ({marks})",  # noqa: S608
                    list(values.values()),
                )
                ids.append(int(done.lastrowid or 0))
            session.commit()
        return ids

    def row(self, number: int) -> dict[str, Any]:
        return self._rows("WHERE id = ?", (number,))[number]

    def rows(self) -> dict[int, dict[str, Any]]:
        """All, by id."""
        return self._rows()

    def _rows(self, where: str = "", values: Sequence[Any] = ()) -> dict[int, dict[str, Any]]:
        with closing(sqlite3.connect(self.path, timeout=30)) as session:
            session.row_factory = sqlite3.Row
            session.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            found = session.execute(f"SELECT * FROM supersync_v0 {where}", values)  # noqa: S608
            return {row["id"]: dict(row) for row in found}

    def told(self, number: int) -> tuple[bool, int]:
        """Whether it is said to be copied, and how often that failed. What is half said fails."""
        row = self.row(number)
        proven = row["remote_md5sum"] == row["local_md5sum"]
        assert proven is (row["copied"] is not None), row
        assert not proven or 0 <= time.time() - row["copied"] < 3600
        return proven, row["failed_copy_attempts"]

    def directory(self, code: int, archive: str = "smurf") -> dict[str, Any]:
        """Its one line; none: empty."""
        with closing(sqlite3.connect(self.path, timeout=30)) as session:
            session.row_factory = sqlite3.Row
            query = "SELECT * FROM timecode_dirs_v0 WHERE timecode = ? AND archive_name = ?"
            found = [dict(row) for row in session.execute(query, (code, archive))]
        assert len(found) <= 1, found
        return found[0] if found else {}

    def state(self, code: int, archive: str = "smurf") -> tuple[int, int, int]:
        """Completed, synced, finalized."""
        line = self.directory(code, archive)
        return line["completed"], line["synced"], line["finalized"]


def files_below(root: Path) -> dict[str, bytes]:
    """What a reader sees: no directory of ours."""
    found = (path for path in root.rglob("*") if path.is_file() and ".skystow" not in path.parts)
    return {os.fsdecode(path.relative_to(root)): path.read_bytes() for path in found}
