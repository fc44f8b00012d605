"""One table and target has one ledger (see `skystow.adapters.rows.tenancy`): on a server, by its locks."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.adapters.rows.tenancy import PAUSE, TRIES, FileTenancy, Tenancy, mark, refused
from skystow.errors import SkystowError

WHAT = "target"
"""What an owner of rows is called."""


def tenancy(table: FilesTable, targets: Sequence[str], ledger: str) -> Tenancy:
    """`ledger` is its identity (see `skystow.ports.Ledger.identity`)."""
    if table.on_server:
        return ServerTenancy(table, targets, ledger)
    return FileTenancy(table.url.database or "", table, table.name, targets, ledger, what=WHAT)


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
                    gate = "skystow:" + mark(database, self._table.name, target)
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
        raise refused(self._table, target, WHAT)

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
