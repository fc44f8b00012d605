"""Who else is on DDS, and what keeps them from hearing us, or us from hearing them, in a sentence with their name.

A reader and a writer that differ in a topic's revision, in its type or in their quality of service never meet, and DDS
says nothing: an image is lost without a line. So each end that is discovered in a partition of ours is compared.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import InstanceState, Qos
from cyclonedds.domain import DomainParticipant

from skystow.adapters.sal.definitions import Topic
from skystow.adapters.sal.quality import differences, partitions
from skystow.model.records import shown

AT_ONCE = 200

STUMBLES = (Exception, SystemError, UnicodeDecodeError)
"""What the binding raises, by its very class, where it cannot make Python's text of a name."""

_REVISED = re.compile(r"(.+)_([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of ours."""

    topic: Topic
    qos: Qos
    partition: str
    writes: bool
    entity: Any

    def meets(self, handle: int) -> bool:
        matched = self.entity.get_matched_subscriptions() if self.writes else self.entity.get_matched_publications()
        # The library gives the same handle with a sign here, and without one there.
        return any(each % 2**64 == handle % 2**64 for each in matched)


@dataclass(frozen=True, slots=True)
class Their:
    """One of somebody else's."""

    key: UUID
    participant: UUID
    topic_name: str
    type_name: str
    qos: Qos
    writes: bool
    handle: int


class Peers:
    """`look` now and then; each difference is logged once, as long as whoever differs is there."""

    def __init__(self, participant: DomainParticipant, log: Callable[[str], None]) -> None:
        self._log, self._own = log, participant.guid
        self._participants = BuiltinDataReader(participant, BuiltinTopicDcpsParticipant)
        self._ends = {
            True: BuiltinDataReader(participant, BuiltinTopicDcpsPublication),
            False: BuiltinDataReader(participant, BuiltinTopicDcpsSubscription),
        }
        self._who: dict[UUID, str] = {}
        self._theirs: dict[UUID, Their] = {}
        self._waiting: dict[UUID, int] = {}
        """Ends that should meet ours and do not yet, by how often we looked."""
        self._said: dict[UUID, set[str]] = {}
        self._ours: list[Endpoint] = []
        self._lock = threading.Lock()

    def ours(self, endpoint: Endpoint) -> None:
        with self._lock:
            self._ours.append(endpoint)
            self._waiting |= dict.fromkeys(self._theirs, 0)  # whoever came before is compared with this one too

    def look(self) -> None:
        for sample in self._taken(self._participants):
            if sample.sample_info.instance_state == InstanceState.Alive:
                self._who[sample.key] = _called(sample.qos)
            else:
                self._who.pop(sample.key, None)
        for writes, reader in self._ends.items():
            for sample in self._taken(reader):
                self._found(sample, writes)
        with self._lock:
            ours = list(self._ours)
            waiting = dict(self._waiting)
        for key, looks in waiting.items():
            their = self._theirs.get(key)
            if their is None or not self._compare(their, ours, looks):
                with self._lock:
                    self._waiting.pop(key, None)
            else:
                with self._lock:
                    self._waiting[key] = looks + 1

    def _taken(self, reader: BuiltinDataReader) -> Iterator[Any]:
        """One by one: who has a name that is no UTF-8 is not seen, and takes nobody else with him."""
        for _ in range(AT_ONCE):
            try:
                found = reader.take(N=1)
            except Exception as error:
                if type(error) not in STUMBLES:
                    raise
                self._log("an end of somebody else's has a name that is no UTF-8; it is not compared with ours")
                continue
            if not found:
                return
            yield found[0]

    def _found(self, sample: Any, writes: bool) -> None:
        if sample.sample_info.instance_state != InstanceState.Alive:
            self._theirs.pop(sample.key, None)
            self._said.pop(sample.key, None)
            with self._lock:
                self._waiting.pop(sample.key, None)
            return
        if sample.participant_key == self._own:
            return
        handle = sample.sample_info.instance_handle
        their = Their(
            sample.key, sample.participant_key, sample.topic_name, sample.type_name, sample.qos, writes, handle
        )
        self._theirs[their.key] = their
        with self._lock:
            self._waiting[their.key] = 0

    def _compare(self, their: Their, ours: list[Endpoint], looks: int) -> bool:
        """Whether to look again: two that differ in nothing that can be seen need a moment to meet."""
        again = False
        for our in ours:
            if our.writes == their.writes or our.partition not in partitions(their.qos):
                continue
            reasons = list(compared(our, their))
            if not reasons and their.topic_name == our.topic.dds_name and not our.meets(their.handle):
                again = looks < 5
                if not again:
                    reasons = [f"DDS does not say why; most likely its {shown(their.type_name)} has other fields"]
            for reason in reasons:
                self._say(their, our, reason)
        return again

    def _say(self, their: Their, our: Endpoint, reason: str) -> None:
        said = self._said.setdefault(their.key, set())
        text = f"{self._name(their)} does not {'hear us' if our.writes else 'reach us'} by {our.topic.name}: {reason}"
        if text not in said:
            said.add(text)
            self._log(text)

    def _name(self, their: Their) -> str:
        """`CCCamera (python, pid 77 on host)`: whose topic a writer writes is what it is."""
        who = self._who.get(their.participant, "") or f"participant {their.participant}"
        component = their.type_name.partition("::")[0] if their.writes else "a reader"
        return f"{shown(component)} ({who})"


def compared(our: Endpoint, their: Their) -> Iterator[str]:
    """What keeps these two apart (nothing: they may meet, or have nothing to do with each other)."""
    ours = our.topic
    if their.topic_name != ours.dds_name:
        revised = _REVISED.fullmatch(their.topic_name)
        if revised and revised[1] == f"{ours.component}_{ours.name}":
            yield f"it speaks revision {revised[2]}, ours is {ours.revision}; use the same SAL interface definitions"
        return
    if their.type_name != ours.type_name:
        yield f"its type is called {shown(their.type_name)}, ours {ours.type_name}"
    yield from differences(our.qos, their.qos) if our.writes else differences(their.qos, our.qos)


def _called(qos: Qos) -> str:
    """What Cyclone says of a process; other DDSs say nothing."""
    said = {each.key: each.value for each in qos if type(each).__name__ == "Property"}
    if not said.get("__ProcessName"):
        return ""
    name, pid, host = (said.get(key, "?") for key in ("__ProcessName", "__Pid", "__Hostname"))
    return shown(f"{name}, pid {pid} on {host}")
