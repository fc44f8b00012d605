"""What can be wrong with suprsync's database, its rows and the remote end: named, no attempt spent, over once it is
mended."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Unprivileged
from tests.nursery import Nursery
from tests.sshd import Sshd, sshd
from tests.suprsync import Database, md5, timecode
from tests.system.cli_kit import Bench, until
from tests.system.suprsync_kit import Desk, make_desk
from tests.system.table_kit import said_of


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    return Bench(tmp_path, skystow_bin, nursery)


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return make_desk(bench)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.fixture
def far(bench: Bench, host: Sshd) -> Desk:
    """Its files go to a remote base directory over SSH."""
    said = said_of(host).replace("host:\n", "host: {").replace("\n", ",").replace("{,", "{") + "}"
    return make_desk(bench, f"{{name: remote, kind: remote, root: {bench.here}/dst, min_free: 0, {said}}}")


# ── over SSH ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(180)
def test_a_database_with_a_thousand_files_is_emptied_to_a_remote_directory(far: Desk, host: Sshd) -> None:
    """As a site that moves on finds it: months of files that suprsync has copied and removed, a thousand that wait, of
    several days and of two archives, of which one is not ours. All of it is told, finalized and removed."""
    far.write_site(more="retire: {after: 0}")
    days = [timecode(n) for n in range(2, 7)]
    old = {"remote_md5sum": md5(b"old"), "copied": 1.0, "removed": 2.0, "timestamp": 1.0}
    far.database.register(
        *({"local_path": f"/gone/{n}", "local_md5sum": md5(b"old"), "archive_name": "smurf"} | old
          | {"remote_path": f"{timecode(200) + n // 50}/a/{n}"} for n in range(5_000))
    )  # fmt: skip
    rows = [far.row_of(f"{days[n % 5]}/crate1slot{n % 3}/{n}.g3", b"%d" % n) for n in range(1_000)]
    ours = far.database.register(*rows)
    [kept] = far.database.register(far.row_of(f"{days[0]}/tune/keep.npy", deletable=0))
    [other] = far.database.register(far.row_of(f"{days[0]}/x.g3", archive_name="timestreams"))
    before = far.database.row(other)
    far.json("suprsync", "index", far.site)
    assert far.once()["archived"] == 1_001
    assert far.once()["archived"] == 5
    found = far.archived()
    assert {name: found[name] for name in found if "suprsync" not in name} == {
        **{f"{days[n % 5]}/crate1slot{n % 3}/{n}.g3": b"%d" % n for n in range(1_000)},
        f"{days[0]}/tune/keep.npy": b"starlight",
    }
    assert {far.database.told(number) for number in [*ours, kept]} == {(True, 0)}
    finals = {each["timecode"]: each for each in far.finals()}
    assert sorted(finals) == sorted(days)
    assert [finals[day]["num_files"] for day in days] == [201, 200, 200, 200, 200]
    assert [far.database.state(day) for day in days] == [(1, 1, 1)] * 5
    assert far.json("retire", far.site)["removed"] == 1_005
    far.once()
    rows_now = far.database.rows()
    assert all(rows_now[number]["removed"] for number in ours)
    assert rows_now[kept]["removed"] is None
    assert rows_now[other] == before
    left = [path.name for path in far.data.rglob("*") if path.is_file()]
    assert sorted(left) == ["README", "keep.npy", "x.g3"]
    assert far.json("verify", far.site)["verified"] == 1_006


def any_told(desk: Desk, numbers: Sequence[int]) -> bool:
    return any(desk.database.row(each)["remote_md5sum"] for each in numbers)


def test_killed_and_started_again_while_files_move(far: Desk) -> None:
    """By SIGKILL, several times, while a publisher adds rows: nothing is lost, doubled or counted."""
    rows = [far.row_of(f"{timecode(2)}/a/{n}.g3", b"%d" % n * 1_000) for n in range(300)]
    for n in range(3):
        numbers = far.database.register(*rows[n * 100 : n * 100 + 100])
        with far.bench.start_env({}, "run", far.site) as archiver:
            until(partial(any_told, far, numbers), archiver)
            archiver.send_signal(signal.SIGKILL)
    far.once()
    far.once()
    far.once()
    assert {far.database.told(number) for number in far.database.rows()} == {(True, 0)}
    finals = far.finals()
    assert [each["num_files"] for each in finals] == [300]
    assert len(far.archived()) == 301


def test_a_host_that_is_down_is_waited_for(far: Desk, host: Sshd) -> None:
    number = far.write("10000/a")
    host.stop()
    done = far.run("run", far.site, "--once", "--give-up-after", "1s")
    assert done.returncode == 5
    assert "nobody answers at its port" in done.stdout + done.stderr
    assert far.database.told(number) == (False, 0)
    host.start()
    far.once()
    assert far.database.told(number) == (True, 0)


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """By somebody who does not end his transaction."""
    with closing(sqlite3.connect(database.path, isolation_level=None)) as session:
        session.execute("BEGIN IMMEDIATE")
        yield


def waiting(desk: Desk) -> int:
    done = desk.run("status", desk.site, "--json")
    return int(json.loads(done.stdout)["waiting"]) if done.returncode == 0 else 0  # there is no ledger yet


def well(desk: Desk, place: str = "suprsync table") -> bool | None:
    found: bool | None = desk.json("status", desk.site)["places"].get(place, {}).get("well")
    return found


def test_a_locked_database_is_waited_for_while_archiving_goes_on(desk: Desk) -> None:
    numbers = [desk.write(f"10000/{n}") for n in range(5)]
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        until(lambda: desk.database.told(numbers[0])[0], archiver)
        more = [desk.write(f"10000/more{n}") for n in range(5)]
        with locked(desk.database):
            until(lambda: f"10000/more{4}" in desk.archived(), archiver)  # rows can be read
            until(lambda: well(desk) is False, archiver)
            assert "database is locked" in desk.json("status", desk.site)["places"]["suprsync table"]["reason"]
        until(lambda: all(desk.database.told(n)[0] for n in more), archiver)
        until(lambda: well(desk) is True, archiver)
    assert {desk.database.told(n) for n in [*numbers, *more]} == {(True, 0)}


def test_a_database_that_is_lost_and_comes_back(desk: Desk) -> None:
    """Also as another file: what stood there before is not written to."""
    first = desk.write("10000/first")
    away = desk.here / "away.db"
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        until(lambda: desk.database.told(first)[0], archiver)
        desk.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(desk.database.path, away)  # as from a backup
        for name in ("suprsync.db", "suprsync.db-wal", "suprsync.db-shm"):
            (desk.here / name).unlink(missing_ok=True)
        until(lambda: well(desk) is False, archiver)
        away.rename(desk.database.path)
        second = desk.write("10000/second")
        until(lambda: desk.database.told(second)[0], archiver)
        until(lambda: well(desk) is True, archiver)
    assert [desk.database.told(n) for n in (first, second)] == [(True, 0)] * 2


def test_what_was_archived_while_the_database_was_away_is_told_later(desk: Desk) -> None:
    numbers = [desk.write(f"10000/{n}") for n in range(5)]
    desk.here.joinpath("dst").rename(desk.here / "dst-away")
    with desk.bench.start_env({}, "run", desk.site) as archiver:
        until(lambda: waiting(desk) == 5, archiver)
        desk.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        desk.database.path.rename(desk.here / "away.db")
        (desk.here / "dst-away").rename(desk.here / "dst")
        until(lambda: len(desk.archived()) == 5, archiver)
        until(lambda: well(desk) is False, archiver)
        (desk.here / "away.db").rename(desk.database.path)
        until(lambda: all(desk.database.told(n)[0] for n in numbers), archiver)


@pytest.mark.parametrize(
    ("spoil", "code", "told", "remedy"),
    [
        (lambda path: path.unlink(), 5, "unable to open database file", "is the path of database: right"),
        (lambda path: path.write_bytes(b"no database" * 1_000), 2, "file is not a database", "name another database"),
        (lambda path: path.write_bytes(b""), 2, "there is no table supersync_v0", "is the path of database: right"),
        (
            lambda path: Database(path).execute("ALTER TABLE supersync_v0 DROP COLUMN deletable"),
            2,
            "supersync_v0 has no column deletable",
            "socs",
        ),
        (
            lambda path: Database(path).execute("DROP TABLE timecode_dirs_v0"),
            2,
            "there is no table timecode_dirs_v0",
            "suprsync and its publishers make the tables",
        ),
    ],
    ids=["missing", "no database", "empty", "without a column", "without a table"],
)
def test_a_database_that_is_not_what_it_should_be(
    desk: Desk, spoil: Callable[[Path], object], code: int, told: str, remedy: str
) -> None:
    number = desk.write("10000/a")
    desk.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = desk.here / "kept.db"
    shutil.copyfile(desk.database.path, kept)
    for name in ("suprsync.db-wal", "suprsync.db-shm"):
        (desk.here / name).unlink(missing_ok=True)
    spoil(desk.database.path)
    spoilt = desk.database.path.exists()
    run, check = desk.run("run", desk.site, "--once", "--give-up-after", "1s"), desk.run("check", desk.site)
    assert (run.returncode, check.returncode) == (code, 2), (run.stdout, run.stderr)
    for output in (run.stdout + run.stderr, check.stdout):
        assert told in output
        assert "suprsync.db" in output
        assert "Traceback" not in output
    assert remedy in check.stdout
    assert desk.database.path.exists() is spoilt  # it is never made
    kept.replace(desk.database.path)
    desk.once()
    assert desk.database.told(number) == (True, 0)


def test_a_database_that_may_only_be_read(desk: Desk, unprivileged: Unprivileged) -> None:
    number = desk.write("10000/a")
    desk.database.path.chmod(0o444)
    for command in (("run", desk.site, "--once", "--give-up-after", "1s"), ("check", desk.site)):
        done = unprivileged([desk.bench.program, *command])
        assert done.returncode in (2, 5), (done.stdout, done.stderr)
        assert "readonly database" in done.stdout + done.stderr
    assert desk.database.told(number) == (False, 0)
    desk.database.path.chmod(0o644)
    desk.once()
    assert desk.database.told(number) == (True, 0)


def test_another_ledger_on_the_same_archive_is_refused_and_the_same_one_shares(desk: Desk) -> None:
    with desk.bench.start_env({}, "run", desk.site) as first:
        number = desk.write("10000/a")
        until(lambda: desk.database.told(number)[0], first)
        assert desk.once()["ending"] == "finished"
        other = desk.here / "other.yaml"
        (desk.here / "dst2").mkdir()
        text = desk.site.read_text().replace("ledger.db", "other.db").replace("root: dst", "root: dst2")
        other.write_text(text)
        done = desk.run("run", other, "--once")
        assert done.returncode == 2, done.stderr
        assert "another ledger archives archive 'smurf'" in done.stderr
        other.write_text(text.replace("[smurf]", "[timestreams]"))
        assert desk.run("run", other, "--once").returncode == 0


# ── rows and files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_odd_rows_are_dead_letters_and_harm_nobody(desk: Desk) -> None:
    (desk.here / "secret").write_text("not yours")
    good = desk.row_of("10000/a")
    odd: list[tuple[dict[str, Any], str]] = [
        ({"local_path": ""}, "its local_path is empty"),
        ({"local_path": "smurf/a"}, "not absolute"),
        ({"local_path": f"{desk.data}/../../secret"}, "‘..’"),
        ({"local_path": str(desk.here / "secret")}, "not below"),
        ({"local_path": str(desk.here / "data/secret")}, "is in none of"),
        ({"local_path": b"\x00\xff"}, "no text"),
        ({"local_md5sum": "short"}, "is not 32 hexadecimal digits"),
        ({"local_md5sum": b"\x00" * 16}, "no text"),
        ({"remote_path": "../escaped"}, "‘..’"),
        ({"remote_path": "/etc/cron.d/x"}, "is absolute"),
        ({"remote_path": ".skystow/x"}, "is ours"),
        ({"remote_path": "10000/" + "x" * 300}, "255 are the limit"),
        ({"remote_path": "10001/suprsync/x/1_smurf_10000_finalized.yaml", "local_path": b"\0"}, "no text"),
    ]
    staged = desk.here / "data/suprsync/.skystow/suprsync-smurf/smurf_10000.yaml"  # as if one were under way
    staged.parent.mkdir(parents=True)
    staged.write_text("odd")
    numbers = desk.database.register(*(good | change for change, _ in odd), good)
    done = desk.once(3)
    assert (done["archived"], done["dead_letters"]) == (1, len(odd))
    assert desk.archived() == {"10000/a": b"starlight"}
    dead = desk.dead()
    for number, (_, told) in zip(numbers, odd, strict=False):
        assert told in dead[str(number)]
        assert desk.database.row(number)["failed_copy_attempts"] == 0
    desk.database.execute("UPDATE supersync_v0 SET local_path = ?, local_md5sum = ?, remote_path = '10000/b'",
                          [good["local_path"], good["local_md5sum"]])  # fmt: skip
    assert desk.json("dead-letters", "replay", desk.site, "--all")["replayed"] == len(odd)
    desk.once()
    assert {desk.database.told(number)[0] for number in numbers} == {True}


def test_what_is_no_file_fails_as_a_file(desk: Desk) -> None:
    """A link is not followed, wherever it leads: anybody may register any path."""
    (desk.here / "secret").write_bytes(b"starlight")
    (desk.data / "directory").mkdir()
    (desk.data / "link").symlink_to(desk.here / "secret")
    (desk.data / "out").symlink_to(desk.here)
    names = ["directory", "link", "out/secret", "missing"]
    row = desk.row_of("10000/good")
    changes = [{"local_path": str(desk.data / name), "remote_path": f"10000/{name}"} for name in names]
    numbers = desk.database.register(*(row | change for change in changes), row)
    assert desk.once(3)["quarantined"] == len(names)
    assert set(desk.archived()) == {"10000/good"}
    assert [desk.database.told(n) for n in numbers] == [(False, 2)] * len(names) + [(True, 0)]
