"""Rows that wait for being copied, as arrivals. The table is read from its index, a page at a time, never whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from skystow.adapters.pysmurf_files.rows import Reader, columns
from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.adapters.pysmurf_files.tenancy import Tenancy
from skystow.errors import Stopped
from skystow.model.records import Arrival, DeadLetter
from skystow.ports import Stop, Tree

Buried = Callable[[Sequence[bytes]], set[bytes]]
"""Which of some keys are dead letters (see `skystow.ports.Ledger.buried`)."""


class PysmurfFilesSource:
    """Implements `skystow.ports.Source`. A row is handed over once by each process: until it is copied it waits in the
    table for days perhaps, and only its number is read. A dead letter is not read again until it is exhumed."""

    def __init__(
        self, table: FilesTable, tree: Tree, reader: Reader, targets: Sequence[str], tenancy: Tenancy, buried: Buried
    ) -> None:
        self.name, self.tree = reader.source, tree
        self.columns = columns(reader.version, reader.layout)
        self._table, self._reader, self._targets = table, reader, tuple(targets)
        self._tenancy, self._buried = tenancy, buried
        self._told: set[int] = set()
        self._strangers = set(targets)
        self.notes: list[str] = []

    def sweep(self, *, stop: Stop) -> Iterator[Sequence[Arrival | DeadLetter]]:
        """See `Source.sweep`. Raises `OperatorFault` where the table is not what it should be, or where another
        ledger archives it."""
        self._table.shape(self.columns)
        self._tenancy.hold()
        waiting: set[int] = set()
        for target in self._targets:
            for page in self._table.uncopied(target):
                if stop.is_set():
                    raise Stopped(f"asked to stop in the sweep of {self.name}")
                waiting.update(page)
                fresh = self._fresh(page)
                if fresh:
                    rows = self._table.rows(fresh, self.columns)
                    if batch := [self._reader.read(row) for row in rows]:
                        yield batch
                        # Only now, because who comes back has written the batch down.
                        self._told.update(int(each.key) for each in batch if isinstance(each, Arrival))
        self._told &= waiting
        if self._strangers:
            self._look_for_strangers()

    def _look_for_strangers(self) -> None:
        """Targets that no row names, archived or not: perhaps they are misspelt. Once seen, they are known."""
        self._strangers = {target for target in self._strangers if not self._table.names(target)}
        self.notes[:] = [
            f"no row of {self._table} is of target {target!r}: is that the instance id of a monitor?"
            for target in sorted(self._strangers)
        ]

    def _fresh(self, page: Sequence[int]) -> list[int]:
        fresh = [number for number in page if number not in self._told]
        dead = self._buried([b"%d" % number for number in fresh]) if fresh else set()
        return [number for number in fresh if b"%d" % number not in dead]

    def settling(self) -> int:
        return 0  # a row is registered when its file is whole

    def wait(self, seconds: float, *, stop: Stop) -> None:
        stop.wait(seconds)

    def close(self) -> None:
        self._tenancy.release()
        self._table.close()
