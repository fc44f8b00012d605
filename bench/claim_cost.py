"""What a claim costs in a ledger of many archived files, against one of few (target: at most 1.5 ×).

    python bench/claim_cost.py [--many 1000000] [--few 10000] [--rounds 201] [--directory DIR]

Both ledgers are loaded with DONE transfers by plain SQL, both are given the same files that wait. The rounds are
paired: each claims 100 files in one and then in the other, and puts them back; which comes first alternates.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path, PurePosixPath

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, open_ledger
from skystow.model.records import Arrival, Fingerprint, Worker
from skystow.model.transfer import Destination, Held, Route

FILES = 100
WAITING = 1_000
ROUTE = Route("camera", "archive")
WORKER = Worker("bench", "boot", "pid", 1, 1)

# Hashes stand for what was archived long ago: nothing looks them up, but the indexes hold them.
LOAD = (
    """INSERT INTO files (id, key, path_hash, archive, path)
       SELECT i, randomblob(32), random(), 'main', CAST('data/' || i AS BLOB) FROM temp.n""",
    """INSERT INTO arrivals (id, name_key, version, source, key, origin, origin_hash, file_id, size, mtime_ns,
                             priority, rank, attempts, admitted_at)
       SELECT i, randomblob(32), 1, 'camera', CAST(i AS BLOB), CAST(i AS BLOB), random(), i, 40000, i, 0, i, 0, i
       FROM temp.n""",
    """INSERT INTO transfers (id, arrival_id, file_id, source, destination, required, owned, state, wake_at, abandoned,
                              neg_priority, rank, attempts, cap, alone, batch, size, algorithm, hex, done_at)
       SELECT i, i, i, 'camera', 'archive', 1, 1, 1, 0, 0, 0, i, 0, 0, 0, 0, 40000, 'blake3', hex(randomblob(32)), i
       FROM temp.n""",
    """INSERT INTO events (at, arrival_id, transfer_id, step, worker_id)
       SELECT i, i, i, 'delivered', 1 FROM temp.n""",
)


def loaded(path: Path, done: int) -> SqlLedger:
    ledger = open_ledger(f"sqlite:///{path}", worker=WORKER, clock=SystemClock())
    ledger.admit([], [])  # writes down who we are
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TEMP TABLE n (i INTEGER PRIMARY KEY)")
    connection.execute(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?) INSERT INTO n SELECT i FROM c",
        (done,),
    )
    for statement in LOAD:
        connection.execute(statement)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    names = [PurePosixPath(f"new/{n}.fits") for n in range(WAITING)]
    arrivals = [
        Arrival("camera", bytes(name), name, "main", name, Fingerprint(40_000, n, n, n), rank=n)
        for n, name in enumerate(names)
    ]
    ledger.admit(arrivals, [Destination("archive")])
    return ledger


def claim_ms(ledger: SqlLedger) -> float:
    before = time.perf_counter()
    works = ledger.claim(ROUTE, files=FILES, size=2**40, seconds=60)
    spent = time.perf_counter() - before
    if len(works) != FILES:
        raise SystemExit(f"claimed {len(works)} files, not {FILES}")
    ledger.settle(dict.fromkeys(works, Held(None)))
    return spent * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--directory", help="on the disk to measure (default: the system's temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        few, many = (loaded(Path(directory, f"{n}.db"), n) for n in (options.few, options.many))
        for ledger in (few, many):
            claim_ms(ledger)
        pairs = []
        for n in range(options.rounds):
            first, second = (few, many) if n % 2 else (many, few)
            one, two = claim_ms(first), claim_ms(second)
            pairs.append((one, two) if first is few else (two, one))
        few.close()
        many.close()
    ratio = statistics.median(m / f for f, m in pairs)
    print(f"claim of {FILES}, {options.rounds} paired rounds, medians")
    print(f"{options.few:>12,} archived  {statistics.median(f for f, _ in pairs):8.2f} ms")
    print(f"{options.many:>12,} archived  {statistics.median(m for _, m in pairs):8.2f} ms")
    print(f"{'ratio':>21}  {ratio:8.2f}")
    raise SystemExit(0 if ratio <= 1.5 else 1)


if __name__ == "__main__":
    main()
