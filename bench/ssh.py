"""skystow archive over ssh against what others do over the same ssh, in paired runs; both ends on this machine.

    python bench/ssh.py [--sets S,M,L] [--runs 3] [--digests blake3,md5] [--root DIR] [--push] [--originals]

The sets and the way of taking turns are those of bench/throughput.py. An sshd of our own is started for it (the fixture
of the tests). rsync uses aes128-gcm too and a connection of its own; skystow's time includes its start, the connection,
the digest, the reading back, all syncs and the ledger.

`--originals` adds, once for each set, the original's loop, suprsync and rclone over sftp (see bench/originals.py). The
loop is given a part of the set only, `LOOP` files: its speed is that of one file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import originals
from tests.sshd import Sshd, sshd
from throughput import Tool, fresh, make_set, timed

LOOP = {"S": 200, "M": 20, "L": 1}
"""Files of each set that the original's loop is timed with."""


@dataclass(frozen=True)
class Amount:
    files: int
    size: int

    @classmethod
    def of(cls, tree: Path) -> Amount:
        sizes = [path.stat().st_size for path in tree.rglob("*") if path.is_file()]
        return cls(len(sizes), sum(sizes))


@dataclass(frozen=True)
class Set:
    name: str
    source: Path
    amount: Amount


def tools(server: Sshd, one: Set, digests: list[str], *, push: bool) -> list[Tool]:
    far = f"{server.name}:"
    here, there = (str(one.source), f"{far}{{dest}}") if push else (f"{far}{one.source}", "{dest}")
    shell = f"ssh -F {server.here}/ssh_config -c aes128-gcm@openssh.com"
    skystow = [sys.executable, "-m", "skystow", "archive", here, there, "--json", "--digest"]
    return [
        *(Tool(f"skystow archive ({digest})", [*skystow, digest]) for digest in digests),
        Tool("rsync -a", ["rsync", "-a", "-e", shell, f"{here}/", f"{there}/"]),
        Tool("rsync -a --fsync", ["rsync", "-a", "--fsync", "-e", shell, f"{here}/", f"{there}/"]),
    ]


def speed(wall: float, amount: Amount) -> str:
    return f"{wall:.2f} | {amount.files / wall:,.0f} | {amount.size / wall / 1e6:,.0f}"


def ratio(tool: Tool, other: Tool) -> str:
    """How many times as fast as the other, pair by pair: the median, and the extremes."""
    found = sorted(b / a for a, b in zip(tool.walls, other.walls, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} … {found[-1]:.2f})"


def compare(server: Sshd, root: Path, one: Set, options: argparse.Namespace) -> None:
    several, keep = tools(server, one, options.digests.split(","), push=options.push), one.name == "S"
    for turn in range(options.runs + 1):
        for tool in several:
            shutil.rmtree(root / "state", ignore_errors=True)
            wall = timed(tool, fresh(root, keep=keep))
            if turn > 0:  # the first one warms up
                tool.walls.append(wall)
    (base,) = (tool for tool in several if tool.name == "rsync -a")
    (synced,) = (tool for tool in several if tool.name == "rsync -a --fsync")
    for tool in several:
        rates = speed(statistics.median(tool.walls), one.amount)
        print(f"| {one.name} | {tool.name} | {rates} | {ratio(tool, base)} | {ratio(tool, synced)} |", flush=True)


def compare_originals(server: Sshd, root: Path, one: Set, python: str | None) -> None:
    script = str(Path(originals.__file__))
    part = root / "part"
    for path in islice(originals.files_of(one.source), LOOP[one.name]):
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(one.source / path, part / path)
    loop = Tool("the original's loop", [sys.executable, script, "loop", str(part), server.name, "{dest}"])
    runs = [(loop, Amount.of(part))]
    if shutil.which("rclone"):
        runs.append(
            (Tool("rclone sftp", originals.rclone(server.here / "ssh_config", one.source, "{dest}")), one.amount)
        )
    if python:
        database = root / "suprsync.db"
        subprocess.run([python, script, "register", str(one.source), str(database)], check=True)
        runs.append((Tool("suprsync", [python, script, "suprsync", str(database), server.name, "{dest}"]), one.amount))
    for tool, amount in runs:
        dest = fresh(root, keep=False)
        wall = timed(tool, dest)
        if (there := Amount.of(dest)) != amount:
            raise SystemExit(f"{tool.name} brought {there}, not {amount}")
        of = f", {amount.files} files" if amount != one.amount else ""
        print(f"| {one.name} | {tool.name}{of} | {speed(wall, amount)} | | |", flush=True)
    shutil.rmtree(part)
    for path in root.glob("suprsync.db*"):
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="S,M,L")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--root", type=Path, default=None, help="where to work (default: the temporary directory)")
    parser.add_argument("--digests", default="blake3,md5")
    parser.add_argument("--push", action="store_true", help="to the remote end, instead of from it")
    parser.add_argument("--originals", action="store_true", help="the original's loop, suprsync and rclone too")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="skystow-bench-", dir=options.root) as work,
        sshd(Path(work) / "it", "Subsystem sftp internal-sftp") as server,
    ):
        root = Path(work)
        os.environ["SKYSTOW_SSH_CONFIG"] = str(server.here / "ssh_config")
        os.environ["XDG_STATE_HOME"] = str(root / "state")
        python = originals.suprsync_python(root / "venv") if options.originals else None
        if options.originals:
            wrappers = originals.wrappers(root / "bin", server.here / "ssh_config")
            os.environ["PATH"] = f"{wrappers}:{os.environ['PATH']}"
        print("| set | tool | wall s | files/s | MB/s | speed ÷ rsync -a | speed ÷ rsync -a --fsync |")
        print("|---|---|---|---|---|---|---|")
        for name in options.sets.split(","):
            source = make_set(root, name)
            one = Set(name, source, Amount.of(source))
            compare(server, root, one, options)
            if options.originals:
                compare_originals(server, root, one, python)
            shutil.rmtree(source)
            shutil.rmtree(root / "dest", ignore_errors=True)


if __name__ == "__main__":
    main()
