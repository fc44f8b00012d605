"""The camera's and the Header Service's events, from SAL to the Archiver's address on the bus.

SAL gives each event once. So it is written down by a thread of its own, in the order in which it was said; while the
bus, which is the ledger, is away, events wait in memory and are tried again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial

from skystow.adapters.sal.definitions import Definitions
from skystow.adapters.sal.node import Node, Sample
from skystow.adapters.sal.sense import END, HEADER, START, first_index, heard
from skystow.adapters.sal.topic import Unfit
from skystow.errors import BadName, PlaceFault
from skystow.model.acts import Say

CAMERA, HEADERS = (START, END), (HEADER,)

REST = 0.5
"""Seconds between two tries while the bus is away."""

MANY = 10_000
"""Events in memory from which on it is said aloud that they wait."""

LAST = 3.0
"""Seconds for what was heard last to be written down, when we end."""


class Ears:
    """`first`: imageIndex of the first image of a sequence (None: as the definitions say)."""

    def __init__(
        self,
        node: Node,
        camera: Definitions,
        headers: Definitions,
        publish: Callable[[Sequence[Say]], None],
        address: str,
        *,
        first: int | None = None,
    ) -> None:
        """Raises `ConfigError` where the definitions lack an event. Listens from `open` on, writes from `begin` on."""
        self._node, self._publish, self._address = node, publish, address
        self._topics = {each: camera.topic(f"logevent_{each}") for each in CAMERA}
        self._topics |= {each: headers.topic(f"logevent_{each}") for each in HEADERS}
        self._first = first_index(camera, first)
        self._heard: deque[Say] = deque()
        self._bell, self._ended = threading.Event(), threading.Event()
        self._loud, self._until = False, 0.0
        self._written: Future[None] | None = None

    def open(self) -> None:
        """Hear from now on."""
        for event, topic in self._topics.items():
            self._node.reader(topic, partial(self._hear, event))

    def begin(self) -> None:
        """Write down what was heard, and is: we are who is to hear it."""
        self._written = self._node.run(self._write)

    def close(self) -> None:
        """What was heard is written down first, if the bus is there in time."""
        self._until = time.monotonic() + LAST
        self._ended.set()
        self._bell.set()
        if self._written is not None:
            wait([self._written], timeout=LAST + REST)

    @property
    def waiting(self) -> int:
        """Events that are not written down yet."""
        return len(self._heard)

    def _hear(self, event: str, sample: Sample) -> None:
        try:
            message = heard(event, sample.values, first=self._first)
        except (BadName, Unfit) as fault:
            self._node.count(sample.topic, fault)
            return
        self._heard.append(Say(self._address, message))
        if len(self._heard) >= MANY and not self._loud:
            self._loud = True
            self._node.log(f"{MANY:,} events wait in memory: the ledger does not take them")
        self._bell.set()

    def _write(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            while self._heard:
                some = list(self._heard)
                try:
                    self._publish(some)
                except PlaceFault as fault:
                    if self._ended.is_set() and time.monotonic() >= self._until:
                        self._node.log(f"{len(self._heard)} events are lost, since we end: {fault}")
                        return
                    if self._ended.wait(REST):
                        time.sleep(REST / 5)
                    continue
                for _ in some:
                    self._heard.popleft()
                self._loud = False
            if self._ended.is_set():
                return
