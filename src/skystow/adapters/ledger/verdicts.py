"""Verdicts: what became of each claimed transfer, written down only where its token still holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.events import Log
from skystow.adapters.ledger.intake import file_ids
from skystow.adapters.ledger.schema import arrivals, files, transfers
from skystow.adapters.ledger.values import chunks, looks, plain, storable
from skystow.model.records import path_bytes, shown
from skystow.model.transfer import (
    Delivered,
    Held,
    Quarantined,
    Reason,
    Renumbered,
    Retry,
    State,
    Step,
    Verdict,
    Work,
)

_T = transfers.c
_SEEN = (arrivals.c.size, arrivals.c.mtime_ns, arrivals.c.inode, arrivals.c.ctime_ns)
_CLAIMED = (
    sa.select(
        *(_T.id, _T.token, _T.arrival_id, _T.destination, _T.upstream, _T.size, _T.algorithm, _T.hex, _T.wake_at),
        *(column.label(f"seen_{column.name}") for column in _SEEN),
        *(arrivals.c.source.label("whose"), arrivals.c.claimed_algorithm, arrivals.c.claimed_hex),
    )
    .join_from(transfers, arrivals, _T.arrival_id == arrivals.c.id)
    .where(among(_T.id, "ids"), _T.state == State.WAITING)
    .order_by(_T.id)
    .with_for_update(of=transfers)
)
_MARKS = sa.select(_T.id, _T.settled).where(among(_T.id, "ids"))


# A verdict proves that the process lived: the count of deaths is over. Without a mark, the last one stays.
_LAST = sa.func.coalesce(sa.bindparam("mark", type_=_T.settled.type), _T.settled)
_END: dict[str, Any] = {"token": None, "worker_id": None, "batch": 0, "alone": 0, "settled": _LAST}


def _settled(**values: Any) -> sa.Update:
    """The end of a claim on one transfer."""
    return sa.update(transfers).where(_T.id == sa.bindparam("transfer")).values(_END | values)


_REASON: dict[str, Any] = {"fault": sa.bindparam("code"), "error": sa.bindparam("said")}
_DELIVERED = _settled(
    state=State.DONE,
    wake_at=sa.bindparam("now"),  # so that the queue's index has what was done of late too
    algorithm=sa.bindparam("by"),
    hex=sa.bindparam("digits"),
    size=sa.bindparam("bytes"),
    done_at=sa.bindparam("now"),
)
_AS_PROMISED = (
    sa.update(transfers)
    .where(among(_T.id, "ids"))
    .values(_END | {"state": State.DONE, "wake_at": sa.bindparam("now"), "done_at": sa.bindparam("now")})
)
_RETRY = _settled(wake_at=sa.bindparam("due"), attempts=_T.attempts + 1, **_REASON)
_QUARANTINED = _settled(state=State.QUARANTINED, wake_at=0, attempts=_T.attempts + 1, **_REASON)
_HELD = _settled(wake_at=sa.bindparam("due"), **_REASON)
_STOPPED = _settled(wake_at=0)
_RENUMBERED = _settled(wake_at=0, **_REASON)

_LOOK = (
    sa.update(arrivals)
    .where(arrivals.c.id == sa.bindparam("arrival"))
    .values({column: sa.bindparam(f"new_{column.name}") for column in _SEEN})
)
_DOWNSTREAM = sa.select(_T.id, _T.arrival_id, _T.upstream).where(among(_T.arrival_id, "ids"), _T.upstream.is_not(None))
_UNBLOCK = sa.update(transfers).where(_T.id == sa.bindparam("transfer")).values(wake_at=0, size=sa.bindparam("bytes"))

_FAMILY = (
    sa.select(_T.id, _T.arrival_id, _T.destination, _T.upstream, _T.state, files.c.archive)
    .join_from(transfers, files, _T.file_id == files.c.id)
    .where(_T.arrival_id == sa.bindparam("arrival"))
    .order_by(_T.id)
)
_MOVE = sa.update(transfers).where(among(_T.id, "ids")).values(file_id=sa.bindparam("file"), algorithm=None, hex=None)

_ALREADY = "already there"


def fenced(connection: sa.Connection, works: Iterable[Work]) -> dict[Work, Any]:
    """Those whose token still holds, each with its row; locked until the transaction ends."""
    ours = list(works)
    ids = sorted({work.id for work in ours})  # locked in one order by everybody
    rows = {row.id: row for some in chunks(ids) for row in connection.execute(_CLAIMED, {"ids": some})}
    return {work: rows[work.id] for work in ours if work.id in rows and rows[work.id].token == work.token}


@whole
def settle(database: Database, worker_id: int, verdicts: Mapping[Work, Verdict]) -> set[Work]:
    """See `Ledger.settle`."""
    if not verdicts:
        return set()
    with database.writing() as connection:
        ours = fenced(connection, verdicts)
        log = Log(database, connection, worker_id)
        write(connection, log, [(row, verdicts[work]) for work, row in ours.items()], mark=_mark)
        repeated = _told_before(connection, {work: verdicts[work] for work in verdicts if work not in ours})
    return set(ours) | repeated


def _mark(claimed: Any, verdict: Verdict) -> str:
    """What is left on a row of the claim that settled it last, and how; of a `Work`, or of such a row."""
    return f"{claimed.token}:{type(verdict).__name__.lower()}"


def _unmarked(_claimed: Any, _verdict: Verdict) -> None:
    """It was settled by nobody who claimed it."""


def _told_before(connection: sa.Connection, others: Mapping[Work, Verdict]) -> set[Work]:
    """Those whose claim is over because this very verdict was written down; its answer was lost with a connection."""
    rows = [row for some in chunks(work.id for work in others) for row in connection.execute(_MARKS, {"ids": some})]
    marks = {row.id: row.settled for row in rows}
    return {work for work, verdict in others.items() if marks.get(work.id) == _mark(work, verdict)}


def write(
    connection: sa.Connection,
    log: Log,
    settled: Sequence[tuple[Any, Verdict]],
    *,
    mark: Callable[[Any, Verdict], str | None] = _unmarked,
) -> None:
    """(row of `_CLAIMED`, verdict) of each, or only its `id` and `arrival_id` for a failure; the fence was passed
    before."""
    delivered = [(row, verdict) for row, verdict in settled if isinstance(verdict, Delivered)]
    if delivered:
        _write_delivered(connection, log, delivered)
    failed: dict[Step, list[tuple[Any, Reason]]] = {}
    updates: dict[sa.Update, list[dict[str, Any]]] = {}
    for row, verdict in settled:
        match verdict:
            case Retry(fault, after):
                due = {"due": log.at + int(after * 1_000_000)}
                updates.setdefault(_RETRY, []).append(_reason(row, fault) | due | {"mark": mark(row, verdict)})
                failed.setdefault(Step.RETRY, []).append((row, fault))
            case Quarantined(fault):
                updates.setdefault(_QUARANTINED, []).append(_reason(row, fault) | {"mark": mark(row, verdict)})
                failed.setdefault(Step.QUARANTINED, []).append((row, fault))
            case Held(fault=None):
                updates.setdefault(_STOPPED, []).append({"transfer": row.id, "mark": mark(row, verdict)})
            case Held(Reason() as fault, after):
                due = {"due": log.at + int(after * 1_000_000) if after else 0}
                updates.setdefault(_HELD, []).append(_reason(row, fault) | due | {"mark": mark(row, verdict)})
                failed.setdefault(Step.HELD, []).append((row, fault))
            case Renumbered(fault, path):
                updates.setdefault(_RENUMBERED, []).append(_reason(row, fault) | {"mark": mark(row, verdict)})
                move(connection, log, row.id, row.arrival_id, path, fault.text)
    for statement, rows in updates.items():
        connection.execute(statement, rows)
    for step, said in failed.items():
        log.say(step, [(row.arrival_id, row.id, fault.text) for row, fault in said])
    for step in (Step.RETRY, Step.QUARANTINED):
        log.announce(step, [row.id for row, _ in failed.get(step, ())])


def _reason(row: Any, fault: Reason) -> dict[str, Any]:
    return {"transfer": row.id, "code": fault.code, "said": plain(fault.text)}


def _write_delivered(connection: sa.Connection, log: Log, delivered: Sequence[tuple[Any, Delivered]]) -> None:
    as_promised, others = dict[str, list[int]](), list[dict[str, Any]]()
    for row, verdict in delivered:
        proof = verdict.receipt
        if (row.algorithm, row.hex, row.size) == (proof.digest.algorithm, proof.digest.hex, proof.size):
            as_promised.setdefault(_mark(row, verdict), []).append(row.id)
        else:
            proven = {"by": proof.digest.algorithm, "digits": proof.digest.hex, "bytes": proof.size}
            others.append(proven | {"transfer": row.id, "now": log.at, "mark": _mark(row, verdict)})
    for mark, ids in as_promised.items():
        for some in chunks(ids):  # a row's digest is written already: nearly always, and much cheaper
            connection.execute(_AS_PROMISED, {"ids": some, "now": log.at, "mark": mark})
    if others:
        connection.execute(_DELIVERED, others)
    _write_looks(connection, delivered)
    _wake_downstream(connection, delivered)
    log.transfers(Step.DELIVERED, [row.id for row, verdict in delivered if not verdict.already], digests=True)
    already = [row.id for row, verdict in delivered if verdict.already]
    log.transfers(Step.DELIVERED, already, _ALREADY, digests=True)
    sources = {row.whose for row, _ in delivered}
    log.announce(Step.DELIVERED, [row.id for row, verdict in delivered if not verdict.already], "", sources=sources)
    log.announce(Step.DELIVERED, already, _ALREADY, sources=sources)


def _write_looks(connection: sa.Connection, delivered: Sequence[tuple[Any, Delivered]]) -> None:
    """What is archived is the file as it was read. A handoff read the upstream copy, which tells nothing of that."""
    changed = []
    for row, verdict in delivered:
        new = storable(verdict.receipt.source)
        then = (row.seen_size, row.seen_mtime_ns, row.seen_inode, row.seen_ctime_ns)
        if then != (new.size, new.mtime_ns, new.inode, new.ctime_ns) and row.upstream is None:
            changed.append({"arrival": row.arrival_id} | {f"new_{name}": value for name, value in looks(new).items()})
    if changed:
        connection.execute(_LOOK, changed)


def _wake_downstream(connection: sa.Connection, delivered: Sequence[tuple[Any, Delivered]]) -> None:
    sizes = {(row.arrival_id, row.destination): verdict.receipt.size for row, verdict in delivered}
    woken = [
        {"transfer": row.id, "bytes": sizes[row.arrival_id, row.upstream]}
        for some in chunks({arrival for arrival, _ in sizes})
        for row in connection.execute(_DOWNSTREAM, {"ids": some})
        if (row.arrival_id, row.upstream) in sizes
    ]
    if woken:
        connection.execute(_UNBLOCK, woken)


def move(connection: sa.Connection, log: Log, transfer: int, arrival: int, path: PurePosixPath, why: str) -> None:
    """The transfer, and those downstream of it, are to stand under `path`: files there, and events, but no states."""
    family = connection.execute(_FAMILY, {"arrival": arrival}).all()
    moved = [row for row in family if row.id == transfer]
    for head in moved:  # grows while it is walked
        moved += [row for row in family if row.upstream == head.destination]
    place = (moved[0].archive, path_bytes(path))
    file = file_ids(connection, [place])[place]
    connection.execute(_MOVE, {"ids": [row.id for row in moved], "file": file})
    text = f"{why}; goes to {shown(path)} instead" if why else f"goes to {shown(path)}"
    waiting = [row for row in moved if row.state is State.WAITING or row.id == transfer]
    log.say(Step.RENUMBERED, [(row.arrival_id, row.id, text) for row in waiting])
