"""What else is done with suprsync's database in each sweep: rows that were set aside by hand are withdrawn, directories
that are complete are finalized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from skystow.adapters.rows.source import Row
from skystow.adapters.suprsync.database import HEEDED, UNPROVEN, SuprSyncDatabase
from skystow.adapters.suprsync.finalizer import Finalizer
from skystow.ports import Stop

PAGE = 1_000

_SET_ASIDE = sa.text(
    "SELECT id, local_path FROM supersync_v0 WHERE archive_name = :archive"  # noqa: S608
    f" AND {UNPROVEN} AND id > :after AND NOT {HEEDED} ORDER BY id LIMIT {PAGE}"
)

Withdraw = Callable[[bytes, str], None]
"""Give up what was admitted under this key, from this path, if anything was and is still to be done."""


class Upkeep:
    """Implements `skystow.adapters.rows.source.Chore`."""

    def __init__(
        self, database: SuprSyncDatabase, archives: Sequence[str], withdraw: Withdraw, finalizer: Finalizer | None
    ) -> None:
        self._database, self._archives, self._withdraw = database, tuple(archives), withdraw
        self._finalizer = finalizer
        self._aside: set[int] = set()

    @property
    def notes(self) -> Sequence[str]:
        return self._finalizer.notes if self._finalizer else ()

    def saw(self, rows: Sequence[Row]) -> None:
        if self._finalizer:
            self._finalizer.saw(rows)

    def work(self, *, stop: Stop) -> bool:
        aside: set[int] = set()
        for archive in self._archives:
            for row in self._set_aside(archive):
                if row.id not in self._aside and isinstance(row.local_path, str):
                    self._withdraw(b"%d" % row.id, row.local_path)
                aside.add(row.id)
        self._aside = aside
        return self._finalizer.work(stop=stop) if self._finalizer else False

    def _set_aside(self, archive: str) -> Iterator[Any]:
        after = -1
        while True:
            with self._database.reading() as connection:
                page = connection.execute(_SET_ASIDE, {"archive": archive, "after": after}).all()
            if not page:
                return
            yield from page
            after = page[-1].id
