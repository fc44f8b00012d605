"""MariaDB is killed between a copy and what is to be written down of it; and of two archivers on one table, with one
ledger, one is frozen in the midst of a copy. Everything is told once, and no counter moves."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skystow.model.transfer import Step
from tests.crash.far_kit import PATIENT
from tests.crash.kit import Plan, ended, resume, wait_for_stop, wait_until, watched
from tests.crash.smurf_kit import TABLE, Smurf, make_smurf
from tests.servers import Server
from tests.sshd import Sshd

FILES = 6
AFTER_A_LINK = {"act": "link", "at": 2, "when": "after"}
"""Two files and a third stand in the archive, and neither the ledger nor the table knows."""


@contextmanager
def counted(made: Smurf) -> Iterator[Counter[int]]:
    """How often each row was updated, by its id, when the block is left."""
    counts: Counter[int] = Counter()
    with made.session() as connection:
        connection.exec_driver_sql("CREATE OR REPLACE TABLE told (id INT)")
        connection.exec_driver_sql(
            f"CREATE OR REPLACE TRIGGER tell AFTER UPDATE ON {TABLE} FOR EACH ROW INSERT INTO told VALUES (NEW.id)"  # noqa: S608
        )
    yield counts
    with made.session() as connection:
        counts.update(connection.exec_driver_sql("SELECT id FROM told").scalars())
        connection.exec_driver_sql("DROP TRIGGER tell")


def whole(made: Smurf, told: Counter[int], *, most: int = 1) -> None:
    """Table, tree and ledger are what was registered; each row was told once (`most`: not more often), at the first
    attempt."""
    made.assert_whole(attempts=0)
    assert told.keys() == made.rows.keys()
    assert max(told.values()) <= most
    for row in made.read_table().values():
        assert row["failed_copy_attempts"] == 0


@pytest.fixture(params=["table and ledger", "table"])
def made(request: pytest.FixtureRequest, tmp_path: Path, mariadb: Server, mariadb_table: str) -> Smurf:
    """On the server is what the parameter says; else the ledger is in a file."""
    ledger = mariadb.ledger_url() if "ledger" in request.param else None
    return make_smurf(tmp_path / "site", FILES, table=mariadb_table, ledger=ledger)


def test_the_server_is_killed_between_publication_and_verdict(made: Smurf, mariadb: Server) -> None:
    """It comes back while we run, or after we gave up: with the ledger elsewhere nothing is left to do but to tell."""
    with counted(made) as told, watched(made) as seen:
        with made.started({"freeze": AFTER_A_LINK}, *PATIENT) as process:
            wait_for_stop(process)
            mariadb.kill()
            try:
                assert len(made.visible()) == 3
                process.send_signal(signal.SIGCONT)
                wait_until(lambda: made.visible() == made.placed, "that all is published")
                if made.ledger is None:  # the table waits, and nothing else is to be done
                    code, said, err = ended(process)
                    assert (code, said["archived"], said["failed"]) == (5, FILES, 0), err
            finally:
                mariadb.start()
            if made.ledger is None:
                assert all(row["copied"] == 0 for row in made.read_table().values())
                assert made.finish()["archived"] == 0
            else:
                code, said, err = ended(process)
                assert (code, said["archived"], said["failed"]) == (0, FILES, 0), err
        assert seen == []
    whole(made, told)


@pytest.mark.parametrize(
    ("moment", "most", "both"),
    [("before", 1, False), ("before", 1, True), ("after", 2, False)],
    ids=["before its commit", "before its commit, and we too", "after its commit"],
)
def test_the_server_is_killed_while_the_table_is_told(
    tmp_path: Path, mariadb: Server, mariadb_table: str, moment: str, most: int, both: bool
) -> None:
    """Before its commit the update is lost, and done again; after it, what is not marked as told is told again, which
    changes nothing."""
    made = make_smurf(tmp_path / "site", FILES, table=mariadb_table, ledger=mariadb.ledger_url())
    telling = {"freeze": {"act": f"commit {TABLE}", "at": 0, "when": moment}}
    with counted(made) as told, made.started(telling, *PATIENT) as process:
        wait_for_stop(process)
        assert made.visible() == made.placed
        mariadb.kill()
        mariadb.start()
        copied = {row["copied"] for row in made.read_table().values()}
        assert copied == {0 if moment == "before" else 1}
        if both:
            process.kill()
            process.wait()
            assert made.finish()["failed"] == 0
        else:
            code, said, err = resume(process)
            assert (code, said["archived"], said["failed"]) == (0, FILES, 0), err
    whole(made, told, most=most)


# ── two archivers ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "moment",
    [
        {"act": "spawn rsync", "at": 0, "when": "after"},
        {"act": "link", "at": 1, "when": "before"},
        {"act": "link", "at": 1, "when": "after"},
    ],
    ids=["in the midst of a copy", "before a name", "after a name"],
)
def test_two_archivers_one_frozen_past_its_lease(
    tmp_path: Path, mariadb: Server, mariadb_table: str, far: Sshd, moment: Plan
) -> None:
    """On one table with one ledger, from one instrument. The other one does everything; the frozen one wakes and
    changes nothing: no row, no file, no verdict."""
    made = make_smurf(tmp_path / "site", FILES, table=mariadb_table, ledger=mariadb.ledger_url(), pull=far)
    with counted(made) as told, watched(made) as seen, made.started({"lease": 2.0, "freeze": moment}) as frozen:
        wait_for_stop(frozen)
        assert made.finish()["failed"] == 0
        rows, archived, tale = made.read_table(), looks(made), verdicts(made)
        assert all(row["copied"] == 1 for row in rows.values())
        code, said, err = resume(frozen)
        assert (code, seen) == (0, []), err
        assert said["failed"] == 0
        assert (made.read_table(), looks(made), verdicts(made)) == (rows, archived, tale)
    whole(made, told)


def looks(made: Smurf) -> dict[bytes, tuple[int, int, bytes]]:
    """Inode, mode and content of what is archived."""
    found = {}
    for name, content in made.visible().items():
        look = os.stat(os.path.join(os.fsencode(made.dest), name))
        found[name] = look.st_ino, look.st_mode, content
    return found


def verdicts(made: Smurf) -> list[tuple[int, Step, str]]:
    """Who settled which file, and how."""
    settled = (Step.DELIVERED, Step.RETRY, Step.QUARANTINED)
    return [(dossier.id, e.step, e.worker) for dossier in made.dossiers() for e in dossier.events if e.step in settled]
