"""Conversations in SQL: steps, milestones, small facts. What a message brought about is written in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger import letters, mail
from skystow.adapters.ledger.among import among_hashes
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import kept, milestones, steps, talks
from skystow.adapters.ledger.values import chunks, clamped, hashed, micros, moment, plain
from skystow.errors import BadName, SchemaMismatch
from skystow.model.acts import Bury, Mark, Milestone, Note, Say
from skystow.model.messages import Message, day_and_number
from skystow.model.packing import read, written
from skystow.ports.talk import Line

_T, _S, _M = talks.c, steps.c, milestones.c
_HALF_A_DAY = timedelta(hours=12)


def _known(hash_: sa.Column[Any], *columns: sa.Column[Any]) -> sa.Select[Any]:
    return sa.select(hash_, *columns).where(among_hashes(hash_, "hashes"))


TALKS = _known(_T.hash, _T.id, _T.closed_at)
KNOWN_STEPS = _known(_S.hash)
KNOWN_MARKS = _known(_M.hash)
DAYS_OF = _known(_M.obsid_hash, _M.day_obs).distinct()
OPEN_STEPS = (
    sa.select(_S.at, _S.kind, _S.body)
    .join_from(talks, steps, _S.talk_id == _T.id)
    .where(_T.component == sa.bindparam("whose"), _T.closed_at.is_(None))
    .order_by(_S.id)
)
_CLOSE = (
    sa.update(talks).where(_T.id == sa.bindparam("which")).values(closed_at=sa.bindparam("closed", type_=sa.BigInteger))
)
OF_DAY = sa.select(milestones).where(_M.day_obs == sa.bindparam("day")).order_by(_M.id)
OF_OBSID = sa.select(milestones).where(_M.obsid_hash == sa.bindparam("image", type_=_M.obsid_hash.type)).order_by(_M.id)
DAY_BEFORE = sa.select(sa.func.max(_M.day_obs)).where(_M.day_obs < sa.bindparam("day"))
_KEPT = sa.select(kept.c.field, kept.c.value).where(kept.c.component == sa.bindparam("whose"))
_KEEP = (
    sa.update(kept)
    .where(kept.c.component == sa.bindparam("whose"), kept.c.field == sa.bindparam("which"))
    .values(value=sa.bindparam("said"))
)


class SqlTalks:
    """See `skystow.ports.talk.Talks`. A note whose step is known already writes nothing, and does not open a closed
    talk again; any other that does not close it, does. `broker`: what is said lies in outboxes, for a broker."""

    def __init__(self, database: Database, *, broker: bool = False) -> None:
        self._database, self._broker = database, broker

    def converse(
        self,
        component: str,
        *,
        notes: Sequence[Note] = (),
        says: Sequence[Say] = (),
        marks: Sequence[Mark] = (),
        buries: Sequence[Bury] = (),
        keep: Mapping[str, str] | None = None,
    ) -> None:
        if notes or says or marks or buries or keep:
            _converse(self._database, component, notes, says, marks, buries, keep or {}, self._broker)

    def steps(self, component: str) -> Sequence[tuple[datetime, Message]]:
        """Raises `SchemaMismatch` where a later skystow wrote a step that we cannot read: to go on without it would
        lose what was under way."""
        with self._database.reading() as connection:
            rows = connection.execute(OPEN_STEPS, {"whose": component}).all()
        try:
            return [(moment(row.at), read(row.kind, row.body)) for row in rows]
        except BadName as error:
            remedy = "a newer skystow wrote it: use that one"
            raise SchemaMismatch(f"a step of {component} cannot be read ({error})", remedy=remedy) from error

    def keep(self, component: str, values: Mapping[str, str]) -> None:
        self.converse(component, keep=values)

    def kept(self, component: str) -> Mapping[str, str]:
        with self._database.reading() as connection:
            return {row.field: row.value for row in connection.execute(_KEPT, {"whose": component})}

    def lines(self, *, day_obs: int | None = None, obsid: str | None = None) -> Sequence[Line]:
        if obsid is None and day_obs is None:
            raise ValueError("the lines of which day, or of which exposure?")
        query, of = (OF_DAY, {"day": day_obs}) if obsid is None else (OF_OBSID, {"image": hashed(obsid)})
        with self._database.reading() as connection:
            rows = [row for row in connection.execute(query, of) if day_obs in (None, row.day_obs)]
        lines = [Line(r.obsid, Milestone(r.what), r.detector, moment(r.at), r.number, r.text) for r in rows]
        return sorted(lines, key=lambda line: (line.obsid, line.at))

    def days(self) -> Sequence[int]:
        """One look at the index for each day, however many lines a day has."""
        found: list[int] = []
        with self._database.reading() as connection:
            before: int | None = 2**31 - 1
            while (before := connection.execute(DAY_BEFORE, {"day": before}).scalar()) is not None:
                found.append(before)
        return found


@whole
def _converse(
    database: Database,
    component: str,
    notes: Sequence[Note],
    says: Sequence[Say],
    marks: Sequence[Mark],
    buries: Sequence[Bury],
    facts: Mapping[str, str],
    broker: bool,
) -> None:
    with database.writing() as connection:
        at = database.now(connection)
        _note(connection, component, notes, at)
        mail.post(connection, component, says, at, broker=broker)
        _mark(connection, marks, at)
        if buries:
            letters.inter(connection, [bury.letter for bury in buries], at)
        _keep(connection, component, facts)


def _note(connection: sa.Connection, component: str, notes: Sequence[Note], at: int) -> None:
    of = _talks(connection, component, {note.message.key for note in notes}, at)
    rows: dict[bytes, dict[str, Any]] = {}
    written_: list[tuple[Note, bytes]] = []
    for note in notes:
        talk, (kind, body) = of[note.message.key].id, written(note.message)
        step = hashed(talk, kind, body)
        rows.setdefault(step, {"hash": step, "talk_id": talk, "at": at, "kind": kind, "body": body})
        written_.append((note, step))
    known = _those(connection, KNOWN_STEPS, rows)
    if fresh := [row for step, row in rows.items() if step not in known]:
        connection.execute(sa.insert(steps), fresh)
    closed = {row.id: row.closed_at for row in of.values()}
    before = dict(closed)
    for note, step in written_:
        if note.closes:
            closed[of[note.message.key].id] = at
        elif step not in known:
            closed[of[note.message.key].id] = None
    if changed := [{"which": talk, "closed": when} for talk, when in closed.items() if when != before[talk]]:
        connection.execute(_CLOSE, changed)


def _talks(connection: sa.Connection, component: str, keys: set[str], at: int) -> dict[str, Any]:
    """The rows of these conversations, made where there are none."""
    hashes = {key: hashed(component, key) for key in keys}
    found = {row.hash: row for some in chunks(hashes.values()) for row in connection.execute(TALKS, {"hashes": some})}
    new = [
        {"hash": hash_, "component": component, "key": plain(key), "began_at": at}
        for key, hash_ in hashes.items()
        if hash_ not in found
    ]
    if new:
        connection.execute(sa.insert(talks), new)
        for some in chunks(row["hash"] for row in new):
            found |= {row.hash: row for row in connection.execute(TALKS, {"hashes": some})}
    return {key: found[hash_] for key, hash_ in hashes.items()}


def _those(connection: sa.Connection, query: sa.Select[Any], hashes: Mapping[bytes, Any]) -> set[bytes]:
    return {row.hash for some in chunks(hashes) for row in connection.execute(query, {"hashes": some})}


def _mark(connection: sa.Connection, marks: Sequence[Mark], at: int) -> None:
    rows: dict[bytes, dict[str, Any]] = {}
    for mark in marks:
        more = (mark.number, mark.text) if mark.what is Milestone.FAULT else ()
        hash_ = hashed(mark.obsid, mark.detector, mark.what, *more)
        row: dict[str, Any] = {
            "hash": hash_,
            "obsid_hash": hashed(mark.obsid),
            "obsid": plain(mark.obsid),
            "what": mark.what.value,
        }
        row |= {"detector": plain(mark.detector), "number": clamped(mark.number), "text": plain(mark.text)}
        rows.setdefault(hash_, row | {"at": at if mark.at is None else micros(mark.at)})
    known = _those(connection, KNOWN_MARKS, rows)
    if fresh := [row for hash_, row in rows.items() if hash_ not in known]:
        _date(connection, fresh)
        connection.execute(sa.insert(milestones), fresh)


def _date(connection: sa.Connection, fresh: Sequence[dict[str, Any]]) -> None:
    """Give each its observing day: what the name says, else that of the exposure's first milestone."""
    nameless: dict[bytes, int] = {}
    hashes = {row["obsid_hash"] for row in fresh if day_and_number(row["obsid"]) is None}
    for some in chunks(hashes):
        nameless |= {row.obsid_hash: row.day_obs for row in connection.execute(DAYS_OF, {"hashes": some})}
    for row in fresh:
        named = day_and_number(row["obsid"])
        night = int(f"{moment(row['at']) - _HALF_A_DAY:%Y%m%d}")
        row["day_obs"] = named[0] if named else nameless.setdefault(row["obsid_hash"], night)


def _keep(connection: sa.Connection, component: str, facts: Mapping[str, str]) -> None:
    if not facts:
        return
    known = {row.field for row in connection.execute(_KEPT, {"whose": component})}
    if old := [{"whose": component, "which": f, "said": plain(v)} for f, v in facts.items() if f in known]:
        connection.execute(_KEEP, old)
    if new := [{"component": component, "field": f, "value": plain(v)} for f, v in facts.items() if f not in known]:
        connection.execute(sa.insert(kept), new)
