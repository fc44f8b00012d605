"""`status`, `trace`, `retry`, `ignore`, `resolve`, `verify`, `ledger upgrade`: with a DEST of `archive`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Unprivileged
from tests.nursery import Nursery
from tests.system.cli_kit import Bench


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    bench = Bench(tmp_path, skystow_bin, nursery)
    for n in range(3):
        bench.write(f"night/f{n}", b"photons %d" % n)
    bench.archive()
    return bench


def conflict(bench: Bench, name: str = "night/f0") -> None:
    bench.write(name, b"other photons")
    bench.archive(code=3)


# ── status ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_status_counts_by_destination_and_tells_the_health_of_places(bench: Bench) -> None:
    told = bench.json("status", "dst")
    assert told["destinations"]["archive"]["done"] == 3
    assert (told["waiting"], told["oldest_waiting_s"], told["quarantined"], told["conflicts"]) == (0, None, 0, 0)
    assert len(told["places"]) == 2
    assert all(place["well"] for place in told["places"].values())
    assert told["places"]["archive"]["root"] == str(bench.dst)
    plain = bench.run("status", "dst").stdout
    assert "→ archive" in plain
    assert str(bench.src) in plain


def test_status_knows_an_archive_that_was_moved(bench: Bench) -> None:
    bench.dst.rename(bench.here / "moved")
    assert bench.json("status", "moved")["places"]["archive"]["root"] == str(bench.here / "moved")
    assert bench.json("verify", "moved")["verified"] == 3


def test_windows_write_nothing(bench: Bench) -> None:
    ledger = bench.dst / ".skystow" / "ledger.db"
    before = ledger.read_bytes()
    for args in (("status", "dst"), ("trace", "dst", "night/f1")):
        assert bench.run(*args).returncode == 0
    assert ledger.read_bytes() == before


# ── trace ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_found_by_any_of_its_names(bench: Bench) -> None:
    told = bench.json("trace", "dst", "night/f1")
    assert {"origin", "path", "digest", "size", "state", "copies", "events"} <= set(told)
    assert (told["origin"], told["path"]) == (str(bench.src / "night/f1"), "night/f1")
    assert (told["size"], told["state"]) == (9, "done")
    (copy,) = told["copies"]
    assert (copy["where"], copy["digest"]) == (str(bench.dst / "night/f1"), told["digest"])
    assert [event["step"] for event in told["events"]] == ["admitted", "claimed", "delivered"]
    (bench.here / "alias").symlink_to("src")
    for name in (
        str(bench.src / "night/f1"),
        str(bench.dst / "night/f1"),
        "src/night/f1",
        "dst/night/../night/f1",
        "alias/night/f1",
        "./night/f1",
        str(told["id"]),
    ):
        assert bench.json("trace", "dst", name)["id"] == told["id"], name


def test_a_trace_says_what_happens_next_and_who_must_act(bench: Bench) -> None:
    assert "nobody needs to act" in bench.run("trace", "dst", "night/f1").stdout
    conflict(bench)
    told = bench.run("trace", "dst", "night/f0").stdout
    assert "A person must decide: skystow resolve dst night/f0 keep" in told
    bench.run("resolve", "dst", "night/f0", "keep")
    assert "left out on purpose" in bench.run("trace", "dst", "night/f0").stdout


def test_a_file_that_nobody_knows_is_an_error(bench: Bench) -> None:
    for command in (["trace", "dst", "none"], ["retry", "dst", "none"], ["resolve", "dst", "none", "keep"]):
        done = bench.run(*command)
        assert done.returncode == 2
        assert "the ledger knows no file none" in done.stderr
        assert str(bench.src) in done.stderr
    assert bench.run("trace", "dst", "999999").returncode == 2


# ── retry, ignore, resolve ──────────────────────────────────────────────────────────────────────────────────────


def test_an_ignored_file_is_left_alone_until_it_is_retried(bench: Bench) -> None:
    conflict(bench)
    assert bench.json("ignore", "dst", "night/f0", "--reason", "test exposure")["ignored"] == 1
    numbers = bench.archive()
    assert (numbers["conflicts"], numbers["skipped"], numbers["already"], numbers["files"]) == (0, 1, 2, 2)
    told = bench.json("trace", "dst", "night/f0")
    assert told["state"] == "cancelled"
    assert told["events"][-1]["text"] == "test exposure"
    assert bench.json("retry", "dst", "night/f0")["requeued"] == 1
    assert bench.archive(code=3)["conflicts"] == 1


def test_all_is_for_what_failed_and_not_for_conflicts(bench: Bench) -> None:
    conflict(bench)
    assert bench.json("retry", "dst", "--all")["requeued"] == 0
    assert bench.json("retry", "dst", "night/f0")["requeued"] == 1


def test_where_there_is_nothing_to_do_it_says_so(bench: Bench) -> None:
    assert bench.run("retry", "dst", "night/f1").stdout.startswith("Nothing to try again")
    assert bench.run("ignore", "dst", "night/f1", "--reason", "x").stdout.startswith("Nothing to leave out")
    conflict(bench)
    assert bench.run("retry", "dst", "night/f0").stdout.startswith("1 copy again in the queue")


def test_one_unknown_name_and_nothing_is_changed(bench: Bench) -> None:
    conflict(bench)
    assert bench.run("retry", "dst", "night/f0", "none").returncode == 2
    assert bench.json("trace", "dst", "night/f0")["state"] == "conflict"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["retry", "dst"], "name the files to try again, or say --all"),
        (["retry", "dst", "night/f1", "--all"], "name the files to try again, or say --all"),
        (["ignore", "dst", "night/f1", "--reason", " "], "say why"),
        (["ignore", "dst", "night/f1"], "--reason"),
        (["resolve", "dst", "night/f1", "keep"], "night/f1 is in no conflict"),
        (["resolve", "dst", "night/f1", "both"], "'both' is not known"),
        (["status", "none"], "none does not exist"),
        (["status", "src"], "there is no ledger"),
        (["verify", "dst", "--destination", "oods"], "no destination is called 'oods'"),
        (["ledger", "upgrade"], "name a site file, a DEST, or --ledger URL"),
        (["ledger", "upgrade", "src"], "there is no ledger"),
    ],
)
def test_what_cannot_be_done_is_told(bench: Bench, command: list[str], told: str) -> None:
    done = bench.run(*command)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert done.stdout == ""


# ── verify ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_flipped_byte_and_a_missing_file_are_named(bench: Bench) -> None:
    assert bench.json("verify", "dst") | {"seconds": 0} == {
        "verified": 3, "bytes": 27, "damaged": [], "missing": [], "seconds": 0,
    }  # fmt: skip
    path = bench.dst / "night" / "f1"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"P")
    os.unlink(bench.dst / "night" / "f2")
    told = bench.json("verify", "dst", code=4)
    assert [each["path"] for each in told["damaged"]] == ["night/f1"]
    assert [each["path"] for each in told["missing"]] == ["night/f2"]
    plain = bench.run("verify", "dst")
    assert plain.returncode == 4
    assert "damaged: night/f1 in archive reads blake3:" in plain.stdout
    assert "missing: night/f2 is gone from archive" in plain.stdout
    assert bench.json("trace", "dst", "night/f1")["state"] == "damaged"
    assert "A person must act" in bench.run("trace", "dst", "night/f2").stdout


def test_a_whole_archive_that_is_away_is_not_called_missing(bench: Bench) -> None:
    url = f"sqlite:///{bench.here}/copy.db"
    os.rename(bench.dst / ".skystow" / "ledger.db", bench.here / "copy.db")
    os.rename(bench.dst, bench.here / "away")
    bench.dst.mkdir()
    done = bench.run("verify", "dst", "--ledger", url)
    assert done.returncode == 5, done.stderr
    assert "is empty" in done.stderr
    os.rmdir(bench.dst)
    os.rename(bench.here / "away", bench.dst)
    assert bench.json("verify", "dst", "--ledger", url)["verified"] == 3


def test_a_ledger_that_may_not_be_reached_is_not_called_absent(bench: Bench, unprivileged: Unprivileged) -> None:
    (bench.dst / ".skystow").chmod(0)
    done = unprivileged([bench.program, "status", bench.dst])
    (bench.dst / ".skystow").chmod(0o755)
    assert done.returncode == 2
    assert "cannot reach the ledger" in done.stderr


# ── ledger ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_upgrade_of_a_ledger_that_is_up_to_date_does_nothing(bench: Bench) -> None:
    for place in (["dst"], ["--ledger", f"sqlite:///{bench.dst}/.skystow/ledger.db"]):
        told = bench.json("ledger", "upgrade", *place)
        assert told["before"] == told["after"]
        assert told["changed"] is False
    assert "nothing to do" in bench.run("ledger", "upgrade", "dst").stdout
