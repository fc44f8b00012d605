"""Local files of suprsync's database are removed: only those that no row needs any more, and the table is told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.nursery import Nursery
from tests.suprsync import md5
from tests.system.cli_kit import Bench
from tests.system.suprsync_kit import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Desk:
    return make_desk(Bench(tmp_path, skystow_bin, nursery))


def test_only_deletable_files_are_removed_and_the_table_is_told(desk: Desk) -> None:
    desk.write_site(more="retire: {after: 0}")
    gone, kept, unsaid = (desk.write(f"10000/{n}", deletable=d) for n, d in (("a", 1), ("b", 0), ("c", None)))
    waits = desk.write("10000/d", archive_name="timestreams")
    desk.once()
    told = desk.json("retire", desk.site)
    assert (told["removed"], told["kept"]) == (1, 2)
    assert {each["reason"] for each in told["files"] if not each["remove"]} == {
        f"its row {kept} is not deletable",
        f"its row {unsaid} is not deletable",
    }
    assert sorted(path.name for path in (desk.data / "10000").iterdir()) == ["b", "c", "d"]
    desk.once()
    rows = desk.database.rows()
    assert [rows[n]["removed"] for n in (kept, unsaid, waits)] == [None] * 3
    assert 0 <= time.time() - rows[gone]["removed"] < 60


def test_a_file_that_two_rows_name_goes_for_both_or_not_at_all(desk: Desk) -> None:
    desk.write_site(more="retire: {after: 0}")
    one = desk.write("10000/a")
    [two] = desk.database.register(desk.row_of("10000/a") | {"remote_path": "10000/again", "deletable": 0})
    desk.once()
    assert desk.json("retire", desk.site)["removed"] == 0
    desk.database.execute("UPDATE supersync_v0 SET deletable = 1")
    desk.database.execute("UPDATE supersync_v0 SET remote_md5sum = NULL WHERE id = ?", [two])
    assert desk.json("retire", desk.site)["removed"] == 0  # that one is not proven
    desk.database.execute("UPDATE supersync_v0 SET remote_md5sum = local_md5sum WHERE id = ?", [two])
    assert desk.json("retire", desk.site)["removed"] == 1
    assert desk.json("retire", desk.site)["removed"] == 0  # it notices that the other's file is gone
    desk.once()
    assert all(desk.database.row(n)["removed"] for n in (one, two))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"archive_name": "timestreams"}, "of archive timestreams names it too, and is not copied yet"),
        ({"remote_path": "../dead/letter"}, "of archive smurf names it too, and is not copied yet"),
        ({"remote_path": "10000/not/admitted/yet"}, "of archive smurf names it too, and is not copied yet"),
        ({"deletable": 0, "remote_md5sum": md5(b"starlight")}, "of archive smurf names it too, and is not deletable"),
        (
            {"deletable": None, "remote_md5sum": md5(b"starlight")},
            "of archive smurf names it too, and is not deletable",
        ),
        ({"removed": 5.0}, ""),
        ({"remote_md5sum": md5(b"starlight")}, ""),
    ],
)
def test_a_file_that_another_row_still_needs_stays(desk: Desk, other: dict[str, Any], reason: str) -> None:
    """Whoever copies that: it may be of another archive, not admitted yet, or a dead letter."""
    desk.write_site(more="retire: {after: 0}")
    row = desk.row_of("no/timecode")
    desk.database.register(row)
    desk.once()
    [number] = desk.database.register(row | {"remote_path": "again"} | other)
    told = desk.json("retire", desk.site)
    assert told["removed"] == (not reason)
    if reason:
        assert told["files"][0]["reason"] == f"row {number} {reason}"
    assert (desk.data / "no/timecode").exists() is bool(reason)


def test_a_damaged_copy_keeps_the_file(desk: Desk) -> None:
    desk.write_site(more="retire: {after: 0}")
    number = desk.write("10000/a")
    desk.once()
    copy = desk.here / "dst/10000/a"
    copy.chmod(0o644)
    copy.write_bytes(b"moonlight")
    assert desk.json("retire", desk.site)["removed"] == 0
    assert (desk.data / "10000/a").read_bytes() == b"starlight"
    desk.once()
    assert desk.database.row(number)["removed"] is None


def test_the_file_of_a_row_that_says_something_else_now_stays(desk: Desk) -> None:
    """Its copy may be at another path than the table believes."""
    desk.write_site(more="retire: {after: 0}")
    number = desk.write("no/timecode")
    desk.once()
    for column, value in (("remote_path", "no/where"), ("local_path", "/elsewhere")):
        before = desk.database.row(number)[column]
        desk.database.execute(f"UPDATE supersync_v0 SET {column} = ?", [value])  # noqa: S608
        [told] = desk.json("retire", desk.site)["files"]
        assert told["reason"] == f"its row {number} says something else than when the file was admitted"
        desk.database.execute(f"UPDATE supersync_v0 SET {column} = ?", [before])  # noqa: S608
    assert (desk.data / "no/timecode").exists()
    assert desk.json("retire", desk.site)["removed"] == 1
