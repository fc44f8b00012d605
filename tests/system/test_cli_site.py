"""`run`, `check`, `retire` and the operators' commands with a site file."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.system.cli_kit import SITE, Bench, interrupt, make_site, until


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    bench = Bench(tmp_path, skystow_bin, nursery)
    make_site(bench)
    return bench


def test_one_pass_archives_all_that_is_there_and_hands_it_off(bench: Bench) -> None:
    for n in range(5):
        bench.write(f"f{n}", b"photons %d" % n)
    numbers = bench.json("run", "site.yaml", "--once")
    assert (numbers["files"], numbers["archived"], numbers["already"], numbers["failed"]) == (5, 5, 0, 0)
    assert {name: counts["done"] for name, counts in numbers["destinations"].items()} == {"archive": 5, "oods": 5}
    for n in range(5):
        assert (bench.here / "oods" / f"f{n}").samefile(bench.dst / f"f{n}")
    again = bench.json("run", "site.yaml", "--once")
    assert (again["files"], again["archived"], again["already"]) == (5, 0, 5)
    assert (bench.here / "ledger.db").exists()
    told = bench.json("status", "site.yaml")
    assert {name: counts["done"] for name, counts in told["destinations"].items()} == {"archive": 5, "oods": 5}
    traced = bench.json("trace", "site.yaml", "f3")
    assert {copy["destination"]: copy["where"] for copy in traced["copies"]} == {
        "archive": str(bench.dst / "f3"),
        "oods": str(bench.here / "oods" / "f3"),
    }
    assert bench.json("verify", "site.yaml")["verified"] == 10
    assert bench.json("verify", "site.yaml", "--destination", "oods")["verified"] == 5


def test_a_pass_that_waits_for_quiet_knows_what_was_archived_before(bench: Bench) -> None:
    make_site(bench, SITE.replace("quiet_for: 0", "quiet_for: 500ms"))
    for n in range(3):
        bench.write(f"f{n}", b"photons")
    assert bench.json("run", "site.yaml", "--once")["archived"] == 3
    again = bench.json("run", "site.yaml", "--once")
    assert (again["files"], again["archived"], again["already"]) == (3, 0, 3)
    bench.write("f0", b"other photons")
    bench.write("new", b"photons")
    mixed = bench.json("run", "site.yaml", "--once", code=3)
    assert (mixed["files"], mixed["archived"], mixed["already"], mixed["conflicts"]) == (4, 1, 2, 1)


def test_the_bytes_of_a_file_are_counted_once_and_not_for_each_copy(bench: Bench) -> None:
    bench.write("a.fits", bytes(1000))
    assert bench.run("run", "site.yaml", "--once").stdout.startswith("1 file archived (1000 B ")


def test_what_a_source_notes_is_logged_and_told(bench: Bench) -> None:
    done = bench.run("run", "site.yaml", "--once", "--json")
    assert json.loads(done.stdout)["notes"][0]["source"] == "instrument"
    (line,) = [line for line in done.stderr.splitlines() if "event=note" in line]
    assert "level=warning" in line
    assert "source=instrument" in line
    assert "the root is empty" in line
    assert "the root is empty" in bench.run("check", "site.yaml").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_that_is_stopped_ends_well(bench: Bench, number: int) -> None:
    process = bench.start("run", "site.yaml", "--json")
    bench.write("late.fits")
    until((bench.here / "oods" / "late.fits").exists, process)
    code, took, out, err = interrupt(process, number)
    assert code == 0, err
    assert took < 5
    assert json.loads(out)["archived"] == 1
    lines = err.splitlines()
    assert "level=info event=started site=site.yaml" in lines[0]
    assert "event=ended ending=stopped" in lines[-1]
    assert all(line.startswith("at=2") for line in lines)


def test_a_pass_that_is_interrupted_says_so(bench: Bench) -> None:
    site = make_site(bench, SITE.replace("root: dst,", "root: dst, bwlimit: 1MB/s, streams: 1,"))
    for n in range(6):
        bench.write(f"f{n}", bytes(500_000))
    process = bench.start("run", site, "--once", "--json")
    until(lambda: any(bench.dst.glob("f*")), process)
    code, took, _, _ = interrupt(process)
    assert code == 130
    assert took < 5
    make_site(bench)
    assert bench.json("run", "site.yaml", "--once")["files"] == 6


def test_a_place_that_stays_away_ends_the_pass_unfinished(bench: Bench) -> None:
    bench.write("a.fits")
    bench.dst.rename(bench.here / "unmounted")
    numbers = bench.json("run", "site.yaml", "--once", "--give-up-after", "1s", code=5)
    assert (numbers["files"], numbers["archived"], numbers["failed"]) == (1, 0, 1)
    assert numbers["resting"][0]["place"] == "archive"
    told = bench.json("status", "site.yaml")
    assert told["places"]["archive"]["well"] is False
    assert told["places"]["archive"]["reason"]
    assert told["waiting"] == 2
    assert told["oldest_waiting_s"] > 0
    assert "not well" in bench.run("status", "site.yaml").stdout
    (bench.here / "unmounted").rename(bench.dst)
    assert bench.json("run", "site.yaml", "--once")["archived"] == 1
    traced = bench.json("trace", "site.yaml", "a.fits")
    assert [copy["attempts"] for copy in traced["copies"]] == [0, 0]


def test_conflicts_may_be_numbered(bench: Bench) -> None:
    site = make_site(bench, f"{SITE}on_conflict: number\n")
    (bench.dst / "a.fits").write_bytes(b"somebody else's")
    bench.write("a.fits")
    numbers = bench.json("run", site, "--once")
    assert (numbers["archived"], numbers["conflicts"]) == (1, 0)
    assert (bench.dst / "a.fits.1").read_bytes() == b"starlight"
    assert (bench.here / "oods" / "a.fits.1").read_bytes() == b"starlight"


def test_a_conflict_that_is_kept_takes_its_handoff_along(bench: Bench) -> None:
    (bench.dst / "a.fits").write_bytes(b"somebody else's")
    bench.write("a.fits")
    assert bench.json("run", "site.yaml", "--once", code=3)["conflicts"] == 1
    bench.json("resolve", "site.yaml", "a.fits", "keep")
    told = bench.json("status", "site.yaml")
    assert (told["waiting"], told["conflicts"]) == (0, 0)
    assert bench.run("run", "site.yaml", "--once").returncode == 0


def test_notices_go_to_the_journal(bench: Bench) -> None:
    site = make_site(bench, f"{SITE}journal: notices.jsonl\n")
    bench.write("a.fits")
    bench.json("run", site, "--once")
    notices = [json.loads(line) for line in (bench.here / "notices.jsonl").read_text().splitlines()]
    assert [notice["kind"] for notice in notices] == ["delivered", "delivered"]


# ── check ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_site_that_is_well_is_called_well_and_left_as_it_was(bench: Bench) -> None:
    bench.write("a.fits")
    told = bench.json("check", "site.yaml")
    assert told["ok"] is True
    subjects = {finding["subject"] for finding in told["findings"]}
    assert {"site file", "ledger", "clock", "instrument"} <= subjects
    assert [path for path in bench.dst.rglob("*") if path.is_file()] == []
    assert bench.run("check", "site.yaml").stdout.endswith("All well.\n")
    assert bench.json("status", "site.yaml")["destinations"] == {}


def test_a_site_that_is_not_well_is_told_what_to_do(bench: Bench) -> None:
    (bench.here / "oods").rmdir()
    (bench.here / "src").rmdir()
    told = bench.json("check", "site.yaml", code=2)
    assert told["ok"] is False
    bad = [finding for finding in told["findings"] if not finding["ok"]]
    assert any("src" in finding["text"] for finding in bad)
    assert any("oods" in finding["text"] for finding in bad)
    assert "FAIL" in bench.run("check", "site.yaml").stdout


def test_a_site_file_that_is_wrong_is_told_line_by_line(bench: Bench) -> None:
    make_site(bench, SITE.replace("quiet_for: 0", "quite_for: 0").replace("of: archive", "of: archiv"))
    for command in (["check"], ["run"], ["run", "--once"], ["status"], ["retire"]):
        done = bench.run(command[0], "site.yaml", *command[1:])
        assert done.returncode == 2
        assert "line 6: unknown key sources[0].quite_for; did you mean 'quiet_for'?" in done.stderr
        assert "line 9: of: no destination is called 'archiv'; did you mean 'archive'?" in done.stderr
        assert "Traceback" not in done.stderr
    told = bench.json("check", "site.yaml", code=2)
    assert len(told["problems"]) == 2


def test_a_directory_is_no_site_file(bench: Bench) -> None:
    for command in ("run", "check", "retire"):
        done = bench.run(command, "dst")
        assert done.returncode == 2
        assert "dst is a directory" in done.stderr
        assert "wants a site file" in done.stderr


def test_a_default_ledger_needs_its_destination(bench: Bench) -> None:
    make_site(bench, SITE.replace("ledger: sqlite:///ledger.db\n", ""))
    bench.write("a.fits")
    assert bench.json("run", "site.yaml", "--once")["archived"] == 1
    assert (bench.dst / ".skystow" / "ledger.db").exists()
    assert bench.json("status", "dst")["destinations"]["oods"]["done"] == 1
    bench.dst.rename(bench.here / "unmounted")
    done = bench.run("run", "site.yaml", "--once")
    assert done.returncode == 2
    assert "which is not there" in done.stderr


# ── retire ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_proven_goes_at_the_source_and_the_rest_is_explained(bench: Bench) -> None:
    make_site(bench, SITE.replace("    quiet_for: 0\n", "    quiet_for: 0\n    retire: {after: 0, keep: [cal]}\n"))
    for name in ("a.fits", "b.fits", "flat.cal"):
        bench.write(name)
    bench.json("run", "site.yaml", "--once")
    (bench.dst / "b.fits").chmod(0o644)
    (bench.dst / "b.fits").write_bytes(b"starlicht")
    dry = bench.json("retire", "site.yaml", "--dry-run")
    assert (dry["removed"], dry["kept"]) == (1, 2)
    reasons = {each["origin"]: each["reason"] for each in dry["files"]}
    assert "reads blake3:" in reasons["b.fits"]
    assert "files of type cal are kept" in reasons["flat.cal"]
    assert sorted(path.name for path in bench.src.iterdir()) == ["a.fits", "b.fits", "flat.cal"]
    assert "would remove instrument:a.fits" in bench.run("retire", "site.yaml", "--dry-run").stdout
    assert bench.json("retire", "site.yaml")["removed"] == 1
    assert sorted(path.name for path in bench.src.iterdir()) == ["b.fits", "flat.cal"]
    assert bench.json("trace", "site.yaml", "a.fits")["retired_at"] is not None
    assert "removed at its source 2" in bench.run("trace", "site.yaml", "a.fits").stdout


def test_nothing_is_removed_where_nothing_is_configured(bench: Bench) -> None:
    bench.write("a.fits")
    bench.json("run", "site.yaml", "--once")
    assert "nothing is ever removed" in bench.run("retire", "site.yaml").stdout
    assert (bench.src / "a.fits").exists()
