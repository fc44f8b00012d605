"""`skystow archive`: numbers, names, second runs, conflicts, refusals."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Unprivileged
from tests.nursery import Nursery
from tests.system.cli_kit import Bench

NUMBERS = ("files", "bytes", "archived", "already", "skipped", "failed", "quarantined", "conflicts", "seconds")
ODD = [
    b"blank name",
    b"new\nline",
    b"quote'\"`$(id)",
    b"-rf",
    "möwe/ångström 雪".encode(),
    b"bytes \xff\xfe\x80.fits",
    b"\x1b[31mred",
    b"x" * 255,
    b"/".join([b"deep" * 20] * 40) + b"/end",
]


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    (tmp_path / "src").mkdir()
    return Bench(tmp_path, skystow_bin, nursery)


def add_up(numbers: dict[str, int]) -> bool:
    parts = ("archived", "already", "failed", "quarantined", "conflicts")
    return numbers["files"] == sum(numbers[part] for part in parts)


def test_the_contents_of_source_appear_directly_below_dest(bench: Bench) -> None:
    bench.write("a.fits", b"one")
    bench.write("night/b.fits", b"two!")
    numbers = bench.archive()
    assert set(NUMBERS) <= set(numbers)
    assert (numbers["files"], numbers["bytes"], numbers["archived"]) == (2, 7, 2)
    assert not any(numbers[key] for key in ("already", "skipped", "failed", "quarantined", "conflicts"))
    assert (bench.dst / "a.fits").read_bytes() == b"one"
    assert (bench.dst / "night" / "b.fits").read_bytes() == b"two!"
    assert (bench.dst / ".skystow" / "ledger.db").is_file()


def test_a_slash_at_the_end_means_nothing(bench: Bench) -> None:
    bench.write("a.fits")
    assert bench.json("archive", f"{bench.src}/", f"{bench.dst}/")["archived"] == 1
    assert bench.json("archive", "src", "dst")["already"] == 1


def test_a_second_run_says_so_and_copies_nothing(bench: Bench) -> None:
    for n in range(30):
        bench.write(f"f{n}")
    bench.archive()
    inodes = {path: path.stat() for path in bench.dst.iterdir() if path.is_file()}
    again = bench.archive()
    assert (again["archived"], again["already"], again["files"]) == (0, 30, 30)
    assert {path: path.stat() for path in bench.dst.iterdir() if path.is_file()} == inodes
    told = bench.run("archive", "src", "dst")
    assert told.stdout.startswith("Nothing new in ")
    assert "30 archived before" in told.stdout


def test_odd_names_arrive_as_they_are_and_are_shown_escaped(bench: Bench) -> None:
    for name in ODD:
        bench.write(name, name)
    numbers = bench.archive()
    assert (numbers["archived"], numbers["failed"]) == (len(ODD), 0)
    root = os.open(bench.dst, os.O_RDONLY)
    for name in ODD:
        at = os.dup(root)
        *parents, last = name.split(b"/")
        for parent in parents:  # deeper than one path may be long
            below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(last, os.O_RDONLY, dir_fd=at)
        assert os.read(fd, 10_000) == name
        os.close(fd)
        os.close(at)
    os.close(root)
    traced = bench.json("trace", "dst", b"bytes \xff\xfe\x80.fits")
    assert traced["path"] == "bytes \\xff\\xfe\\x80.fits"
    assert bench.json("trace", "dst", b"new\nline")["path"] == "new\\nline"
    plain = bench.run("trace", "dst", b"\x1b[31mred", env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert plain.returncode == 0
    assert "\x1b" not in plain.stdout


def test_what_is_no_file_is_skipped_counted_and_named(bench: Bench) -> None:
    bench.write("a.fits")
    (bench.src / "empty").mkdir()
    (bench.src / "loop").symlink_to("loop")
    (bench.src / "out").symlink_to("/etc")
    os.mkfifo(bench.src / "fifo")
    numbers = bench.archive()
    assert (numbers["files"], numbers["archived"], numbers["skipped"]) == (1, 1, 4)
    assert {each["path"] for each in numbers["skipped_files"]} == {"empty", "loop", "out", "fifo"}
    assert numbers["skipped_by_reason"]["symbolic link"] == 2
    told = bench.run("archive", "src", "dst").stdout
    assert "  fifo: FIFO" in told
    assert sorted(path.name for path in bench.dst.iterdir()) == [".skystow", "a.fits"]


def test_exclude_may_be_given_several_times(bench: Bench) -> None:
    for name in ("a.fits", "b.log", "scratch/c.fits"):
        bench.write(name)
    numbers = bench.archive("--exclude", "*.log", "--exclude", "scratch/")
    assert (numbers["archived"], numbers["skipped"]) == (1, 2)


def test_a_source_that_changed_is_a_conflict_until_a_person_decides(bench: Bench) -> None:
    bench.write("a.fits", b"first")
    bench.write("b.fits", b"first")
    bench.archive()
    bench.write("a.fits", b"second, longer")
    bench.write("b.fits", b"second, longer")
    numbers = bench.archive(code=3)
    assert (numbers["conflicts"], numbers["archived"], add_up(numbers)) == (2, 0, True)
    assert {each["path"] for each in numbers["problems"]} == {"a.fits", "b.fits"}
    assert bench.archive(code=3)["conflicts"] == 2
    told = bench.run("archive", "src", "dst")
    assert told.returncode == 3
    assert "in conflict: a.fits (archive): " in told.stderr
    assert "in conflict:" not in told.stdout
    assert bench.json("trace", "dst", "a.fits")["state"] == "conflict"

    assert bench.json("resolve", "dst", "a.fits", "keep")["resolved"] == "keep"
    assert bench.json("resolve", "dst", "b.fits", "number")["paths"] == ["b.fits.1"]
    numbers = bench.archive()
    assert (numbers["archived"], numbers["conflicts"], numbers["skipped"], add_up(numbers)) == (1, 0, 1, True)
    assert (bench.dst / "a.fits").read_bytes() == b"first"
    assert (bench.dst / "b.fits").read_bytes() == b"first"
    assert (bench.dst / "b.fits.1").read_bytes() == b"second, longer"
    assert bench.json("trace", "dst", "a.fits")["state"] == "cancelled"
    assert bench.json("trace", "dst", "b.fits.1")["state"] == "done"


def test_number_takes_the_first_free_name(bench: Bench) -> None:
    bench.dst.mkdir()
    for name in ("a.fits", "a.fits.1"):
        (bench.dst / name).write_bytes(b"somebody else's")
    bench.write("a.fits")
    bench.archive(code=3)
    assert bench.json("resolve", "dst", "a.fits", "number")["paths"] == ["a.fits.2"]
    assert bench.archive()["archived"] == 1
    assert (bench.dst / "a.fits.2").read_bytes() == b"starlight"
    assert (bench.dst / "a.fits.1").read_bytes() == b"somebody else's"


def test_the_same_content_under_the_name_already_is_archived(bench: Bench) -> None:
    bench.dst.mkdir()
    (bench.dst / "a.fits").write_bytes(b"starlight")
    bench.write("a.fits")
    numbers = bench.archive()
    assert (numbers["archived"], numbers["conflicts"]) == (1, 0)


def test_a_name_that_a_directory_has_is_a_conflict_too(bench: Bench) -> None:
    (bench.dst / "a.fits").mkdir(parents=True)
    bench.write("a.fits")
    bench.write("b.fits")
    numbers = bench.archive(code=3)
    assert (numbers["archived"], numbers["conflicts"]) == (1, 1)
    assert "A person must decide" in bench.run("trace", "dst", "a.fits").stdout
    assert bench.json("resolve", "dst", "a.fits", "number")["paths"] == ["a.fits.1"]
    assert bench.archive()["archived"] == 1
    assert (bench.dst / "a.fits.1").read_bytes() == b"starlight"
    assert list((bench.dst / "a.fits").iterdir()) == []


def test_an_empty_source_is_no_error_and_is_noted(bench: Bench) -> None:
    numbers = bench.archive()
    assert (numbers["files"], numbers["archived"]) == (0, 0)
    (noted,) = numbers["notes"]
    assert noted["text"].startswith("the root is empty")
    assert "note: src-" in bench.run("archive", "src", "dst").stdout
    bench.write("a.fits")
    assert bench.archive()["notes"] == []


def test_a_dry_run_names_what_would_be_archived_and_writes_nothing(bench: Bench) -> None:
    bench.write("a.fits")
    bench.write(b"b \xff.fits")
    told = bench.run("archive", "src", "dst", "--dry-run")
    assert told.returncode == 0
    assert sorted(told.stdout.splitlines()[:2]) == ["a.fits", "b \\xff.fits"]
    assert "2 files would be archived (18 B)" in told.stdout
    assert not bench.dst.exists()
    numbers = bench.archive("--dry-run")
    assert (numbers["files"], numbers["would_archive"], numbers["archived"]) == (2, 2, 0)
    assert (numbers["bytes"], numbers["would_archive_bytes"]) == (18, 18)
    assert not bench.dst.exists()
    bench.archive()
    before = sorted((path, path.stat().st_mtime_ns) for path in bench.dst.rglob("*"))
    again = bench.archive("--dry-run")
    assert (again["already"], again["bytes"], again["would_archive_bytes"]) == (2, 18, 0)
    assert sorted((path, path.stat().st_mtime_ns) for path in bench.dst.rglob("*")) == before


def test_the_ledger_may_be_elsewhere(bench: Bench) -> None:
    bench.write("a.fits")
    url = f"sqlite:///{bench.here}/elsewhere ?#%20.db"
    assert bench.archive("--ledger", url)["archived"] == 1
    assert not (bench.dst / ".skystow" / "ledger.db").exists()
    assert bench.archive("--ledger", url)["already"] == 1
    assert bench.json("status", "dst", "--ledger", url)["destinations"]["archive"]["done"] == 1
    assert "there is no ledger" in bench.run("status", "dst").stderr


@pytest.mark.parametrize("digest", ["md5", "xxh128", "sha256", "blake3"])
def test_the_digest_may_be_chosen(bench: Bench, digest: str) -> None:
    bench.write("a.fits")
    bench.archive("--digest", digest)
    assert bench.json("trace", "dst", "a.fits")["digest"].startswith(f"{digest}:")
    assert bench.json("verify", "dst")["verified"] == 1


def test_results_go_to_stdout_and_all_else_to_stderr(bench: Bench) -> None:
    bench.write("a.fits")
    done = bench.run("archive", "src", "dst")
    assert done.stdout.startswith("1 file archived (9 B")
    assert done.stderr == ""
    quiet = bench.run("archive", "src", "dst", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_a_terminal_has_a_bar_and_elsewhere_there_are_lines(bench: Bench) -> None:
    for n in range(4):
        bench.write(f"f{n}", bytes(500_000))
    ours, theirs = os.openpty()
    command = [str(bench.program), "archive", "src", "dst", "--bwlimit", "1MB/s"]
    process = subprocess.Popen(command, cwd=bench.here, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    drawn = b""
    while chunk := read_terminal(ours):
        drawn += chunk
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert "━".encode() in drawn
    assert b"4 seen" in drawn
    assert out.startswith("4 files archived (1.9 MiB")

    (bench.dst / ".skystow").rename(bench.here / "forgotten")
    lines = bench.run("archive", "src", "dst", "--bwlimit", "300kB/s").stderr.splitlines()
    assert lines
    assert all(line.startswith("skystow: ") for line in lines)


def read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 65_536)
    except OSError:  # EIO: the other side is closed
        return b""


def test_a_reader_that_has_seen_enough_is_no_error(bench: Bench) -> None:
    for n in range(2000):
        bench.write(f"a file with a rather long name {n:05d}", b"")
    command = f"'{bench.program}' archive src dst --dry-run; echo code $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -n 1"], cwd=bench.here, capture_output=True, text=True, check=False
    )
    assert done.stderr == "code 0\n"
    assert len(done.stdout.splitlines()) == 1


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "dest", "told"),
    [
        ("none", "dst", "SOURCE none does not exist"),
        ("", "dst", "SOURCE is an empty name"),
        ("src", "", "DEST is an empty name"),
        ("src/a.fits", "dst", "SOURCE src/a.fits is not a directory"),
        ("dangling", "dst", "SOURCE dangling is not a directory"),
        ("src", "src/a.fits", "DEST src/a.fits is not a directory"),
        ("src", "no/such/parent", "there is no directory"),
        ("src", "src", "SOURCE src is the same directory as DEST src"),
        ("src", "alias", "SOURCE src is the same directory as DEST alias"),
        ("src", "src/sub", "SOURCE src contains DEST src/sub"),
        ("src/sub", "src", "SOURCE src/sub lies inside DEST src"),
        (".", "dst", "SOURCE . contains DEST dst"),
    ],
)
def test_places_that_cannot_be_are_refused(bench: Bench, source: str, dest: str, told: str) -> None:
    bench.write("a.fits")
    (bench.src / "sub").mkdir()
    (bench.here / "alias").symlink_to("src")
    (bench.here / "dangling").symlink_to("nothing")
    before = sorted(bench.here.rglob("*"))
    done = bench.run("archive", source, dest)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(bench.here.rglob("*")) == before
    assert told in bench.json("archive", source, dest, code=2)["error"]


def test_a_source_that_may_not_be_read_is_refused(bench: Bench, unprivileged: Unprivileged) -> None:
    bench.src.chmod(0)
    done = unprivileged([bench.program, "archive", bench.src, bench.dst])
    bench.src.chmod(0o755)
    assert done.returncode == 2
    assert "cannot be read: permission denied" in done.stderr


def test_a_dest_that_may_not_be_made_is_refused(bench: Bench, unprivileged: Unprivileged) -> None:
    (bench.here / "closed").mkdir(mode=0o555)
    done = unprivileged([bench.program, "archive", bench.src, bench.here / "closed" / "dst"])
    assert done.returncode == 2
    assert "cannot make the directory" in done.stderr


def test_a_file_that_may_not_be_read_fails_alone(bench: Bench, unprivileged: Unprivileged) -> None:
    bench.write("good.fits")
    bench.write("closed.fits")
    (bench.src / "closed.fits").chmod(0)
    done = unprivileged([bench.program, "archive", bench.src, bench.dst, "--json"])
    assert done.returncode == 3, done.stderr
    assert '"quarantined": 1' in done.stdout
    assert '"archived": 1' in done.stdout
    (bench.src / "closed.fits").chmod(0o644)
    assert bench.json("retry", "dst", "--all")["requeued"] == 1
    numbers = bench.archive()
    assert (numbers["archived"], numbers["already"], numbers["quarantined"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--digest", "blake2"), "did you mean 'blake3'?"),
        (("--bwlimit", "fast"), "should be a size per second"),
        (("--streams", "0"), "--streams"),
        (("--give-up-after", "soon"), "should be a duration"),
        (("--exclude", "[a"), "without its ‘]’"),
        (("--ledger", "mysql:/nowhere"), "ledger"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_a_wrong_option_is_told(bench: Bench, option: tuple[str, ...], told: str) -> None:
    done = bench.run("archive", "src", "dst", *option)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_ledger_of_somebody_else_is_refused_and_left(bench: Bench) -> None:
    bench.write("a.fits")
    (bench.dst / ".skystow").mkdir(parents=True)
    (bench.dst / ".skystow" / "ledger.db").write_bytes(b"no database at all, but long enough to be looked at" * 50)
    done = bench.run("archive", "src", "dst")
    assert done.returncode == 2
    assert "ledger" in done.stderr
    assert (bench.dst / ".skystow" / "ledger.db").read_bytes().startswith(b"no database at all")
