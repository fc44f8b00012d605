"""Whether another component of our name is alive on DDS: there is one of each.

By its heartbeats: a process that was killed is still there for DDS for ten seconds, but silent. Whoever has beaten more
often was here first, and of two that have beaten as often, who said it earlier. One beat is not believed: anybody can
say one by mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

from skystow.adapters.sal.node import Node, Sample, Writer
from skystow.adapters.sal.topic import Topic
from skystow.model.records import shown

DISCOVERY, BEATS = 1.0, 4.5
"""Seconds until whoever is there has been found, and until one that is alive has said so (it does each second)."""

AT_FIRST, LATER = 2, 3
"""Beats, each with a higher number than the one before, that are believed: when we begin, and once we are at work."""

SPAN = 0.5
"""Seconds that there must be between the first and the last of them, for each but the first."""

MANY = 100
"""Others whose beats are counted."""

LOOK = 0.05


@dataclass(slots=True)
class _Heard:
    number: int
    since: float
    beats: int = 1


class Twin:
    """`alive`: in words, who is (empty: nobody whom we would have to give way to)."""

    def __init__(self, node: Node, heartbeat: Topic) -> None:
        self._node, self._topic = node, heartbeat
        self._ours: Writer | None = None
        self._heard: dict[tuple[str, int], _Heard] = {}
        self.alive = ""

    def look(self) -> None:
        """Blocks until we know whether we may begin."""
        self._node.reader(self._topic, self._beat, foreign=True)
        self._until(lambda: bool(self._node.writers_of(self._topic)), DISCOVERY)
        if self._node.writers_of(self._topic):
            self._until(lambda: bool(self.alive), BEATS)

    def begin(self, heartbeat: Writer) -> None:
        """We beat, too, by this writer."""
        self._ours = heartbeat

    def _beat(self, sample: Sample) -> None:
        """Somebody else's."""
        identity, origin = str(sample.values["private_identity"]), int(sample.values["private_origin"])
        number, stamp = int(sample.values["private_seqNum"]), float(sample.values["private_sndStamp"])
        if not self._believed((identity, origin), number):
            return
        who = f"{shown(identity)}, process {origin}"
        ours = (self._ours.written, -self._ours.stamp) if self._ours is not None else (0, 0.0)
        if (number, -stamp) >= ours:
            self.alive = f"another {self._topic.component} is alive on DDS ({who})"
        else:
            self._node.say_once(
                f"another {self._topic.component} has come ({who}); it should end, we were here first", of="twin"
            )

    def _believed(self, who: tuple[str, int], number: int) -> bool:
        now, heard = monotonic(), self._heard.get(who)
        if heard is None or number <= heard.number:
            if len(self._heard) >= MANY:
                self._heard.clear()
            self._heard[who] = _Heard(number, now)
            return False
        heard.number, heard.beats = number, heard.beats + 1
        enough = AT_FIRST if self._ours is None else LATER
        return heard.beats >= enough and now - heard.since >= (enough - 1) * SPAN

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        due = monotonic() + seconds
        while not done() and monotonic() < due:
            sleep(LOOK)
