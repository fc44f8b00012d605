"""How the timecode directories of an archive stand: questions to the database, each of this archive alone and without
what is set aside by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from skystow.adapters.suprsync.database import HEEDED, LARGEST_ID, UNPROVEN, SuprSyncDatabase
from skystow.adapters.suprsync.timecodes import OURS, SECONDS, completed, is_data, timecode, timecode_at

_OF = "archive_name = :archive AND remote_path >= :low AND remote_path < :high"
_LIKE_ONE = "remote_path GLOB '[1-9][0-9][0-9][0-9][0-9]/*'"
_DATA = f"substr(remote_path, 7, {len(OURS) + 1}) <> '{OURS}/'"

_ENTRIES = sa.text(
    "SELECT timecode, min(id) AS id, max(completed) AS completed, max(synced) AS synced, max(finalized) AS finalized,"
    " max(finalize_file_id) AS file FROM timecode_dirs_v0"
    " WHERE archive_name = :archive AND typeof(timecode) = 'integer' AND timecode BETWEEN 10000 AND 99999"
    " GROUP BY timecode ORDER BY timecode"
)
# These two are answered by the index of what is not proven, as large as the backlog, whatever was archived before. `+`
# and `id > :any`, which all are, keep SQLite from choosing another.
_UNPROVEN = sa.text(
    "SELECT count(*) FROM supersync_v0 WHERE archive_name = :archive"  # noqa: S608
    f" AND +remote_path >= :low AND +remote_path < :high AND {UNPROVEN} AND id > :any AND {HEEDED}"
)
_OLDEST = sa.text(
    f"SELECT min(timestamp) FROM supersync_v0 WHERE archive_name = :archive AND {UNPROVEN} AND id > :any"  # noqa: S608
    f" AND removed IS NULL AND {HEEDED} AND typeof(timestamp) IN ('real', 'integer')"
)
_ANY_DATA = sa.text(
    f"SELECT EXISTS (SELECT 1 FROM supersync_v0 WHERE {_OF} AND {_LIKE_ONE} AND {_DATA} AND {HEEDED})"  # noqa: S608
)
_YOUNG = sa.text(
    f"SELECT EXISTS (SELECT 1 FROM supersync_v0 WHERE {_OF} AND {HEEDED} AND typeof(timestamp) IN ('real', 'integer')"  # noqa: S608
    " AND timestamp > :since AND timestamp < :until)"
)
_PATHS = sa.text(f"SELECT remote_path FROM supersync_v0 WHERE {_OF} AND {HEEDED}")  # noqa: S608
_LATE = sa.text(
    f"SELECT id, remote_path FROM supersync_v0 WHERE {_OF} AND {_DATA} AND {HEEDED} AND id > :file ORDER BY remote_path"  # noqa: S608
)
_ANY = {"any": -LARGEST_ID - 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory as `timecode_dirs_v0` has it (several lines of one are one). `file`: the row of its finalization
    file."""

    timecode: int
    id: int
    completed: bool
    synced: bool
    finalized: bool
    file: int | None

    @property
    def settled(self) -> bool:
        """Its finalization file is entered already, by us or by suprsync."""
        return self.finalized or self.file is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """One directory. `unproven`: rows that it waits for; `late`: remote paths of rows that came after its finalization
    file was entered. Neither is looked for where it cannot matter."""

    archive: str
    entry: Entry
    completed: bool
    unproven: int = 0
    data: bool = True
    """Whether it holds more than finalization files."""
    late: tuple[str, ...] = ()
    settling: bool = False
    """Whether all of it is proven, and a row of it is so young that others may follow."""

    @property
    def synced(self) -> bool:
        return self.completed and not self.unproven


def entries(connection: sa.Connection, archive: str) -> dict[int, Entry]:
    rows = connection.execute(_ENTRIES, {"archive": archive})
    return {
        row.timecode: Entry(row.timecode, row.id, row.completed == 1, row.synced == 1, row.finalized == 1, row.file)
        for row in rows
    }


def unproven(connection: sa.Connection, archive: str, code: int) -> int:
    return int(connection.execute(_UNPROVEN, _range(archive, code, code) | _ANY).scalar_one())


def any_data(connection: sa.Connection, archive: str, first: int, last: int) -> bool:
    """Whether a timecode from `first` to `last` has a file that is more than a finalization file."""
    return first <= last and bool(connection.execute(_ANY_DATA, _range(archive, first, last)).scalar_one())


def remotes(connection: sa.Connection, archive: str, code: int) -> Iterator[str]:
    return (str(path) for path in connection.execute(_PATHS, _range(archive, code, code)).scalars())


def oldest_unproven(connection: sa.Connection, archive: str) -> float | None:
    """Its timestamp, unix seconds."""
    found = connection.execute(_OLDEST, {"archive": archive} | _ANY).scalar_one()
    return None if found is None else float(found)


def young(connection: sa.Connection, archive: str, code: int, at: float, settle: float) -> bool:
    """Whether a row was registered less than `settle` seconds ago; what says that it is of the future was not."""
    which = _range(archive, code, code) | {"since": at - settle, "until": at + settle}
    return bool(connection.execute(_YOUNG, which).scalar_one())


def standing(connection: sa.Connection, archive: str, entry: Entry, at: float, settle: float) -> Standing:
    """Of one that is not settled yet. `at`: this moment, unix seconds; `settle` as in the site file."""
    code, now = entry.timecode, timecode_at(at)
    over = entry.completed or code + 1 < now
    if not over:
        over = completed(code, now, newer=any_data(connection, archive, code + 1, now))
    if not over or at < (code + 1) * SECONDS + settle:
        return Standing(archive, entry, completed=False)
    waits = unproven(connection, archive, code)
    return Standing(
        archive,
        entry,
        completed=True,
        unproven=waits,
        data=any_data(connection, archive, code, code),
        settling=not waits and young(connection, archive, code, at, settle),
    )


def standings(database: SuprSyncDatabase, archive: str, at: float, settle: float = 0.0) -> list[Standing]:
    """For a person: what is not finalized yet, and what is and had late files. `at`: unix seconds."""
    found = []
    with database.reading() as connection:
        for entry in entries(connection, archive).values():
            if not entry.settled:
                found.append(standing(connection, archive, entry, at, settle))
                continue
            late: tuple[str, ...] = ()
            if entry.file is not None:
                which = _range(archive, entry.timecode, entry.timecode) | {"file": entry.file}
                late = tuple(str(row.remote_path) for row in connection.execute(_LATE, which))
            if late or not entry.finalized:
                found.append(Standing(archive, entry, completed=True, late=late))
    return found


def codes(rows: Iterable[Mapping[str, Any]], archive: str) -> set[int]:
    """Of the rows of an archive, the timecodes that have data."""
    found = set()
    for row in rows:
        remote = row["remote_path"]
        if row["archive_name"] == archive and isinstance(remote, str) and is_data(remote):
            found.add(timecode(remote))
    return {code for code in found if code is not None}


def _range(archive: str, first: int, last: int) -> dict[str, Any]:
    """From `FIRST/` to the end of `LAST/…`: what comes after a slash is a zero."""
    return {"archive": archive, "low": f"{first}/", "high": f"{last}0"}
