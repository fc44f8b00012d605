"""A `pysmurf_files` table as a source, with the program as it is run: on SQLite and on a real MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.servers import PASSWORD, Server
from tests.system.cli_kit import Bench, until
from tests.system.table_kit import AT, ORIGINAL, Desk, server_desk, sqlite_desk


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    return Bench(tmp_path, skystow_bin, nursery)


@pytest.fixture(params=["sqlite", "mariadb"])
def desk(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Desk]:
    if request.param == "sqlite":
        yield sqlite_desk(bench)
    else:
        server: Server = request.getfixturevalue("mariadb")
        yield from server_desk(bench, server.url(server.database()), PASSWORD)


@pytest.fixture
def table(desk: Desk) -> Desk:
    """With the table made."""
    assert desk.json("pysmurf-files", "create", desk.site)["tables"][0]["made"] is True
    return desk


# ── what is copied ───────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_copied_and_told(table: Desk) -> None:
    one = table.write("1564799250/outputs/1564799250_tuning_b1.txt", b"one")
    two = table.write("1564799250/outputs/other.npy", b"two", action=None, copied=None, failed_copy_attempts=None)
    other = table.write("not/ours.txt", instance_id="another")
    done = table.write("done.txt", copied=1)
    assert table.once()["archived"] == 2
    assert table.archived() == {"15647/tune_band/1564799250_tuning_b1.txt": b"one", "15647/none/other.npy": b"two"}
    where = table.bench.dst / "15647"
    assert table.verdict(one) == (str(where / "tune_band/1564799250_tuning_b1.txt"), 1, 0)
    assert table.verdict(two) == (str(where / "none/other.npy"), 1, None)
    assert [table.verdict(n)[1] for n in (other, done)] == [0, 1]
    assert str(table.row(one)["timestamp"]) == AT


def test_nothing_is_left_to_do_in_a_second_run(table: Desk) -> None:
    number = table.write("a.txt")
    table.once()
    before = table.row(number)
    again = table.once()
    assert (again["archived"], again["files"], table.row(number)) == (0, 0, before)


def test_a_thousand_rows(table: Desk) -> None:
    for n in range(1_003):
        table.bench.write(f"d{n % 7}/f{n}.dat", b"%d" % n)
    src = table.bench.src
    import hashlib

    values = [
        (f"{src}/d{n % 7}/f{n}.dat", hashlib.md5(b"%d" % n, usedforsecurity=False).digest()) for n in range(1_003)
    ]
    session = table.connect()
    statement = "INSERT INTO pysmurf_files_v1 (path, md5sum, timestamp, instance_id, copied, action) VALUES (?, ?, "
    statement += f"'{AT}', 'monitor', 0, 'iv')"
    session.cursor().executemany(statement.replace("?", table.mark), values)
    session.commit()
    session.close()
    assert table.once()["archived"] == 1_003
    assert table.archived() == {f"15647/iv/f{n}.dat": b"%d" % n for n in range(1_003)}
    assert table.execute(
        "SELECT count(*) FROM pysmurf_files_v1 WHERE copied = 1 AND path LIKE ?", [f"{table.bench.dst}/%"]
    ) == [(1_003,)]


def test_the_layout_of_the_originals_last_code(table: Desk) -> None:
    table.write_site(more='layout: "{ctime5}/{pub_id}/{action_timestamp}_{action}/{plots_or_outputs}/{file_name}"')
    table.write("1564799250_a.txt", pub_id="crate1slot2", action_timestamp=1564799299, plot=1)
    table.write("1564799251_b.txt", pub_id="crate1slot2", plot=0)
    table.write("c.txt", action=None)
    table.once()
    assert set(table.archived()) == {
        "15647/crate1slot2/1564799299_tune_band/plots/1564799250_a.txt",
        "15647/crate1slot2/1564799251_tune_band/outputs/1564799251_b.txt",
        "15647/none/1564799250_none/outputs/c.txt",
    }


def test_version_0_has_a_type(desk: Desk) -> None:
    desk.version = "v0"
    desk.write_site()
    desk.json("pysmurf-files", "create", desk.site)
    number = desk.write("x.txt")
    desk.once()
    assert set(desk.archived()) == {"15647/tuning/x.txt"}
    assert desk.verdict(number)[1] == 1


def test_times_are_utc_and_reach_far(table: Desk) -> None:
    table.write("a", timestamp="1970-01-02 00:00:00")
    table.write("b", timestamp="2038-01-19 03:14:07")
    table.once()
    assert set(table.archived()) == {"00000/tune_band/a", "21474/tune_band/b"}


# ── two rows, two files ──────────────────────────────────────────────────────────────────────────────────────────


def test_two_rows_of_one_path_are_both_told(table: Desk) -> None:
    one = table.write("a.txt")
    two = table.write("a.txt")
    table.once()
    where = str(table.bench.dst / "15647/tune_band/a.txt")
    assert table.verdict(one) == table.verdict(two) == (where, 1, 0)
    three = table.write("a.txt")
    table.once()
    assert table.verdict(three) == (where, 1, 0)


def test_a_conflict_is_never_copied(table: Desk) -> None:
    table.write("one/a.txt", b"one")
    table.once()
    two = table.write("two/a.txt", b"two")
    assert table.once(3)["conflicts"] == 1
    assert table.verdict(two) == (str(table.bench.src / "two/a.txt"), 0, 1)
    assert table.archived() == {"15647/tune_band/a.txt": b"one"}


def test_a_file_rewritten_after_registration_is_counted_and_quarantined(table: Desk) -> None:
    table.write_site(attempts=5)
    number = table.write("a.txt", b"one")
    table.bench.write("a.txt", b"rewritten")
    assert table.once(3)["quarantined"] == 1
    assert table.verdict(number) == (str(table.bench.src / "a.txt"), 0, 5)
    assert table.archived() == {}
    table.bench.write("a.txt", b"one")
    assert table.json("retry", table.site, "--all")["requeued"] == 1
    assert table.once()["archived"] == 1
    assert table.verdict(number) == (str(table.bench.dst / "15647/tune_band/a.txt"), 1, 0)


def test_failures_of_the_past_count(table: Desk) -> None:
    table.write_site(attempts=5)
    number = table.write("a.txt", b"one", failed_copy_attempts=3)
    gone = table.write("b.txt", b"two", failed_copy_attempts=7)
    table.bench.write("a.txt", b"rewritten")
    assert table.once(3)["quarantined"] == 2
    assert [table.verdict(n)[1:] for n in (number, gone)] == [(0, 5), (0, 7)]
    assert table.archived() == {}
    events = table.json("trace", table.site, str(table.bench.src / "b.txt"))["events"]
    assert [event["step"] for event in events] == ["admitted", "quarantined"]
    table.json("retry", table.site, str(table.bench.src / "b.txt"))
    table.once(3)
    assert table.verdict(gone)[1:] == (1, 0)


def test_the_absence_of_the_files_burns_no_attempt(table: Desk) -> None:
    numbers = [table.write(name) for name in ("a", "b", "c")]
    table.bench.src.rename(table.bench.here / "unmounted")
    assert table.once(5, "--give-up-after", "1s")["archived"] == 0
    assert {table.verdict(n)[1:] for n in numbers} == {(0, 0)}
    (table.bench.here / "unmounted").rename(table.bench.src)
    assert table.once()["archived"] == 3


def test_several_destinations_may_count(table: Desk) -> None:
    handoff = "  - {name: oods, kind: hardlink, of: archive, root: oods}"
    table.write_site(more="copied_when: [oods, archive]", destinations=handoff)
    number = table.write("a.txt")
    (table.bench.here / "oods" / "15647").mkdir(parents=True)
    (table.bench.here / "oods" / "15647" / "tune_band").write_text("in the way")
    table.once(3)
    assert table.archived() == {"15647/tune_band/a.txt": b"starlight"}
    assert table.verdict(number)[1] == 0
    (table.bench.here / "oods" / "15647" / "tune_band").unlink()
    table.json("retry", table.site, "--all")
    table.once()
    assert table.verdict(number) == (str(table.bench.here / "oods/15647/tune_band/a.txt"), 1, 0)


# ── the path ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_path_may_be_left(table: Desk) -> None:
    table.write_site(more="rewrite_path: false")
    number = table.write("a.txt")
    table.once()
    assert table.verdict(number) == (str(table.bench.src / "a.txt"), 1, 0)


def test_a_path_that_does_not_fit_is_left_and_warned_of(table: Desk) -> None:
    table.write_site(more=f'layout: "{"x" * 200}/{{file_name}}"')
    number = table.write(f"{'y' * 100}.txt")
    done = table.run("run", table.site, "--once")
    assert done.returncode == 0, done.stderr
    assert f"row {number} is copied, but its path stays" in done.stderr
    assert table.verdict(number) == (str(table.bench.src / f"{'y' * 100}.txt"), 1, 0)
    traced = table.json("trace", table.site, f"{'y' * 100}.txt")
    assert traced["path"] == f"{'x' * 200}/{'y' * 100}.txt"


def test_paths_may_begin_elsewhere_than_the_files(table: Desk) -> None:
    table.write_site(more="registered_root: /data/smurf_data")
    table.bench.write("day/a.txt")
    number = table.register("/data/smurf_data/day/a.txt")
    assert table.once()["archived"] == 1
    assert table.verdict(number)[1] == 1


# ── what cannot be admitted ──────────────────────────────────────────────────────────────────────────────────────


def test_odd_rows_are_dead_letters_and_harm_nobody(table: Desk) -> None:
    (table.bench.here / "secret").write_text("not yours")
    src = table.bench.src
    layout = 'layout: "{ctime5}/{pub_id}/{action}/{file_name}"'
    table.write_site(more=layout)
    odd = {
        table.register(""): "its path is ‘’",
        table.register("relative/a.txt"): "not absolute",
        table.register(f"{src}/../secret"): "‘..’",
        table.register("/etc/passwd"): "not below",
        table.register(str(src)): "not below",
        table.register(f"{src}/a.txt", pub_id="../../up"): "slash",
        table.register(f"{src}/a.txt", pub_id=".."): "it is ‘..’",
        table.register(f"{src}/a.txt", action="a/b"): "slash",
        table.register(f"{src}/a.txt", action=""): "empty",
        table.register(f"{src}/a.txt", timestamp=None): "its timestamp is NULL",
    }
    good = table.write("good.txt", pub_id="crate1slot2")
    done = table.once(3)
    assert (done["archived"], done["dead_letters"]) == (1, len(odd))
    assert table.verdict(good)[1] == 1
    dead = table.dead()
    assert set(dead) == {str(n) for n in odd}
    for number, reason in odd.items():
        assert reason in dead[str(number)]
        assert table.verdict(number)[1] == 0
    assert table.json("status", table.site)["dead_letters"] == len(odd)


def test_a_dead_letter_is_read_again_only_when_it_is_replayed(table: Desk) -> None:
    table.bench.write("a.txt")
    number = table.register("a.txt")
    table.once(3)
    table.execute("UPDATE pysmurf_files_v1 SET path = ? WHERE id = ?", [str(table.bench.src / "a.txt"), number])
    assert table.once(3)["archived"] == 0
    assert table.json("dead-letters", "replay", table.site, "--all")["replayed"] == 1
    assert table.once()["archived"] == 1
    assert table.verdict(number)[1] == 1


def test_what_is_no_file_fails_as_a_file(table: Desk) -> None:
    (table.bench.src / "directory").mkdir()
    (table.bench.here / "secret").write_text("not yours")
    (table.bench.src / "link").symlink_to(table.bench.here / "secret")
    import os

    os.mkfifo(table.bench.src / "fifo")
    numbers = [table.register(str(table.bench.src / name)) for name in ("directory", "link", "fifo")]
    good = table.write("good")
    assert table.once(3)["quarantined"] == 3
    assert {table.verdict(n)[1:] for n in numbers} == {(0, 2)}
    assert table.verdict(good)[1] == 1
    assert set(table.archived()) == {"15647/tune_band/good"}


# ── the table itself ─────────────────────────────────────────────────────────────────────────────────────────────


def test_create_and_upgrade(desk: Desk) -> None:
    assert desk.json("pysmurf-files", "create", desk.site)["tables"][0]["made"] is True
    assert desk.json("pysmurf-files", "create", desk.site)["tables"][0]["made"] is False
    assert desk.json("pysmurf-files", "upgrade", desk.site)["tables"][0]["added"] == []


def test_the_originals_table_works_and_check_names_the_missing_index(desk: Desk) -> None:
    ddl = ORIGINAL
    if desk.mark == "?":
        ddl = ddl.replace("INT NOT NULL AUTO_INCREMENT PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
    desk.execute(ddl)
    number = desk.write("a.txt")
    checked = desk.run("check", desk.site)
    assert checked.returncode == 0, checked.stdout
    assert "no index on instance_id and copied" in checked.stdout
    desk.once()
    assert desk.verdict(number)[1] == 1
    added = desk.json("pysmurf-files", "upgrade", desk.site)["tables"][0]["added"]
    assert added == ["index ix_pysmurf_files_v1_uncopied"]
    assert "no index" not in desk.run("check", desk.site).stdout


def test_a_missing_column_is_named_and_can_be_added(table: Desk) -> None:
    table.execute("ALTER TABLE pysmurf_files_v1 DROP COLUMN pub_id")
    number = table.write("a.txt")
    table.once()  # nobody needs it
    assert table.verdict(number)[1] == 1
    table.write_site(more='layout: "{pub_id}/{file_name}"')
    done = table.run("run", table.site, "--once")
    assert done.returncode == 2
    assert "has no column pub_id" in done.stderr
    assert "pysmurf-files upgrade" in done.stderr
    assert table.json("pysmurf-files", "upgrade", table.site)["tables"][0]["added"] == ["column pub_id"]
    assert table.once()["ending"] == "finished"


def test_a_missing_table_is_refused(desk: Desk) -> None:
    if desk.mark == "?":
        desk.execute("CREATE TABLE other (id INT)")
    for command in (("run", desk.site, "--once"), ("check", desk.site)):
        done = desk.run(*command)
        assert done.returncode == 2, done.stderr
        assert "there is no such table" in done.stderr + done.stdout
        assert "pysmurf-files create" in done.stderr + done.stdout


def test_another_ledger_on_the_same_table_is_refused_and_the_same_one_shares(table: Desk) -> None:
    with table.bench.start_env(table.env, "run", table.site) as first:
        number = table.write("a.txt")
        until(lambda: table.verdict(number)[1] == 1, first)
        assert table.once()["ending"] == "finished"  # a second process, the same ledger
        other = table.bench.here / "other.yaml"
        other.write_text(table.site.read_text().replace("ledger.db", "other.db").replace("root: dst", "root: dst2"))
        (table.bench.here / "dst2").mkdir()
        done = table.run("run", other, "--once")
        assert done.returncode == 2, done.stderr
        assert "another ledger archives target 'monitor'" in done.stderr
    assert table.run("run", other, "--once").returncode == 0  # the first has ended


def test_an_index_is_used(table: Desk) -> None:
    query = (
        "SELECT id FROM pysmurf_files_v1 WHERE instance_id = 'monitor' AND copied = 0 AND id > 5 ORDER BY id LIMIT 9"
    )
    explain = "EXPLAIN QUERY PLAN " if table.mark == "?" else "EXPLAIN "
    plan = str(table.execute(explain + query))
    assert "ix_pysmurf_files_v1_uncopied" in plan
    assert "filesort" not in plan
    assert "B-TREE" not in plan
