"""The order of system calls: content before name, name before verdict. And the proof that each sync is needed: with
any single one taken out, the checker finds the breach."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.kit import LIMIT, Field, Plan, make_field, make_site
from tests.crash.matrix import acts_of
from tests.crash.order import violations
from tests.crash.trace import parse, strace

STORES = ["fsync", "syncfs"]


def site(root: Path, sync: str) -> Field:
    """Two files, one in a directory of its own, into an archive and by hard link into a second tree."""
    root.mkdir(exist_ok=True)
    made = make_site(root, 0, sync=sync)
    made.write(b"a.fits", b"light")
    made.write(b"night/raft/b.fits", b"more light")
    return made


def traced(made: Field, plan: Plan | None, *options: str) -> tuple[int, list[str]]:
    trace = made.root / "trace"
    command = [*strace(), "-o", str(trace), *made.command(plan, *options)]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return violations(parse(trace.read_text()), f"{made.root}/")


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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sync", STORES)
def test_it_is_seen_when_any_single_one_is_left_out(tmp_path: Path, sync: str) -> None:
    counts = Counter(act.split()[0] for act in acts_of(site(tmp_path / "count", sync)))
    syncs = [f"{kind} #{n}" for kind in ("fsync", "syncfs") for n in range(counts[kind])]
    assert len(syncs) >= 4
    seen: set[str] = set()
    for left_out in syncs:
        _, breaches = traced(site(tmp_path / left_out, sync), {"without": [left_out]})
        assert breaches != [], f"nobody needs {left_out}"
        seen |= rules(breaches)
    assert {"content", "names"} <= seen
