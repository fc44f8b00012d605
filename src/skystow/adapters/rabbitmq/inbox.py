"""What the broker has given us and we have not accepted yet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

from aiormq.abc import AbstractChannel

from skystow.adapters.rabbitmq.bodies import LARGEST
from skystow.ports.talk import Delivery


@dataclass(slots=True)
class Arrived:
    """`tag`: the broker's number on its channel. `body` is cut at `LARGEST` bytes, `size` is what it had."""

    id: int
    address: str
    queue: str
    tag: int
    body: bytes
    size: int
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class Acks:
    """What to tell the broker: all up to `until` (0: none), and `others`. Tags mean something on `channel` alone."""

    channel: AbstractChannel
    until: int
    others: Sequence[int]


@dataclass
class Inbox:
    """Of one channel after the other; any thread. Our numbers go down from -1, and none is used twice."""

    _channel: AbstractChannel | None = None
    _waiting: dict[int, Arrived] = field(default_factory=dict)
    """In the order of numbers, and of tags."""
    _last: int = 0
    _told: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, channel: AbstractChannel | None) -> None:
        """What came by an earlier one is nobody's: the broker gives it again."""
        with self._lock:
            self._channel, self._told = channel, False
            self._waiting.clear()

    def put(self, channel: AbstractChannel, address: str, queue: str, tag: int, body: bytes) -> bool:
        """Whether it is to be told that something waits: nobody looked since it was told last."""
        with self._lock:
            if channel is not self._channel:
                return False
            self._last -= 1
            self._waiting[self._last] = Arrived(self._last, address, queue, tag, body[:LARGEST], len(body))
            told, self._told = self._told, True
        return not told

    def first(self, address: str, limit: int) -> Sequence[Arrived]:
        with self._lock:
            self._told = False
            return list(islice((each for each in self._waiting.values() if each.address == address), limit))

    def take(self, numbers: Sequence[int]) -> Acks | None:
        """They are ours. Numbers of an earlier channel are nobody's."""
        with self._lock:
            ours = {number for number in numbers if number in self._waiting}
            if not ours or self._channel is None:
                return None
            head = len(list(takewhile(ours.__contains__, self._waiting)))
            tags = [self._waiting.pop(number).tag for number in sorted(ours, reverse=True)]
            return Acks(self._channel, tags[head - 1] if head else 0, tags[head:])
