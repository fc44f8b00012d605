"""The ledgers against their contract: in memory, and in SQL on each database."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.servers import EmptyLedger

from skystow.adapters.memory import MemoryLedger
from skystow.model.records import Worker
from skystow.ports import Clock, Ledger
from skystow.testing.ledger_contract import LedgerContract
from skystow.testing.ledger_kit import Opener

URLS = ["sqlite", "mariadb", "postgres"]


class TestMemory(LedgerContract):
    @pytest.fixture
    def make(self) -> Opener:
        opened: list[MemoryLedger] = []

        def make(*, worker: Worker, clock: Clock) -> Ledger:
            opened.append(opened[0].beside(worker, clock) if opened else MemoryLedger(worker, clock))
            return opened[-1]

        return make


@pytest.mark.parametrize("kind", URLS)
class TestSql(LedgerContract):
    @pytest.fixture
    def url(self, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/ledger.sqlite"
        empty: EmptyLedger = request.getfixturevalue(f"{kind}_ledger")
        return empty()

    @pytest.fixture
    def make(self, url: str) -> Opener:
        from skystow.adapters.ledger import open_ledger

        def make(*, worker: Worker, clock: Clock) -> Ledger:
            # The contract's time stands still until a test says so: no server's does.
            return open_ledger(url, worker=worker, clock=clock, hosts_clock=True)

        return make
