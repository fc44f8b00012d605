"""The embedded bus in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import RLock

from skystow.errors import BadName
from skystow.model.acts import Say
from skystow.model.packing import spoken, written
from skystow.model.records import DeadLetter, shown
from skystow.ports.talk import Delivery

EMBEDDED = "embedded bus"
"""Source of dead letters that are messages on the bus; their key is the parcel's number."""


@dataclass(slots=True)
class Parcel:
    address: str
    kind: str
    body: str
    unreadable: bool = False


class MemoryBus:
    """See `skystow.ports.talk.Bus`. `bury` is the ledger's."""

    away = None

    def __init__(self, bury: Callable[[Sequence[DeadLetter]], int]) -> None:
        self._bury, self._lock = bury, RLock()
        self._parcels: dict[int, Parcel] = {}
        self._count = 0

    def publish(self, says: Sequence[Say]) -> None:
        with self._lock:
            for say in says:
                self.put(say.to, *written(say.message))

    def put(self, address: str, kind: str, body: str) -> None:
        """A message as its text."""
        with self._lock:
            self._count += 1
            self._parcels[self._count] = Parcel(address, kind, body)

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        with self._lock:
            waiting = ((n, p) for n, p in self._parcels.items() if p.address == address and not p.unreadable)
            deliveries = []
            for number, parcel in list(islice(waiting, limit)):
                try:
                    deliveries.append(Delivery(number, spoken(parcel.kind, parcel.body), parcel.address))
                except BadName as error:
                    parcel.unreadable = True
                    said = f"to {shown(address)}: {error}: {shown(parcel.body[:500])}"
                    self._bury([DeadLetter(EMBEDDED, b"%d" % number, said)])
            return deliveries

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                self._parcels.pop(delivery.id, None)

    def give_again(self, numbers: Collection[int]) -> None:
        """What was buried is looked at again."""
        with self._lock:
            for number in numbers:
                if number in self._parcels:
                    self._parcels[number].unreadable = False

    def __len__(self) -> int:
        return len(self._parcels)
