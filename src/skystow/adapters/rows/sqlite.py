"""A table of somebody else's in an SQLite file: connections that see when another file stands there, short
transactions, and whose fault an error is."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from skystow.errors import OperatorFault, ReadOnly, SkystowError, Unreachable

PATIENCE = 30.0
"""Seconds for which a transaction waits for others that write."""

_MAY_NOT = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_FOREIGN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def engine(path: str, *, make: bool = False, patience: float = PATIENCE) -> sa.Engine:
    """`make`: the database may be made where there is none. A transaction begins as its execution option `begin` says.

    A file that was moved away or replaced is not written to any more: each transaction looks first.
    """
    mode = "rwc" if make else "rw"

    def connect() -> sqlite3.Connection:
        address = f"{Path(path).absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=patience, isolation_level=None, check_same_thread=False)
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        connection.execute("PRAGMA synchronous=FULL")  # what we say of a file must outlive a power cut
        return connection

    made = sa.create_engine("sqlite+pysqlite://", creator=connect, poolclass=sa.QueuePool, hide_parameters=True)

    @event.listens_for(made, "connect")
    def connected(_connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(path)

    @event.listens_for(made, "checkout")
    def checked_out(_connection: object, record: sa.pool.ConnectionPoolEntry, _proxy: object) -> None:
        if record.info.get("file") != _identity(path):
            raise DisconnectionError(f"{path} is another file now")

    @event.listens_for(made, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return made


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def blame(error: sqlite3.Error, table: str, place: str, *, lacking: str) -> SkystowError | None:
    """None: ours, a bug. `lacking`: what to do where there is no such file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _MAY_NOT:
        remedy = "give the user that skystow runs as the right to write"
        return ReadOnly(f"{table}: {error}", place=place, remedy=remedy)
    if code in _FOREIGN:
        return OperatorFault(f"{table}: {error}", remedy="name another database; this one was not touched")
    if code == sqlite3.SQLITE_CANTOPEN:
        return Unreachable(f"{table}: {error}", place=place, remedy=lacking)
    if isinstance(error, sqlite3.OperationalError):
        return Unreachable(f"{table}: {error}", place=place, remedy="skystow tries again by itself")
    return None
