"""skystow archive against what a user would pick instead, in paired runs.

    python bench/throughput.py [--sets S,M] [--runs 5] [--root DIR] [--digest blake3] [--markdown]

Set S: 10,000 files of 4–64 KiB; M: 400 × 8 MiB; L: 3 × 1 GiB. Every tool copies the same tree, which stays in the page
cache, to an empty directory of the same file system; the tools take turns (A B C … A B C …), so that a machine whose
speed drifts treats all alike. Printed: the median wall time, files or MB per second, peak memory of the largest
process, and the ratio to `rsync -a` pair by pair. skystow's time includes its start, the digest, the reading back, all
syncs and the ledger; the others sync nothing and record nothing unless they say so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

SETS: dict[str, tuple[int, int, int]] = {  # files, smallest, largest (bytes)
    "S": (10_000, 4 * 2**10, 64 * 2**10),
    "M": (400, 8 * 2**20, 8 * 2**20),
    "L": (3, 2**30, 2**30),
}


@dataclass
class Tool:
    """`command` ends with SOURCE DEST or holds them; `{dest}` stands for the destination."""

    name: str
    command: list[str]
    walls: list[float] = field(default_factory=list)
    peak: int = 0


def make_set(root: Path, name: str) -> Path:
    """The tree of a set: random bytes, 200 files to a directory; always the same."""
    files, smallest, largest = SETS[name]
    source, dice = root / f"set-{name}", random.Random(name)
    block = dice.randbytes(2**24)
    for n in range(files):
        directory = source / f"{n // 200:03d}"
        directory.mkdir(parents=True, exist_ok=True)
        left = dice.randint(smallest, largest)
        with open(directory / f"image_{n:06d}.fits", "wb") as out:
            while left > 0:
                start = dice.randrange(len(block) // 2)
                out.write(piece := block[start : start + min(left, len(block) // 2)])
                left -= len(piece)
    return source


def tools(source: Path, digest: str) -> list[Tool]:
    skystow = [sys.executable, "-m", "skystow", "archive", str(source), "{dest}", "--json", "--digest", digest]
    found = [
        Tool(f"skystow archive ({digest})", skystow),
        Tool("rsync -a", ["rsync", "-a", f"{source}/", "{dest}/"]),
        Tool("rsync -a --fsync", ["rsync", "-a", "--fsync", f"{source}/", "{dest}/"]),
        Tool("cp -r", ["cp", "-r", f"{source}/.", "{dest}"]),
    ]
    if shutil.which("rclone"):
        found.append(Tool("rclone copy --transfers 8", ["rclone", "copy", "--transfers", "8", str(source), "{dest}"]))
    return found


def fresh(root: Path, *, keep: bool) -> Path:
    """An empty destination. Many small files are kept until the end of their set: ext4 creates slowly for a while
    after a large removal, and whoever comes next would pay."""
    if not keep:
        shutil.rmtree(root / "dest", ignore_errors=True)
    root.joinpath("dest").mkdir(exist_ok=True)
    os.sync()
    return Path(tempfile.mkdtemp(dir=root / "dest"))


def timed(tool: Tool, dest: Path) -> float:
    began = time.perf_counter()
    command = [word.replace("{dest}", str(dest)) for word in tool.command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    wall = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"{tool.name} failed: {errors.decode(errors='replace')}")
    return wall


def peak_memory(tool: Tool, dest: Path) -> int:
    """MiB, of the largest process, by the operating system's own accounting, in a run of its own."""
    command = [word.replace("{dest}", str(dest)) for word in tool.command]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet)
    _, _, usage = os.wait4(child, 0)
    return usage.ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="S,M,L")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--root", type=Path, default=None, help="where to work (default: the temporary directory)")
    parser.add_argument("--digest", default="blake3")
    parser.add_argument("--only", default="", help="tools whose name contains this (and rsync -a)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skystow-bench-", dir=options.root) as work:
        print("| set | tool | wall s | files/s | MB/s | peak MiB | time ÷ rsync -a (min … max) |")
        print("|---|---|---|---|---|---|---|")
        for name in options.sets.split(","):
            one_set(Path(work), name, options)


def one_set(root: Path, name: str, options: argparse.Namespace) -> None:
    source, keep = make_set(root, name), name == "S"
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    several = [t for t in tools(source, options.digest) if options.only in t.name or t.name == "rsync -a"]
    for turn in range(options.runs + 1):
        for tool in several:
            wall = timed(tool, fresh(root, keep=keep))
            if turn > 0:  # the first one warms up
                tool.walls.append(wall)
    for tool in several:
        tool.peak = peak_memory(tool, fresh(root, keep=keep))
    (base,) = (tool for tool in several if tool.name == "rsync -a")
    for tool in several:
        wall = statistics.median(tool.walls)
        ratios = sorted(a / b for a, b in zip(tool.walls, base.walls, strict=True))
        rates = f"{SETS[name][0] / wall:,.0f} | {size / wall / 1e6:,.0f}"
        print(
            f"| {name} | {tool.name} | {wall:.2f} | {rates} | {tool.peak} "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f}) |",
            flush=True,
        )
    shutil.rmtree(source)
    shutil.rmtree(root / "dest", ignore_errors=True)


if __name__ == "__main__":
    main()
