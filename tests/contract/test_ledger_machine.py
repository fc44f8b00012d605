"""Hypothesis against the ledgers. `HYPOTHESIS_PROFILE=explore` looks at other examples each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.servers import EmptyLedger

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


@contextmanager
def on_server(empty: EmptyLedger) -> Iterator[Opener]:
    from skystow.adapters.ledger import open_ledger

    url = empty()

    def make(*, worker: Worker, clock: Clock) -> Ledger:
        return open_ledger(url, worker=worker, clock=clock, hosts_clock=True)

    yield make


class MemoryMachine(LedgerMachine):
    house = staticmethod(in_memory)


class SqliteMachine(LedgerMachine):
    house = staticmethod(in_sqlite)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=200, stateful_step_count=40)

TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=50, stateful_step_count=30)


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_servers(kind: str, request: pytest.FixtureRequest) -> None:
    empty: EmptyLedger = request.getfixturevalue(f"{kind}_ledger")

    class ServerMachine(LedgerMachine):
        house = staticmethod(partial(on_server, empty))

    run_state_machine_as_test(ServerMachine, settings=settings(max_examples=8, stateful_step_count=20))
