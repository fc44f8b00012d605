"""The OODS's table of files in SQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.among import among, among_hashes
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import frames
from skystow.adapters.ledger.values import chunks, clamped, hashed, maybe_moment, path_of, plain
from skystow.errors import Conflict
from skystow.model.records import Digest, path_bytes, shown
from skystow.ports.image import Frame

_F = frames.c
_IDS = among(_F.id, "ids")
KNOWN = sa.select(_F.id, _F.path_hash, _F.algorithm, _F.hex, _F.expired_at).where(among_hashes(_F.path_hash, "hashes"))
EXPIRABLE = (
    sa.select(frames)
    .where(_F.expired_at.is_(None), _F.ingested_at >= sa.bindparam("since"), _F.ingested_at < sa.bindparam("until"))
    .where(sa.or_(_F.ingested_at > sa.bindparam("since"), _F.id > sa.bindparam("after")))
    .order_by(_F.ingested_at, _F.id)
    .limit(sa.bindparam("most"))
)
_CURSOR = sa.select(_F.ingested_at).where(_F.id == sa.bindparam("after"))
_REVIVE = sa.update(frames).where(_IDS).values(expired_at=None, reason=None, ingested_at=sa.bindparam("now"))
_EXPIRE = (
    sa.update(frames)
    .where(_IDS, _F.expired_at.is_(None))
    .values(expired_at=sa.bindparam("now"), reason=sa.bindparam("why"))
)


class SqlCatalogue:
    """See `skystow.ports.image.Catalogue`. `ingested_at` is when a file was registered here, and again when it came
    back after it had expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, frames: Sequence[Frame]) -> int:
        return _register(self._database, frames) if frames else 0

    def find(
        self,
        *,
        day_obs: int | None = None,
        obsid: str | None = None,
        raft: str | None = None,
        sensor: str | None = None,
        path: PurePosixPath | None = None,
        expired: bool = False,
        after: int = 0,
        limit: int = 1000,
    ) -> Sequence[tuple[int, Frame]]:
        query = sa.select(frames).where(_F.id > after).order_by(_F.id).limit(limit)
        wanted = {
            _F.day_obs: day_obs,
            _F.obsid_hash: None if obsid is None else hashed(obsid),
            _F.raft: None if raft is None else plain(raft),
            _F.sensor: None if sensor is None else plain(sensor),
            _F.path_hash: None if path is None else _name(path),
        }
        query = query.where(*(column == value for column, value in wanted.items() if value is not None))
        if not expired:
            query = query.where(_F.expired_at.is_(None))
        with self._database.reading() as connection:
            return [(row.id, _frame(row)) for row in connection.execute(query)]

    def expirable(self, *, older_than: float, after: int, limit: int) -> Sequence[tuple[int, Frame]]:
        with self._database.reading() as connection:
            until = self._database.now(connection) - round(older_than * 1e6)
            since = connection.execute(_CURSOR, {"after": after}).scalar() or 0
            page = {"until": until, "since": since, "after": after, "most": limit}
            return [(row.id, _frame(row)) for row in connection.execute(EXPIRABLE, page)]

    def expired(self, ids: Sequence[int], reason: str) -> None:
        if ids:
            _expire(self._database, ids, plain(reason))


def _name(path: PurePosixPath) -> bytes:
    return hashed(path_bytes(path).hex())


@whole
def _register(database: Database, new: Sequence[Frame]) -> int:
    named = {_name(frame.path): frame for frame in new}
    with database.writing() as connection:
        at = database.now(connection)
        known = {row.path_hash: row for some in chunks(named) for row in connection.execute(KNOWN, {"hashes": some})}
        for frame in new:
            row, other = known.get(_name(frame.path)), named[_name(frame.path)].digest
            there = other if row is None else Digest(row.algorithm, row.hex)
            if there != frame.digest:
                text = f"{shown(frame.path)} is known with {there}, and now has {frame.digest}"
                raise Conflict(text, remedy="look which of them is right; nothing was changed")
        if fresh := [_row(name, frame, at) for name, frame in named.items() if name not in known]:
            connection.execute(sa.insert(frames), fresh)
        for some in chunks(row.id for row in known.values() if row.expired_at is not None):
            connection.execute(_REVIVE, {"ids": some, "now": at})
    return len(fresh)


@whole
def _expire(database: Database, ids: Sequence[int], reason: str) -> None:
    with database.writing() as connection:
        at = database.now(connection)
        for some in chunks(ids):
            connection.execute(_EXPIRE, {"ids": some, "now": at, "why": reason})


def _row(name: bytes, frame: Frame, at: int) -> dict[str, Any]:
    return {
        "path_hash": name,
        "path": path_bytes(frame.path),
        "obsid_hash": hashed(frame.obsid),
        "obsid": plain(frame.obsid),
        "day_obs": clamped(frame.day_obs),
        "seq_num": clamped(frame.seq_num),
        "raft": plain(frame.raft),
        "sensor": plain(frame.sensor),
        "filter": plain(frame.filter),
        "exposure_time": frame.exposure_time if math.isfinite(frame.exposure_time) else None,
        "size": clamped(frame.size),
        "algorithm": frame.digest.algorithm,
        "hex": frame.digest.hex,
        "ingested_at": at,
    }


def _frame(row: Any) -> Frame:
    return Frame(
        obsid=row.obsid,
        day_obs=row.day_obs,
        seq_num=row.seq_num,
        raft=row.raft,
        sensor=row.sensor,
        filter=row.filter,
        exposure_time=math.nan if row.exposure_time is None else row.exposure_time,
        path=path_of(row.path),
        size=row.size,
        digest=Digest(row.algorithm, row.hex),
        ingested_at=maybe_moment(row.ingested_at),
        expired_at=maybe_moment(row.expired_at),
    )
