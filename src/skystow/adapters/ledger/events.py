"""The event log and the outbox: what happened to which file, and what the world should hear of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import arrivals, events, files, notices, transfers
from skystow.adapters.ledger.values import chunks, digest_of, moment, path_of, plain
from skystow.model.records import Notice, path_text, shown
from skystow.model.transfer import State, Step

_AT = sa.bindparam("at", type_=sa.BigInteger)
_STEP = sa.bindparam("step", type_=sa.String)
_WORKER = sa.bindparam("worker", type_=sa.BigInteger)
_TEXT = sa.bindparam("said", type_=sa.Text)
_T = transfers.c
_SOURCE = sa.bindparam("whose", type_=arrivals.c.source.type)
_COLUMNS = ("at", "arrival_id", "transfer_id", "step", "worker_id", "digest", "text")


def _log_of_transfers(which: sa.ColumnElement[bool], digest: Any = None) -> sa.Insert:
    """One event for each transfer, without a row crossing into Python."""
    proof = sa.literal(None, sa.String) if digest is None else digest
    of = sa.select(_AT, transfers.c.arrival_id, transfers.c.id, _STEP, _WORKER, proof, _TEXT)
    return sa.insert(events).from_select(_COLUMNS, of.where(which))


_IDS = among(transfers.c.id, "ids")
_OF_TOKEN = _log_of_transfers(transfers.c.token == sa.bindparam("token"))
_OF_IDS = _log_of_transfers(_IDS)
_WITH_DIGEST = _log_of_transfers(_IDS, transfers.c.algorithm + ":" + transfers.c.hex)
_OF_ARRIVALS = sa.insert(events).from_select(
    ("at", "arrival_id", "step", "worker_id", "digest"),
    sa.select(
        *(_AT, arrivals.c.id, _STEP, _WORKER, arrivals.c.claimed_algorithm + ":" + arrivals.c.claimed_hex),
    ).where(among(arrivals.c.id, "ids")),
)
_ONE = sa.insert(events)
_told = sa.select(
    _AT, sa.bindparam("who", type_=notices.c.audience.type), _STEP, transfers.c.id, sa.func.coalesce(_TEXT, _T.error)
).where(_IDS)
_TOLD = ("at", "audience", "kind", "transfer_id", "text")
_NOTICES = sa.insert(notices).from_select(_TOLD, _told)
_NOTICES_OF_SOURCE = sa.insert(notices).from_select(
    _TOLD, _told.join_from(transfers, arrivals, _T.arrival_id == arrivals.c.id).where(arrivals.c.source == _SOURCE)
)

_UNSENT = (
    sa.select(
        *(notices.c.id, notices.c.at, notices.c.kind, notices.c.text),
        *(_T.arrival_id, _T.destination, _T.state, _T.size, _T.attempts, _T.algorithm, _T.hex),
        *(arrivals.c.source, arrivals.c.key, arrivals.c.origin, files.c.archive, files.c.path),
    )
    .join_from(notices, transfers, notices.c.transfer_id == transfers.c.id)
    .join(arrivals, transfers.c.arrival_id == arrivals.c.id)
    .join(files, transfers.c.file_id == files.c.id)
    .where(notices.c.audience == sa.bindparam("who"), notices.c.sent_at.is_(None))
    .order_by(notices.c.id)
    .limit(sa.bindparam("most"))
)
_SENT = sa.update(notices).where(among(notices.c.id, "ids")).values(sent_at=sa.bindparam("now"))


class Log:
    """Writes events and notices within a transaction of somebody else, at one time, for one worker."""

    def __init__(self, database: Database, connection: sa.Connection, worker_id: int) -> None:
        self.connection, self.worker_id = connection, worker_id
        self.at, self.audiences = database.now(connection), database.audiences

    def claim(self, token: str) -> None:
        self.connection.execute(_OF_TOKEN, self._common(Step.CLAIMED) | {"token": token, "said": None})

    def arrivals(self, step: Step, ids: Iterable[int]) -> None:
        for some in chunks(ids):
            self.connection.execute(_OF_ARRIVALS, self._common(step) | {"ids": some})

    def transfers(self, step: Step, ids: Iterable[int], text: str = "", *, digests: bool = False) -> None:
        common = self._common(step) | {"said": plain(text) or None}
        for some in chunks(ids):
            self.connection.execute(_WITH_DIGEST if digests else _OF_IDS, common | {"ids": some})

    def say(self, step: Step, said: Sequence[tuple[int, int | None, str]]) -> None:
        """(arrival, transfer, text) of each."""
        common = {"at": self.at, "step": step.value, "worker_id": self.worker_id, "digest": None}
        rows = [common | {"arrival_id": a, "transfer_id": t, "text": plain(text) or None} for a, t, text in said]
        if rows:
            self.connection.execute(_ONE, rows)

    def announce(
        self, step: Step, ids: Iterable[int], text: str | None = None, *, sources: Collection[str] | None = None
    ) -> None:
        """A notice for each transfer and who wants to know, in the transaction of what it tells; without a text, with
        its last error. `sources`: where they all came from, where that is known."""
        numbers, said = list(ids), None if text is None else plain(text)
        for audience in self.audiences:
            if step not in audience.steps or (sources is not None and audience.source not in (None, *sources)):
                continue
            told = {"at": self.at, "step": step.value, "said": said, "who": audience.name, "whose": audience.source}
            insert = _NOTICES if audience.source is None else _NOTICES_OF_SOURCE
            for some in chunks(numbers):
                self.connection.execute(insert, told | {"ids": some})

    def _common(self, step: Step) -> dict[str, Any]:
        return {"at": self.at, "step": step.value, "worker": self.worker_id}


def unsent(database: Database, limit: int, audience: str) -> list[Notice]:
    with database.looking() as connection:
        rows = connection.execute(_UNSENT, {"most": limit, "who": audience}).all()
    return [Notice(row.id, moment(row.at), row.kind, _body(row), row.key, path_of(row.path)) for row in rows]


def _body(row: Any) -> dict[str, str | int | None]:
    digest = digest_of(row.algorithm, row.hex) if row.state is State.DONE else None  # before: only promised
    return {
        "arrival": row.arrival_id,
        "source": row.source,
        "origin": shown(path_text(row.origin)),
        "archive": row.archive,
        "path": shown(path_text(row.path)),
        "destination": row.destination,
        "digest": str(digest) if digest else None,
        "size": row.size,
        "attempts": row.attempts,
        "text": row.text or "",
    }


@whole
def mark_sent(database: Database, told: Sequence[Notice]) -> None:
    if told:
        with database.writing() as connection:
            at = database.now(connection)
            for some in chunks(notice.id for notice in told):
                connection.execute(_SENT, {"ids": some, "now": at})
