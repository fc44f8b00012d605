"""What an operator, an audit or a retirement writes down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger import verdicts
from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.events import Log
from skystow.adapters.ledger.schema import FOREVER, arrivals, transfers
from skystow.adapters.ledger.values import chunks
from skystow.model.transfer import TRANSITIONS, State, Step
from skystow.ports import Copy, Dossier

_T, _up = transfers.c, transfers.alias("up")
_IDS = among(_T.id, "ids")
_LOOK = sa.select(_T.id, _T.arrival_id, _T.state, _T.removed_at).where(_IDS).order_by(_T.id).with_for_update()

_upstream_done = (
    sa.exists()
    .where(_up.c.arrival_id == _T.arrival_id, _up.c.destination == _T.upstream, _up.c.state == State.DONE)
    .correlate(transfers)
)
_BLOCKED = sa.select(_T.id).where(_IDS, _T.upstream.is_not(None), ~_upstream_done)
_BLOCK = sa.update(transfers).where(_IDS).values(wake_at=FOREVER)

_FREE: dict[str, Any] = {"token": None, "worker_id": None, "batch": 0, "wake_at": 0}
_REQUEUE = (
    sa.update(transfers)
    .where(_IDS)
    .values(_FREE | {"state": State.WAITING, "attempts": 0, "abandoned": 0, "cap": 0, "alone": 0})
)
_WAIT = sa.update(transfers).where(_IDS).values(_FREE | {"state": State.WAITING})
_IGNORE = sa.update(transfers).where(_IDS).values(_FREE | {"state": State.CANCELLED})
_VERIFIED = sa.update(transfers).where(_IDS).values(verified_at=sa.bindparam("now"))
_REMOVED = sa.update(transfers).where(_IDS).values(removed_at=sa.bindparam("now"))
_RETIRED = sa.update(arrivals).where(among(arrivals.c.id, "ids")).values(retired_at=sa.bindparam("now"))


def _lawful(connection: sa.Connection, copies: Sequence[Copy], step: Step) -> list[Any]:
    """The transfers of `copies` whose state, as it is now, knows this step."""
    ids = dict.fromkeys(copy.id for copy in copies)
    rows = [row for some in chunks(ids) for row in connection.execute(_LOOK, {"ids": some})]
    return [row for row in rows if (row.state, step) in TRANSITIONS]


def _block(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Back to waiting for their upstream copies, those that have none yet."""
    blocked = connection.execute(_BLOCKED, {"ids": ids}).scalars().all()
    if blocked:
        connection.execute(_BLOCK, {"ids": blocked})


@whole
def requeue(database: Database, worker_id: int, copies: Sequence[Copy]) -> int:
    """See `Ledger.requeue`."""
    with database.writing() as connection:
        log, rows = Log(database, connection, worker_id), _lawful(connection, copies, Step.REQUEUED)
        for some in chunks(row.id for row in rows):
            connection.execute(_REQUEUE, {"ids": some})
            _block(connection, some)
        log.transfers(Step.REQUEUED, [row.id for row in rows])
        log.announce(Step.REQUEUED, [row.id for row in rows], "")
    return len(rows)


@whole
def ignore(database: Database, worker_id: int, copies: Sequence[Copy], reason: str) -> int:
    """See `Ledger.ignore`."""
    with database.writing() as connection:
        log, rows = Log(database, connection, worker_id), _lawful(connection, copies, Step.IGNORED)
        for some in chunks(row.id for row in rows):
            connection.execute(_IGNORE, {"ids": some})
        log.transfers(Step.IGNORED, [row.id for row in rows], reason)
        log.announce(Step.IGNORED, [row.id for row in rows], reason)
    return len(rows)


@whole
def renumber(database: Database, worker_id: int, copy: Copy, path: PurePosixPath) -> None:
    """See `Ledger.renumber`."""
    with database.writing() as connection:
        log = Log(database, connection, worker_id)
        for row in _lawful(connection, [copy], Step.RENUMBERED):
            verdicts.move(connection, log, row.id, row.arrival_id, path, "")
            connection.execute(_WAIT, {"ids": [row.id]})
            _block(connection, [row.id])


@whole
def audited(database: Database, worker_id: int, copy: Copy, step: Step, text: str) -> None:
    """See `Ledger.audited`."""
    with database.writing() as connection:
        log = Log(database, connection, worker_id)
        for row in _lawful(connection, [copy], step):
            log.transfers(step, [row.id], text, digests=True)
            if step is Step.VERIFIED:
                connection.execute(_VERIFIED, {"ids": [row.id], "now": log.at})
            else:
                log.announce(step, [row.id], text)


@whole
def removed(database: Database, worker_id: int, copies: Sequence[Copy], reason: str) -> int:
    """See `Ledger.removed`."""
    with database.writing() as connection:
        log, rows = Log(database, connection, worker_id), _lawful(connection, copies, Step.REMOVED)
        there = [row for row in rows if row.removed_at is None]
        for some in chunks(row.id for row in there):
            connection.execute(_REMOVED, {"ids": some, "now": log.at})
        log.transfers(Step.REMOVED, [row.id for row in there], reason)
    return len(there)


@whole
def retired(database: Database, worker_id: int, dossiers: Sequence[Dossier]) -> None:
    """See `Ledger.retired`."""
    with database.writing() as connection:
        log = Log(database, connection, worker_id)
        for some in chunks(dossier.id for dossier in dossiers):
            connection.execute(_RETIRED, {"ids": some, "now": log.at})
        log.arrivals(Step.RETIRED, [dossier.id for dossier in dossiers])
        firsts = [c.id for each in dossiers for c in each.copies if c.route.source == each.source]
        log.announce(Step.RETIRED, firsts, "", sources={dossier.source for dossier in dossiers})
