"""What it costs to archive 1,000 new files where 1,000,000 are archived already, in the table and in the ledger.

    python bench/million.py [--many 1000000] [--rounds 7] [--directory DIR] [--url URL [--password-file FILE]]

Two sites of their own, each with a `pysmurf_files_v1` table and a ledger: one empty, one with a million rows in both,
written by plain SQL. In each round both are given the same 1,000 new files and rows, and `skystow run --once` archives
them, in one site and then in the other; which comes first alternates. Timed is the whole command.

`--url` is of a MariaDB server, with `{}` where the name of the database goes: `few` and `many`, which must be there and
empty. Each holds a table and a ledger.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from claim_cost import LOAD, WORKER, fill

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger, servers
from skystow.adapters.pysmurf_files import FilesTable
from skystow.simulate.smurf import MONITOR, Product, product, write

NEW = 1_000
SITE = """\
archive: main
ledger: {ledger}
sources:
  - name: camera
    kind: pysmurf_files
    table: {{url: "{table}"{password}}}
    targets: [{monitor}]
    root: {here}/smurf
destinations:
  - {{name: archive, kind: posix, root: {here}/archive, digest: md5, min_free: 0 %}}
"""
PATHS = {"sqlite": "'/archive/' || i || '.npy'", "mysql": "CONCAT('/archive/', i, '.npy')"}
MD5S = {"sqlite": "randomblob(16)", "mysql": "UNHEX(MD5(i))"}
TABLE = """\
INSERT INTO pysmurf_files_v1 (path, action, timestamp, action_timestamp, format, plot, site, pub_id, instance_id,
                              copied, failed_copy_attempts, md5sum)
SELECT {path}, 'take_iv', '2019-08-03 02:27:30', i, 'npy', 0, 'observatory', 'crate1slot2', '{monitor}', 1, 0, {md5}
FROM {{series}}"""


@dataclass(frozen=True)
class Observatory:
    """One site; `url` is of its table."""

    here: Path
    url: str
    ledger: str
    password_file: str | None

    def table(self) -> FilesTable:
        password = Path(self.password_file).read_text().strip() if self.password_file else None
        return FilesTable(self.url, "v1", place="table", password=password)

    def build(self, done: int) -> None:
        for name in ("smurf", "archive"):
            (self.here / name).mkdir(parents=True)
        password = f', password_file: "{self.password_file}"' if self.password_file else ""
        known = {"here": self.here, "monitor": MONITOR, "password": password}
        ledger_at = self.ledger if self.ledger.startswith("sqlite:") else f'{{url: "{self.ledger}"{password}}}'
        (self.here / "site.yaml").write_text(SITE.format(ledger=ledger_at, table=self.url, **known))
        at = f"{self.ledger}?password_file={self.password_file}" if self.password_file else self.ledger
        ledger = open_ledger(at, worker=WORKER, clock=SystemClock())
        ledger.admit([], [])  # writes down who we are
        table = self.table()
        table.create()
        if done:
            kind = table.engine.dialect.name
            fill(ledger._database.engine, done, LOAD)
            fill(table.engine, done, [TABLE.format(path=PATHS[kind], md5=MD5S[kind], monitor=MONITOR)])
        ledger.close()
        table.close()

    def register(self, new: list[Product]) -> None:
        for made in new:
            write(self.here / "smurf", made)
        table = self.table()
        with table.engine.begin() as connection:
            connection.execute(table.definition.insert(), [self._row(made) for made in new])
        table.close()

    def _row(self, made: Product) -> dict[str, object]:
        return {
            "path": str(self.here / "smurf" / made.path),
            "action": made.action,
            "timestamp": datetime.fromtimestamp(made.at, UTC).replace(tzinfo=None),
            "plot": int(made.plot),
            "pub_id": made.pub_id,
            "instance_id": MONITOR,
            "copied": 0,
            "failed_copy_attempts": 0,
            "md5sum": hashlib.md5(made.content, usedforsecurity=False).digest(),
        }

    def archive(self) -> float:
        """Seconds."""
        os.sync()
        before = time.perf_counter()
        command = [sys.executable, "-m", "skystow", "run", "--once", str(self.here / "site.yaml")]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"skystow run ended with {done.returncode}: {done.stderr}")
        return time.perf_counter() - before

    def archived(self) -> int:
        return sum(path.is_file() and ".skystow" not in path.parts for path in (self.here / "archive").rglob("*"))


def observatory(root: Path, name: str, url: str | None, password_file: str | None) -> Observatory:
    here = root / name
    if url:
        return Observatory(here, url.replace("{}", name), url.replace("{}", name), password_file)
    return Observatory(here, f"sqlite:///{here}/table.db", f"sqlite:///{here}/ledger.db", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", help="on the disk to measure (default: the system's temporary directory)")
    parser.add_argument("--url", help="of a MariaDB server, with {} for the name of the database")
    parser.add_argument("--password-file")
    options = parser.parse_args()
    servers.ANSWER_S = 3_600  # a million rows in one statement take longer than anything that a ledger says
    pairs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="skystow-bench-", dir=options.directory) as work:
        few, many = (observatory(Path(work), name, options.url, options.password_file) for name in ("few", "many"))
        few.build(0)
        many.build(options.many)
        for turn in range(options.rounds + 1):
            new = [product(turn * NEW + n, seed=1) for n in range(NEW)]
            walls = {}
            for one in (few, many) if turn % 2 else (many, few):
                one.register(new)
                walls[one] = one.archive()
                if (there := one.archived()) != (turn + 1) * NEW:
                    raise SystemExit(f"{there} files are archived, not {(turn + 1) * NEW}")
            if turn > 0:  # the first one warms up
                pairs.append((walls[few], walls[many]))
    ratio = statistics.median(m / f for f, m in pairs)
    print(f"{NEW:,} new files, {options.rounds} paired rounds, medians")
    print(f"{0:>12,} archived  {statistics.median(f for f, _ in pairs):6.2f} s")
    print(f"{options.many:>12,} archived  {statistics.median(m for _, m in pairs):6.2f} s")
    print(f"{'ratio':>21}  {ratio:6.2f}")


if __name__ == "__main__":
    main()
