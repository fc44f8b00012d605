"""Claims: a lease with a token on some transfers of one route.

One index (schema: `ix_transfers_queue`) holds the queue in its order, and what is DONE sorts apart from it: a claim
costs the same however much was archived before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger import verdicts
from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.events import Log
from skystow.adapters.ledger.schema import FOREVER, arrivals, files, transfers, workers
from skystow.adapters.ledger.values import chunks, digest_of, path_of
from skystow.errors import Abandoned, PlaceFault
from skystow.model.records import Digest, Fingerprint, Location, Worker
from skystow.model.transfer import (
    DEATHS_ALONE,
    Receipt,
    RetryPolicy,
    Route,
    State,
    Step,
    Verdict,
    Work,
    abandoned,
    judge,
)

LOOKS = 3
"""How often one claim looks at the queue again when others were quicker."""

_T = transfers.c
_ROUTE = (
    _T.source == sa.bindparam("whence"),
    _T.destination == sa.bindparam("whither"),
    _T.state == State.WAITING,
)
_DUE = (*_ROUTE, _T.wake_at > 0, _T.wake_at <= sa.bindparam("now"))

ANYTHING = sa.select(_T.id).where(*_ROUTE, _T.wake_at <= sa.bindparam("now")).limit(1)
CANDIDATES = (
    sa.select(_T.id, _T.size, _T.abandoned, _T.cap)
    .where(*_ROUTE, _T.wake_at == 0)
    .order_by(_T.abandoned, _T.neg_priority, _T.rank, _T.id)
    .limit(sa.bindparam("most"))
)
_ANY_DUE = sa.select(_T.id).where(*_DUE).limit(1)
NEXT = sa.select(_T.wake_at).where(*_ROUTE, _T.wake_at < FOREVER).order_by(_T.wake_at).limit(1)
WAKE = sa.update(transfers).where(*_DUE, _T.token.is_(None)).values(wake_at=0)

_LEFT = (
    sa.select(
        *(_T.id, _T.arrival_id, _T.token, _T.batch, _T.alone, _T.attempts),
        *(workers.c.host, workers.c.pid),
    )
    .join_from(transfers, workers, _T.worker_id == workers.c.id)
    .where(_T.token.is_not(None), _T.state == State.WAITING)
    .with_for_update(of=transfers)
)
EXPIRED = _LEFT.where(*_DUE)
_OF_DEAD = _LEFT.where(among(_T.worker_id, "dead"))
_ABANDON = (
    sa.update(transfers)
    .where(_T.id == sa.bindparam("transfer"), _T.token == sa.bindparam("old"))
    .values(
        abandoned=_T.abandoned + 1,
        cap=sa.bindparam("most"),
        alone=sa.bindparam("deaths"),
        **{"token": None, "worker_id": None, "batch": 0, "wake_at": 0},
    )
)
_HOLDERS = (
    sa.select(workers)
    # Not `IS NOT NULL`, for which SQLite would read every transfer: this is one stretch of an index.
    .where(workers.c.id.in_(sa.select(_T.worker_id).where(_T.token > "", _T.state == State.WAITING)))
    .order_by(workers.c.id)
)
_TOKENS = sa.select(_T.token).where(_T.token.is_not(None), _T.state == State.WAITING).distinct()

# Several workers may have read the same candidates: this line decides whose they are.
_TAKE = (
    sa.update(transfers)
    .where(
        among(_T.id, "ids"),
        *(_T.token.is_(None), _T.state == State.WAITING, _T.wake_at == 0),
    )
    .values(
        token=sa.bindparam("mine"),
        worker_id=sa.bindparam("worker"),
        batch=sa.bindparam("together"),
        wake_at=sa.bindparam("until"),
    )
)
_TOGETHER = sa.update(transfers).where(_T.token == sa.bindparam("mine")).values(batch=sa.bindparam("number"))
_DOUBTFUL = (
    sa.select(_T.id, _T.arrival_id)
    .where(_T.token.in_(sa.bindparam("tokens", expanding=True)), _T.state == State.WAITING)
    .order_by(_T.id)
    .with_for_update()
)
_RELEASE = (
    sa.update(transfers).where(among(_T.id, "ids")).values({"token": None, "worker_id": None, "batch": 0, "wake_at": 0})
)

_up, _up_file = transfers.alias("up"), files.alias("up_file")
_WORKS = (
    sa.select(
        *(_T.id, _T.upstream, _T.attempts, _T.algorithm, _T.hex, files.c.path),
        *(arrivals.c.origin, arrivals.c.size, arrivals.c.mtime_ns, arrivals.c.inode, arrivals.c.ctime_ns),
        *(arrivals.c.claimed_algorithm, arrivals.c.claimed_hex),
        _up.c.algorithm.label("up_algorithm"),
        *(_up.c.hex.label("up_hex"), _up.c.size.label("up_size"), _up_file.c.path.label("up_path")),
    )
    .join_from(transfers, arrivals, _T.arrival_id == arrivals.c.id)
    .join(files, _T.file_id == files.c.id)
    .outerjoin(_up, (_up.c.arrival_id == _T.arrival_id) & (_up.c.destination == _T.upstream))
    .outerjoin(_up_file, _up.c.file_id == _up_file.c.id)
    .where(_T.token == sa.bindparam("mine"))
    .order_by(_T.abandoned, _T.neg_priority, _T.rank, _T.id)
)

_RENEW = sa.update(transfers).where(among(_T.id, "ids")).values(wake_at=sa.bindparam("until"))
_AS_CLAIMED = (
    sa.update(transfers)
    .where(among(_T.id, "ids"))
    .values(
        algorithm=sa.select(arrivals.c.claimed_algorithm).where(arrivals.c.id == _T.arrival_id).scalar_subquery(),
        hex=sa.select(arrivals.c.claimed_hex).where(arrivals.c.id == _T.arrival_id).scalar_subquery(),
    )
)
_PROMISE = (
    sa.update(transfers)
    .where(_T.id == sa.bindparam("transfer"))
    .values(algorithm=sa.bindparam("by"), hex=sa.bindparam("digits"))
)


@whole
def claim(
    database: Database,
    worker_id: int,
    policy: RetryPolicy,
    mark: Callable[[], str],
    route: Route,
    *,
    files: int,
    size: int,
    seconds: float,
) -> list[Work]:
    """See `Ledger.claim`; each token begins with `mark()`, which is asked only where there is work: it may write."""
    which = {"whence": route.source, "whither": route.destination}
    for _ in range(LOOKS):
        if not _anything(database, which):
            return []
        lease = _Lease(mark() + secrets.token_hex(8), worker_id, seconds)
        try:
            with database.writing() as connection:
                rows = _take(connection, Log(database, connection, worker_id), policy, which, lease, files, size)
        except PlaceFault:
            database.doubtful.add(lease.token)  # the commit may have been done, and only its answer lost
            raise
        if rows is not None:
            return [_work(row, lease.token, route) for row in rows]
    return []


def _anything(database: Database, which: dict[str, str]) -> bool:
    """Whether there is work, where to look for it in earnest would take the lock that all writers share."""
    if database.path is None:
        return True
    with database.looking() as connection:
        return connection.execute(ANYTHING, which | {"now": database.now(connection)}).first() is not None


@dataclass(frozen=True, slots=True)
class _Lease:
    token: str
    worker_id: int
    seconds: float


def _take(
    connection: sa.Connection,
    log: Log,
    policy: RetryPolicy,
    which: dict[str, str],
    lease: _Lease,
    files: int,
    size: int,
) -> Sequence[Any] | None:
    """Wake what is due, then take the first of the queue. None where another worker took all of them between our look
    and our hand."""
    due = which | {"now": log.at}
    if connection.execute(_ANY_DUE, due).first() is not None:
        _abandon(connection, log, policy, connection.execute(EXPIRED, due).all())
        connection.execute(WAKE, due)
    chosen = _batch(connection.execute(CANDIDATES, which | {"most": files}).all(), size)
    if not chosen:
        return []
    until = log.at + _micros(lease.seconds)
    taken = {"mine": lease.token, "worker": lease.worker_id, "together": len(chosen), "until": until}
    for some in chunks(sorted(chosen)):  # everybody locks in the order of ids, never crosswise
        connection.execute(_TAKE, taken | {"ids": some})
    rows = connection.execute(_WORKS, {"mine": lease.token}).all()
    if len(rows) < len(chosen):
        connection.execute(_TOGETHER, {"mine": lease.token, "number": len(rows)})
    log.claim(lease.token)
    return rows or None


def _batch(candidates: Sequence[Any], size: int) -> list[int]:
    """The first ones of the queue that may go together."""
    if not candidates:
        return []
    first, together = candidates[0], 0
    chosen: list[int] = []
    for row in candidates[: first.cap or None]:
        together += row.size or 0
        if row.abandoned != first.abandoned or (chosen and together > size):
            break
        chosen.append(row.id)
    return chosen


def _work(row: Any, token: str, route: Route) -> Work:
    # Taken apart at once, in the order of `_WORKS`: there are thousands in a batch.
    number, upstream, attempts, promised_by, promised, path, origin, *look = row[:11]
    claimed_by, claimed, up_by, up_hex, up_size, up_path = row[11:]
    target = path_of(path)
    if upstream is None:
        source = Location(route.source, target if origin == path else path_of(origin))
        fingerprint, expected = Fingerprint(*look), digest_of(claimed_by, claimed)
    else:
        # The upstream copy is another inode, on a file system that may round times: its proven digest says it all.
        source = Location(route.source, target if up_path == path else path_of(up_path))
        fingerprint, expected = Fingerprint(size=up_size), digest_of(up_by, up_hex)
    return Work(number, token, route, source, target, fingerprint, expected, digest_of(promised_by, promised), attempts)


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)


# ── while work goes on ──────────────────────────────────────────────────────────────────────────────────────────


@whole
def renew(database: Database, works: Sequence[Work], *, seconds: float) -> set[Work]:
    """See `Ledger.renew`."""
    with database.writing() as connection:
        ours = verdicts.fenced(connection, works)
        _extend(connection, [work.id for work in ours], database.now(connection) + _micros(seconds))
    return set(ours)


def _extend(connection: sa.Connection, ids: Sequence[int], until: int) -> None:
    for some in chunks(ids):
        connection.execute(_RENEW, {"ids": some, "until": until})


@whole
def promise(database: Database, receipts: Mapping[Work, Receipt], *, seconds: float) -> set[Work]:
    """See `Ledger.promise`."""
    with database.writing() as connection:
        ours = verdicts.fenced(connection, receipts)
        now, length = database.now(connection), _micros(seconds)
        claimed = [work.id for work, row in ours.items() if receipts[work].digest == _claimed(row)]
        proofs = [(work.id, receipts[work].digest) for work in ours if work.id not in set(claimed)]
        for some in chunks(claimed):  # no row crosses into Python, and out again
            connection.execute(_AS_CLAIMED, {"ids": some})
        if proofs:
            rows = [{"transfer": number, "by": proof.algorithm, "digits": proof.hex} for number, proof in proofs]
            connection.execute(_PROMISE, rows)
        # `wake_at` is in the queue's index: it moves only where the lease is half over.
        old = [row.id for row in ours.values() if row.wake_at < now + length // 2]
        _extend(connection, old, now + length)
    return set(ours)


def _claimed(row: Any) -> Digest | None:
    return digest_of(row.claimed_algorithm, row.claimed_hex)


def next_wake(database: Database, route: Route) -> float | None:
    """See `Ledger.next_wake`."""
    with database.looking() as connection:
        which = {"whence": route.source, "whither": route.destination}
        wake_at = connection.execute(NEXT, which).scalar()
        return None if wake_at is None else max(0.0, (wake_at - database.now(connection)) / 1e6)


# ── claims whose worker died ────────────────────────────────────────────────────────────────────────────────────


def live_tokens(database: Database) -> set[str]:
    """See `Ledger.live_tokens`. A lease that ran out is alive until somebody else takes its files."""
    with database.reading() as connection:
        return set(connection.execute(_TOKENS).scalars())


@whole
def reclaim(database: Database, worker_id: int, policy: RetryPolicy, alive: Callable[[Worker], bool | None]) -> int:
    """See `Ledger.reclaim`."""
    with database.reading() as connection:
        holders = connection.execute(_HOLDERS).all()
    dead = [h.id for h in holders if alive(Worker(h.host, h.boot_id, h.pid_namespace, h.pid, h.started)) is False]
    if not dead:
        return 0
    with database.writing() as connection:
        log = Log(database, connection, worker_id)
        left = connection.execute(_OF_DEAD, {"dead": dead}).all()
        _abandon(connection, log, policy, left)
    return len(left)


@whole
def free_doubtful(database: Database, worker_id: int) -> None:
    """Put back claims of ours that were committed and never answered: nobody works on them, and nobody is to blame."""
    tokens = sorted(database.doubtful)
    with database.writing() as connection:
        log = Log(database, connection, worker_id)
        held = [row for some in chunks(tokens) for row in connection.execute(_DOUBTFUL, {"tokens": some})]
        for some in chunks(row.id for row in held):
            connection.execute(_RELEASE, {"ids": some})
        why = "the ledger went away before it could hand it out"
        log.say(Step.HELD, [(row.arrival_id, row.id, why) for row in held])
    database.doubtful.difference_update(tokens)


def _abandon(connection: sa.Connection, log: Log, policy: RetryPolicy, left: Sequence[Any]) -> None:
    """Free claims that ended without a verdict. A file that was alone in too many of them gets one."""
    if not left:
        return
    rows, deadly = [], list[tuple[Any, Verdict]]()
    for row in left:
        after = abandoned(row.batch, row.alone)
        rows.append({"transfer": row.id, "old": row.token, "most": after.cap, "deaths": after.alone})
        if after.alone >= DEATHS_ALONE:
            fault = Abandoned(
                f"the process died {after.alone} times running with this file alone in its hands",
                remedy="look at the end of its log, then retry or ignore the file",
            )
            deadly.append((row, judge(fault, row.id, row.attempts, policy)))
    connection.execute(_ABANDON, rows)
    log.say(
        Step.ABANDONED,
        [(row.arrival_id, row.id, f"{row.host}:{row.pid} left it without a verdict") for row in left],
    )
    verdicts.write(connection, log, deadly)
