"""A table that is away, slow to be told, or not what it should be; and servers that have their own idea of time."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.servers import PASSWORD, MariaDb, Server
from tests.system.cli_kit import Bench, until
from tests.system.table_kit import ORIGINAL, Desk, server_desk, sqlite_desk


class West(MariaDb):
    """Set up three hours west of Greenwich, and as servers once were: the first TIMESTAMP of a table follows each
    update, unless it is said otherwise."""

    extra = ("--default-time-zone=-03:00", "--explicit-defaults-for-timestamp=OFF")


@pytest.fixture(scope="module")
def west() -> Iterator[Server]:
    with closing(West()) as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    return Bench(tmp_path, skystow_bin, nursery)


@pytest.fixture
def desk(bench: Bench, west: Server) -> Iterator[Desk]:
    """On the server in the west."""
    for desk in server_desk(bench, west.url(west.database()), PASSWORD):
        desk.execute(ORIGINAL)
        yield desk


@pytest.fixture
def local(bench: Bench) -> Desk:
    desk = sqlite_desk(bench)
    desk.json("pysmurf-files", "create", desk.site)
    return desk


@pytest.fixture(params=["sqlite", "mariadb"])
def either(request: pytest.FixtureRequest) -> Desk:
    found = request.getfixturevalue("local" if request.param == "sqlite" else "desk")
    assert isinstance(found, Desk)
    return found


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_servers_zone_does_not_move_a_file(desk: Desk) -> None:
    """1564700001; three hours earlier would be 15646."""
    number = desk.write("a.txt", timestamp="2019-08-01 22:53:21")
    assert desk.execute("SELECT @@session.time_zone") == [("-03:00",)]
    desk.once()
    assert set(desk.archived()) == {"15647/tune_band/a.txt"}
    assert str(desk.row(number)["timestamp"]) == "2019-08-01 22:53:21"


def test_a_timestamp_that_follows_updates_is_kept(desk: Desk) -> None:
    desk.execute("DROP TABLE pysmurf_files_v1")
    desk.execute(ORIGINAL.replace("timestamp TIMESTAMP NULL", "timestamp TIMESTAMP"))
    assert "ON UPDATE" in str(desk.execute("SHOW CREATE TABLE pysmurf_files_v1")).upper()
    desk.write_site(attempts=1)
    good, bad = desk.write("a.txt"), desk.write("b.txt")
    desk.bench.write("b.txt", b"rewritten")
    desk.once(3)
    assert [str(desk.row(n)["timestamp"]) for n in (good, bad)] == ["2019-08-03 02:27:30"] * 2
    assert [desk.verdict(n)[1:] for n in (good, bad)] == [(1, 0), (0, 1)]


# ── away ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_archiving_goes_on_while_the_server_is_dead(desk: Desk, west: Server) -> None:
    desk.once()
    numbers = [desk.write(f"{n}.txt", b"%d" % n) for n in range(40)]
    away = desk.bench.here / "away"
    desk.bench.dst.rename(away)
    with desk.bench.start_env(desk.env, "run", desk.site) as archiver:
        until(lambda: desk.json("status", desk.site)["waiting"] == len(numbers), archiver)
        west.kill()
        away.rename(desk.bench.dst)
        until(lambda: len(desk.archived()) == len(numbers), archiver)
        until(lambda: desk.json("status", desk.site)["places"]["smurf table"]["well"] is False, archiver)
        west.start()
        until(lambda: all(desk.verdict(n)[1:] == (1, 0) for n in numbers), archiver)
        until(lambda: desk.json("status", desk.site)["places"]["smurf table"]["well"] is True, archiver)
    assert len(desk.archived()) == len(numbers)


def test_a_crash_before_the_table_is_told(either: Desk) -> None:
    number = either.write("a.txt")
    with closing(either.connect()) as session:
        # Who reads may read; who writes waits.
        lock = "BEGIN IMMEDIATE" if either.mark == "?" else "LOCK TABLES pysmurf_files_v1 READ"
        session.cursor().execute(lock)
        with either.bench.start_env(either.env, "run", either.site) as archiver:
            until(lambda: bool(either.archived()) and _done(either), archiver)
            archiver.send_signal(signal.SIGKILL)
            archiver.wait()
    assert either.verdict(number) == (str(either.bench.src / "a.txt"), 0, 0)
    (either.bench.src / "a.txt").unlink()  # nobody asks for it again
    assert either.once()["archived"] == 0
    assert either.verdict(number) == (str(either.bench.dst / "15647/tune_band/a.txt"), 1, 0)


def _done(desk: Desk) -> bool:
    return any(place["done"] for place in desk.json("status", desk.site)["destinations"].values())


def test_an_account_that_may_only_read(desk: Desk, west: Server) -> None:
    number = desk.write("a.txt")
    database = desk.url.rsplit("/", 1)[1]
    west.execute(
        "CREATE OR REPLACE USER 'reader'@'127.0.0.1' IDENTIFIED BY 'r'",
        f"GRANT SELECT ON {database}.* TO 'reader'@'127.0.0.1'",
    )
    whole = desk.site.read_text()
    desk.site.write_text(whole.replace("skystow@", "reader@"))
    desk.sign_in_with("r")
    checked = desk.run("check", desk.site)
    assert checked.returncode == 2
    assert "UPDATE command denied" in checked.stdout
    assert "grant it SELECT and UPDATE" in checked.stdout
    assert desk.once(5)["archived"] == 1
    assert desk.verdict(number)[1] == 0
    desk.site.write_text(whole)
    desk.sign_in_with(PASSWORD)
    assert desk.once()["archived"] == 0
    assert desk.verdict(number)[1] == 1


def test_tls_to_a_server_of_our_authority_alone(desk: Desk, west: Server, tmp_path: Path) -> None:
    number = desk.write("a.txt")
    whole = desk.site.read_text()
    desk.site.write_text(whole.replace("table: {", f"table: {{tls: {{ca: '{west.tls_ca}'}}, "))
    assert desk.site.read_text() != whole
    assert desk.once()["archived"] == 1
    assert desk.verdict(number)[1] == 1
    other = tmp_path / "other"
    other.mkdir()
    west.make_certificates(other)
    desk.site.write_text(whole.replace("table: {", f"table: {{tls: {{ca: '{other}/ca.pem'}}, "))
    refused = desk.run("check", desk.site)
    assert refused.returncode != 0
    assert "certificate" in refused.stdout


def test_a_file_that_may_only_be_read(local: Desk) -> None:
    local.write("a.txt")
    os.chmod(local.bench.here / "smurf.db", 0o400)
    if os.geteuid() == 0:  # to whom bits do not apply
        return
    assert "rows may be updated" not in local.run("check", local.site).stdout


@pytest.mark.parametrize(
    ("old", "new", "told", "code"),
    [
        ("skystow@", "nobody@", "Access denied", 2),
        ("/test_", "/no_such_", "Access denied", 2),
        ("127.0.0.1:", "127.0.0.1:1", "Can't connect", 5),
        ("127.0.0.1:", "no.such.host.invalid:", "Can't connect", 5),
    ],
    ids=["user", "database", "port", "host"],
)
def test_a_server_that_does_not_let_us_in(desk: Desk, old: str, new: str, told: str, code: int) -> None:
    text = desk.site.read_text()
    port = desk.url.split(":")[2].split("/")[0]
    replacement = text.replace(f"127.0.0.1:{port}", "127.0.0.1:1") if new == "127.0.0.1:1" else text.replace(old, new)
    desk.site.write_text(replacement)
    done = desk.run("run", desk.site, "--once", "--give-up-after", "1s")
    assert done.returncode == code, done.stderr
    assert told in done.stderr + done.stdout
    checked = desk.run("check", desk.site)
    assert checked.returncode == 2
    assert told in checked.stdout
    for output in (done.stdout, done.stderr, checked.stdout, checked.stderr):
        assert desk.password not in output
        assert "p%40ss" not in output


def test_a_wrong_password_is_refused_and_not_shown(desk: Desk) -> None:
    desk.sign_in_with("hunter2")
    done = desk.run("run", desk.site, "--once")
    assert done.returncode == 2
    assert "Access denied" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_the_password_may_be_in_a_file(desk: Desk) -> None:
    secret = desk.bench.here / "secret"
    secret.write_text(f"{desk.password}\n")
    desk.site.write_text(desk.site.read_text().replace("password_env: TABLE_PASSWORD", "password_file: secret"))
    desk.sign_in_with("")
    assert desk.once()["ending"] == "finished"
    secret.unlink()
    done = desk.run("run", desk.site, "--once")
    assert done.returncode == 2
    assert "cannot read the password file" in done.stderr


# ── what only SQLite holds ───────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_no_server_would_take(local: Desk) -> None:
    src = local.bench.src
    numbers = {
        local.register(f"{src}/{'x' * 10_000}"): "characters, more than a path can have",
        local.register(f"{src}/a.txt", md5sum=b"short"): "5 bytes, not 16",
        local.register(f"{src}/a.txt", md5sum="0" * 32): "text",
        local.register(f"{src}/a.txt", timestamp="yesterday"): "is no time",
    }
    with closing(sqlite3.connect(local.bench.here / "smurf.db")) as session, session:
        session.execute("UPDATE pysmurf_files_v1 SET action = CAST(x'ff2f' AS TEXT) WHERE id = ?", [min(numbers)])
    far = local.write("far.txt", timestamp="2106-02-07 06:28:16")
    assert local.once(3)["archived"] == 1
    assert set(local.archived()) == {"42949/tune_band/far.txt"}
    assert local.verdict(far)[1] == 1
    dead = local.dead()
    assert set(dead) == {str(n) for n in numbers}
    assert all(told in dead[str(n)] for n, told in numbers.items())


def test_no_database_is_made_where_there_is_none(bench: Bench) -> None:
    desk = sqlite_desk(bench)
    done = desk.run("run", desk.site, "--once", "--give-up-after", "1s")
    assert done.returncode == 5
    assert "pysmurf-files create" in done.stdout + done.stderr
    assert not (bench.here / "smurf.db").exists()


def test_a_file_that_is_no_database(bench: Bench) -> None:
    desk = sqlite_desk(bench)
    (bench.here / "smurf.db").write_text("dear diary, " * 100)
    done = desk.run("run", desk.site, "--once")
    assert done.returncode == 2
    assert "not a database" in done.stderr
    assert (bench.here / "smurf.db").read_text().startswith("dear diary")
