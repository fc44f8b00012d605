"""Tells the table what became of its rows. Every update says how it is, not what has changed: safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import sqlalchemy as sa
from sqlalchemy.exc import DataError

from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.adapters.rows.verdicts import Change, Counted, Row, in_order
from skystow.model.records import Notice, shown
from skystow.model.transfer import Step
from skystow.ports import Dossier

STEPS = frozenset({Step.DELIVERED, Step.RETRY, Step.QUARANTINED, Step.REQUEUED})
"""What its outbox must hold."""


class PysmurfFilesAnnouncer:
    """Implements `skystow.ports.Announcer`.

    `roots` are the destinations that count, in order, each with its root: a row is copied when all of them have it,
    and its path becomes that in the first. `dossier` is asked where there are several. `warn` hears of paths that do
    not fit their column. Raises `PlaceFault`, `OperatorFault`.
    """

    def __init__(
        self,
        table: FilesTable,
        roots: Mapping[str, str],
        *,
        rewrite_path: bool,
        dossier: Callable[[int], Dossier | None],
        warn: Callable[[str], None],
    ) -> None:
        self._table, self._roots, self._rewrite = table, dict(roots), rewrite_path
        self._counted, self._warn = Counted(roots, dossier), warn
        names = ("id", "path", "timestamp", "copied", "failed_copy_attempts")
        rows = sa.table(table.name, *map(sa.column, names))
        c = rows.c
        ours = sa.update(rows).where(c.id == sa.bindparam("row"))
        if table.on_server:
            # Old servers give the first TIMESTAMP of a table ON UPDATE CURRENT_TIMESTAMP: unless it is set, it is lost.
            ours = ours.values(timestamp=c.timestamp)
        self._copied = ours.values(copied=1)
        self._moved = self._copied.values(path=sa.bindparam("there"))
        waiting = ours.where(sa.or_(c.copied.is_(None), c.copied == 0))
        spent, n = sa.func.coalesce(c.failed_copy_attempts, 0), sa.bindparam("n", type_=sa.Integer)
        most = sa.func.greatest(spent, n) if table.on_server else sa.func.max(spent, n)
        self._failed = waiting.values(failed_copy_attempts=most)
        self._again = waiting.values(failed_copy_attempts=0)

    def announce(self, notices: Sequence[Notice]) -> None:
        ours = [each for each in notices if self._counted.concerns(each)]
        if not ours:
            return
        size = self._table.shape(("id", "path", "copied", "failed_copy_attempts")).path_size
        changes = [change for each in ours if (change := self._change(each, size))]
        with self._table.writing() as connection:
            for statement, some in in_order(changes):
                self._write(connection, statement, some)

    def _change(self, notice: Notice, size: int | None) -> Change | None:
        row: Row = {"row": int(notice.key)}
        match notice.kind:
            case Step.DELIVERED:
                path = self._whole(notice)
                if path is None:
                    return None
                if not self._rewrite:
                    return self._copied, row
                if not _fits(path, size):
                    self._warn_of(row, path)
                    return self._copied, row
                return self._moved, row | {"there": path}
            case Step.RETRY | Step.QUARANTINED:
                return self._failed, row | {"n": notice.body["attempts"]}
            case Step.REQUEUED:
                return self._again, row
        return None

    def _write(self, connection: sa.Connection, statement: sa.Update, rows: Sequence[Row]) -> None:
        try:
            connection.execute(statement, rows)
        except DataError:  # a character that the column's charset does not have
            if statement is not self._moved:
                raise
            for row in rows:
                try:
                    connection.execute(self._moved, row)
                except DataError:
                    self._warn_of(row, str(row["there"]))
                    connection.execute(self._copied, {"row": row["row"]})

    def _warn_of(self, row: Row, path: str) -> None:
        self._warn(
            f"{self._table}: row {row['row']!r} is copied, but its path stays: {shown(path)} does not fit the column"
        )

    def _whole(self, notice: Notice) -> str | None:
        """Where the first copy is, if every copy that counts is there."""
        path = self._counted.whole(notice)
        return None if path is None else str(PurePosixPath(self._roots[self._counted.first]) / path)


def _fits(path: str, size: int | None) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return size is None or len(path) <= size
