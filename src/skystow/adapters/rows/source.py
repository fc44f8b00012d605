"""Rows that wait for being copied, as arrivals. The table is read from its index, a page at a time, never whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from skystow.adapters.rows.tenancy import Tenancy
from skystow.errors import PlaceFault, Stopped
from skystow.model.records import Arrival, DeadLetter
from skystow.ports import Stop, Tree

Buried = Callable[[Sequence[bytes]], set[bytes]]
"""Which of some keys are dead letters (see `skystow.ports.Ledger.buried`)."""

Row = Mapping[str, Any]


class Table(Protocol):
    """Somebody else's. Raises `PlaceFault` while it is away, `OperatorFault` where a person must change something."""

    def shape(self, needed: Sequence[str]) -> object:
        """Raise `OperatorFault` where it is not what it should be, or lacks one of these columns."""

    def waiting(self, owner: str) -> Iterator[Mapping[int, bytes]]:
        """The rows of one owner that wait, in pages by id: the key that an arrival or a dead letter of each has."""
        ...

    def rows(self, ids: Sequence[int], columns: Sequence[str]) -> Sequence[Row]:
        """The values of those that still wait, as the driver gives them."""
        ...

    def close(self) -> None: ...


class Reader(Protocol):
    """Makes arrivals of rows. Pure."""

    @property
    def source(self) -> str: ...
    @property
    def columns(self) -> Sequence[str]: ...
    def read(self, row: Row) -> Arrival | DeadLetter: ...


class Chore(Protocol):
    """What else is to be done with the table, by whoever sweeps it."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should hear of; they grow."""
        ...

    @property
    def aside(self) -> Collection[bytes]:
        """Keys of what was given up because of its row; it is to be handed over again, should that wait again."""
        ...

    @property
    def ailing(self) -> PlaceFault | None:
        """What kept it from being done in the last sweep, and is no reason to archive less."""
        ...

    def saw(self, rows: Sequence[Row]) -> Sequence[Row]:
        """These wait; returns those that may be admitted now. The others are asked for again."""
        ...

    def work(self, *, stop: Stop) -> bool:
        """After all that waits was admitted; returns whether there is more now. Raises `PlaceFault`."""


class Idle:
    """A `Chore`: nothing else."""

    notes: Sequence[str] = ()
    aside: Collection[bytes] = ()
    ailing: PlaceFault | None = None

    def saw(self, rows: Sequence[Row]) -> Sequence[Row]:
        return rows

    def work(self, *, stop: Stop) -> bool:
        return False


class RowSource:
    """Implements `skystow.ports.Source`. A row is handed over once by each process: until it is copied it waits in the
    table for days perhaps, and only its key is read. A dead letter is not read again until it is exhumed."""

    def __init__(
        self,
        table: Table,
        tree: Tree,
        reader: Reader,
        owners: Sequence[str],
        tenancy: Tenancy,
        buried: Buried,
        chore: Chore | None = None,
    ) -> None:
        """`owners`: the value of the column that says whose a row is, of those that are ours."""
        self.name, self.tree, self.columns = reader.source, tree, reader.columns
        self._table, self._reader, self._owners = table, reader, tuple(owners)
        self._tenancy, self._buried, self._chore = tenancy, buried, chore or Idle()
        self._told: set[bytes] = set()

    @property
    def notes(self) -> Sequence[str]:
        return self._chore.notes

    @property
    def ailing(self) -> PlaceFault | None:
        return self._chore.ailing

    def sweep(self, *, stop: Stop) -> Iterator[Sequence[Arrival | DeadLetter]]:
        """See `Source.sweep`. Raises `OperatorFault` where the table is not what it should be, or where another
        ledger archives it."""
        self._table.shape(self.columns)
        self._tenancy.hold()
        yield from self._pass(stop)
        more = self._chore.work(stop=stop)
        self._told.difference_update(self._chore.aside)
        if more:
            yield from self._pass(stop)

    def _pass(self, stop: Stop) -> Iterator[Sequence[Arrival | DeadLetter]]:
        waiting: set[bytes] = set()
        for owner in self._owners:
            for page in self._table.waiting(owner):
                if stop.is_set():
                    raise Stopped(f"asked to stop in the sweep of {self.name}")
                waiting.update(page.values())
                fresh = self._fresh(page)
                if fresh:
                    rows = self._chore.saw(self._table.rows(fresh, self.columns))
                    if batch := [self._reader.read(row) for row in rows]:
                        yield batch
                        # Only now, because who comes back has written the batch down.
                        self._told.update(each.key for each in batch if isinstance(each, Arrival))
        self._told &= waiting

    def _fresh(self, page: Mapping[int, bytes]) -> list[int]:
        fresh = {number: key for number, key in page.items() if key not in self._told}
        dead = self._buried(list(fresh.values())) if fresh else set()
        return [number for number, key in fresh.items() if key not in dead]

    def settling(self) -> int:
        return 0  # a row is registered when its file is whole

    def wait(self, seconds: float, *, stop: Stop) -> None:
        stop.wait(seconds)

    def close(self) -> None:
        self._tenancy.release()
        self._table.close()
