"""A `pysmurf_files` table: killed at every act between its rows and what they say in the end; then run again.

After each, table, tree and ledger are compared with what was registered.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.matrix import acts_of, each, every, kill_each
from tests.crash.smurf_kit import TABLE, Smurf, make_smurf
from tests.nursery import Nursery
from tests.sshd import Sshd

MakeSmurf = Callable[..., Smurf]
PARTS = 4
TOLD = (f"commit {TABLE}", "commit notices")
"""The rows are updated; the ledger writes the notices with the verdicts, and marks them sent."""


WITH_POSTGRES = "MariaDB over SSH, ledger on PostgreSQL"


@pytest.fixture(
    scope="module",
    params=["SQLite over SSH", "MariaDB over SSH", pytest.param(WITH_POSTGRES, marks=pytest.mark.long)],
)
def make(request: pytest.FixtureRequest, far: Sshd) -> MakeSmurf:
    """Table and ledger in SQLite, both on MariaDB, or each on a server of its own."""
    kind: str = request.param
    table, ledger = "", None
    if kind != "SQLite over SSH":
        table = request.getfixturevalue("mariadb_table")
        ledger = request.getfixturevalue("postgres_ledger" if kind == WITH_POSTGRES else "mariadb_ledger")

    def made(root: Path, **options: Any) -> Smurf:
        return make_smurf(root, 3, sync="fsync", table=table, pull=far, ledger=ledger() if ledger else None, **options)

    return made


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory, make: MakeSmurf, nursery: Nursery) -> list[str]:
    made = make(tmp_path_factory.mktemp("count"))
    made.runner = nursery.run
    return acts_of(made)


def test_the_acts_are_what_we_think(acts: list[str]) -> None:
    """The file has its name before the ledger says so, the ledger says so before the table, and what was told is
    marked as told last of all."""
    links = [at for at, act in enumerate(acts) if act.startswith("link ")]
    told = acts.index(f"commit {TABLE}")
    verdicts = [at for at, act in enumerate(acts) if act == "commit notices"]
    assert len(links) == 3
    assert links[0] < verdicts[0] < told < verdicts[-1]
    assert links[-1] < verdicts[0] or len(verdicts) > 2, "where it was so slow that not all were settled together"
    assert Counter(acts)["spawn rsync"] == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_the_table_is_told(
    tmp_path: Path, nursery: Nursery, make: MakeSmurf, acts: list[str], when: str
) -> None:
    """What was told and not marked is told again, which changes nothing."""
    blows = list(each(acts, when, TOLD.__contains__))
    assert len(blows) >= 2
    kill_each(tmp_path, make, blows, runner=nursery.run)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
def test_killed_at_every_other_commit(
    tmp_path: Path, nursery: Nursery, make: MakeSmurf, acts: list[str], when: str
) -> None:
    blows = each(acts, when, lambda sort: sort.startswith("commit") and sort not in TOLD)
    kill_each(tmp_path, make, blows, runner=nursery.run)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_act(
    tmp_path: Path, nursery: Nursery, make: MakeSmurf, acts: list[str], part: int, when: str
) -> None:
    kill_each(tmp_path, make, every(acts, part, PARTS, when), runner=nursery.run)


# ── a file that cannot be had ───────────────────────────────────────────────────────────────────────────────────

ATTEMPTS = 2
IMPATIENT = {"max_attempts": ATTEMPTS, "first": 0.05, "factor": 1}


def with_one_missing(make: MakeSmurf, root: Path) -> tuple[Smurf, int]:
    """And the id of its row."""
    made = make(root, retry=IMPATIENT)
    number = min(made.rows)
    os.unlink(made.at_source(made.rows[number].name))
    return made, number


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_a_failure_is_counted(tmp_path: Path, nursery: Nursery, make: MakeSmurf, when: str) -> None:
    """The counter says how many attempts were spent: each once, however often the table was told."""
    counted, _ = with_one_missing(make, tmp_path / "count")
    counted.runner = nursery.run
    listed = tmp_path / "acts"
    assert counted.run({"count": str(listed)}).returncode == 3
    blows = list(each(listed.read_text().splitlines(), when, TOLD.__contains__))
    assert len(blows) >= 2
    for n, (what, blow, _) in enumerate(blows):
        made, number = with_one_missing(make, tmp_path / str(n))
        made.runner = nursery.run
        first = made.run({"kill": blow})
        assert first.returncode in (-signal.SIGKILL, 3), first.stderr.decode()
        again = made.run(None)
        assert again.returncode == 3, (what, blow, again.stderr.decode())
        assert json.loads(again.stdout)["quarantined"] == 1
        row = made.read_table()[number]
        assert (row["copied"], row["failed_copy_attempts"]) == (0, ATTEMPTS), (what, blow)
        del made.truth[made.rows.pop(number).name]
        with made.session() as connection:
            connection.exec_driver_sql(f"DELETE FROM {TABLE} WHERE id = {number}")  # noqa: S608
        made.assert_whole()
