"""The embedded scoreboard: keys that expire by the database's clock, and the list of forwarders in the same table."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import board
from skystow.adapters.ledger.values import hashed, plain
from skystow.ports.talk import Listed

_B = board.c
_THIS = _B.hash == sa.bindparam("which", type_=_B.hash.type)
ALIVE = sa.select(_B.expires_at).where(_THIS)
FIRST = sa.select(_B.id, _B.key, _B.value).where(_B.expires_at.is_(None)).order_by(_B.id).limit(1)
EXPIRED = sa.delete(board).where(_B.expires_at <= sa.bindparam("now"))
_FORGET = sa.delete(board).where(_THIS)
_TAKE = sa.delete(board).where(_B.id == sa.bindparam("taken"))
_CHANGE = (
    sa.update(board)
    .where(_THIS)
    .values(value=sa.bindparam("said"), expires_at=sa.bindparam("until", type_=sa.BigInteger))
)
_MICROS = 1_000_000


class EmbeddedBoard:
    """See `skystow.ports.talk.Scoreboard`. What has expired is deleted when it is looked at, or by the next beat."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, name: str, address: str, presence_key: str) -> None:
        _register(self._database, name, address, presence_key)

    def pop(self) -> Listed | None:
        with self._database.reading() as connection:  # an empty list costs no write lock
            if connection.execute(FIRST).first() is None:
                return None
        return _pop(self._database)

    def beat(self, key: str, value: str, seconds: float) -> None:
        _beat(self._database, key, value, seconds)

    def alive(self, key: str) -> bool:
        with self._database.reading() as connection:
            until = connection.execute(ALIVE, {"which": _key(key)}).scalar()
            now = self._database.now(connection)
        if until is None:
            return False
        if until <= now:
            _sweep(self._database)
        return bool(until > now)

    def forget(self, key: str) -> None:
        _forget(self._database, key)


def _key(key: str) -> bytes:
    return hashed("key", key)


@whole
def _register(database: Database, name: str, address: str, presence_key: str) -> None:
    entry = json.dumps([name, address, presence_key])  # ASCII: whatever text it is, it comes back
    with database.writing() as connection:
        _put(connection, hashed("list", name), name, entry, None)


@whole
def _beat(database: Database, key: str, value: str, seconds: float) -> None:
    with database.writing() as connection:
        now = database.now(connection)
        connection.execute(EXPIRED, {"now": now})
        _put(connection, _key(key), key, plain(value), now + round(seconds * _MICROS))


def _put(connection: sa.Connection, which: bytes, key: str, said: str, until: int | None) -> None:
    if connection.execute(_CHANGE, {"which": which, "said": said, "until": until}).rowcount == 0:
        row: dict[str, Any] = {"hash": which, "key": plain(key), "value": said, "expires_at": until}
        connection.execute(sa.insert(board), row)


@whole
def _pop(database: Database) -> Listed | None:
    with database.writing() as connection:
        # On a server another may delete the row between our look and our take: then we look again.
        while (row := connection.execute(FIRST).first()) is not None:
            if connection.execute(_TAKE, {"taken": row.id}).rowcount == 1:
                return Listed(*json.loads(row.value))
    return None


@whole
def _sweep(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(EXPIRED, {"now": database.now(connection)})


@whole
def _forget(database: Database, key: str) -> None:
    with database.writing() as connection:
        connection.execute(_FORGET, {"which": _key(key)})
