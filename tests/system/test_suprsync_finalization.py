"""Finalization of timecode directories: what it waits for, what it says, what comes too late, and where it ends. What
was two timecodes ago is complete by time alone."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.suprsync import timecode
from tests.system.cli_kit import Bench, until
from tests.system.suprsync_kit import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Desk:
    return make_desk(Bench(tmp_path, skystow_bin, nursery))


def settle(desk: Desk, code: int = 0) -> None:
    """Archive; enter and archive the finalization files; nothing more."""
    for _ in range(3):
        desk.once(code)


def test_a_directory_is_finalized_when_all_of_it_is_proven(desk: Desk) -> None:
    for n in range(3):
        desk.write(f"{timecode(2)}/crate1slot{n}/{n}.g3", b"%d" % n)
    desk.write(f"{timecode(2)}/alone.txt")
    before = time.time()
    desk.once()
    assert desk.database.state(timecode(2)) == (1, 0, 0)
    desk.once()
    [final] = desk.finals()
    assert final == {
        "archive_name": "smurf",
        "finalized_at": final["finalized_at"],
        "finalized_until": final["finalized_at"],
        "instance_id": "suprsync-smurf",
        "num_files": 4,
        "subdirs": ["crate1slot0", "crate1slot1", "crate1slot2"],
        "timecode": timecode(2),
    }
    assert before < final["finalized_at"] < time.time()
    at = int(final["finalized_at"])
    name = f"{at}_smurf_{timecode(2)}_finalized.yaml"
    assert f"{at // 100_000}/suprsync/suprsync-smurf/{name}" in desk.archived()
    line = desk.database.directory(timecode(2))
    row = desk.database.row(line["finalize_file_id"])
    local = desk.here / f"data/suprsync/{at // 100_000}/suprsync-smurf/{name}"
    assert row["local_path"] == str(local)
    assert local.read_bytes() == desk.archived()[row["remote_path"]]
    assert (row["archive_name"], row["deletable"], row["ignore"], int(row["timestamp"])) == ("smurf", 1, 0, at)
    assert desk.database.told(row["id"]) == (True, 0)
    assert desk.database.state(timecode(2)) == (1, 1, 1)
    settle(desk)
    assert len(desk.finals()) == 1
    assert desk.standing(timecode(2)) == {}


def test_it_is_not_finalized_before_its_file_is_delivered(desk: Desk) -> None:
    """The original said so when the file was written."""
    desk.write(f"{timecode(2)}/a/a.g3")
    desk.once()
    stone = desk.here / f"dst/{timecode()}"
    stone.write_text("in the way")
    desk.once(3)
    assert desk.database.state(timecode(2)) == (1, 1, 0)
    assert "is under way" in desk.standing(timecode(2))["state"]
    stone.unlink()
    desk.json("retry", desk.site, "--all")
    desk.once()
    assert desk.database.state(timecode(2)) == (1, 1, 1)
    assert len(desk.finals(timecode(2))) == 1


def test_what_is_not_complete_waits(desk: Desk) -> None:
    desk.write(f"{timecode()}/a/a.g3")
    desk.write(f"{timecode() + 40}/from/the-future.g3")  # completes nothing
    desk.write(f"{timecode(1)}/a/a.g3")
    desk.write("1795/a/four-digits.g3")
    desk.write("179580/a/six-digits.g3")
    settle(desk)
    assert [desk.database.state(code)[0] for code in (timecode(), timecode() + 40)] == [0, 0]
    # Today has files, so yesterday is over.
    assert [each["timecode"] for each in desk.finals()] == [timecode(1)]
    assert desk.standing(timecode())["state"] == "files may still come"


def test_yesterday_is_not_over_while_nothing_newer_came(desk: Desk) -> None:
    """Not even in another archive, which may be ahead."""
    desk.write_site(archives="smurf, timestreams")
    desk.write(f"{timecode(1)}/a/a.g3")
    desk.write(f"{timecode()}/a/a.g3", archive_name="timestreams")
    desk.write(f"{timecode(2)}/a/a.g3", archive_name="timestreams")
    settle(desk)
    assert [(each["archive_name"], each["timecode"]) for each in desk.finals()] == [("timestreams", timecode(2))]
    assert desk.database.state(timecode(1)) == (0, 0, 0)


def test_a_directory_settles_first(desk: Desk) -> None:
    """After its time, and after its youngest row; what says that it is of the future keeps nothing waiting."""
    text = desk.site.read_text()
    hour = 3600 + time.time() % 100_000  # the last directory's time has been over for so long, all but an hour
    desk.site.write_text(text.replace("settle: 0s", f"settle: {int(hour)}s"))
    desk.write(f"{timecode(1)}/a/a.g3", timestamp=1.0)
    desk.write(f"{timecode()}/a/a.g3", timestamp=1.0)
    young = desk.write(f"{timecode(9)}/a/a.g3")
    desk.write(f"{timecode(8)}/a/a.g3", timestamp=time.time() + 10_000_000)
    settle(desk)
    assert [each["timecode"] for each in desk.finals()] == [timecode(8)]
    assert desk.standing(timecode(1))["state"] == "files may still come"
    assert desk.standing(timecode(9))["state"] == "waits for files that may follow"
    desk.database.execute("UPDATE supersync_v0 SET timestamp = ? WHERE id = ?", [time.time() - hour - 1, young])
    settle(desk)
    assert sorted(each["timecode"] for each in desk.finals()) == [timecode(9), timecode(8)]
    desk.site.write_text(text)
    settle(desk)
    assert sorted(each["timecode"] for each in desk.finals()) == [timecode(9), timecode(8), timecode(1)]


def test_one_archive_does_not_wait_for_another(desk: Desk) -> None:
    """Nor does it count its files."""
    desk.write(f"{timecode(2)}/a/a.g3")
    other = desk.write(f"{timecode(2)}/b/b.g3", archive_name="timestreams")
    settle(desk)
    [final] = desk.finals()
    assert (final["num_files"], final["subdirs"]) == (1, ["a"])
    assert desk.database.row(other)["remote_md5sum"] is None


def test_an_ignored_file_blocks_nothing_and_a_bad_one_does(desk: Desk) -> None:
    desk.write(f"{timecode(2)}/a/a.g3")
    bad = desk.write(f"{timecode(2)}/a/bad.g3", b"one", timestamp=1_000.5)
    (desk.data / f"{timecode(2)}/a/bad.g3").write_bytes(b"two")
    odd = desk.database.register(desk.row_of("x") | {"remote_path": f"{timecode(2)}/x", "local_path": "/etc/passwd"})[0]
    settle(desk, 3)
    assert desk.finals() == []
    assert desk.database.state(timecode(2)) == (1, 0, 0)
    assert desk.standing(timecode(2))["state"] == "waits for 2 files"
    assert "waits for 2 files" in desk.run("suprsync", "timecodes", desk.site).stdout
    desk.write(f"{timecode(3)}/a/a.g3")
    settle(desk, 3)
    [final] = desk.finals()
    assert final["finalized_until"] == 999.5  # before the oldest that is missing
    desk.database.execute('UPDATE supersync_v0 SET "ignore" = 1 WHERE id IN (?, ?)', [bad, odd])
    settle(desk, 3)  # the dead letter is still one
    [final] = desk.finals(timecode(2))
    assert (final["num_files"], final["finalized_until"]) == (1, final["finalized_at"])
    assert desk.database.state(timecode(2)) == (1, 1, 1)


def test_files_that_were_removed_count(desk: Desk) -> None:
    desk.write_site(more="retire: {after: 0}")
    desk.write(f"{timecode(2)}/a/a.g3")
    desk.once()
    assert desk.json("retire", desk.site)["removed"] == 1
    settle(desk)
    assert [each["num_files"] for each in desk.finals()] == [1]


def test_a_late_file_is_archived_and_named(desk: Desk) -> None:
    desk.write(f"{timecode(2)}/a/a.g3")
    settle(desk)
    before = desk.database.directory(timecode(2))
    late = [desk.write(f"{timecode(2)}/late/{n}.g3") for n in range(7)]
    said = desk.json("run", desk.site, "--once")
    assert said["archived"] == 7
    notes = [each["text"] for each in said["notes"]]
    assert len(notes) == 6  # five by name
    assert f"row {late[0]}: {timecode(2)}/late/0.g3 came after {timecode(2)} of smurf was finalized" in notes[0]
    settle(desk)
    assert len(desk.finals()) == 1
    assert desk.database.directory(timecode(2)) == before
    assert {desk.database.told(n) for n in late} == {(True, 0)}
    assert len(desk.standing(timecode(2))["late"]) == 7
    assert f"{timecode(2)}/late/0.g3" in desk.run("suprsync", "timecodes", desk.site).stdout
    # As the handbook says: forget the first one, and a second one is written, which counts all.
    forget = "UPDATE timecode_dirs_v0 SET finalized = 0, finalize_file_id = NULL WHERE timecode = ?"
    desk.database.execute(forget, [timecode(2)])
    settle(desk)
    assert sorted(each["num_files"] for each in desk.finals()) == [1, 8]
    assert desk.standing(timecode(2)) == {}


def test_the_chain_of_finalization_files_ends(desk: Desk) -> None:
    """They lie in today's directory; a directory that holds nothing else is not finalized itself, also where suprsync
    has made a line for it."""
    old = timecode(5)
    desk.write(f"{old}/suprsync/suprsync-smurf/1_smurf_{timecode(9)}_finalized.yaml", b"timecode: 9")
    desk.database.execute("INSERT INTO timecode_dirs_v0 (timecode, archive_name) VALUES (?, 'smurf')", [old])
    desk.write(f"{timecode(2)}/a/a.g3")
    settle(desk)
    settle(desk)
    assert sorted(each["timecode"] for each in desk.finals()) == [9, timecode(2)]
    assert desk.database.directory(old)["synced"] == 1
    assert desk.standing(old)["state"] == "holds nothing to finalize"
    assert desk.database.directory(int(desk.finals(timecode(2))[0]["finalized_at"] // 100_000)) == {}


def test_what_suprsync_had_copied_before_is_finalized_too(desk: Desk) -> None:
    """Its lines are used, several for one directory as one; what it finalized is left."""
    proven = {"remote_md5sum": "d41d8cd98f00b204e9800998ecf8427e", "copied": 1.0, "removed": 2.0}
    codes = [timecode(n) for n in (2, 3, 4)]
    for code in codes:
        desk.write(f"{code}/a/a.g3", b"", **proven)
    lines = [(codes[1], 1), (codes[2], 0), (codes[2], 0)]
    for code, finalized in lines:
        desk.database.execute(
            "INSERT INTO timecode_dirs_v0 (timecode, archive_name, completed, synced, finalized) "
            "VALUES (?, 'smurf', 1, ?, ?)",
            [code, finalized, finalized],
        )
    settle(desk)
    assert sorted(each["timecode"] for each in desk.finals()) == [codes[2], codes[0]]


def test_two_that_share_a_ledger_finalize_once(desk: Desk) -> None:
    for n in range(20):
        desk.write(f"{timecode(2 + n % 4)}/a/{n}.g3")
    other = desk.here / "other.yaml"
    other.write_text(desk.site.read_text())
    with desk.bench.start_env({}, "run", desk.site) as one, desk.bench.start_env({}, "run", other) as two:
        until(lambda: len(desk.finals()) == 4 and all(desk.database.state(timecode(2 + n))[2] for n in range(4)), one)
        assert two.poll() is None
    assert len(desk.finals()) == 4
    assert len(desk.database.rows()) == 24


def test_a_file_root_that_is_away_holds_up_only_finalization(desk: Desk) -> None:
    root = desk.here / "data/suprsync"
    root.rmdir()
    desk.write(f"{timecode(2)}/a/a.g3")
    assert "no such file" in desk.run("check", desk.site).stdout
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        until(lambda: f"{timecode(2)}/a/a.g3" in desk.archived(), archiver)
        until(lambda: desk.json("status", desk.site)["places"]["suprsync finalization"]["well"] is False, archiver)
        root.mkdir()
        until(lambda: desk.database.state(timecode(2)) == (1, 1, 1), archiver)
        until(lambda: desk.json("status", desk.site)["places"]["suprsync finalization"]["well"] is True, archiver)
    assert len(desk.finals()) == 1


def test_a_file_root_that_is_away_does_not_keep_the_intake_waiting(desk: Desk) -> None:
    """A single pass ends, and says so; it is no reason to look at the table less often."""
    root = desk.here / "data/suprsync"
    root.rmdir()
    desk.write(f"{timecode(2)}/a/a.g3")
    said = desk.once()
    assert said["archived"] == 1
    assert [each["place"] for each in said["resting"]] == ["suprsync finalization"]
    root.mkdir()
    settle(desk)
    assert len(desk.finals()) == 1


def test_a_database_that_takes_no_rows_of_ours_holds_up_only_finalization(desk: Desk) -> None:
    """A later socs, whose tables have columns that must be filled."""
    desk.write(f"{timecode(2)}/a/a.g3")
    desk.once()
    must_be_filled(desk, "supersync_v0")
    said = desk.once()
    assert [each["place"] for each in said["resting"]] == ["suprsync finalization"]
    assert "NOT NULL constraint failed: supersync_v0.later" in said["resting"][0]["reason"]
    must_be_filled(desk, "timecode_dirs_v0")
    desk.write(f"{timecode(3)}/a/a.g3", later=1)
    said = desk.once()
    assert said["archived"] == 1
    assert "NOT NULL constraint failed: timecode_dirs_v0.later" in said["resting"][0]["reason"]
    assert set(desk.archived()) == {f"{timecode(n)}/a/a.g3" for n in (2, 3)}


def must_be_filled(desk: Desk, table: str) -> None:
    """Give it one column more."""
    [(schema,)] = desk.database.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table])
    desk.database.execute(f"ALTER TABLE {table} RENAME TO older")
    desk.database.execute(schema.replace("PRIMARY KEY (id)", "later INTEGER NOT NULL, PRIMARY KEY (id)", 1))
    desk.database.execute(f"INSERT INTO {table} SELECT *, 1 FROM older")  # noqa: S608
    desk.database.execute("DROP TABLE older")


def test_a_file_that_is_not_ignored_any_more_is_counted(desk: Desk) -> None:
    """Where a proven row is taken back between our reading and our entering."""
    desk.write(f"{timecode(2)}/a/a.g3")
    desk.write(f"{timecode(2)}/b/b.g3")
    desk.once()
    desk.database.execute('UPDATE supersync_v0 SET "ignore" = 1 WHERE remote_path LIKE ?', [f"{timecode(2)}/b/%"])
    staged = desk.here / "data/suprsync/.skystow/suprsync-smurf" / f"smurf_{timecode(2)}.yaml"
    with closing(sqlite3.connect(desk.database.path, isolation_level=None)) as publisher:
        publisher.execute("UPDATE timecode_dirs_v0 SET completed = 1, synced = 1")
        publisher.execute("BEGIN IMMEDIATE")
        publisher.execute('UPDATE supersync_v0 SET "ignore" = 0')
        with desk.bench.start_env({}, "run", desk.site) as archiver:
            until(staged.exists, archiver)
            publisher.execute("COMMIT")
            until(lambda: desk.database.state(timecode(2)) == (1, 1, 1), archiver)
    assert [each["num_files"] for each in desk.finals()] == [2]


def test_a_row_that_comes_while_it_is_written_is_not_left_out(desk: Desk) -> None:
    """A publisher holds the database's write lock with a new row of that directory, when we want to enter our file."""
    desk.write(f"{timecode(2)}/a/a.g3")
    desk.once()
    late = desk.row_of(f"{timecode(2)}/b/b.g3") | {"timestamp": 5.0, "failed_copy_attempts": 0}
    names, marks = ", ".join(late), ", ".join("?" * len(late))
    staged = desk.here / "data/suprsync/.skystow/suprsync-smurf" / f"smurf_{timecode(2)}.yaml"
    with closing(sqlite3.connect(desk.database.path, isolation_level=None)) as publisher:
        publisher.execute("BEGIN IMMEDIATE")
        publisher.execute(f"INSERT INTO supersync_v0 ({names}) VALUES ({marks})", list(late.values()))  # noqa: S608
        publisher.execute("UPDATE timecode_dirs_v0 SET completed = 1, synced = 1")
        publisher.execute("COMMIT")
        publisher.execute("BEGIN IMMEDIATE")
        publisher.execute('UPDATE supersync_v0 SET "ignore" = 1 WHERE remote_path LIKE ?', [f"{timecode(2)}/b/%"])
        publisher.execute("COMMIT")
        publisher.execute("BEGIN IMMEDIATE")
        publisher.execute('UPDATE supersync_v0 SET "ignore" = 0')
        with desk.bench.start_env({}, "run", desk.site) as archiver:
            until(staged.exists, archiver)
            publisher.execute("COMMIT")
            until(lambda: desk.database.state(timecode(2)) == (1, 1, 1), archiver)
    assert [each["num_files"] for each in desk.finals()] == [2]
