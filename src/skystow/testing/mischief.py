"""A bus that loses, doubles, delays and reorders what others say, by the throw of dice.

What nobody says again (`NEVER_LOST`: a durable bus keeps it) is doubled, late and out of order, and never lost.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from skystow.errors import PlaceFault
from skystow.model.acts import Say
from skystow.model.messages import (
    EndReadout,
    FileIngestRequest,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    StartIntegration,
)
from skystow.ports.talk import Bus, Delivery

NEVER_LOST: tuple[type[Message], ...] = (
    ImageRetrieval,
    FileIngestRequest,
    ImageInOODS,
    StartIntegration,
    EndReadout,
    LargeFileObjectAvailable,
)


IN_A_ROW = 2
"""Of one kind about one exposure, so many may be lost one after the other. What is said again is said after waits that
grow: without a bound it is a matter of luck how many minutes a night takes."""


@dataclass
class _Fate:
    lost: bool
    again: int
    due: float


class Mischief:
    """A `Bus` before another one, for all who receive. Each message has `chance` to be lost, to come twice, and to
    come late, by up to `late` seconds; those that come at one time come in any order."""

    def __init__(self, bus: Bus, seed: int, *, chance: float = 0.2, late: float = 1.0) -> None:
        self.bus, self.chance, self.late = bus, chance, late
        self._dice = Random(seed)
        self._fates: dict[int, _Fate] = {}
        self._lost: Counter[tuple[type[Message], str]] = Counter()
        self._lock = threading.Lock()

    @property
    def away(self) -> PlaceFault | None:
        return self.bus.away

    def publish(self, says: Sequence[Say]) -> None:
        self.bus.publish(says)

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        found = self.bus.receive(address, limit=limit)
        with self._lock:
            fates = [(each, self._fates.get(each.id) or self._throw(each)) for each in found]
            given = [each for each, fate in fates if not fate.lost and fate.due <= time.monotonic()]
            self._dice.shuffle(given)
        self.bus.accept([each for each, fate in fates if fate.lost])
        return given

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            kept = [each for each in deliveries if (fate := self._fates.get(each.id)) is not None and fate.again]
            for each in kept:
                self._fates[each.id].again -= 1
        self.bus.accept([each for each in deliveries if each not in kept])

    def _throw(self, delivery: Delivery) -> _Fate:
        lost, again, late = (self._dice.random() < self.chance for _ in range(3))
        kind = (type(delivery.message), delivery.message.key)
        lost = lost and not isinstance(delivery.message, NEVER_LOST) and self._lost[kind] < IN_A_ROW
        self._lost[kind] = self._lost[kind] + 1 if lost else 0
        fate = _Fate(lost, int(again), time.monotonic() + (self._dice.uniform(0, self.late) if late else 0.0))
        self._fates[delivery.id] = fate
        return fate
