"""suprsync's database, somebody else's: its shape, what we read of it, and whose fault an error is.

Others write to it all the time. So each transaction is short, none is open while anything else is done, and one that
changes nothing takes no write lock. Whoever finds it locked waits a little, then calls it away: that costs no attempt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from skystow.adapters.rows import sqlite
from skystow.adapters.suprsync.rows import Claim, key_of, number_of
from skystow.errors import OperatorFault, PlaceFault
from skystow.model.records import path_bytes, shown
from skystow.ports import Dossier, Finding

PAGE = 1_000
PATIENCE = 5.0
"""Seconds to wait for others that write; a longer wait would make a stop slow."""

LARGEST_ID = 2**63 - 1

FILES, DIRECTORIES = "supersync_v0", "timecode_dirs_v0"

NEEDED: Mapping[str, frozenset[str]] = {
    FILES: frozenset(
        {"id", "local_path", "local_md5sum", "archive_name", "remote_path", "timestamp", "remote_md5sum", "copied"}
        | {"removed", "failed_copy_attempts", "deletable", "ignore"}
    ),
    DIRECTORIES: frozenset({"id", "timecode", "archive_name", "completed", "synced", "finalized", "finalize_file_id"}),
}

UNPROVEN = "remote_md5sum IS NOT local_md5sum"
"""Also where it is NULL. Word for word the condition of our first index, by which SQLite knows it again."""

HEEDED = '("ignore" IS NULL OR "ignore" = 0)'
"""Not set aside by hand. What is neither yes nor no is taken for yes: then nothing is done with the file."""

INDEXES: Mapping[str, str] = {
    "skystow_unproven": f"CREATE INDEX skystow_unproven ON supersync_v0 (archive_name, id) WHERE {UNPROVEN}",
    "skystow_remote": "CREATE INDEX skystow_remote ON supersync_v0 (archive_name, remote_path)",
    "skystow_local": "CREATE INDEX skystow_local ON supersync_v0 (local_path) WHERE removed IS NULL",
}
"""By the first, rows that wait are found without reading the others; it holds no more than those. By the second, the
rows of a timecode directory. By the third, of files that are here, the rows that name one."""

_WAITING = sa.text(
    "SELECT id, local_path, local_md5sum, remote_path FROM supersync_v0"  # noqa: S608
    f" WHERE archive_name = :archive AND {UNPROVEN} AND id > :after"
    f" AND removed IS NULL AND {HEEDED} ORDER BY id LIMIT {PAGE}"
)
_DELETABLE = sa.text(
    "SELECT local_path, local_md5sum, remote_path,"  # noqa: S608
    f" deletable, {HEEDED} AS heeded, {UNPROVEN} AS unproven FROM supersync_v0 WHERE id = :row"
)
_ALSO = sa.text(
    f"SELECT id, archive_name, {UNPROVEN} AS unproven FROM supersync_v0"  # noqa: S608
    " WHERE local_path = CAST(:local AS TEXT) AND removed IS NULL AND id <> :row"
    f" AND ({UNPROVEN} OR deletable IS NOT 1 OR NOT {HEEDED}) ORDER BY id LIMIT 1"
).bindparams(sa.bindparam("local", type_=sa.LargeBinary))
"""Whoever else needs a file: of any archive, admitted or not, and whoever copies that."""

_CLAIMS = sa.text("SELECT id, local_path, local_md5sum, remote_path FROM supersync_v0 WHERE id IN :ids").bindparams(
    sa.bindparam("ids", expanding=True)
)


class SuprSyncDatabase:
    """Safe from any thread. `place` names it in faults. Raises `PlaceFault` while it is away or locked,
    `OperatorFault` where a person must change something."""

    def __init__(self, path: str, *, place: str) -> None:
        self.path, self.place = path, place
        self.engine = sqlite.engine(path, patience=PATIENCE)
        self._shaped = False

    def __str__(self) -> str:
        return f"suprsync's database {shown(self.path)}"

    def close(self) -> None:
        self.engine.dispose()

    # ── transactions ────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self._blaming(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, committed when the block is left without an error."""
        with self._blaming(), self.engine.connect() as connection:
            connection.execution_options(begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            self._shaped = False  # whatever it was may have changed
            lacking = "is the path of database: right? suprsync and its publishers make it, skystow never does"
            original = error.orig if isinstance(error.orig, sqlite3.Error) else sqlite3.Error(str(error))
            fault = sqlite.blame(original, str(self), self.place, lacking=lacking)
            if fault is None:
                raise
            raise fault from error

    # ── shape ───────────────────────────────────────────────────────────────────────────────────────────────────

    def shape(self, needed: Sequence[str] = ()) -> None:
        """Raises `OperatorFault` where it is not suprsync's; looked up once. (`needed` is less than what is looked
        for.)"""
        if self._shaped:
            return
        with self.reading() as connection:
            for table, columns in NEEDED.items():
                found = set(
                    connection.execute(sa.text("SELECT name FROM pragma_table_info(:name)"), {"name": table}).scalars()
                )
                if not found:
                    raise OperatorFault(
                        f"{self}: there is no table {table}",
                        remedy="is the path of database: right? suprsync and its publishers make the tables",
                    )
                if missing := sorted(columns - found):
                    raise OperatorFault(
                        f"{self}: {table} has no column {', '.join(missing)}",
                        remedy="skystow knows supersync_v0 and timecode_dirs_v0 of socs 0.5 and later",
                    )
        self._shaped = True

    def lacks(self) -> list[str]:
        """Those of our indexes that are not there."""
        query = sa.text("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'supersync_v0'")
        with self.reading() as connection:
            found = set(connection.execute(query).scalars())
        return [name for name in INDEXES if name not in found]

    def add_indexes(self) -> list[str]:
        """Those that were not there; each in a transaction of its own, for each holds up all writers. On a large table
        that takes seconds."""
        self.shape()
        added = self.lacks()
        for name in added:
            with self.writing() as connection:
                connection.exec_driver_sql(INDEXES[name])
        return added

    # ── what we read ────────────────────────────────────────────────────────────────────────────────────────────

    def waiting(self, owner: str) -> Iterator[Mapping[int, bytes]]:
        """Keys of the rows of one archive that wait, in pages by id: neither removed nor to be ignored nor proven."""
        after = -LARGEST_ID
        while True:
            with self.reading() as connection:
                page = connection.execute(_WAITING, {"archive": owner, "after": after}).all()
            if not page:
                return
            yield {row.id: key_of(*row) for row in page}
            after = page[-1].id

    def rows(self, ids: Sequence[int], columns: Sequence[str]) -> list[Mapping[str, Any]]:
        """The values of those that still wait, as the driver gives them: no type is taken for granted."""
        names = ", ".join(f'"{name}"' for name in columns)
        query = sa.text(
            f"SELECT {names} FROM supersync_v0 WHERE id IN :ids AND {UNPROVEN} AND removed IS NULL AND {HEEDED}"  # noqa: S608
            " ORDER BY id"
        ).bindparams(sa.bindparam("ids", expanding=True))
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(query, {"ids": list(ids)}).mappings()]

    def claims(self, ids: Collection[int]) -> dict[int, Claim]:
        """What these rows say of their files, those that are there."""
        with self.reading() as connection:
            return {row.id: Claim(*row[1:]) for row in connection.execute(_CLAIMS, {"ids": list(ids)})}

    def keeps(self, dossier: Dossier) -> str:
        """What the table says against the removal of the local file of what was admitted; empty: nothing."""
        row, also = number_of(dossier.key), None
        with self.reading() as connection:
            found = connection.execute(_DELETABLE, {"row": row}).one_or_none()
            if found is not None and isinstance(found.local_path, str):
                also = connection.execute(_ALSO, {"row": row, "local": path_bytes(found.local_path)}).one_or_none()
        if found is None:
            return f"its row {row} is not there any more"
        if not Claim(found.local_path, found.local_md5sum, found.remote_path).is_of(row, dossier):
            return f"its row {row} says something else than when the file was admitted"
        if found.deletable != 1:
            return f"its row {row} is not deletable"
        if not found.heeded:
            return f"its row {row} is to be ignored"
        if found.unproven:
            return f"its row {row} has not been told yet that it is copied"
        if also is None:
            return ""
        return f"row {also.id} of archive {shown(str(also.archive_name))} names it too, and " + (
            "is not copied yet" if also.unproven else "is not deletable"
        )

    # ── for operators ───────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> Iterator[Finding]:
        """Findings of `skystow check`; changes nothing."""
        try:
            self.shape()
            lacks = self.lacks()
        except (OperatorFault, PlaceFault) as fault:
            yield Finding(self.place, ok=False, text=fault.message, remedy=fault.remedy)
            return
        slow = (
            f"; it lacks {' and '.join(lacks)}, so each look reads all of it (skystow suprsync index)" if lacks else ""
        )
        yield Finding(self.place, ok=True, text=f"{self} is there{slow}")
        try:
            with self.writing() as connection:
                connection.exec_driver_sql("UPDATE supersync_v0 SET copied = copied WHERE id IS NULL")
        except (OperatorFault, PlaceFault) as fault:
            yield Finding(f"{self.place}, writing", ok=False, text=fault.message, remedy=fault.remedy)
        else:
            yield Finding(f"{self.place}, writing", ok=True, text="rows may be updated")
