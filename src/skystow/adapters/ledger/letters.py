"""Dead letters: what sources have and what cannot be admitted. And who this ledger is."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import dead_letters, identity, parcels
from skystow.adapters.ledger.values import chunks, moment, name_key, plain
from skystow.model.records import DeadLetter

_L = dead_letters.c
_OF_KEYS = _L.name_key.in_(sa.bindparam("keys", expanding=True))
_KNOWN = sa.select(_L.name_key, _L.key).where(_OF_KEYS)
_BURY = sa.insert(dead_letters)
_SAY_ANEW = sa.update(dead_letters).where(_L.name_key == sa.bindparam("known")).values(reason=sa.bindparam("said"))
_EXHUME = sa.delete(dead_letters).where(_OF_KEYS)
_GIVE_AGAIN = sa.update(parcels).where(among(parcels.c.id, "ids")).values(unreadable=False)

EMBEDDED = "embedded bus"
"""Source of dead letters that are messages on the bus; no source of a site can have a name with a blank. The key is the
parcel's number: what is exhumed is given out again."""


@whole
def bury(database: Database, letters: Sequence[DeadLetter]) -> int:
    """See `Ledger.bury`."""
    if not letters:
        return 0
    with database.writing() as connection:
        return inter(connection, letters, database.now(connection))


def inter(connection: sa.Connection, letters: Sequence[DeadLetter], at: int) -> int:
    """`bury`, in a transaction of somebody else."""
    named = {name_key(letter.source, letter.key): letter for letter in letters}
    known = {row.name_key for some in chunks(named) for row in connection.execute(_KNOWN, {"keys": some})}
    fresh = [
        {"name_key": name, "source": each.source, "key": each.key, "at": at, "reason": plain(each.reason)}
        for name, each in named.items()
        if name not in known
    ]
    if fresh:
        connection.execute(_BURY, fresh)
    if known:
        said = [{"known": name, "said": plain(named[name].reason)} for name in named if name in known]
        connection.execute(_SAY_ANEW, said)
    return len(fresh)


def buried(database: Database, source: str, keys: Sequence[bytes]) -> set[bytes]:
    """See `Ledger.buried`."""
    names = [name_key(source, key) for key in keys]
    with database.reading() as connection:
        return {row.key for some in chunks(names) for row in connection.execute(_KNOWN, {"keys": some})}


def page(database: Database, *, after: int, limit: int, source: str | None) -> list[DeadLetter]:
    """See `Ledger.dead_letters`."""
    query = sa.select(dead_letters).where(_L.id > after).order_by(_L.id).limit(limit)
    if source is not None:
        query = query.where(_L.source == source)
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [DeadLetter(row.source, row.key, row.reason, row.id, moment(row.at)) for row in rows]


@whole
def exhume(database: Database, letters: Sequence[DeadLetter]) -> int:
    """See `Ledger.exhume`."""
    names = {name_key(letter.source, letter.key) for letter in letters}
    messages = [int(letter.key) for letter in letters if letter.source == EMBEDDED]
    with database.writing() as connection:
        for some in chunks(messages):
            connection.execute(_GIVE_AGAIN, {"ids": some})
        return sum(connection.execute(_EXHUME, {"keys": some}).rowcount for some in chunks(names))


@whole
def who(database: Database) -> str:
    """See `Ledger.identity`; made by whoever asks first."""
    query = sa.select(identity.c.digits).where(identity.c.one == 1)
    with database.reading() as connection:
        found = connection.execute(query).scalar()
    if found is None:
        found = secrets.token_hex(16)
        with database.writing() as connection:
            connection.execute(sa.insert(identity), {"one": 1, "digits": found})
    return str(found)
