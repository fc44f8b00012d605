"""What suprsync's database is told, and of which rows: those that still say what they said when they were admitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from tests.suprsync import Database, md5

from skystow.adapters.suprsync import SuprSyncAnnouncer, SuprSyncDatabase
from skystow.adapters.suprsync.announcer import CORRECTED, SET_ASIDE
from skystow.adapters.suprsync.rows import key_of
from skystow.model.records import Notice
from skystow.model.transfer import Step

ROW: dict[str, Any] = {
    "local_path": "/data/a",
    "local_md5sum": md5(b"starlight"),
    "remote_path": "10000/a",
    "archive_name": "smurf",
}


@dataclass
class Teller:
    there: Database
    database: SuprSyncDatabase
    warned: list[str] = field(default_factory=list)

    def tell(self, number: int, kind: Step, text: str = "") -> None:
        """Of what was admitted of `ROW` under this id."""
        key = key_of(number, ROW["local_path"], ROW["local_md5sum"], ROW["remote_path"])
        digest = f"md5:{ROW['local_md5sum']}"
        body: dict[str, str | int | None] = {"arrival": 1, "origin": "a", "destination": "remote", "digest": digest}
        body |= {"attempts": 1, "text": text}
        notice = Notice(1, datetime.now(UTC), kind, body, key, PurePosixPath("10000/a"))
        teller = SuprSyncAnnouncer(self.database, ["remote"], dossier=lambda _: None, warn=self.warned.append)
        teller.announce([notice])


@pytest.fixture
def teller(tmp_path: Path) -> Iterator[Teller]:
    there = Database(tmp_path / "suprsync.db")
    there.make()
    database = SuprSyncDatabase(str(there.path), place="table")
    yield Teller(there, database)
    database.close()


STEPS = [Step.DELIVERED, Step.RETRY, Step.QUARANTINED, Step.REQUEUED, Step.IGNORED, Step.RETIRED]


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("change", [{"local_path": "/b"}, {"local_md5sum": md5(b"")}, {"remote_path": "10000/b"}])
def test_another_row_with_that_id_is_not_told(teller: Teller, kind: Step, change: dict[str, Any]) -> None:
    [number] = teller.there.register(ROW | {"failed_copy_attempts": 7} | change)
    before = teller.there.row(number)
    teller.tell(number, kind)
    assert teller.there.row(number) == before
    assert "it said something else" in teller.warned[0]


@pytest.mark.parametrize("kind", STEPS)
def test_the_row_itself_is(teller: Teller, kind: Step) -> None:
    [number] = teller.there.register(ROW | {"failed_copy_attempts": 0 if kind != Step.REQUEUED else 3})
    before = teller.there.row(number)
    teller.tell(number, kind)
    after = teller.there.row(number)
    assert (after != before, teller.warned) == (True, [])
    teller.tell(number, kind)
    assert {**teller.there.row(number), "copied": 0} == {**after, "copied": 0}  # told again: the later time


def test_no_row_at_all(teller: Teller) -> None:
    teller.tell(1, Step.DELIVERED)
    assert teller.there.rows() == {}


def test_a_directory_is_finalized_by_a_file_that_is_proven(teller: Teller) -> None:
    """Not by one whose row was given to another file meanwhile, nor by one that is not what it should be."""
    [number] = teller.there.register(ROW | {"local_md5sum": md5(b"something else")})
    teller.there.execute(
        "INSERT INTO timecode_dirs_v0 (timecode, archive_name, completed, synced, finalized, finalize_file_id)"
        " VALUES (10000, 'smurf', 1, 1, 0, ?)",
        [number],
    )
    teller.tell(number, Step.DELIVERED)
    assert teller.there.state(10000) == (1, 1, 0)
    teller.there.execute("UPDATE supersync_v0 SET local_md5sum = ?", [ROW["local_md5sum"]])
    teller.tell(number, Step.DELIVERED)
    assert teller.there.state(10000) == (1, 1, 1)


@pytest.mark.parametrize(("text", "ignore"), [("it was never there", 1), (SET_ASIDE, 0), (CORRECTED, 0)])
def test_what_the_table_asked_for_itself_is_not_told(teller: Teller, text: str, ignore: int) -> None:
    """It may have changed its mind."""
    [number] = teller.there.register(ROW)
    teller.tell(number, Step.IGNORED, text)
    assert teller.there.row(number)["ignore"] == ignore
