"""Places and files that fail under the program: a read-only disk, a long copy, retries that are due late; and the walk
that anybody takes first: archive, archive again, verify, spoil, verify."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.system.cli_kit import SITE, Bench, make_site


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    (tmp_path / "src").mkdir()
    return Bench(tmp_path, skystow_bin, nursery)


def test_a_real_tree_twice_then_verify_then_one_byte_flipped(bench: Bench) -> None:
    source = Path(email.__file__).parent
    files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    first = bench.json("archive", source, bench.dst)
    assert first["archived"] == len(files)
    assert bench.json("archive", source, bench.dst)["already"] == len(files)
    assert bench.json("verify", "dst")["verified"] == len(files)
    for path in files:
        assert (bench.dst / path.relative_to(source)).read_bytes() == path.read_bytes()
    spoilt = bench.dst / "message.py"
    spoilt.chmod(0o644)
    with spoilt.open("r+b") as file:
        first_byte = file.read(1)
        file.seek(0)
        file.write(bytes([first_byte[0] ^ 1]))
    done = bench.run("verify", "dst")
    assert done.returncode == 4
    assert "damaged: message.py in archive" in done.stdout
    assert f"{len(files) - 1} files verified" in done.stdout


READ_ONLY = """
mount -t tmpfs -o size=4m none dst && mkdir dst/archive || exit 9
"$1" archive src dst/archive --ledger sqlite:///"$PWD"/ledger.db --json || exit 8
echo late > src/late.fits
mount -o remount,ro dst || exit 7
"$1" archive src dst/archive --ledger sqlite:///"$PWD"/ledger.db --json --give-up-after 1s
echo "code $?"
"$1" archive src dst/new
echo "code $?"
"$1" verify dst/archive --ledger sqlite:///"$PWD"/ledger.db --json
mount -o remount,rw dst || exit 6
"$1" archive src dst/archive --ledger sqlite:///"$PWD"/ledger.db --json
"$1" trace dst/archive late.fits --ledger sqlite:///"$PWD"/ledger.db --json
"""


def test_a_destination_that_becomes_read_only_rests_and_goes_on(bench: Bench) -> None:
    bench.write("a.fits")
    bench.dst.mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", READ_ONLY, "sh", str(bench.program)],
        cwd=bench.here, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, refused, refused_code, new_code, verified, again, traced = done.stdout.splitlines()
    assert json.loads(first)["archived"] == 1
    assert refused_code == "code 5"
    assert json.loads(refused)["failed"] == 1
    assert "Read-only file system" in json.loads(refused)["resting"][0]["reason"]
    assert new_code == "code 2"
    assert "cannot make the directory dst/new: read-only file system" in done.stderr
    assert json.loads(verified)["verified"] == 1
    assert json.loads(again)["archived"] == 1
    (copy,) = json.loads(traced)["copies"]
    assert (copy["state"], copy["attempts"]) == ("done", 0)


def test_a_destination_that_vanishes_is_told_and_nothing_is_written_beside_it(bench: Bench) -> None:
    bench.write("a.fits")
    url = f"sqlite:///{bench.here}/ledger.db"
    bench.archive("--ledger", url)
    bench.write("late.fits")
    site = make_site(bench, SITE.replace("root: dst,", "root: dst, marker: a.fits,").replace("src", "src2"))
    (bench.here / "src2").mkdir()
    (bench.here / "src2" / "b.fits").write_bytes(b"starlight")
    bench.dst.rename(bench.here / "away")
    bench.dst.mkdir()  # the bare mount point
    numbers = bench.json("run", site, "--once", "--give-up-after", "1s", code=5)
    assert (numbers["failed"], numbers["quarantined"]) == (1, 0)
    assert list(bench.dst.iterdir()) == []


def test_retries_that_are_due_late_are_not_waited_for(bench: Bench) -> None:
    make_site(bench, SITE.replace("first: 50ms", "first: 10min"))
    (bench.dst / "night").write_bytes(b"a file where a directory is to be")
    bench.write("night/a.fits")
    bench.write("b.fits")
    numbers = bench.json("run", "site.yaml", "--once", code=5)
    assert (numbers["archived"], numbers["failed"], numbers["quarantined"]) == (1, 1, 0)
    assert numbers["ending"] == "unfinished"
    assert "skystow tries again at 2" in bench.run("trace", "site.yaml", "night/a.fits").stdout
    assert bench.json("retry", "site.yaml", "night/a.fits")["requeued"] == 0


def test_a_copy_that_takes_longer_than_its_lease_stays_in_the_same_hands(bench: Bench) -> None:
    bench.write("long.fits", os.urandom(1_500_000))
    sabotage = [sys.executable, "-m", "skystow.testing.saboteur", json.dumps({"lease": 1.0})]
    done = subprocess.run(
        [*sabotage, "archive", "src", "dst", "--bwlimit", "300kB/s", "--json"],
        cwd=bench.here, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] > 3, "several leases long"
    traced = bench.json("trace", "dst", "long.fits")
    assert [event["step"] for event in traced["events"]] == ["admitted", "claimed", "delivered"]
