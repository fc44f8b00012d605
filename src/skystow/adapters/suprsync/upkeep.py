"""What else is done with suprsync's database in each sweep: rows that were set aside by hand are withdrawn, directories
that are complete are finalized."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from skystow.adapters.rows.source import Row
from skystow.adapters.suprsync.database import HEEDED, UNPROVEN, SuprSyncDatabase
from skystow.adapters.suprsync.finalizer import Finalizer
from skystow.adapters.suprsync.rows import key_of
from skystow.errors import PlaceFault
from skystow.ports import Stop

PAGE = 1_000

_SET_ASIDE = sa.text(
    "SELECT id, local_path, local_md5sum, remote_path FROM supersync_v0 WHERE archive_name = :archive"  # noqa: S608
    f" AND {UNPROVEN} AND id > :after AND NOT {HEEDED} ORDER BY id LIMIT {PAGE}"
)

Withdraw = Callable[[bytes, str], None]
"""Give up what was admitted under this key, from this path, if anything was and is still to be done."""

Resume = Callable[[Mapping[bytes, str]], None]
"""These rows wait, by key, with their paths: what was given up only because they were set aside is to be done again;
and what was admitted of them when they said something else is given up."""

Untold = Callable[[], set[bytes] | None]
"""Keys of rows of which the table has not been told yet that a person said: again. None: it has to be told of too much
for anybody to look through."""


class Upkeep:
    """Implements `skystow.adapters.rows.source.Chore`."""

    def __init__(
        self,
        database: SuprSyncDatabase,
        archives: Sequence[str],
        withdraw: Withdraw,
        resume: Resume,
        untold: Untold,
        finalizer: Finalizer | None,
    ) -> None:
        self._database, self._archives, self._finalizer = database, tuple(archives), finalizer
        self._withdraw, self._resume, self._untold = withdraw, resume, untold
        self._aside: set[bytes] = set()

    @property
    def notes(self) -> Sequence[str]:
        return self._finalizer.notes if self._finalizer else ()

    @property
    def ailing(self) -> PlaceFault | None:
        return self._finalizer.ailing if self._finalizer else None

    @property
    def aside(self) -> Collection[bytes]:
        return self._aside

    def saw(self, rows: Sequence[Row]) -> Sequence[Row]:
        rows = self._finalizer.saw(rows) if self._finalizer else rows
        keys = (key_of(row["id"], row["local_path"], row["local_md5sum"], row["remote_path"]) for row in rows)
        paths = zip(keys, (row["local_path"] for row in rows), strict=True)
        self._resume({key: path for key, path in paths if isinstance(path, str)})
        return rows

    def work(self, *, stop: Stop) -> bool:
        untold = self._untold()  # asked first: what is told meanwhile is among them
        if untold is not None:
            self._aside = self._give_up(untold)
        return self._finalizer.work(stop=stop) if self._finalizer else False

    def _give_up(self, untold: set[bytes]) -> set[bytes]:
        aside: set[bytes] = set()
        for archive in self._archives:
            for row in self._set_aside(archive):
                key = key_of(*row)
                if key in untold:
                    continue  # the table still says what it was told before
                if key not in self._aside and isinstance(row.local_path, str):
                    self._withdraw(key, row.local_path)
                aside.add(key)
        return aside

    def _set_aside(self, archive: str) -> Iterator[Any]:
        after = -1
        while True:
            with self._database.reading() as connection:
                page = connection.execute(_SET_ASIDE, {"archive": archive, "after": after}).all()
            if not page:
                return
            yield from page
            after = page[-1].id
