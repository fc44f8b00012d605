"""What a claim costs in a ledger of many archived files, against one of few (target: at most 1.5 ×).

    python bench/claim_cost.py [--many 1000000] [--few 10000] [--rounds 201] [--directory DIR | --url URL]

Both ledgers are loaded with DONE transfers by plain SQL, both are given the same files that wait. The rounds are
paired: each claims 100 files in one and then in the other, and puts them back; which comes first alternates.

`--url` is of a MariaDB or PostgreSQL server, with `{}` where the name of the database goes: `few` and `many`, which
must be there and empty, as in `mysql://skystow@localhost/{}?password_file=secret`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import sqlalchemy as sa

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, open_ledger, servers
from skystow.model.records import Arrival, Fingerprint, Worker
from skystow.model.transfer import Destination, Held, Route

FILES = 100
WAITING = 1_000
ROUTE = Route("camera", "archive")
WORKER = Worker("bench", "boot", "pid", 1, 1)


@dataclass(frozen=True)
class Words:
    """What each database calls the numbers from 1 to N (as `n.i`), a hash, a number of 64 bits, and text as bytes."""

    series: str
    hash: str
    hex: str
    number: str
    bytes: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


WORDS = {
    "sqlite": Words(
        "(WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {done}) SELECT i FROM c) AS n",
        "randomblob(32)",
        "hex(randomblob(32))",
        "random()",
        "CAST(i AS BLOB)",
        after=("ANALYZE",),
    ),
    "mysql": Words(
        "(SELECT seq AS i FROM seq_1_to_{done}) AS n",
        "UNHEX(SHA2(i, 256))",
        "SHA2(i, 256)",
        "CAST(CONV(SUBSTR(SHA2(i, 256), 1, 15), 16, 10) AS SIGNED)",
        "CAST(i AS BINARY)",
        before=("SET sql_mode='ANSI_QUOTES'",),
        after=("ANALYZE TABLE transfers, arrivals, files",),
    ),
    "postgresql": Words(
        "generate_series(1, {done}) AS n(i)",
        "sha256(i::text::bytea)",
        "encode(sha256(i::text::bytea), 'hex')",
        "hashtextextended(i::text, 0)",
        "i::text::bytea",
        after=(
            *(f"SELECT setval('{name}_id_seq', {{done}})" for name in ("files", "arrivals", "transfers", "events")),
            "ANALYZE",
        ),
    ),
}

# Hashes stand for what was archived long ago: nothing looks them up, but the indexes hold them.
LOAD = (
    """INSERT INTO files (id, "key", path_hash, archive, path)
       SELECT i, {hash}, {number}, 'main', {bytes} FROM {series}""",
    """INSERT INTO arrivals (id, name_key, version, source, "key", origin, origin_hash, file_id, size, mtime_ns,
                             priority, "rank", attempts, admitted_at)
       SELECT i, {hash}, 1, 'camera', {bytes}, {bytes}, {number}, i, 40000, i, 0, i, 0, i FROM {series}""",
    """INSERT INTO transfers (id, arrival_id, file_id, source, destination, required, owned, state, wake_at, abandoned,
                              neg_priority, "rank", attempts, cap, alone, batch, size, algorithm, hex, done_at)
       SELECT i, i, i, 'camera', 'archive', TRUE, TRUE, 1, 0, 0, 0, i, 0, 0, 0, 0, 40000, 'blake3', {hex}, i
       FROM {series}""",
    """INSERT INTO events (at, arrival_id, transfer_id, step, worker_id)
       SELECT i, i, i, 'delivered', 1 FROM {series}""",
)


def fill(engine: sa.Engine, done: int, statements: Sequence[str]) -> None:
    """Write `done` rows by each of them, in one transaction."""
    words = WORDS[engine.dialect.name]
    said = vars(words) | {"series": words.series.format(done=done)}
    with engine.connect() as connection:
        for statement in (*words.before, *statements):
            connection.exec_driver_sql(statement.format(**said, done=done))
        connection.commit()


def loaded(url: str, done: int) -> SqlLedger:
    ledger = open_ledger(url, worker=WORKER, clock=SystemClock())
    ledger.admit([], [])  # writes down who we are
    engine = ledger._database.engine
    fill(engine, done, (*LOAD, *WORDS[engine.dialect.name].after))
    engine.dispose()
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--directory", help="on the disk to measure (default: the system's temporary directory)")
    parser.add_argument("--url", help="of a database server, with {} for the name of the database")
    options = parser.parse_args()
    servers.ANSWER_S = 3_600  # a million rows in one statement take longer than anything that a ledger says
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        form = options.url or f"sqlite:///{directory}/{{}}.db"
        few = loaded(form.replace("{}", "few"), options.few)
        many = loaded(form.replace("{}", "many"), options.many)
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
