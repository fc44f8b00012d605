"""A camera and a Header Service that speak SAL, each a component of its own on DDS: for rehearsals and tests."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

from skystow.adapters.sal.definitions import Definitions
from skystow.adapters.sal.ears import CAMERA, HEADERS
from skystow.adapters.sal.node import Node, Sample, Writer
from skystow.adapters.sal.sense import first_index, said
from skystow.model.acts import Say
from skystow.model.lifecycle import Summary
from skystow.model.messages import EndReadout, LargeFileObjectAvailable, StartIntegration

BOTH_WAYS = 0.5
"""Seconds from our finding a reader until it has found us, on any network."""


class Instrument:
    """`camera`, `headers`: where each of them is on DDS, and its topics; `archiver`: whose state is looked at.
    `first`: imageIndex of the first image of a sequence (None: as the definitions say)."""

    def __init__(
        self,
        camera: tuple[Node, Definitions],
        headers: tuple[Node, Definitions],
        archiver: Definitions,
        *,
        first: int | None = None,
    ) -> None:
        """Raises `ConfigError` where the definitions lack an event."""
        self._first, self._found = first_index(camera[1], first), math.inf
        self._voices: dict[str, Writer] = {}
        for events, (node, definitions) in ((CAMERA, camera), (HEADERS, headers)):
            for each in events:
                self._voices[each] = node.writer(definitions.topic(f"logevent_{each}"))
        self._state, self._lock = 0, threading.Lock()
        camera[0].reader(archiver.topic("logevent_summaryState"), self._hear, history=True)

    def _hear(self, sample: Sample) -> None:
        with self._lock:
            self._state = int(sample.values["summaryState"])

    @property
    def enabled(self) -> bool:
        """Whether the Archiver is ENABLED and hears all that we have to say: who comes later does not."""
        with self._lock:
            state = self._state
        return state == Summary.ENABLED and self.heard

    @property
    def heard(self) -> bool:
        """Whether somebody hears each of our events, and has for a moment: we may find a reader before it finds us, and
        until then it hears nothing."""
        if not all(writer.matched() for writer in self._voices.values()):
            self._found = math.inf
            return False
        self._found = min(self._found, time.monotonic())
        return time.monotonic() - self._found >= BOTH_WAYS

    def publish(self, says: Sequence[Say]) -> None:
        """Events; anything else is nobody's to say. Raises `Unreachable` where a reader takes nothing."""
        for say in says:
            if isinstance(say.message, StartIntegration | EndReadout | LargeFileObjectAvailable):
                event, values = said(say.message, first=self._first)
                self._voices[event].write(values)
