"""Targets that no row names, archived or not: perhaps they are misspelt. Once seen, they are known."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.adapters.rows.source import Row
from skystow.errors import PlaceFault
from skystow.ports import Stop


class Strangers:
    """A `Chore` of the source that sweeps for `targets`."""

    def __init__(self, table: FilesTable, targets: Sequence[str]) -> None:
        self._table, self._strangers = table, set(targets)
        self.notes: list[str] = []

    aside = frozenset[bytes]()
    ailing: PlaceFault | None = None

    def saw(self, rows: Sequence[Row]) -> Sequence[Row]:
        return rows

    def work(self, *, stop: Stop) -> bool:
        with contextlib.suppress(PlaceFault):  # a note is not worth a sweep: the next one looks again
            self._strangers = {target for target in self._strangers if not self._table.names(target)}
        self.notes[:] = [
            f"no row of {self._table} is of target {target!r}: is that the instance id of a monitor?"
            for target in sorted(self._strangers)
        ]
        return False
