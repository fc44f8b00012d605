"""The ledger on a server: killed before and after every commit, and at every other act; then run again."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.crash.kit import Field, make_site
from tests.crash.matrix import acts_of, each, every, kill_each
from tests.nursery import Nursery
from tests.servers import EmptyLedger, Server

PARTS = 4


@pytest.fixture(scope="module", params=["mariadb", "postgres"])
def ledger(request: pytest.FixtureRequest) -> EmptyLedger:
    """On each of the servers."""
    found: EmptyLedger = request.getfixturevalue(f"{request.param}_ledger")
    return found


BIRTH = ("commit alembic_version", "commit identity")
"""Of a ledger: only in a database without tables."""


def is_commit(sort: str) -> bool:
    return sort.startswith("commit") and sort not in BIRTH


def site(ledger: EmptyLedger, root: Path) -> Field:
    """An archive and a handoff."""
    return make_site(root, 3, sync="fsync", ledger=ledger())


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory, ledger: EmptyLedger, nursery: Nursery) -> list[str]:
    made = site(ledger, tmp_path_factory.mktemp("count"))
    made.runner = nursery.run
    return acts_of(made)


def test_the_acts_are_what_we_think(acts: list[str]) -> None:
    """Commits that only read are none; the order is admission, claim, promise, link, verdict."""
    assert {"commit workers", "commit events", "commit transfers"} <= set(acts)
    assert 8 <= Counter(act.split()[0] for act in acts)["commit"] <= 16
    first_link = next(at for at, act in enumerate(acts) if act.startswith("link "))
    assert acts.index("commit events") < acts.index("commit transfers") < first_link


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_commit(
    tmp_path: Path, nursery: Nursery, ledger: EmptyLedger, acts: list[str], when: str
) -> None:
    kill_each(tmp_path, partial(site, ledger), each(acts, when, is_commit), runner=nursery.run)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_when_the_ledger_is_made(tmp_path: Path, nursery: Nursery, server: Server, when: str) -> None:
    """In a database without tables; MariaDB has most of them by then, PostgreSQL all or none."""

    def make(root: Path) -> Field:
        return make_site(root, 2, sync="fsync", handoff=False, ledger=server.ledger_url())

    counted = make(tmp_path / "count")
    counted.runner = nursery.run
    acts = acts_of(counted)
    assert set(BIRTH) <= set(acts)
    kill_each(tmp_path, make, each(acts, when, BIRTH.__contains__), runner=nursery.run)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_act(
    tmp_path: Path, nursery: Nursery, ledger: EmptyLedger, acts: list[str], part: int, when: str
) -> None:
    kill_each(tmp_path, partial(site, ledger), every(acts, part, PARTS, when), runner=nursery.run)
