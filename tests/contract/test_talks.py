"""The image door's side of the ledgers against its contracts: in memory, and in SQL on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers import EmptyLedger

from skystow.adapters.ledger import SqlLedger, open_ledger
from skystow.adapters.ledger.mail import EmbeddedBus
from skystow.adapters.memory import ManualClock, MemoryBus, MemoryLedger
from skystow.model.records import Worker
from skystow.ports.image import Catalogue
from skystow.ports.talk import Bus, Scoreboard
from skystow.testing.board_contract import OwnBoardContract, PassTime
from skystow.testing.bus_contract import BusContract, Dead, Spoil
from skystow.testing.catalogue_contract import CatalogueContract
from skystow.testing.ledger_kit import ANNA, BEN
from skystow.testing.talks_contract import Door, TalksContract

Open = Callable[[Worker], Door]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite", "mariadb", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Open]:
    """One and the same ledger, each time as another process has it."""
    if request.param == "memory":
        first = MemoryLedger(ANNA, clock)
        yield first.beside
        return
    url = f"sqlite:///{tmp_path}/ledger.db"
    if request.param != "sqlite":
        empty: EmptyLedger = request.getfixturevalue(f"{request.param}_ledger")
        url = empty()
    ledgers: list[SqlLedger] = []

    def opened(worker: Worker) -> SqlLedger:
        ledgers.append(open_ledger(url, worker=worker, clock=clock, hosts_clock=True))
        return ledgers[-1]

    yield opened
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def door(opened: Open) -> Door:
    return opened(ANNA)


class TestTalks(TalksContract):
    @pytest.fixture
    def beside(self, opened: Open) -> Door:
        return opened(BEN)


class TestBus(BusContract):
    @pytest.fixture
    def bus(self, door: Door) -> Bus:
        return door.bus

    @pytest.fixture
    def beside(self, opened: Open) -> Bus:
        return opened(BEN).bus

    @pytest.fixture
    def spoil(self, bus: Bus) -> Spoil:
        spoiled = iter([("FromTheFuture", "{}"), ("EndReadout", "{"), ("EndReadout", "[]"), ("EndReadout", "{}")] * 2)

        def spoil(address: str) -> None:
            assert isinstance(bus, MemoryBus | EmbeddedBus)
            bus.put(address, *next(spoiled))

        return spoil

    @pytest.fixture
    def dead(self, door: Door) -> Dead:
        return lambda: [letter.reason for letter in door.dead_letters(after=0, limit=9)]

    def test_what_is_exhumed_is_looked_at_again(self, door: Door, spoil: Spoil, dead: Dead) -> None:
        for _ in range(2):
            spoil("controller")
        assert door.bus.receive("controller", limit=9) == []
        letters = door.dead_letters(after=0, limit=9)
        assert door.exhume(letters[:1]) == 1
        assert len(dead()) == 1
        assert door.bus.receive("controller", limit=9) == []
        assert len(dead()) == 2


class TestBoard(OwnBoardContract):
    @pytest.fixture
    def board(self, door: Door) -> Scoreboard:
        return door.board

    @pytest.fixture
    def beside(self, opened: Open) -> Scoreboard:
        return opened(BEN).board

    @pytest.fixture
    def pass_time(self, clock: ManualClock) -> PassTime:
        return clock.advance


class TestCatalogue(CatalogueContract):
    @pytest.fixture
    def catalogue(self, door: Door) -> Catalogue:
        return door.catalogue

    @pytest.fixture
    def beside(self, opened: Open) -> Catalogue:
        return opened(BEN).catalogue
