"""Admission: from here on a file is ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.among import among, among_hashes
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.events import Log
from skystow.adapters.ledger.schema import FOREVER, arrivals, files, transfers
from skystow.adapters.ledger.values import chunks, clamped, file_key, looks, lookup, name_key, storable
from skystow.model.records import Arrival, Fingerprint, path_bytes
from skystow.model.transfer import TRANSITIONS, Destination, RetryPolicy, State, Step, spent_before
from skystow.ports import Admission

_FINGERPRINT = (arrivals.c.size, arrivals.c.mtime_ns, arrivals.c.inode, arrivals.c.ctime_ns)
_LATEST = (
    sa.select(arrivals.c.id, arrivals.c.name_key, arrivals.c.version, arrivals.c.file_id, *_FINGERPRINT)
    .where(among_hashes(arrivals.c.name_key, "keys"))
    .order_by(arrivals.c.version)
)
_MADE = sa.select(arrivals.c.id, arrivals.c.name_key, arrivals.c.version).where(
    among_hashes(arrivals.c.name_key, "keys")
)
_COPIES = (
    sa.select(
        *(transfers.c.id, transfers.c.arrival_id, transfers.c.destination, transfers.c.upstream, transfers.c.state),
        transfers.c.hex.label("promised"),
    )
    .where(among(transfers.c.arrival_id, "ids"))
    .order_by(transfers.c.id)
)
_LOCKED = (_LATEST.with_for_update(), _COPIES.with_for_update())
"""The same, held until the transaction ends: what decides about a name must not change before it is written down."""
_FILES = sa.select(files.c.key, files.c.id).where(among_hashes(files.c.key, "keys"))
_NEW_FILE = sa.insert(files)
_NEW_ARRIVAL = sa.insert(arrivals)

_REFRESH = (
    sa.update(arrivals)
    .where(arrivals.c.id == sa.bindparam("arrival"))
    .values({c: sa.bindparam(f"new_{c.name}") for c in (*_FINGERPRINT, arrivals.c.file_id)})
    .values({c: sa.bindparam(f"new_{c.name}") for c in (arrivals.c.claimed_algorithm, arrivals.c.claimed_hex)})
)
# A claim on the old content is fenced off: it has promised nothing yet, and now never will.
_FREE = {"token": None, "worker_id": None, "batch": 0}
_REFRESH_COPIES = (
    sa.update(transfers)
    .where(transfers.c.arrival_id == sa.bindparam("arrival"))
    .values(_FREE | {"file_id": sa.bindparam("file")})
)
_REFRESH_FIRST = (
    sa.update(transfers)
    .where(transfers.c.arrival_id == sa.bindparam("arrival"), transfers.c.upstream.is_(None))
    .values(wake_at=0, size=sa.bindparam("bytes"))
)
_SUPERSEDE = (
    sa.update(transfers).where(among(transfers.c.id, "ids")).values(_FREE | {"state": State.CANCELLED, "wake_at": 0})
)
_SPENT = sa.select(transfers.c.id, transfers.c.arrival_id, transfers.c.attempts).where(
    among(transfers.c.arrival_id, "ids"),
    transfers.c.upstream.is_(None),
    transfers.c.attempts >= sa.bindparam("limit"),
)
_QUARANTINE = (
    sa.update(transfers)
    .where(transfers.c.id == sa.bindparam("transfer"))
    .values(state=State.QUARANTINED, wake_at=0, fault=sa.bindparam("code"), error=sa.bindparam("said"))
)
_SUPERSEDABLE = {state for state, step in TRANSITIONS if step is Step.SUPERSEDED}

_Query = sa.Select[Any]
_Names = dict[bytes, Arrival]
"""By the key of their names: a batch in which none occurs twice."""


@dataclass
class _Sorted:
    """A batch, by what the ledger knows of each name."""

    known: Counter[State] = field(default_factory=Counter)
    fresh: list[tuple[bytes, Arrival, int]] = field(default_factory=list)
    """With its name's key, and the version that it is to be."""
    refreshed: list[tuple[Arrival, int]] = field(default_factory=list)
    """With the id that it has."""
    superseded: list[tuple[int, int]] = field(default_factory=list)
    """(arrival, transfer)"""


