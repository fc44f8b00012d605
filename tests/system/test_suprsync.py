"""suprsync's database as a source, with the program as it is run: rows, verdicts, what is set aside."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from skystow.adapters.suprsync.database import INDEXES
from tests.nursery import Nursery
from tests.suprsync import md5, timecode
from tests.system.cli_kit import Bench, until
from tests.system.suprsync_kit import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Desk:
    return make_desk(Bench(tmp_path, skystow_bin, nursery))


# ── rows and verdicts ────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_copied_and_told(desk: Desk) -> None:
    now = timecode()
    one = desk.write(f"{now}/crate1slot2/1564799250_tune_band/outputs/a.npy", b"one")
    two = desk.write("no/timecode at all.g3", b"two")
    other = desk.write(f"{now}/x.g3", archive_name="timestreams")
    before = time.time()
    assert desk.once()["archived"] == 2
    assert desk.archived() == {
        f"{now}/crate1slot2/1564799250_tune_band/outputs/a.npy": b"one",
        "no/timecode at all.g3": b"two",
    }
    row = desk.database.row(one)
    assert (row["remote_md5sum"], row["failed_copy_attempts"], row["removed"]) == (md5(b"one"), 0, None)
    assert before - 1 < row["copied"] < time.time() + 1
    assert desk.database.told(two) == (True, 0)
    assert desk.database.row(other)["remote_md5sum"] is None
    assert desk.once()["files"] == 0  # nothing is left to do, and nothing is done
    assert desk.database.row(one) == row


def test_only_what_waits_is_looked_at(desk: Desk) -> None:
    """Not what is removed, not what is copied already, not what is to be ignored, not even where it says maybe."""
    done = desk.write("10000/a", remote_md5sum=md5(b"starlight"), copied=1.0)
    removed, missing = desk.write("10000/b", removed=5.0), desk.write("10000/c", removed=0)
    ignored, maybe = desk.write("10000/d", ignore=1), desk.write("10000/e", ignore="perhaps")
    nulls = desk.write("10000/f", ignore=None, deletable=None, failed_copy_attempts=None)
    before = desk.database.rows()
    assert desk.once()["archived"] == 1
    assert set(desk.archived()) == {"10000/f"}
    assert desk.database.told(nulls)[0]
    for number in (done, removed, missing, ignored, maybe):
        assert desk.database.row(number) == before[number]


def test_what_was_copied_wrongly_before_is_copied_again(desk: Desk) -> None:
    number = desk.write("10000/a", remote_md5sum=md5(b"half of it"), copied=1.0)
    desk.once()
    assert desk.database.told(number) == (True, 0)


def test_a_digest_in_capitals_stays_so(desk: Desk) -> None:
    """Others compare the two letter by letter."""
    number = desk.write("10000/a", local_md5sum=md5(b"starlight").upper())
    desk.once()
    assert desk.database.row(number)["remote_md5sum"] == md5(b"starlight").upper()


def test_a_thousand_rows_while_others_write(desk: Desk) -> None:
    """A publisher adds rows, and a reader reads, while we do."""
    rows = [desk.row_of(f"{timecode()}/d{n % 7}/{n}.dat", b"%d" % n) for n in range(1_003)]
    desk.database.register(*rows[:500])
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        for row in rows[500:]:
            desk.database.register(row)
        until(lambda: all(r["remote_md5sum"] for r in desk.database.rows().values()), archiver)
    assert desk.archived() == {f"{timecode()}/d{n % 7}/{n}.dat": b"%d" % n for n in range(1_003)}
    assert {desk.database.told(number) for number in desk.database.rows()} == {(True, 0)}


def test_what_is_at_the_remote_end_already_is_read_not_copied(desk: Desk) -> None:
    """As suprsync left it, not verified; and after a database was restored from an older backup, with a new ledger."""
    there = desk.here / "dst/10000/a"
    there.parent.mkdir()
    there.write_bytes(b"starlight")
    number = desk.write("10000/a")
    inode = there.stat().st_ino
    for _ in range(2):
        assert desk.once()["archived"] == 1
        assert (there.stat().st_ino, there.read_bytes()) == (inode, b"starlight")
        assert desk.database.told(number) == (True, 0)
        desk.database.execute("UPDATE supersync_v0 SET remote_md5sum = NULL, copied = NULL")
        assert desk.once()["archived"] == 0  # its ledger knows better
        for ledger in desk.here.glob("ledger.db*"):
            ledger.unlink()


def test_two_rows_of_one_remote_path(desk: Desk) -> None:
    """With the same digest both are told; with another one the second is a conflict, and the first file stays."""
    one, two = desk.write("10000/a"), desk.write("10000/a")
    desk.once()
    assert desk.database.told(one) == desk.database.told(two) == (True, 0)
    elsewhere = desk.row_of("elsewhere", b"moonlight")
    [three] = desk.database.register(elsewhere | {"remote_path": "10000/a"})
    assert desk.once(3)["conflicts"] == 1
    assert desk.database.told(three) == (False, 1)
    assert desk.archived() == {"10000/a": b"starlight"}
    desk.json("resolve", desk.site, str(desk.data / "elsewhere"), "number")
    desk.once()
    assert desk.archived() == {"10000/a": b"starlight", "10000/a.1": b"moonlight"}
    assert desk.database.told(three)[0]
    assert desk.database.row(three)["remote_path"] == "10000/a.1"  # where it is
    assert desk.database.row(one)["remote_path"] == "10000/a"


def test_a_file_rewritten_after_registration(desk: Desk) -> None:
    """It fails by its own fault until its attempts are spent; once it is mended, `retry` begins anew."""
    number = desk.write("10000/a", b"one")
    (desk.data / "10000/a").write_bytes(b"two")
    assert desk.once(3)["quarantined"] == 1
    assert desk.database.told(number) == (False, 2)
    assert desk.archived() == {}
    (desk.data / "10000/a").write_bytes(b"one")
    desk.json("retry", desk.site, "--all")
    desk.once()
    assert desk.database.told(number) == (True, 0)


def test_failures_of_the_past_count(desk: Desk) -> None:
    desk.write_site(attempts=5)
    some, gone = desk.write("10000/a", failed_copy_attempts=3), desk.write("10000/b", failed_copy_attempts=7)
    (desk.data / "10000/a").write_bytes(b"rewritten")
    assert desk.once(3)["quarantined"] == 2
    assert [desk.database.told(n) for n in (some, gone)] == [(False, 5), (False, 7)]
    assert desk.archived() == {}
    desk.json("retry", desk.site, str(desk.data / "10000/b"))
    desk.once(3)
    assert desk.database.told(gone) == (True, 0)


def test_an_outage_burns_no_attempt(desk: Desk) -> None:
    """Of the disk that files come from, though its root is there; and of the remote one."""
    numbers = [desk.write(f"10000/{n}") for n in range(3)]
    for away in (desk.data, desk.here / "dst"):
        away.rename(desk.here / "away")
        if away == desk.data:
            away.mkdir()  # the mount point
        assert desk.once(5, "--give-up-after", "1s")["archived"] == 0
        if away == desk.data:
            away.rmdir()
        (desk.here / "away").rename(away)
        assert {desk.database.told(n) for n in numbers} == {(False, 0)}
    assert desk.once()["archived"] == 3


def test_several_destinations_may_count(desk: Desk) -> None:
    handoff = "- {name: oods, kind: hardlink, of: remote, root: oods}"
    desk.write_site(more="copied_when: [oods, remote]", destinations=handoff)
    number = desk.write("10000/a")
    (desk.here / "oods/10000").write_text("in the way")
    desk.once(3)
    assert (set(desk.archived()), desk.database.told(number)[0]) == ({"10000/a"}, False)
    (desk.here / "oods/10000").unlink()
    desk.json("retry", desk.site, "--all")
    desk.once()
    assert desk.database.told(number)[0]


def test_an_id_that_is_given_anew_is_another_row(desk: Desk) -> None:
    """SQLite does so where the last row was deleted; also while we run, and where the first was never copied."""
    one = desk.write("10000/a", b"one")
    bad = desk.write("10000/b", b"two")
    (desk.data / "10000/b").unlink()
    desk.once(3)
    desk.database.execute("DELETE FROM supersync_v0")
    again = [desk.write("10000/c", b"three"), desk.write("10000/d", b"four")]
    assert again == [one, bad]
    desk.once(3)
    assert [desk.database.told(n) for n in again] == [(True, 0)] * 2
    desk.json("ignore", desk.site, str(desk.data / "10000/b"), "--reason", "its row is gone")
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        last = desk.write("10000/e", b"five")
        until(lambda: desk.database.told(last)[0], archiver)
        desk.database.execute("DELETE FROM supersync_v0 WHERE id = ?", [last])
        assert desk.write("10000/f", b"six") == last
        until(lambda: desk.database.told(last)[0], archiver)
    assert sorted(desk.archived()) == [f"10000/{name}" for name in "acdef"]
    assert {desk.database.row(n)["ignore"] for n in again} == {0}


def test_a_row_that_was_corrected_by_hand_is_believed(desk: Desk) -> None:
    number = desk.write("10000/a", b"one")
    (desk.data / "10000/a").write_bytes(b"two")
    desk.once(3)
    desk.database.execute("UPDATE supersync_v0 SET local_md5sum = ?, failed_copy_attempts = 0", [md5(b"two")])
    assert desk.once()["archived"] == 1  # what was admitted of it before is given up
    assert desk.database.told(number) == (True, 0)


@pytest.mark.parametrize("spelt", ["10000/a", "10000//a", "10000/./a"])
def test_a_row_of_a_numbered_file_says_where_that_is(desk: Desk, spelt: str) -> None:
    """However it spells its path; also when it is told twice, and when the local file goes."""
    desk.write_site(more="retire: {after: 0}")
    desk.write("10000/a")
    desk.once()
    [number] = desk.database.register(desk.row_of("elsewhere", b"moonlight") | {"remote_path": spelt})
    desk.once(3)
    desk.json("resolve", desk.site, str(desk.data / "elsewhere"), "number")
    desk.once()
    row = desk.database.row(number)
    assert (row["remote_path"], row["remote_md5sum"]) == ("10000/a.1", md5(b"moonlight"))
    with closing(sqlite3.connect(desk.here / "ledger.db")) as ledger:  # as if we had been killed before we marked it
        ledger.execute("UPDATE notices SET sent_at = NULL")
        ledger.commit()
    desk.once()
    assert desk.database.row(number) == row
    assert desk.json("retire", desk.site)["removed"] == 3  # with the finalization file of that day
    desk.once()
    assert desk.database.row(number)["removed"]


# ── what is set aside ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_that_is_set_aside_by_hand_is_given_up(desk: Desk) -> None:
    number = desk.write("10000/a", b"one")
    (desk.data / "10000/a").write_bytes(b"bad")
    desk.once(3)
    desk.database.execute('UPDATE supersync_v0 SET "ignore" = 1 WHERE id = ?', [number])
    desk.once()  # nobody is needed any more
    assert desk.json("trace", desk.site, str(desk.data / "10000/a"))["state"] == "cancelled"
    assert desk.json("retry", desk.site, "--all")["requeued"] == 0
    (desk.data / "10000/a").write_bytes(b"one")
    desk.json("retry", desk.site, str(desk.data / "10000/a"))  # by name: that is meant
    desk.once()
    assert desk.database.told(number) == (True, 0)
    assert desk.database.row(number)["ignore"] == 0


def test_a_row_that_is_not_set_aside_any_more_is_copied(desk: Desk) -> None:
    """Also where nothing that runs has seen it so, and where the process that gave it up runs on."""
    numbers = [desk.write(f"10000/{name}", b"one") for name in ("a", "b")]
    same = desk.database.register(desk.row_of("10000/a", b"one") | {"remote_path": "10000/again"})
    for name in ("a", "b"):
        (desk.data / f"10000/{name}").unlink()
    desk.once(3)
    desk.database.execute('UPDATE supersync_v0 SET "ignore" = 1')
    desk.once()
    for name in ("a", "b"):
        (desk.data / f"10000/{name}").write_bytes(b"one")
    desk.database.execute('UPDATE supersync_v0 SET "ignore" = 0 WHERE id <> ?', [numbers[1]])
    assert desk.once()["archived"] == 2
    assert {desk.database.told(n) for n in (numbers[0], *same)} == {(True, 0)}
    assert "10000/b" not in desk.archived()
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        [last] = desk.database.register(desk.row_of("10000/d", b"d") | {"local_path": str(desk.data / "10000/e")})
        until(lambda: desk.database.told(last) == (False, 2), archiver)
        desk.database.execute('UPDATE supersync_v0 SET "ignore" = 1 WHERE id = ?', [last])
        trace = partial(desk.json, "trace", desk.site, str(desk.data / "10000/e"))
        until(lambda: trace()["state"] == "cancelled", archiver)
        (desk.data / "10000/e").write_bytes(b"d")
        desk.database.execute('UPDATE supersync_v0 SET "ignore" = 0 WHERE id = ?', [last])
        until(lambda: desk.database.told(last) == (True, 0), archiver)
    desk.json("retry", desk.site, str(desk.data / "10000/b"))  # by name, as ever
    desk.once()
    assert desk.database.told(numbers[1]) == (True, 0)


def test_what_is_ignored_here_is_ignored_there(desk: Desk) -> None:
    number = desk.write("10000/a")
    (desk.data / "10000/a").unlink()
    desk.once(3)
    desk.json("ignore", desk.site, str(desk.data / "10000/a"), "--reason", "it was never there")
    desk.once()
    assert desk.database.row(number)["ignore"] == 1


# ── costs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_indexes_are_ours_and_are_used(desk: Desk) -> None:
    """What each look asks is answered from an index; without them it works, and `check` says that it is slow."""
    from skystow.adapters.suprsync import database, standing, upkeep

    number = desk.write("10000/a")
    assert "it lacks skystow_unproven and skystow_remote and skystow_local" in desk.run("check", desk.site).stdout
    desk.once()
    assert desk.database.told(number)[0]
    assert desk.json("suprsync", "index", desk.site)["databases"][0]["added"] == list(INDEXES)
    assert desk.json("suprsync", "index", desk.site)["databases"][0]["added"] == []
    assert "it lacks" not in desk.run("check", desk.site).stdout
    queries = [
        *(database._WAITING, upkeep._SET_ASIDE, standing._OLDEST),
        *(standing._UNPROVEN, standing._ANY_DATA, standing._PATHS, standing._LATE),
    ]
    values = {"archive": "smurf", "after": 0, "low": "10000/", "high": "100000", "file": 1, "any": 0}
    for query in queries:
        plan = " ".join(str(row[3]) for row in desk.database.execute(f"EXPLAIN QUERY PLAN {query}", values))
        assert "INDEX skystow_" in plan, (str(query), plan)
        assert "TEMP B-TREE" not in plan, (str(query), plan)
    plan = str(desk.database.execute(f"EXPLAIN QUERY PLAN {database._ALSO}", {"local": b"/a", "row": 1}))
    assert "SEARCH supersync_v0 USING INDEX skystow_local" in plan
    for query in (database._WAITING, upkeep._SET_ASIDE, standing._UNPROVEN, standing._OLDEST):
        plan = str(desk.database.execute(f"EXPLAIN QUERY PLAN {query}", values))
        assert "SEARCH supersync_v0 USING INDEX skystow_unproven (archive_name=? AND id>?)" in plan, str(query)


def test_nothing_of_theirs_is_changed_but_what_is_said(desk: Desk) -> None:
    desk.write("10000/a")
    schema = desk.database.execute("SELECT type, name, sql FROM sqlite_master")
    desk.run("check", desk.site)
    assert desk.database.execute("SELECT count(*) FROM timecode_dirs_v0") == [(0,)]  # it only looks
    desk.once()
    assert desk.database.execute("SELECT type, name, sql FROM sqlite_master") == schema
    assert desk.database.execute("PRAGMA journal_mode") == [("wal",)]
    assert os.stat(desk.database.path).st_size > 0
