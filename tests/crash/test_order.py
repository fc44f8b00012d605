"""The order of system calls: content before name, name before verdict. And the proof that each sync is needed: with
any single one taken out, the checker finds the breach."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.crash.kit import LIMIT, Field, Plan, make_field, make_site
from tests.crash.order import violations
from tests.crash.trace import Call, parse, strace

STORES = ["fsync", "syncfs"]


def site(root: Path, sync: str) -> Field:
    """Two files, one in a directory of its own, into an archive and by hard link into a second tree."""
    root.mkdir(exist_ok=True)
    made = make_site(root, 0, sync=sync)
    made.write(b"a.fits", b"light")
    made.write(b"night/raft/b.fits", b"more light")
    return made


def calls_of(made: Field, plan: Plan | None) -> list[Call]:
    trace = made.root / "trace"
    command = [*strace(), "-o", str(trace), *made.command(plan)]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [call for call in parse(trace.read_text()) if str(made.root) in call.args + call.opened]


def traced(made: Field, plan: Plan | None) -> tuple[int, list[str]]:
    return violations(calls_of(made, plan), f"{made.root}/")


def rules(breaches: list[str]) -> set[str]:
    return {breach.split(":")[0] for breach in breaches}


@pytest.mark.parametrize("sync", STORES)
def test_the_order_of_an_archive_and_a_handoff(tmp_path: Path, sync: str) -> None:
    made = site(tmp_path, sync)
    assert traced(made, None) == (4, [])
    made.assert_whole()


def test_the_order_of_a_fresh_destination(tmp_path: Path) -> None:
    """`archive` makes DEST itself, and its name must last too; 20 files share one syncfs."""
    made = make_field(tmp_path, 20, largest=3_000)
    assert traced(made, None) == (20, [])


@pytest.mark.parametrize(
    ("sync", "left_out", "broken"),
    [
        ("fsync", "fsync file", {"content"}),
        ("fsync", "fsync directory", {"names", "ledger"}),
        ("syncfs", "syncfs", {"content", "names"}),
        ("fsync", "ledger sync", {"promise", "verdict"}),
        ("syncfs", "ledger sync", {"promise", "verdict"}),
    ],
)
def test_it_is_seen_when_all_of_a_kind_are_left_out(tmp_path: Path, sync: str, left_out: str, broken: set[str]) -> None:
    _, breaches = traced(site(tmp_path, sync), {"without": [left_out]})
    assert rules(breaches) == broken


@pytest.mark.parametrize("sync", STORES)
def test_it_is_seen_when_any_single_one_is_left_out(tmp_path: Path, sync: str) -> None:
    """Of the calls of one run, which is the same as if the program had not made this one."""
    made = site(tmp_path, sync)
    calls = calls_of(made, None)
    ours = [call for call in calls if call.name in ("fsync", "syncfs")]  # SQLite says fdatasync
    assert len(ours) >= 4
    seen: set[str] = set()
    for left_out in ours:
        _, breaches = violations([call for call in calls if call is not left_out], f"{made.root}/")
        assert breaches != [], f"nobody needs {left_out}"
        seen |= rules(breaches)
    assert {"content", "names"} <= seen
