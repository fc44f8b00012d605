"""The windows: what a person or an audit sees. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database
from skystow.adapters.ledger.schema import FOREVER, arrivals, events, files, transfers, workers
from skystow.adapters.ledger.values import (
    chunks,
    digest_from,
    digest_of,
    lookup,
    maybe_moment,
    micros,
    moment,
    path_of,
)
from skystow.errors import Conflict
from skystow.model.records import Fingerprint, path_bytes
from skystow.model.transfer import Route, State, Step
from skystow.ports import Copy, Counts, Dossier, Event, Glimpse

_T = transfers.c

_BY_ORIGIN = sa.select(arrivals.c.id).where(
    arrivals.c.origin_hash == sa.bindparam("hash"), arrivals.c.origin == sa.bindparam("raw")
)
_named = (files.c.path_hash == sa.bindparam("hash"), files.c.path == sa.bindparam("raw"))
_BY_PATH = sa.select(arrivals.c.id).join_from(files, arrivals, arrivals.c.file_id == files.c.id).where(*_named)
_BY_NUMBERED = sa.select(_T.arrival_id).join_from(files, transfers, _T.file_id == files.c.id).where(*_named)

_COPIES = (
    sa.select(
        *(_T.id, _T.arrival_id, _T.source, _T.destination, files.c.path, _T.state, _T.required, _T.owned, _T.attempts),
        *(_T.abandoned, _T.algorithm, _T.hex, _T.size, _T.fault, _T.error, _T.done_at, _T.wake_at, _T.token),
        *(workers.c.host, workers.c.pid, _T.verified_at, _T.removed_at),
    )
    .join_from(transfers, files, _T.file_id == files.c.id)
    .outerjoin(workers, _T.worker_id == workers.c.id)
    .order_by(_T.id)
)
_COPIES_OF = _COPIES.where(among(_T.arrival_id, "ids"))
_ARRIVALS = (
    sa.select(
        *(arrivals.c.id, arrivals.c.source, arrivals.c.key, arrivals.c.origin, files.c.archive, files.c.path),
        *(arrivals.c.size, arrivals.c.mtime_ns, arrivals.c.inode, arrivals.c.ctime_ns),
        *(arrivals.c.claimed_algorithm, arrivals.c.claimed_hex, arrivals.c.admitted_at, arrivals.c.retired_at),
    )
    .join_from(arrivals, files, arrivals.c.file_id == files.c.id)
    .order_by(arrivals.c.id)
)
_ARRIVALS_OF = _ARRIVALS.where(among(arrivals.c.id, "ids"))
_BY_ORIGINS = _ARRIVALS.where(arrivals.c.source == sa.bindparam("source"), among(arrivals.c.origin_hash, "hashes"))
_EVENTS = (
    sa.select(
        *(events.c.at, events.c.step, events.c.digest, events.c.text),
        *(_T.destination, workers.c.host, workers.c.pid),
    )
    .join_from(events, workers, events.c.worker_id == workers.c.id)
    .outerjoin(transfers, events.c.transfer_id == _T.id)
    .where(events.c.arrival_id == sa.bindparam("arrival"))
    .order_by(events.c.id)
)
_RETIRABLE = (
    sa.select(arrivals.c.id)
    .where(arrivals.c.source == sa.bindparam("source"), arrivals.c.id > sa.bindparam("after"))
    .where(arrivals.c.retired_at.is_(None))
    .where(
        sa.exists().where(
            *(_T.arrival_id == arrivals.c.id, _T.upstream.is_(None)),
            *(_T.state == State.DONE, _T.done_at < sa.bindparam("before")),
        )
    )
    .order_by(arrivals.c.id)
    .limit(sa.bindparam("most"))
)

_waiting = _T.state == State.WAITING
_blocked = _waiting & (_T.wake_at == FOREVER)
_retrying = _waiting & _T.token.is_(None) & (_T.wake_at > sa.bindparam("now")) & (_T.wake_at < FOREVER)
_conflict = (_T.state == State.QUARANTINED) & (_T.fault == Conflict.code)


def _count(which: Any) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((which, 1), else_=0)), 0)


_COUNTS = (
    sa.select(
        _T.source,
        _T.destination,
        _count(_waiting).label("waiting"),
        _count(_blocked).label("blocked"),
        _count(_retrying).label("retrying"),
        _count(_T.state == State.DONE).label("done"),
        _count(_T.state == State.QUARANTINED).label("quarantined"),
        _count(_conflict).label("conflicts"),
        _count(_T.state == State.CANCELLED).label("cancelled"),
        sa.func.coalesce(sa.func.sum(sa.case((_T.state == State.DONE, _T.size))), 0).label("bytes"),
    )
    .group_by(_T.source, _T.destination)
    .order_by(sa.func.min(_T.id))
)
_OLDEST = (
    sa.select(_T.source, _T.destination, sa.func.min(arrivals.c.admitted_at).label("at"))
    .join_from(transfers, arrivals, _T.arrival_id == arrivals.c.id)
    .where(_waiting)
    .group_by(_T.source, _T.destination)
)


_OF = (_T.source == sa.bindparam("from"), _T.destination == sa.bindparam("to"))
_LEFT = (State.WAITING, State.QUARANTINED, State.CANCELLED)
LEFT = sa.select(
    sa.func.count().label("others"),
    _count(_waiting).label("waiting"),
    _count(_blocked).label("blocked"),
    _count(_retrying).label("retrying"),
    _count(_T.state == State.QUARANTINED).label("quarantined"),
    _count(_conflict).label("conflicts"),
    _count(_T.state == State.CANCELLED).label("cancelled"),
).where(*_OF, sa.or_(*(_T.state == state for state in _LEFT)))
NEWS = sa.select(sa.func.count().label("done"), sa.func.coalesce(sa.func.sum(_T.size), 0).label("bytes")).where(
    *_OF, _T.state == State.DONE, _T.wake_at >= sa.bindparam("since")
)
OLDEST_OF = (
    sa.select(sa.func.min(arrivals.c.admitted_at))
    .join_from(transfers, arrivals, _T.arrival_id == arrivals.c.id)
    .where(*_OF, _waiting)
)

NEWEST = (
    _COPIES.order_by(None)
    .where(*_OF, _T.state == State.DONE)
    .order_by(_T.wake_at.desc(), _T.id.desc())
    .limit(sa.bindparam("last"))
)
"""`wake_at` of what is DONE is when it became so."""
LONGEST = (
    _COPIES.order_by(None)
    .add_columns(arrivals.c.admitted_at)
    .join(arrivals, _T.arrival_id == arrivals.c.id)
    .where(*_OF, _waiting)
    .order_by(arrivals.c.admitted_at, _T.id)
    .limit(1)
)


def find(database: Database, name: str | bytes) -> list[int]:
    """See `Ledger.find`."""
    raw = name if isinstance(name, bytes) else path_bytes(name)
    which = {"hash": lookup(raw), "raw": raw}
    with database.reading() as connection:
        queries = (_BY_ORIGIN, _BY_PATH, _BY_NUMBERED)
        found = {number for query in queries for number in connection.execute(query, which).scalars()}
    return sorted(found, reverse=True)


def dossier(database: Database, arrival: int) -> Dossier | None:
    """See `Ledger.dossier`."""
    with database.reading() as connection:
        story = tuple(_event(row) for row in connection.execute(_EVENTS, {"arrival": arrival}))
        found = _dossiers(connection, _arrivals(connection, [arrival]), database.now(connection), story)
    return found[0] if found else None


def latest(database: Database, source: str, origins: Sequence[PurePosixPath]) -> dict[PurePosixPath, Dossier]:
    """See `Ledger.latest`."""
    wanted = {path_bytes(origin): origin for origin in origins}
    rows: dict[bytes, Any] = {}
    if not wanted:
        return {}
    with database.looking() as connection:
        for some in chunks(map(lookup, wanted)):
            for row in connection.execute(_BY_ORIGINS, {"source": source, "hashes": some}):
                rows[row.origin] = row  # in the order of their ids: the last one stays
        ours = [rows[raw] for raw in wanted if raw in rows]
        found = _dossiers(connection, ours, database.now(connection), ())
    return {dossier.origin: dossier for dossier in found}


def retirable(database: Database, source: str, *, older_than: float, after: int, limit: int) -> list[Dossier]:
    """See `Ledger.retirable`."""
    with database.reading() as connection:
        now = database.now(connection)
        which = {"source": source, "after": after, "most": limit, "before": now - int(older_than * 1_000_000)}
        ripe = _arrivals(connection, connection.execute(_RETIRABLE, which).scalars().all())
        return _dossiers(connection, ripe, now, ())


def copies(
    database: Database, *, after: int, limit: int, state: State, destination: str | None, source: str | None
) -> list[Copy]:
    """See `Ledger.copies`; `source` is where the file came from, not the place before."""
    query = _COPIES.where(_T.id > after, _T.state == state).limit(limit)
    if destination is not None:
        query = query.where(_T.destination == destination)
    if source is not None:
        query = query.join(arrivals, _T.arrival_id == arrivals.c.id).where(arrivals.c.source == source)
    with database.reading() as connection:
        now = database.now(connection)
        return [_copy(row, now) for row in connection.execute(query)]


def counts(database: Database) -> list[Counts]:
    """See `Ledger.counts`; each transfer is in one of the numbers."""
    with database.reading() as connection:
        rows = connection.execute(_COUNTS, {"now": database.now(connection)}).all()
        oldest = {(row.source, row.destination): row.at for row in connection.execute(_OLDEST)}
    return [_counted(row, row, oldest.get((row.source, row.destination))) for row in rows]


def tally(database: Database, routes: Sequence[Route], since: datetime) -> list[Counts]:
    """See `Ledger.tally`."""
    found = []
    with database.reading() as connection:
        now = database.now(connection)
        for route in routes:
            which = {"from": route.source, "to": route.destination, "now": now, "since": micros(since)}
            news, left = connection.execute(NEWS, which).one(), connection.execute(LEFT, which).one()
            oldest = connection.execute(OLDEST_OF, which).scalar()
            if news.done or left.others:
                found.append(_counted(left, news, oldest, route))
    return found


def glimpse(database: Database, route: Route, last: int) -> Glimpse:
    """See `Ledger.glimpse`."""
    which = {"from": route.source, "to": route.destination}
    with database.reading() as connection:
        now = database.now(connection)
        newest = tuple(_copy(row, now) for row in connection.execute(NEWEST, {**which, "last": last}))
        longest = connection.execute(LONGEST, which).one_or_none()
    if longest is None:
        return Glimpse(newest)
    return Glimpse(newest, _copy(longest, now), moment(longest.admitted_at))


def _counted(left: Any, done: Any, oldest: int | None, route: Route | None = None) -> Counts:
    return Counts(
        route=route or Route(left.source, left.destination),
        waiting=int(left.waiting - left.blocked - left.retrying),
        blocked=int(left.blocked),
        retrying=int(left.retrying),
        done=int(done.done),
        quarantined=int(left.quarantined - left.conflicts),
        conflicts=int(left.conflicts),
        cancelled=int(left.cancelled),
        bytes=int(done.bytes),
        oldest_waiting=maybe_moment(oldest),
    )


def _arrivals(connection: sa.Connection, ids: Sequence[int]) -> list[Any]:
    return [row for some in chunks(ids) for row in connection.execute(_ARRIVALS_OF, {"ids": some})]


def _dossiers(connection: sa.Connection, rows: Sequence[Any], now: int, story: tuple[Event, ...]) -> list[Dossier]:
    theirs: dict[int, list[Copy]] = {row.id: [] for row in rows}
    for some in chunks(theirs):
        for copy in connection.execute(_COPIES_OF, {"ids": some}):
            theirs[copy.arrival_id].append(_copy(copy, now))
    return [
        Dossier(
            id=row.id,
            source=row.source,
            key=row.key,
            origin=path_of(row.origin),
            archive=row.archive,
            path=path_of(row.path),
            fingerprint=Fingerprint(row.size, row.mtime_ns, row.inode, row.ctime_ns),
            claimed=digest_of(row.claimed_algorithm, row.claimed_hex),
            admitted_at=moment(row.admitted_at),
            retired_at=maybe_moment(row.retired_at),
            copies=tuple(theirs[row.id]),
            events=story,
        )
        for row in rows
    ]


def _copy(row: Any, now: int) -> Copy:
    waits = row.state is State.WAITING and row.wake_at > now
    return Copy(
        id=row.id,
        route=Route(row.source, row.destination),
        path=path_of(row.path),
        state=row.state,
        required=row.required,
        owned=row.owned,
        attempts=row.attempts,
        abandoned=row.abandoned,
        digest=digest_of(row.algorithm, row.hex) if row.state is State.DONE else None,  # before: only promised
        size=row.size,
        fault=row.fault or "",
        error=row.error or "",
        done_at=maybe_moment(row.done_at),
        wakes_at=moment(row.wake_at) if waits else None,
        leased_by=f"{row.host}:{row.pid}" if row.token else None,
        verified_at=maybe_moment(row.verified_at),
        removed_at=maybe_moment(row.removed_at),
        blocked=row.state is State.WAITING and row.wake_at == FOREVER,
    )


def _event(row: Any) -> Event:
    worker = f"{row.host}:{row.pid}"
    return Event(moment(row.at), Step(row.step), row.destination, worker, digest_from(row.digest), row.text or "")
