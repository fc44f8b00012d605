"""Hypothesis against the ledgers. `HYPOTHESIS_PROFILE=explore` looks at other examples each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings

from skystow.adapters.memory import ManualClock, MemoryLedger
from skystow.model.records import Worker
from skystow.ports import Clock, Ledger
from skystow.testing.ledger_kit import ANNA, Opener
from skystow.testing.ledger_machine import LedgerMachine


@contextmanager
def in_memory() -> Iterator[Opener]:
    opened: list[MemoryLedger] = []

    def make(*, worker: Worker, clock: Clock) -> Ledger:
        opened.append(opened[0].beside(worker, clock) if opened else MemoryLedger(worker, clock))
        return opened[-1]

    yield make


@cache
def empty_ledger() -> dict[str, bytes]:
    """The files of an empty SQLite ledger, to be written again: migrations are not what is tested here."""
    from skystow.adapters.ledger import open_ledger

    with TemporaryDirectory() as home:
        open_ledger(f"sqlite:///{home}/ledger.sqlite", worker=ANNA, clock=ManualClock()).close()
        return {file.name: file.read_bytes() for file in Path(home).iterdir()}


@contextmanager
def in_sqlite() -> Iterator[Opener]:
    from skystow.adapters.ledger import open_ledger

    with TemporaryDirectory() as home:
        for name, content in empty_ledger().items():
            Path(home, name).write_bytes(content)

        def make(*, worker: Worker, clock: Clock) -> Ledger:
            return open_ledger(f"sqlite:///{home}/ledger.sqlite", worker=worker, clock=clock)

        yield make


class MemoryMachine(LedgerMachine):
    house = staticmethod(in_memory)


class SqliteMachine(LedgerMachine):
    house = staticmethod(in_sqlite)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=200, stateful_step_count=40)

TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=50, stateful_step_count=30)