@whole
def admit(
    database: Database,
    worker_id: int,
    policy: RetryPolicy,
    batch: Sequence[Arrival],
    destinations: Sequence[Destination],
) -> Admission:
    """See `Ledger.admit`. A sweep that finds nothing new takes no write lock."""
    ordered = _upstream_first(destinations)
    known: Counter[State] = Counter()
    unsettled: list[_Names] = []
    with database.looking() as connection:
        for names in _without_repeats(batch):
            found = _sort(connection, names)
            changed = {id(arrival) for _, arrival, _ in found.fresh} | {id(arrival) for arrival, _ in found.refreshed}
            unsettled.append({key: arrival for key, arrival in names.items() if id(arrival) in changed})
            known += found.known
    admitted = refreshed = 0
    if any(unsettled):
        with database.writing() as connection:
            log = Log(database, connection, worker_id)
            for names in unsettled:
                found = _sort(connection, names, *_LOCKED)
                _write_fresh(connection, log, policy, found.fresh, ordered)
                _write_refreshed(connection, log, found.refreshed)
                _write_superseded(connection, log, found.superseded)
                admitted += len(found.fresh)
                refreshed += len(found.refreshed)
                known += found.known
    return Admission(admitted, refreshed, dict(known))


def _upstream_first(destinations: Sequence[Destination]) -> list[Destination]:
    """Raises ValueError where one takes its bytes from none of them, or two from each other."""
    named = {destination.name: destination for destination in destinations}
    order = TopologicalSorter({d.name: [d.upstream] if d.upstream else [] for d in destinations})
    names = list(order.static_order())
    if unknown := [name for name in names if name not in named]:
        raise ValueError(f"a destination takes from {unknown[0]!r}, which is not there")
    return [named[name] for name in names]


def _without_repeats(batch: Sequence[Arrival]) -> Iterator[_Names]:
    """The batch in parts, in order, so that the second arrival of a name meets the first one in the ledger."""
    names: _Names = {}
    for arrival in batch:
        key = name_key(arrival.source, arrival.key)
        if key in names:
            yield names
            names = {}
        names[key] = arrival
    yield names


def _sort(connection: sa.Connection, keys: _Names, newest: _Query = _LATEST, of: _Query = _COPIES) -> _Sorted:
    latest = {row.name_key: row for some in chunks(keys) for row in connection.execute(newest, {"keys": some})}
    copies: dict[int, list[Any]] = {row.id: [] for row in latest.values()}
    for some in chunks(copies):
        for copy in connection.execute(of, {"ids": some}):
            copies[copy.arrival_id].append(copy)
    found = _Sorted()
    for key, arrival in keys.items():
        row = latest.get(key)
        if row is None:
            found.fresh.append((key, arrival, 1))
            continue
        mine = copies[row.id]
        first = next((copy for copy in mine if copy.upstream is None), None)
        then = Fingerprint(row.size, row.mtime_ns, row.inode, row.ctime_ns)
        if then.same_content(storable(arrival.fingerprint)):
            found.known[first.state if first else State.WAITING] += 1
        elif all(copy.state is State.WAITING and copy.promised is None for copy in mine):
            found.refreshed.append((arrival, row.id))
        else:
            found.fresh.append((key, arrival, row.version + 1))
            found.superseded += [(row.id, copy.id) for copy in _orphans(mine) if copy.state in _SUPERSEDABLE]
    return found


def _orphans(copies: Sequence[Any]) -> list[Any]:
    """Copies that never will be: those straight from the source that are not done, and all downstream of them. But
    what was promised may stand under its final name already, and then it is done; its next claim finds out."""
    orphans = [
        copy
        for copy in copies
        if copy.upstream is None
        and copy.state is not State.DONE
        and not (copy.state is State.WAITING and copy.promised)
    ]
    for orphan in orphans:  # grows while it is walked
        orphans += [copy for copy in copies if copy.upstream == orphan.destination]
    return orphans


def file_ids(connection: sa.Connection, wanted: Iterable[tuple[str, bytes]]) -> dict[tuple[str, bytes], int]:
    """The file of each (archive, path), made where there is none."""
    keys = {file_key(archive, path): (archive, path) for archive, path in wanted}
    found = _known_files(connection, keys)
    missing = [
        {"key": key, "archive": archive, "path": path, "path_hash": lookup(path)}
        for key, (archive, path) in keys.items()
        if key not in found
    ]
    if missing:
        connection.execute(_NEW_FILE, missing)
        found |= _known_files(connection, [row["key"] for row in missing])
    return {keys[key]: number for key, number in found.items()}


def _known_files(connection: sa.Connection, keys: Iterable[Any]) -> dict[bytes, int]:
    return {row.key: row.id for some in chunks(keys) for row in connection.execute(_FILES, {"keys": some})}


