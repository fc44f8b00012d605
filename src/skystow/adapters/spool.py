"""Datagrams that wait to be registered, in an SQLite file of our own. What was added survives a power cut."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from skystow.errors import ConfigError, NoSpace, OperatorFault, Unreachable
from skystow.model.records import shown
from skystow.model.sequence import Sequence as Numbers
from skystow.ports import Stop
from skystow.ports.monitor import Census, Spooled

PLACE = "spool"
SENDERS = 1_000
"""Senders that are remembered: anybody may invent some."""

LOOK = 0.2
"""Seconds between two looks whether it is free."""

SHOWN = 5
"""Reasons in a census."""

APPLICATION_ID, VERSION = 0x534B5950, 1  # "SKYP"
_TABLES = """\
CREATE TABLE waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, raw BLOB NOT NULL, due REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, after INTEGER, why TEXT NOT NULL DEFAULT '');
CREATE INDEX ix_waiting_due ON waiting (due, id);
CREATE TABLE senders (name TEXT PRIMARY KEY, expected INTEGER, time REAL NOT NULL, received INTEGER NOT NULL,
    lost INTEGER NOT NULL, restarts INTEGER NOT NULL, repeated INTEGER NOT NULL, heard_at REAL NOT NULL);
"""


class SqliteSpool:
    """Implements `skystow.ports.monitor.Spool`. Its directory is made; raises `OperatorFault` where it cannot be."""

    def __init__(self, path: str, *, patience: float = 30.0, stop: Stop | None = None) -> None:
        """`patience`: seconds that one who holds it already is waited for; not once `stop` is set."""
        self.path = os.path.abspath(path)
        self._lock = threading.Lock()
        try:
            os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        except OSError as error:
            raise OperatorFault(
                f"no directory for the spool {shown(self.path)}: {error.strerror}", remedy="name another with --spool"
            ) from error
        try:
            self._open(time.monotonic() + patience, stop)
        except sqlite3.Error as error:
            raise OperatorFault(
                f"the spool {shown(self.path)} cannot be used: {error}", remedy="name another with --spool"
            ) from error

    def _open(self, due: float, stop: Stop | None) -> None:
        while True:
            self._connection = sqlite3.connect(self.path, timeout=LOOK, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except (sqlite3.Error, OperatorFault) as error:
                self._connection.close()
                held = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not held or time.monotonic() > due or (stop is not None and stop.is_set()):
                    raise
            else:
                return

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")  # two monitors of one spool would each register what is in it
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        owner, version = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
        empty = not run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES}")
            run(f"PRAGMA application_id={APPLICATION_ID}")
            run(f"PRAGMA user_version={VERSION}")
            run("COMMIT")
            descriptor = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        elif (owner, version) != (APPLICATION_ID, VERSION):
            raise ConfigError(f"{shown(self.path)} is no spool of ours", remedy="name another with --spool")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OverflowError) as error:
                full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
                kind = NoSpace if full else Unreachable
                raise kind(f"{shown(self.path)}: {error}", place=PLACE, remedy="it is tried again") from error

    def add(self, raws: Sequence[tuple[float, bytes]], numbers: Mapping[str, Numbers]) -> None:
        with self._writing() as connection:
            connection.executemany("INSERT INTO waiting (at, raw, due) VALUES (?, ?, 0)", raws)
            connection.executemany(
                "INSERT OR REPLACE INTO senders VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (name, n.expected, n.time, n.received, n.lost, n.restarts, n.repeated, n.heard_at)
                    for name, n in numbers.items()
                ],
            )

            if connection.execute("SELECT count(*) FROM senders").fetchone()[0] > 2 * SENDERS:
                newest = "SELECT name FROM senders ORDER BY heard_at DESC LIMIT ?"
                connection.execute(f"DELETE FROM senders WHERE name NOT IN ({newest})", (SENDERS,))  # noqa: S608

    def numbers(self) -> Mapping[str, Numbers]:
        with self._writing() as connection:
            rows = connection.execute("SELECT * FROM senders ORDER BY heard_at")
            return {name: Numbers(*values) for name, *values in rows}

    def due(self, now: float, *, limit: int) -> Sequence[Spooled]:
        query = "SELECT id, at, raw, tries, after FROM waiting WHERE due <= ? ORDER BY due, id LIMIT ?"
        with self._writing() as connection:
            return [Spooled(*row) for row in connection.execute(query, (now, limit))]

    def begin(self, ids: Collection[int], after: int) -> None:
        with self._writing() as connection:
            connection.executemany("UPDATE waiting SET after = ? WHERE id = ?", [(after, each) for each in ids])

    def settle(self, done: Collection[int], later: Mapping[int, tuple[float, str]]) -> None:
        with self._writing() as connection:
            connection.executemany("DELETE FROM waiting WHERE id = ?", [(each,) for each in done])
            connection.executemany(
                "UPDATE waiting SET due = ?, why = ?, tries = tries + 1 WHERE id = ?",
                [(due, why, each) for each, (due, why) in later.items()],
            )

    def census(self) -> Census:
        query = "SELECT count(*), min(at), coalesce(sum(why != ''), 0) FROM waiting"
        with self._writing() as connection:
            why = connection.execute("SELECT why FROM waiting WHERE why != '' ORDER BY id LIMIT ?", (SHOWN,))
            waiting, oldest, fileless = connection.execute(query).fetchone()
            return Census(waiting, oldest, fileless, [row[0] for row in why])

    def volume(self) -> int:
        with self._writing() as connection:
            return int(connection.execute("SELECT coalesce(sum(length(raw)), 0) FROM waiting").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()
