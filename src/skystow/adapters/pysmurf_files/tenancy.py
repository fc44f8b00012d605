"""One table and target has one ledger: archivers with the same ledger share it, one with another is refused.

Two ledgers would each copy every row, and each tell the table that *its* copy is the one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.errors import OperatorFault, SkystowError

TRIES, PAUSE = 10, 0.1
"""Looks, and seconds between them, while another process is just taking or leaving the place."""


class Tenancy(Protocol):
    """`hold` is called before each sweep, takes what is free, and raises `OperatorFault` where another ledger is."""

    def hold(self) -> None: ...
    def release(self) -> None: ...


def tenancy(table: FilesTable, targets: Sequence[str], ledger: str) -> Tenancy:
    """`ledger` is its identity (see `skystow.ports.Ledger.identity`)."""
    return ServerTenancy(table, targets, ledger) if table.on_server else FileTenancy(table, targets, ledger)


def _refused(table: FilesTable, target: str) -> OperatorFault:
    return OperatorFault(
        f"{table}: another ledger archives target {target!r} already",
        remedy="use that ledger here too (ledger: in the site file), or end the other archiver",
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


class ServerTenancy:
    """User-level locks of MariaDB and MySQL (GET_LOCK), held by one connection of its own for the life of the process.

    For each target there are two: the *gate*, which whoever archives must hold, and the *badge*, which is named for
    the gate and the ledger. One connection takes the badge, then the gate. Who finds its own badge taken looks whether
    the same connection has the gate: then that process works with the same ledger, and it may share. Who gets the
    badge but not the gate has met another ledger. A lock ends with its connection; who shares tries for it again
    before each sweep, and so takes over. (Locks of MariaDB are of one server, not of a Galera cluster.)
    """

    def __init__(self, table: FilesTable, targets: Sequence[str], ledger: str) -> None:
        self._table, self._targets, self._ledger = table, tuple(targets), ledger
        self._connection: sa.Connection | None = None
        self._line: Any = None

    def hold(self) -> None:
        try:
            with self._table.blaming():
                connection = self._connected()
                database = connection.exec_driver_sql("SELECT DATABASE()").scalar_one()
                for target in self._targets:
                    gate = "skystow:" + _digest(database, self._table.name, target)
                    self._enter(connection, target, gate, f"{gate}:{self._ledger}")
        except (SkystowError, DBAPIError):
            self.release()
            raise

    def _connected(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._table.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._line = self._connection.connection.driver_connection
        return self._connection

    def _enter(self, connection: sa.Connection, target: str, gate: str, badge: str) -> None:
        me = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        for _ in range(TRIES):
            if self._holder(connection, gate) == me:
                return
            if self._get(connection, badge):
                if self._get(connection, gate):
                    return
                connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": badge})
            elif (other := self._holder(connection, badge)) is not None and other == self._holder(connection, gate):
                return
            time.sleep(PAUSE)
        raise _refused(self._table, target)

    @staticmethod
    def _get(connection: sa.Connection, name: str) -> bool:
        return connection.execute(sa.text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar() == 1

    @staticmethod
    def _holder(connection: sa.Connection, name: str) -> int | None:
        found = connection.execute(sa.text("SELECT IS_USED_LOCK(:name)"), {"name": name}).scalar()
        return None if found is None else int(found)

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _hang_up(self._line)
            try:
                connection.invalidate()  # the locks end with it; back in the pool it would keep them
                connection.close()
            except DBAPIError:
                pass  # it was gone already, and its locks with it


def _hang_up(line: Any) -> None:
    """A sweep may wait on it for a server that answers nothing: to close it would be to wait, too."""
    sock = getattr(line, "_sock", None)  # PyMySQL has no other way
    if sock is not None:
        with contextlib.suppress(OSError):  # it was gone already
            sock.shutdown(socket.SHUT_RDWR)


class FileTenancy:
    """A lock file beside an SQLite table for each target: shared by those whose ledger's identity stands in it."""

    def __init__(self, table: FilesTable, targets: Sequence[str], ledger: str) -> None:
        self._table, self._targets, self._ledger = table, tuple(targets), ledger
        self._held: dict[str, int] = {}

    def hold(self) -> None:
        for target in self._targets:
            if target not in self._held:
                self._held[target] = self._take(target)

    def _take(self, target: str) -> int:
        path = f"{self._table.url.database}.skystow-{_digest(self._table.name, target)}.lock"
        try:
            descriptor = os.open(os.fsencode(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except OSError as error:
            remedy = "SQLite needs to write beside the database too: give the user that skystow runs as the right to"
            raise OperatorFault(
                f"{self._table}: no lock can be made beside it: {error.strerror}", remedy=remedy
            ) from error
        for _ in range(TRIES):
            if _locked(descriptor, fcntl.LOCK_EX):  # nobody is here: it is ours to say whose it is
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, self._ledger.encode(), 0)
            if _locked(descriptor, fcntl.LOCK_SH):
                if os.pread(descriptor, 64, 0) == self._ledger.encode():
                    return descriptor
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(PAUSE)
        os.close(descriptor)
        raise _refused(self._table, target)

    def release(self) -> None:
        held, self._held = self._held, {}
        _close(held.values())


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
