"""A simulated SMuRF server: writes files, and registers each in a `pysmurf_files_v1` table (SQLite) once it is whole.

    python -m skystow.simulate.smurf DIR --table DATABASE --truth FILE --seconds 30

The files are those of tuning, IV curves and the like, with outputs and plots in directories as a SMuRF server has
them; a row is what its monitor writes: the path, the md5 of the whole file, times as naive UTC. The table must be
there (`skystow pysmurf-files create SITE`). The truth is one JSON line per file, written before its row: `path` (below
an archive of the layout `{ctime5}/{file_type}/{file_name}`), `size` (bytes), `sha256`, and `at` (Unix seconds).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TextIO

EPOCH = 1_564_799_250
"""Unix seconds of the first file."""

SMALLEST, LARGEST = 2 * 2**10, 512 * 2**10
"""Bytes of a file."""

ACTIONS = ("tune_band", "take_iv", "take_noise_psd", "set_amp_defaults", None)
PUB_IDS = ("crate1slot2", "crate1slot3")
MONITOR = "pysmurf-monitor"

INSERT = """\
INSERT INTO pysmurf_files_v1 (path, action, timestamp, action_timestamp, format, plot, site, pub_id, instance_id,
copied, failed_copy_attempts, md5sum, socs_version) VALUES (?, ?, ?, ?, ?, ?, 'observatory', ?, ?, 0, 0, ?, '0.0.14')"""


@dataclass(frozen=True, slots=True)
class Product:
    """One file that the server is to write, and what it will say of it."""

    path: Path
    content: bytes
    action: str | None
    at: int
    plot: bool
    pub_id: str

    @property
    def archived_as(self) -> str:
        return f"{self.at // 100_000:05d}/{self.action or 'none'}/{self.path.name}"


def product(number: int, seed: int) -> Product:
    """The file of this number, told from the seed."""
    random = Random(f"smurf:{seed}:{number}")
    at = EPOCH + 61 * number
    action, pub_id, plot = random.choice(ACTIONS), random.choice(PUB_IDS), random.random() < 0.3
    kind = "png" if plot else random.choice(("txt", "npy"))
    directory = Path(f"{datetime.fromtimestamp(at, UTC):%Y%m%d}", pub_id, str(at), "plots" if plot else "outputs")
    size = int(SMALLEST * (LARGEST / SMALLEST) ** random.random())
    path = directory / f"{at}_{action or 'status'}_b{random.randrange(8)}.{kind}"
    return Product(path, random.randbytes(size), action, at, plot, pub_id)


def write(root: Path, made: Product) -> None:
    final = root / made.path
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_bytes(made.content)


def row(root: Path, made: Product) -> tuple[str | int | bytes | None, ...]:
    """The values of `INSERT`."""
    md5 = hashlib.md5(made.content, usedforsecurity=False).digest()
    at = f"{datetime.fromtimestamp(made.at, UTC):%Y-%m-%d %H:%M:%S}"
    kind = made.path.suffix.removeprefix(".")
    return str(root / made.path), made.action, at, made.at, kind, int(made.plot), made.pub_id, MONITOR, md5


def register(session: sqlite3.Connection, root: Path, made: Product) -> None:
    with session:
        session.execute(INSERT, row(root, made))


def observe(root: Path, table: Path, truth: TextIO, *, seconds: float, rate: float, seed: int) -> None:
    """`rate` files per second for `seconds`."""
    begun = time.monotonic()
    with closing(sqlite3.connect(f"{table.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as session:
        for number in range(max(1, round(seconds * rate))):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            made = product(number, seed)
            write(root, made)
            digest = hashlib.sha256(made.content).hexdigest()
            line = {"path": made.archived_as, "size": len(made.content), "sha256": digest, "at": time.time()}
            truth.write(json.dumps(line) + "\n")
            truth.flush()
            register(session, root, made)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.simulate.smurf", description="a simulated SMuRF server")
    parser.add_argument("directory", type=Path, help="where its files go; made if it is not there")
    parser.add_argument("--table", type=Path, required=True, help="the SQLite database with pysmurf_files_v1")
    parser.add_argument("--truth", type=Path, required=True, help="what it wrote, one JSON line per file; outside")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--rate", type=float, default=8.0, help="files per second (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="names, sizes and bytes follow from it (default 1)")
    options = parser.parse_args(argv)
    root = options.directory.resolve()
    root.mkdir(parents=True, exist_ok=True)
    with options.truth.open("a", encoding="utf-8") as truth:
        rhythm = {"seconds": options.seconds, "rate": options.rate, "seed": options.seed}
        observe(root, options.table, truth, **rhythm)
    return 0


if __name__ == "__main__":
    sys.exit(main())
