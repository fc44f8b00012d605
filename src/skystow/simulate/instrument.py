"""A simulated instrument: writes real files into a directory, and the truth about them elsewhere.

    python -m skystow.simulate.instrument DIR --truth FILE --seconds 30

The names are those of a detector or SMuRF server (`15647/1564799250_tuning_b1.txt`, `20190803/….g3`). Some files
grow slowly in place, others are written under a temporary name and moved in. Names, sizes and bytes follow from
the seed alone; when a file is written follows from the clock. The truth is one JSON line per file, written before
the file is complete: `path` (relative to DIR), `size` (bytes), `sha256`, and `at` (Unix seconds, about when the
last byte was written).
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TextIO

EPOCH = 1_564_799_250
"""Unix seconds of the first simulated file, as in the names of the original instrument."""

SMALLEST, LARGEST = 4 * 2**10, 2 * 2**20
"""Bytes of a file; sizes are spread evenly over the powers of two between them."""

STEPS = 8
"""Writes that one file takes."""

CORRUPTED = 3
"""With `corrupt`, the file of this number is the one that is spoilt (0 is the first)."""

Writing = Generator[float, None, None]
"""A file in the making: yields the seconds until its next step."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One file that the instrument is to make: its path, and how its bytes come to it."""

    path: Path
    content: bytes
    moved_in: bool
    pause: float
    """Seconds between two writes."""


def shot(number: int, seed: int) -> Shot:
    """The file of this number, told from the seed."""
    random = Random(f"{seed}:{number}")
    at = EPOCH + 61 * number
    size = int(SMALLEST * (LARGEST / SMALLEST) ** random.random())
    day = f"{datetime.fromtimestamp(at, UTC):%Y%m%d}"
    band = random.randrange(8)
    kind = random.choice(("txt", "npy", "g3"))
    if kind == "txt":
        path, content = Path(str(at)[:5], f"{at}_tuning_b{band}.txt"), _text(random, size)
    elif kind == "npy":
        path, content = Path(str(at)[:5], f"{at}_iv_b{band}.npy"), _npy(random, size)
    else:
        path, content = Path(day, f"{at}_{number:04}.g3"), random.randbytes(size)
    return Shot(path, content, moved_in=random.random() < 0.5, pause=random.uniform(0.01, 0.25))


def _text(random: Random, size: int) -> bytes:
    line = "".join(f"{random.uniform(-1, 1):+.6f}\n" for _ in range(512)).encode()
    return (line * (size // len(line) + 1))[:size]


def _npy(random: Random, size: int) -> bytes:
    """A NumPy array of doubles, format 1.0: a header of 128 bytes and the data."""
    count = (size - 128) // 8
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},), }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + random.randbytes(8 * count)


def write(root: Path, shot: Shot, truth: TextIO, *, spoil: bool) -> Writing:
    """Write one file step by step. `spoil` flips a byte of it after the truth was told: the archive of such a file
    is a faithful copy of the wrong bytes, which only a comparison with the truth finds."""
    final = root / shot.path
    final.parent.mkdir(parents=True, exist_ok=True)
    name = final.with_name(f".{final.name}.Xa4Zq1") if shot.moved_in else final
    block = len(shot.content) // STEPS + 1
    with name.open("xb", buffering=0) as file:
        for start in range(0, len(shot.content), block):
            file.write(shot.content[start : start + block])
            yield shot.pause
        _tell(truth, shot)
        if spoil:
            middle = len(shot.content) // 2
            file.seek(middle)
            file.write(bytes([shot.content[middle] ^ 0x01]))
    if shot.moved_in:
        name.rename(final)


def _tell(truth: TextIO, shot: Shot) -> None:
    digest = hashlib.sha256(shot.content).hexdigest()
    line = {"path": str(shot.path), "size": len(shot.content), "sha256": digest, "at": time.time()}
    truth.write(json.dumps(line) + "\n")
    truth.flush()


def observe(root: Path, truth: TextIO, *, seconds: float, rate: float, seed: int, corrupt: bool) -> None:
    """Begin `rate` files per second for `seconds`, and finish those begun."""
    begun = time.monotonic()
    agenda = [(begun + number / rate, number) for number in range(max(1, round(seconds * rate)))]
    open_files: dict[int, Writing] = {}
    while agenda:  # a heap: the earliest step first (it is sorted, so it is one already)
        due, number = heapq.heappop(agenda)
        time.sleep(max(0.0, due - time.monotonic()))
        if number not in open_files:
            open_files[number] = write(root, shot(number, seed), truth, spoil=corrupt and number == CORRUPTED)
        pause = next(open_files[number], None)
        if pause is None:
            del open_files[number]
        else:
            heapq.heappush(agenda, (time.monotonic() + pause, number))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.simulate.instrument", description="a simulated instrument")
    parser.add_argument("directory", type=Path, help="where its files go; made if it is not there")
    parser.add_argument("--truth", type=Path, required=True, help="what it wrote, one JSON line per file; outside")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--rate", type=float, default=8.0, help="files per second (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="names, sizes and bytes follow from it (default 1)")
    parser.add_argument("--corrupt", action="store_true", help="spoil one file after the truth about it was told")
    options = parser.parse_args(argv)
    root = options.directory.resolve()
    if options.truth.resolve().is_relative_to(root):
        parser.error("the truth must be outside the directory that is watched")
    if options.rate <= 0 or options.seconds <= 0:
        parser.error("--rate and --seconds must be above 0")
    if options.corrupt and options.rate * options.seconds <= CORRUPTED:
        parser.error(f"--corrupt needs more than {CORRUPTED} files")
    os.makedirs(root, exist_ok=True)
    with options.truth.open("x", encoding="utf-8") as truth:
        try:
            observe(root, truth, seconds=options.seconds, rate=options.rate, seed=options.seed, corrupt=options.corrupt)
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
