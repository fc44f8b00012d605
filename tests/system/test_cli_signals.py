"""Ctrl-C and SIGTERM: within five seconds, at any moment, with everything to be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.system.cli_kit import Bench, interrupt, make_site, until


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    (tmp_path / "src").mkdir()
    return Bench(tmp_path, skystow_bin, nursery)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_copying_everything_is_resumable(bench: Bench, number: int, code: int) -> None:
    for n in range(8):
        bench.write(f"f{n}", os.urandom(500_000))
    process = bench.start("archive", "src", "dst", "--bwlimit", "1MB/s", "--streams", "1", "--json")
    until(lambda: any(bench.dst.glob("f*")), process)
    ended, took, _, _ = interrupt(process, number)
    assert ended == code
    assert took < 5
    done = len(list(bench.dst.glob("f*")))
    assert done < 8
    numbers = bench.archive()
    assert (numbers["already"], numbers["archived"]) == (done, 8 - done)
    for n in range(8):
        (copy,) = bench.json("trace", "dst", f"f{n}")["copies"]
        assert (copy["attempts"], copy["state"]) == (0, "done")
        assert (bench.dst / f"f{n}").read_bytes() == (bench.src / f"f{n}").read_bytes()
    assert list((bench.dst / ".skystow" / "staging").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("command", "code"), [(["archive", "src", "dst"], None), (["run", "site.yaml"], 0)])
def test_a_signal_at_the_very_start_is_no_fault_of_ours(
    bench: Bench, number: signal.Signals, command: list[str], code: int | None
) -> None:
    make_site(bench)
    for n in range(100):
        bench.write(f"f{n}")
    listening = 128 + number if code is None else code
    for delay in (0.03, 0.1, 0.15, 0.2, 0.3):
        process = bench.start(*command)
        time.sleep(delay)  # wherever this hits: Python's own start, our imports, the work, or after it
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):  # Python drops a signal that meets it in a callback of an import:
            process.wait(5)  # a person presses again
        ended, took, _, err = interrupt(process, number)
        assert ended in (-number, listening, 0), (delay, err)
        assert took < 5
        assert "our own fault" not in err
    if command[0] == "archive":
        numbers = bench.archive()
        assert (numbers["files"], numbers["failed"]) == (100, 0)


def test_what_has_no_end_says_that_it_was_stopped_as_asked(bench: Bench) -> None:
    make_site(bench)
    for command in (["run", "site.yaml"], ["archive", "src", "dst2", "--follow"]):
        process = bench.start(*command)
        bench.write(f"{command[0]}.tmp")
        os.rename(bench.src / f"{command[0]}.tmp", bench.src / f"{command[0]}.fits")
        place = bench.here / command[2 if command[0] == "archive" else 1]
        until((place if place.suffix == "" else bench.dst).joinpath(f"{command[0]}.fits").exists, process)
        _, _, out, _ = interrupt(process, signal.SIGTERM)
        assert "Stopped, as asked" in out
        assert "before the end" not in out


def test_follow_takes_what_comes_until_it_is_interrupted(bench: Bench) -> None:
    process = bench.start("archive", "src", "dst", "--follow", "--quiet")
    bench.write(".writing")
    until(lambda: (bench.dst / ".skystow" / "ledger.db").exists(), process)
    bench.write("x.tmp")
    os.rename(bench.src / ".writing", bench.src / "moved-in.fits")
    until((bench.dst / "moved-in.fits").exists, process)
    ended, took, _, _ = interrupt(process)
    assert ended == 130
    assert took < 5
    assert not (bench.dst / "x.tmp").exists()


HANGS = """
import sys, time
from skystow.cli.exits import conduct
def body(halt):
    print("at work", flush=True)
    halt.wait(600)
    print("asked to stop", flush=True)
    time.sleep(600)
    return 0
conduct(body, graceful=True)
"""


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    ended, took, _, _ = interrupt(process, signal.SIGTERM)
    assert ended == 143
    assert took < 5


def test_a_second_interrupt_ends_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked to stop\n"
    ended, took, _, _ = interrupt(process)
    assert ended == 130
    assert took < 1
