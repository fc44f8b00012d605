"""Writes rows as a monitor does. `pysmurf_files_v1` is left as it is; what it has no column for is in another table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from skystow.adapters.pysmurf_files.blame import unfit
from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.adapters.rows.tenancy import mark
from skystow.errors import OperatorFault, PlaceFault, ReadOnly, Unreachable
from skystow.ports.monitor import Entry

EXTRA = "skystow_pysmurf_extra"
TELLING = ("pub_id", "action_timestamp")
"""Columns that tell two rows of one file apart; an older table may lack some."""

ZERO = "0000-00-00 00:00:00"
"""A time that is none, where the server is not strict."""

PATIENCE = 10
"""Seconds that a statement of another connection is waited for."""


class PysmurfFilesRegistrar:
    """Implements `skystow.ports.monitor.Registrar`. `target`: the monitor's instance id, by which an archiver finds its
    rows; `site` and `version` are written down with each row. `create`: make the table where there is none."""

    def __init__(self, table: FilesTable, *, target: str, site: str, version: str, create: bool = False) -> None:
        self._table, self._target, self._site, self._version = table, target, site, version
        self._create = create
        self.notes: list[str] = []
        self._ready = self._with_extra = self._closed = False
        self._row = sa.insert(table.definition)
        self._extra = sa.Table(
            EXTRA,
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("size", sa.BigInteger),
            sa.Column("deletable", sa.SmallInteger),
        )

    def mark(self) -> int:
        self._prepare()
        with self._table.reading() as connection:
            return connection.execute(sa.select(sa.func.max(sa.column("id"))).select_from(self._named)).scalar() or 0

    @property
    def _named(self) -> sa.TableClause:
        return sa.table(self._table.name)

    def _prepare(self) -> None:
        if self._ready:
            return
        if self._create:
            self._table.create()
        self._table.shape(("path", "md5sum", "instance_id", "copied", "failed_copy_attempts"))
        self.notes.clear()
        self._with_extra = False
        try:
            with self._table.writing() as connection:
                self._extra.create(connection, checkfirst=True)
            self._with_extra = True
        except ReadOnly as fault:  # whatever else it is passes, and then it is tried again
            self.notes.append(f"sizes are not written down, {EXTRA} cannot be made: {fault.message}")
        self._ready = True

    def known(self, entries: Sequence[Entry], after: int) -> set[int]:
        columns = self._table.shape().columns
        names = [name for name in ("path", "timestamp", "md5sum", "copied", *TELLING) if name in columns]
        query: sa.Select[Any] = sa.select(*map(_column, names)).select_from(self._named)
        query = query.where(sa.column("id") > after, sa.column("instance_id") == self._target)
        with self._watching(), self._alone() as connection:  # what was left behind is over: there, or not
            rows = [row._asdict() for row in connection.execute(query)]
        there = defaultdict[Any, list[dict[str, Any]]](list)
        for row in rows:
            there[_trait(row["path"], row["md5sum"], row)].append(row)
        return {index for index, entry in enumerate(entries) if self._take(entry, there, columns)}

    def _take(self, entry: Entry, there: dict[Any, list[dict[str, Any]]], columns: frozenset[str]) -> bool:
        """Whether one of these rows is the entry's; that is no other's, then."""
        said = {name: getattr(entry.said, name) for name in TELLING if name in columns}
        rows = there.get(_trait(entry.path, entry.md5, said), [])
        for row in rows:
            # The path of a copied one may be that of the archive. A time that the server's zone lacks was left out.
            when = str(row.get("timestamp") or ZERO)[:19]
            if (row["copied"] or row["path"] == entry.path) and when in (ZERO, str(_moment(entry.said.timestamp))):
                rows.remove(row)
                return True
        return False

    def register(self, entries: Sequence[Entry]) -> Mapping[int, str]:
        self._prepare()
        most = self._table.shape().path_size
        refused = {
            index: f"its path has {len(entry.path)} characters, and its column takes {most}"
            for index, entry in enumerate(entries)
            if most is not None and len(entry.path) > most
        }
        those = {index: entry for index, entry in enumerate(entries) if index not in refused}
        try:
            with self._watching(), self._alone() as connection:
                self._insert(connection, those.values())
        except _Unfit:
            refused |= self._one_by_one(those)
        return refused

    def _one_by_one(self, entries: Mapping[int, Entry]) -> dict[int, str]:
        """A value that the server does not take, as a letter that its charset lacks: the others are not to suffer. A
        time that its zone does not have is left out."""
        refused = {}
        for index, entry in entries.items():
            for timed in (True, False):
                try:
                    with self._watching(), self._alone() as connection:
                        self._insert(connection, [entry], timed=timed)
                except _Unfit as error:
                    refused[index] = str(error)
                else:
                    refused.pop(index, None)
                    break
        return refused

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except (OperatorFault, PlaceFault):
            self._ready = False  # whatever it was may have changed
            raise

    @contextmanager
    def _alone(self) -> Iterator[sa.Connection]:
        """A transaction while no other connection writes rows of this target: a server may still be at a statement of
        a monitor that has ended or was killed. Whoever is closed commits nothing."""
        with self._table.blaming(), self._table.engine.connect() as connection:
            connection.execution_options(begin="BEGIN IMMEDIATE")
            try:
                if self._table.on_server:
                    self._enter(connection)
                with connection.begin():
                    yield connection
                    if self._closed:
                        raise Unreachable(f"{self._table}: nobody waits for it any more", place=self._table.place)
            finally:
                if self._table.on_server and not connection.invalidated:
                    self._leave(connection)

    def _enter(self, connection: sa.Connection) -> None:
        got = connection.execute(sa.text("SELECT GET_LOCK(:name, :patience)"), self._gate()).scalar()
        connection.rollback()
        if got != 1:
            raise Unreachable(
                f"{self._table}: another connection is at work for {self._target}, for more than {PATIENCE} s",
                place=self._table.place,
                remedy="it is tried again; does another monitor have the same instance id?",
            )

    def _leave(self, connection: sa.Connection) -> None:
        try:
            connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), self._gate())
            connection.rollback()
        except DBAPIError:
            connection.invalidate()  # the lock ends with it; back in the pool it would keep it

    def _gate(self) -> dict[str, Any]:
        name = f"skystow-monitor:{mark(str(self._table.url.database), self._table.name, self._target)}"
        return {"name": name, "patience": PATIENCE}

    def _insert(self, connection: sa.Connection, entries: Iterable[Entry], *, timed: bool = True) -> None:
        extras = []
        for entry in entries:
            values = {key: value for key, value in self._values(entry).items() if value is not None}
            if not timed:
                values["timestamp"] = None
            try:
                made = connection.execute(self._row, values)
            except DBAPIError as error:
                if unfit(error):
                    raise _Unfit(f"the table does not take it: {error.orig}") from error
                raise
            number = made.inserted_primary_key[0] if made.inserted_primary_key else made.lastrowid
            if not entry.path.isascii():
                self._compare(connection, number, entry.path)
            extras.append({"id": number, "size": entry.size, "deletable": int(entry.deletable)})
        if extras and self._with_extra:
            connection.execute(sa.insert(self._extra), extras)

    def _compare(self, connection: sa.Connection, number: int, path: str) -> None:
        """A server that is not strict puts a question mark for a letter that it lacks, and says nothing."""
        query: sa.Select[Any] = sa.select(_column("path")).select_from(self._named).where(sa.column("id") == number)
        if connection.execute(query).scalar() != path:
            raise _Unfit("its path holds letters that the table does not have")

    def _values(self, entry: Entry) -> dict[str, Any]:
        said, columns = entry.said, self._table.shape().columns
        values = {
            "path": entry.path,
            "action": said.action,
            "timestamp": _moment(said.timestamp),
            "action_timestamp": said.action_timestamp,
            "format": said.format,
            "plot": None if said.plot is None else int(said.plot),
            "site": self._site,
            "pub_id": said.pub_id,
            "script_id": said.script_id,
            "instance_id": self._target,
            "copied": 0,
            "failed_copy_attempts": 0,
            "md5sum": entry.md5,
            "pysmurf_version": said.pysmurf_version,
            "socs_version": self._version,
        }
        return {name: value for name, value in values.items() if name in columns}

    def close(self) -> None:
        self._closed = True
        self._table.close()


def _column(name: str) -> sa.ColumnClause[Any]:
    return sa.column(name)


def _trait(path: str, md5: bytes, said: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is the same in a row and in the entry that it came of. Not letters that a server puts question marks for."""
    plain = [str(said.get(name)).encode("ascii", "replace") for name in TELLING]
    return (path.rpartition("/")[2], bytes(md5), *plain)


class _Unfit(Exception):
    """A value that the table does not take, or not as it is."""


def _moment(seconds: float) -> datetime:
    """UTC without a zone, in whole seconds, as the original's monitor wrote it."""
    return datetime.fromtimestamp(int(seconds), UTC).replace(tzinfo=None)
