"""The embedded bus: messages are rows until they are accepted, so that components in one process or in several talk
without a server. It is the outbox of conversations too: `post` writes in the transaction of what is said.

A parcel lies in a tray: its address, or, where a broker carries messages, the outbox of its sender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger import letters
from skystow.adapters.ledger.among import among
from skystow.adapters.ledger.database import Database, whole
from skystow.adapters.ledger.schema import parcels
from skystow.adapters.ledger.values import chunks, hashed, plain
from skystow.errors import BadName
from skystow.model.acts import Say
from skystow.model.messages import Message
from skystow.model.packing import spoken, written
from skystow.model.records import DeadLetter, shown
from skystow.ports.talk import OUTSIDE, Delivery, outbox

_P = parcels.c
_IDS = among(_P.id, "ids")
WAITING = (
    sa.select(_P.id, _P.address, _P.kind, _P.body, _P.sender)
    .where(_P.address_hash == sa.bindparam("whither", type_=_P.address_hash.type), _P.unreadable == sa.false())
    .order_by(_P.id)
    .limit(sa.bindparam("most"))
)
LATELY = 100
"""Parcels of a tray, set aside last, among which the same one is looked for. It comes again where we died, or the line
broke, before it was acknowledged; to compare with all would take for ever in a flood."""

_ASIDE = (
    sa.select(_P.id)
    .where(_P.address_hash == sa.bindparam("whither", type_=_P.address_hash.type), _P.unreadable == sa.true())
    .order_by(_P.id.desc())
    .limit(LATELY)
)
_SAME = sa.select(_P.body).where(
    _IDS, _P.kind == sa.bindparam("what"), _P.body == sa.bindparam("said", type_=_P.body.type)
)
_ACCEPT = sa.delete(parcels).where(_IDS)
_SET_ASIDE = sa.update(parcels).where(_IDS).values(unreadable=True)


Read = Callable[[str, str], Message]
"""A message of its kind and body. Raises `BadName`."""


class EmbeddedBus:
    """See `skystow.ports.talk.Bus`. `sender` is who publishes here, for those who look at the table. `read` makes a
    message of what is in a parcel; it raises `BadName`."""

    away = None

    def __init__(self, database: Database, sender: str = "", read: Read = spoken) -> None:
        self._database, self._sender, self._read = database, sender, read

    def publish(self, says: Sequence[Say]) -> None:
        if says:
            _put(self._database, self._sender, [(say.to, *written(say.message)) for say in says])

    def put(self, address: str, kind: str, body: str) -> None:
        """A message as its text."""
        _put(self._database, self._sender, [(address, kind, body)])

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        with self._database.looking() as connection:
            rows = connection.execute(WAITING, {"whither": hashed(address), "most": limit}).all()
        deliveries: list[Delivery] = []
        spoiled: list[tuple[int, DeadLetter]] = []
        for row in rows:
            try:
                deliveries.append(Delivery(row.id, self._read(row.kind, row.body), row.address))
            except BadName as error:
                spoiled.append((row.id, _dead(row, error)))
        if spoiled:
            _set_aside(self._database, spoiled)
        return deliveries

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            _accept(self._database, deliveries)

    def set_aside(self, tray: str, address: str, kind: str, body: str, reason: str) -> None:
        """A message that another bus could not use, as a dead letter; replayed, it is given out from `tray`. One that
        was laid there lately, byte by byte, is not laid there again."""
        _lay_aside(self._database, self._sender, tray, (address, kind, body), reason)


def post(connection: sa.Connection, sender: str, says: Sequence[Say], at: int, *, broker: bool = False) -> None:
    """Put messages on the bus in a transaction of somebody else; into the sender's outbox where a broker has them."""
    trays: dict[str | None, list[tuple[str, str, str]]] = {}
    for say in says:
        tray = outbox(sender) if broker and not say.to.startswith(OUTSIDE) else None
        trays.setdefault(tray, []).append((say.to, *written(say.message)))
    for tray, messages in trays.items():
        _insert(connection, sender, messages, at, tray)


def _insert(
    connection: sa.Connection,
    sender: str,
    messages: Sequence[tuple[str, str, str]],
    at: int,
    tray: str | None = None,
) -> None:
    common = {"sender": sender, "at": at, "unreadable": False}
    rows = [
        common | {"address_hash": hashed(tray or address), "address": plain(address), "kind": kind, "body": body}
        for address, kind, body in messages
    ]
    if rows:
        connection.execute(sa.insert(parcels), rows)


@whole
def _put(database: Database, sender: str, messages: Sequence[tuple[str, str, str]]) -> None:
    with database.writing() as connection:
        _insert(connection, sender, messages, database.now(connection))


@whole
def _accept(database: Database, deliveries: Sequence[Delivery]) -> None:
    with database.writing() as connection:
        for some in chunks(delivery.id for delivery in deliveries):
            connection.execute(_ACCEPT, {"ids": some})


@whole
def _set_aside(database: Database, spoiled: Sequence[tuple[int, DeadLetter]]) -> None:
    with database.writing() as connection:
        letters.inter(connection, [letter for _, letter in spoiled], database.now(connection))
        for some in chunks(number for number, _ in spoiled):
            connection.execute(_SET_ASIDE, {"ids": some})


@whole
def _lay_aside(database: Database, sender: str, tray: str, parcel: tuple[str, str, str], reason: str) -> None:
    address, kind, body = parcel
    with database.writing() as connection:
        at, lately = database.now(connection), connection.execute(_ASIDE, {"whither": hashed(tray)}).scalars().all()
        for some in chunks(lately):
            if body in connection.execute(_SAME, {"ids": some, "what": kind, "said": body}).scalars().all():
                return
        row: dict[str, Any] = {"address_hash": hashed(tray), "address": plain(address), "sender": sender}
        row |= {"kind": kind, "body": body, "at": at, "unreadable": True}
        number: Any = connection.execute(sa.insert(parcels), row).inserted_primary_key
        letter = DeadLetter(letters.EMBEDDED, b"%d" % number[0], reason)
        letters.inter(connection, [letter], at)


def _dead(row: Any, error: BadName) -> DeadLetter:
    said = f"to {shown(row.address)} from ‘{shown(row.sender)}’: {error}: {shown(row.body[:500])}"
    return DeadLetter(letters.EMBEDDED, b"%d" % row.id, said)
