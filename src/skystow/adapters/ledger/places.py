"""Places: what their names stand for, and how they are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import places
from skystow.adapters.ledger.values import maybe_moment, micros, moment, plain
from skystow.model.records import Health, path_bytes, path_text

_OF_NAME = places.c.name == sa.bindparam("place")
_KNOWN = sa.select(places.c.name).where(_OF_NAME).with_for_update()
_HEALTHS = sa.select(places).where(places.c.since.is_not(None)).order_by(places.c.name)
_ROOTS = sa.select(places.c.name, places.c.root).where(places.c.root.is_not(None)).order_by(places.c.name)


def note(database: Database, name: str, root: str) -> None:
    """See `Ledger.note_place`."""
    _write(database, name, {"root": path_bytes(root)})


def report(database: Database, health: Health) -> None:
    """See `Ledger.report`."""
    probe = None if health.next_probe is None else micros(health.next_probe)
    since, reason = micros(health.since), plain(health.reason)
    _write(database, health.place, {"well": health.well, "since": since, "reason": reason, "next_probe": probe})


@whole
def _write(database: Database, name: str, values: dict[str, Any]) -> None:
    with database.writing() as connection:
        if connection.execute(_KNOWN, {"place": name}).first() is None:
            connection.execute(sa.insert(places).values(name=name, **values))
        else:
            connection.execute(sa.update(places).where(_OF_NAME).values(values), {"place": name})


def healths(database: Database) -> list[Health]:
    """See `Ledger.healths`."""
    with database.reading() as connection:
        rows = connection.execute(_HEALTHS).all()
    return [Health(r.name, r.well, moment(r.since), r.reason or "", maybe_moment(r.next_probe)) for r in rows]


def roots(database: Database) -> dict[str, str]:
    """See `Ledger.places`."""
    with database.reading() as connection:
        return {row.name: path_text(row.root) for row in connection.execute(_ROOTS)}
