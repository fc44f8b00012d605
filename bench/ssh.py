"""skystow archive over ssh against rsync over the same ssh, in paired runs; both ends on this machine, loopback.

    python bench/ssh.py [--sets S,M] [--runs 3] [--root DIR] [--digest blake3] [--push]

The sets and the way of taking turns are those of bench/throughput.py. An sshd of our own is started for it (the
fixture of the tests). rsync uses aes128-gcm too and a connection of its own; skystow's time includes its start, the
connection, the digest, the reading back, all syncs and the ledger.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.sshd import Sshd, sshd
from throughput import SETS, Tool, make_set, timed


def tools(server: Sshd, source: Path, dest: Path, digest: str, *, push: bool) -> list[Tool]:
    here, there = (str(source), f"{server.name}:{dest}") if push else (f"{server.name}:{source}", str(dest))
    skystow = [sys.executable, "-m", "skystow", "archive", here, there, "--json", "--digest", digest]
    shell = f"ssh -F {server.here}/ssh_config -c aes128-gcm@openssh.com"
    return [
        Tool(f"skystow archive ({digest})", skystow),
        Tool("rsync -a", ["rsync", "-a", "-e", shell, f"{here}/", f"{there}/"]),
        Tool("rsync -a --fsync", ["rsync", "-a", "--fsync", "-e", shell, f"{here}/", f"{there}/"]),
    ]


def one_set(server: Sshd, root: Path, name: str, options: argparse.Namespace) -> None:
    source, dest, state = make_set(root, name), root / "dest", root / "state"
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    several = tools(server, source, dest, options.digest, push=options.push)
    for turn in range(options.runs + 1):
        for tool in several:
            shutil.rmtree(state, ignore_errors=True)
            shutil.rmtree(dest, ignore_errors=True)
            dest.mkdir()
            wall = timed(tool, dest)
            if turn > 0:  # the first one warms up
                tool.walls.append(wall)
    (base,) = (tool for tool in several if tool.name == "rsync -a")
    (synced,) = (tool for tool in several if tool.name == "rsync -a --fsync")
    for tool in several:
        wall = statistics.median(tool.walls)
        plain, safe = (
            statistics.median(b / a for a, b in zip(tool.walls, other.walls, strict=True)) for other in (base, synced)
        )
        rates = f"{SETS[name][0] / wall:,.0f} | {size / wall / 1e6:,.0f}"
        print(f"| {name} | {tool.name} | {wall:.2f} | {rates} | {plain:.2f} | {safe:.2f} |", flush=True)
    shutil.rmtree(source)
    shutil.rmtree(dest, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="S,M,L")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--root", type=Path, default=None, help="where to work (default: the temporary directory)")
    parser.add_argument("--digest", default="blake3")
    parser.add_argument("--push", action="store_true", help="to the remote end, instead of from it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skystow-bench-", dir=options.root) as work, sshd(Path(work) / "it") as one:
        os.environ["SKYSTOW_SSH_CONFIG"] = str(one.here / "ssh_config")
        os.environ["XDG_STATE_HOME"] = str(Path(work) / "state")
        print("| set | tool | wall s | files/s | MB/s | speed ÷ rsync -a | speed ÷ rsync -a --fsync |")
        print("|---|---|---|---|---|---|---|")
        for name in options.sets.split(","):
            one_set(one, Path(work), name, options)


if __name__ == "__main__":
    main()
