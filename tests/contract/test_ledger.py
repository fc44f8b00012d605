"""The ledgers against their contract. Another database is another URL in `URLS`."""

from __future__ import annotations

from pathlib import Path

import pytest

from skystow.adapters.memory import MemoryLedger
from skystow.model.records import Worker
from skystow.ports import Clock, Ledger
from skystow.testing.ledger_contract import LedgerContract
from skystow.testing.ledger_kit import Opener

URLS = ["sqlite:///{tmp_path}/ledger.sqlite"]


class TestMemory(LedgerContract):
    @pytest.fixture
    def make(self) -> Opener:
        opened: list[MemoryLedger] = []

        def make(*, worker: Worker, clock: Clock) -> Ledger:
            opened.append(opened[0].beside(worker, clock) if opened else MemoryLedger(worker, clock))
            return opened[-1]

        return make


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.split(":")[0])
class TestSql(LedgerContract):
    @pytest.fixture
    def make(self, url: str, tmp_path: Path) -> Opener:
        from skystow.adapters.ledger import open_ledger

        def make(*, worker: Worker, clock: Clock) -> Ledger:
            return open_ledger(url.format(tmp_path=tmp_path), worker=worker, clock=clock)

        return make