def _write_fresh(
    connection: sa.Connection,
    log: Log,
    policy: RetryPolicy,
    fresh: Sequence[tuple[bytes, Arrival, int]],
    destinations: Sequence[Destination],
) -> None:
    if not fresh:
        return
    ids = file_ids(connection, [(arrival.archive, path_bytes(arrival.path)) for _, arrival, _ in fresh])
    rows = []
    for key, arrival, version in fresh:
        origin, path = path_bytes(arrival.origin), path_bytes(arrival.path)
        rows.append(
            {
                "name_key": key,
                "version": version,
                "source": arrival.source,
                "key": arrival.key,
                "origin": origin,
                "origin_hash": lookup(origin),
                "file_id": ids[arrival.archive, path],
                "priority": arrival.priority,
                "rank": clamped(arrival.rank),
                "attempts": arrival.attempts,
                "admitted_at": log.at,
            }
            | looks(storable(arrival.fingerprint))
            | _claimed(arrival)
        )
    connection.execute(_NEW_ARRIVAL, rows)
    versions = {key: version for key, _, version in fresh}
    made = sorted(
        row.id
        for some in chunks(versions)
        for row in connection.execute(_MADE, {"keys": some})
        if row.version == versions[row.name_key]
    )
    for destination in destinations:
        insert = _new_transfers(destination)
        for some in chunks(made):
            connection.execute(insert, {"ids": some})
    log.arrivals(Step.ADMITTED, made)
    if any(arrival.attempts >= policy.max_attempts for _, arrival, _ in fresh):
        _write_spent(connection, log, policy, made)


def _write_spent(connection: sa.Connection, log: Log, policy: RetryPolicy, made: Sequence[int]) -> None:
    """Those that failed too often before, as their source counts, are not tried by us."""
    for some in chunks(made):
        rows = connection.execute(_SPENT, {"ids": some, "limit": policy.max_attempts}).all()
        reasons = [(row, spent_before(row.attempts)) for row in rows]
        if reasons:
            connection.execute(
                _QUARANTINE, [{"transfer": row.id, "code": why.code, "said": why.text} for row, why in reasons]
            )
        log.say(Step.QUARANTINED, [(row.arrival_id, row.id, why.text) for row, why in reasons])
        log.announce(Step.QUARANTINED, [row.id for row in rows])


def _claimed(arrival: Arrival) -> dict[str, str | None]:
    claimed = arrival.claimed
    algorithm, digits = (claimed.algorithm, claimed.hex) if claimed else (None, None)
    return {"claimed_algorithm": algorithm, "claimed_hex": digits}


def _new_transfers(destination: Destination) -> sa.Insert:
    """A transfer to one destination for each of some arrivals, made of what their rows say."""
    here, direct = arrivals.c, destination.upstream is None
    values: dict[str, Any] = {
        "arrival_id": here.id,
        "file_id": here.file_id,
        "source": here.source if direct else sa.literal(destination.upstream),
        "destination": sa.literal(destination.name),
        "upstream": sa.literal(destination.upstream, sa.String),
        "required": sa.literal(destination.required),
        "owned": sa.literal(destination.owned),
        "state": sa.literal(State.WAITING, transfers.c.state.type),
        "wake_at": sa.literal(0 if direct else FOREVER),
        "neg_priority": -here.priority,
        "rank": here.rank,
        "attempts": here.attempts if direct else sa.literal(0),
        "size": here.size if direct else sa.literal(None, sa.BigInteger),
    } | {name: sa.literal(0) for name in ("abandoned", "cap", "alone", "batch")}
    of = sa.select(*values.values()).where(among(here.id, "ids")).order_by(here.id)
    return sa.insert(transfers).from_select(list(values), of)


def _write_refreshed(connection: sa.Connection, log: Log, refreshed: Sequence[tuple[Arrival, int]]) -> None:
    if not refreshed:
        return
    ids = file_ids(connection, [(arrival.archive, path_bytes(arrival.path)) for arrival, _ in refreshed])
    looked, moved, sized = [], [], []
    for arrival, number in refreshed:
        seen, file = storable(arrival.fingerprint), ids[arrival.archive, path_bytes(arrival.path)]
        new = looks(seen) | _claimed(arrival) | {"file_id": file}
        looked.append({"arrival": number} | {f"new_{name}": value for name, value in new.items()})
        moved.append({"arrival": number, "file": file})
        sized.append({"arrival": number, "bytes": seen.size})
    connection.execute(_REFRESH, looked)
    connection.execute(_REFRESH_COPIES, moved)
    connection.execute(_REFRESH_FIRST, sized)
    log.arrivals(Step.REFRESHED, [number for _, number in refreshed])


def _write_superseded(connection: sa.Connection, log: Log, superseded: Sequence[tuple[int, int]]) -> None:
    for some in chunks(transfer for _, transfer in superseded):
        connection.execute(_SUPERSEDE, {"ids": some})
    log.say(Step.SUPERSEDED, [(*each, "a newer version of its source file took its turn") for each in superseded])
