"""What can be wrong with a table's rows, and with its database: each has an error that names the culprit and the
remedy, spends no attempt, and is over once it is mended. On a real MariaDB, which takes more than one would think."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nursery import Nursery
from tests.servers import PASSWORD, Server
from tests.sshd import sshd
from tests.system.cli_kit import Bench
from tests.system.table_kit import Desk, said_of, server_desk


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    return Bench(tmp_path, skystow_bin, nursery)


@pytest.fixture
def desk(bench: Bench, mariadb: Server) -> Iterator[Desk]:
    """A table in MariaDB; its files here, unless a test says otherwise."""
    for desk in server_desk(bench, mariadb.url(mariadb.database()), PASSWORD):
        desk.json("pysmurf-files", "create", desk.site)
        yield desk


# ── rows that a server took ──────────────────────────────────────────────────────────────────────────────────────

WIDE = """\
ALTER TABLE pysmurf_files_v1 MODIFY path TEXT NULL, MODIFY timestamp DATETIME NULL, MODIFY md5sum VARBINARY(64) NULL,
MODIFY pub_id VARCHAR(300)"""
"""As somebody may have altered it: so that it takes what the original's would not."""


@pytest.fixture
def far(desk: Desk) -> Iterator[Desk]:
    """Its files on another host."""
    with sshd(desk.bench.here / "it") as host:
        desk.far = True
        layout = "{ctime5}/{pub_id}/{action}/{file_name}"
        desk.write_site(more=f'{said_of(host)}\n    layout: "{layout}"')
        yield desk


def test_odd_rows_on_a_server_harm_nobody(far: Desk) -> None:
    far.execute(WIDE)
    (far.bench.here / "secret").write_text("not yours")
    src = far.bench.src
    good: dict[str, Any] = {"pub_id": "crate1slot2"}
    whole = f"{src}/mended.txt"
    odd = {
        far.register(None, **good): "its path is NULL",
        far.register("", **good): "its path is ‘’",
        far.register("relative/a.txt", **good): "not absolute",
        far.register(f"{src}/../secret", **good): "‘..’",
        far.register("/etc/passwd", **good): "not below",
        far.register(f"{src}/{'x' * 10_000}", **good): "characters, more than a path can have",
        far.register(f"{src}/{'d/' * 5_000}a", **good): "characters, more than a path can have",
        far.register(whole, pub_id="a/b"): "slash",
        far.register(whole, pub_id="../../up"): "slash",
        far.register(whole, action="../up", **good): "slash",
        far.register(whole, action="take/iv", **good): "slash",
        far.register(whole, md5sum=b"short", **good): "5 bytes, not 16",
        far.register(whole, md5sum=bytes(32), **good): "32 bytes, not 16",
        far.register(whole, timestamp=None, **good): "its timestamp is NULL",
    }
    times = {"1970-01-01 00:00:00": "00000", "2038-01-19 03:14:08": "21474", "2106-02-07 06:28:16": "42949"}
    fine = [far.write(f"{digits}.txt", timestamp=when, **good) for when, digits in times.items()]
    done = far.once(3)
    assert (done["archived"], done["dead_letters"]) == (len(fine), len(odd))
    assert set(far.archived()) == {f"{d}/crate1slot2/tune_band/{d}.txt" for d in times.values()}
    dead = far.dead()
    assert set(dead) == set(map(str, odd))
    for number, reason in odd.items():
        assert reason in dead[str(number)]
        assert far.verdict(number)[1:] == (0, 0)
    assert "skystow dead-letters replay" in far.run("run", far.site, "--once").stderr

    far.bench.write("mended.txt")
    md5 = hashlib.md5(b"starlight", usedforsecurity=False).digest()
    mended = "path = ?, pub_id = 'crate1slot3', action = 'mended', timestamp = '2019-08-03 02:27:30', md5sum = ?"
    far.execute(f"UPDATE pysmurf_files_v1 SET {mended} WHERE copied = 0", [whole, md5])  # noqa: S608
    assert far.json("dead-letters", "replay", far.site, "--all")["replayed"] == len(odd)
    far.once()
    where = str(far.bench.dst / "15647/crate1slot3/mended/mended.txt")
    assert {far.verdict(number) for number in odd} == {(where, 1, 0)}


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────

ALTERED = "ALTER TABLE pysmurf_files_v1 {}"


@pytest.mark.parametrize(
    ("site", "password", "table", "code", "told", "remedy"),
    [
        (("skystow@", "nobody@"), PASSWORD, (), 2, "Access denied", "look at the user"),
        ((), "hunter2", (), 2, "Access denied", "password_file or password_env"),
        (("/test_", "/no_such_"), PASSWORD, (), 2, "Access denied", "database of the url"),
        (("skystow@", "everybody@"), "", (), 2, "Unknown database", "database of the url"),
        (("127.0.0.1:{port}", "127.0.0.1:1"), PASSWORD, (), 5, "Can't connect", "skystow tries again by itself"),
        (
            (),
            PASSWORD,
            ("RENAME TABLE pysmurf_files_v1 TO away", "RENAME TABLE away TO pysmurf_files_v1"),
            2,
            "there is no such table",
            "pysmurf-files create",
        ),
        (
            (),
            PASSWORD,
            (
                ALTERED.format("CHANGE action activity VARCHAR(32)"),
                ALTERED.format("CHANGE activity action VARCHAR(32)"),
            ),
            2,
            "has no column action",
            "pysmurf-files upgrade",
        ),
    ],
    ids=["user", "password", "database", "unknown-database", "unreachable", "table", "column"],
)
def test_a_database_that_is_not_as_it_should_be(
    desk: Desk,
    mariadb: Server,
    site: tuple[str, ...],
    password: str,
    table: tuple[str, ...],
    code: int,
    told: str,
    remedy: str,
) -> None:
    number = desk.write("a.txt")
    whole = desk.site.read_text()
    if site:
        old, new = (part.format(port=mariadb.port) for part in site)
        if "everybody" in new:
            mariadb.execute(
                "CREATE OR REPLACE USER 'everybody'@'127.0.0.1'", "GRANT SELECT ON *.* TO 'everybody'@'127.0.0.1'"
            )
            whole, new = whole.replace("/test_", "/no_such_"), new
        desk.site.write_text(whole.replace(old, new))
    desk.sign_in_with(password)
    if table:
        desk.execute(table[0])
    run = desk.run("run", desk.site, "--once", "--give-up-after", "1s")
    assert run.returncode == code, (run.stdout, run.stderr)
    check = desk.run("check", desk.site)
    assert check.returncode == 2
    for output in (run.stdout + run.stderr, check.stdout):
        assert told in output
        assert "pysmurf_files_v1 at mysql" in output  # the culprit
        assert "hunter2" not in output
        assert PASSWORD not in output
    assert remedy in check.stdout
    if code == 2:
        assert remedy in run.stderr
    if table:
        desk.execute(table[1])
    assert desk.untouched(number, "a.txt")
    desk.site.write_text(whole.replace("/no_such_", "/test_"))
    desk.sign_in_with(PASSWORD)
    desk.comes_home(number)
