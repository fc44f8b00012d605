"""A SQLite ledger in a directory of its own, and its file laid bare."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from skystow.adapters.ledger import SqlLedger, open_ledger
from skystow.adapters.memory import ManualClock
from skystow.errors import LedgerUnusable, SkystowError
from skystow.model.records import Worker
from skystow.testing.ledger_kit import ANNA


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqlLedger]:
    with closing(opened(path)) as ledger:
        yield ledger


def opened(path: Path | str, clock: ManualClock | None = None, worker: Worker = ANNA) -> SqlLedger:
    return open_ledger(f"sqlite:///{path}", worker=worker, clock=clock or ManualClock())


def raw(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def refusal(path: Path | str) -> SkystowError:
    with pytest.raises(LedgerUnusable) as caught:
        opened(path)
    assert caught.value.remedy
    return caught.value
