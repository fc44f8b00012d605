"""Somebody else's programs on SAL: a commander, a camera, a header service, whoever listens. They know the wire and
IDL files, and share nothing with `skystow.adapters.sal` but the one configuration of DDS that a process may have."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cyclonedds.core import Entity, Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as dds
from cyclonedds.pub import DataWriter, Publisher
from cyclonedds.sub import DataReader, Subscriber
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.environment import LOOPBACK
from skystow.adapters.sal.node import configured
from tests.sal_kit import idl_of
from tests.system.observatory_wire import until as until_within

ARCHIVER, CAMERA, HEADERS = "CCArchiver", "CCCamera", "CCHeaderService"
ACK, IN_PROGRESS, COMPLETE, NO_PERMISSION, FAILED = 300, 301, 303, -300, -302
DISABLED, ENABLED, FAULT, OFFLINE, STANDBY = 1, 2, 3, 4, 5

LIMIT = 60.0
"""Seconds that anything may take."""

TAI = 37.0
"""Seconds by which TAI is ahead of UTC."""

_STRUCT = re.compile(r"struct (\w+)_([0-9a-f]{8}) \{(.*?)\n\s*\};", re.DOTALL)
_FIELD = re.compile(r"^\s*((?:unsigned )?(?:long long|\w+))(?:<(\d+)>)?\s+(\w+)(?:\[(\d+)\])?;", re.MULTILINE)
_KINDS: Mapping[str, Any] = {
    "boolean": bool,
    "octet": dds.byte,
    "char": dds.char,
    "short": dds.int16,
    "unsigned short": dds.uint16,
    "long": dds.int32,
    "unsigned long": dds.uint32,
    "long long": dds.int64,
    "unsigned long long": dds.uint64,
    "float": dds.float32,
    "double": dds.float64,
    "string": str,
}
_array: Any = dds.array
_bounded: Any = dds.bounded_str


def until(true: Callable[[], object], what: str | Callable[[], str], seconds: float = LIMIT) -> None:
    until_within(true, what, seconds)


def write_idl(directory: Path, *components: str, version: str = "10.0.0") -> Path:
    """Files of our own definitions, as SAL's generator would write them."""
    directory.mkdir(exist_ok=True)
    for name in components or (ARCHIVER, CAMERA, HEADERS):
        head = f"// SAL_VERSION=5.2.0 XML_VERSION={version}\n"
        text = idl_of(name, load(name, None).topics.values(), head)
        (directory / f"sal_revCoded_{name}.idl").write_text(text)
    return directory


@dataclass(frozen=True)
class Shape:
    """A topic, as an IDL file has it: its fields are (type, bound or "", name, count or "")."""

    component: str
    name: str
    revision: str
    fields: tuple[tuple[str, str, str, str], ...]

    def blank(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for kind, _, name, count in self.fields:
            one: Any = {"string": "", "boolean": False, "float": 0.0, "double": 0.0}.get(kind, 0)
            values[name] = [one] * int(count) if count else one
        return values | {"private_revCode": self.revision}

    def kind(self, *, loose: bool) -> type[IdlStruct]:
        """The type; `loose`: no string has a bound."""
        types = {}
        for kind, bound, name, count in self.fields:
            one = _bounded[int(bound)] if bound and not loose else _KINDS[kind]
            types[name] = _array[one, int(count)] if count else one
        struct = f"{self.name}_{self.revision}"
        return make_idl_struct(struct, f"{self.component}::{struct}", types)


def shapes(directory: Path, component: str) -> dict[str, Shape]:
    text = (directory / f"sal_revCoded_{component}.idl").read_text()
    found = (Shape(component, name, code, tuple(_FIELD.findall(body))) for name, code, body in _STRUCT.findall(text))
    return {each.name: each for each in found}


def quality(topic: str, *, writes: bool, table: bool) -> Qos:
    """`table`: the observatory's (PROTOCOLS 6.1), else what skystow says of itself."""
    event, ack = not topic.startswith("command_") and topic != "ackcmd", topic == "ackcmd"
    kept: Any = Policy.Durability.Transient if table else Policy.Durability.TransientLocal
    source = writes and not table
    order = Policy.DestinationOrder.BySourceTimestamp if source else Policy.DestinationOrder.ByReceptionTimestamp
    policies = [
        kept if event else Policy.Durability.Volatile,
        Policy.Ownership.Exclusive if ack else Policy.Ownership.Shared,
        Policy.Reliability.Reliable(duration(milliseconds=100)),
        Policy.History.KeepLast(100) if table else Policy.History.KeepAll,
        order,
    ]
    if event and writes:
        policies.append(Policy.DurabilityService(0, Policy.History.KeepLast(100), -1, -1, -1))
    return Qos(*policies)


@dataclass(frozen=True)
class Heard:
    """A sample. `at`: when it was said, by its writer's clock, nanoseconds."""

    component: str
    topic: str
    values: Mapping[str, Any]
    at: int

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True)
class Answer:
    code: int
    text: str
    error: int
    seconds: float
    at: int


@dataclass
class Peer:
    """One program on SAL. `idl`: its directory of IDL files; `identity`, `origin`: whose samples are."""

    idl: Path
    prefix: str
    identity: str = "operator@console"
    table: bool = False
    origin: int = field(default_factory=lambda: random.randrange(1, 2**22))
    heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        configured(0, LOOPBACK)
        self.participant = DomainParticipant(0)
        self._shapes: dict[str, dict[str, Shape]] = {}
        self._topics: dict[tuple[str, str, bool], Topic[Any]] = {}
        self.writers: dict[tuple[str, str], tuple[Shape, Any, Any]] = {}
        self.readers: dict[tuple[str, str], Any] = {}
        self._numbers: dict[str, int] = {}

    def close(self) -> None:
        """Leave DDS, with all that we have there."""
        Entity.__del__(self.participant)

    def shape(self, component: str, topic: str) -> Shape:
        if component not in self._shapes:
            self._shapes[component] = shapes(self.idl, component)
        return self._shapes[component][topic]

    def _topic(self, component: str, name: str, *, loose: bool) -> Topic[Any]:
        key = component, name, loose
        if key not in self._topics:
            shape = self.shape(component, name)
            dds_name = f"{component}_{name}_{shape.revision}"
            self._topics[key] = Topic(self.participant, dds_name, shape.kind(loose=loose))
        return self._topics[key]

    def _partition(self, component: str, topic: str) -> Qos:
        return Qos(Policy.Partition([f"{self.prefix}.{component}.{'cmd' if topic[:8] == 'command_' else 'data'}"]))

    # ── saying ──────────────────────────────────────────────────────────────────────────────────────────────────

    def voice(self, component: str, topic: str, *, loose: bool = False, lonely: bool = False) -> Any:
        """The writer of a topic; the first time, one is made, and, unless it is `lonely`, somebody who reads it is
        waited for."""
        key = component, topic
        if key not in self.writers:
            made = self._topic(component, topic, loose=loose)
            publisher = Publisher(self.participant, qos=self._partition(component, topic))
            writer: Any = DataWriter(publisher, made, qos=quality(topic, writes=True, table=self.table))
            self.writers[key] = self.shape(component, topic), made.data_type, writer
            if not lonely:
                until(writer.get_matched_subscriptions, f"that somebody reads {topic} of {component}")
                # We may find a reader before it finds us: say that there is nothing, until it has heard that.
                writer.dispose(made.data_type(**self.shape(component, topic).blank()))
                assert writer.wait_for_acks(duration(seconds=30))
        return self.writers[key][2]

    def say(
        self, component: str, topic: str, *, number: int = 0, raw: tuple[bytes, bytes] | None = None, **values: Any
    ) -> None:
        """`raw`: bytes of the sample that are replaced by others on the wire."""
        self.voice(component, topic)
        shape, kind, writer = self.writers[component, topic]
        self._numbers[topic] = number or self._numbers.get(topic, 0) + 1
        private = {
            "private_sndStamp": time.time() + TAI,
            "private_seqNum": self._numbers[topic],
            "private_identity": self.identity,
            "private_origin": self.origin,
        }
        sample: Any = kind(**shape.blank() | private | values)
        if raw is not None:
            spoilt = sample.serialize()
            assert raw[0] in spoilt
            spoilt = spoilt.replace(*raw)
            sample.serialize = lambda **_: spoilt
        writer.write(sample)

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def listen(self, component: str, *topics: str) -> None:
        for topic in topics:
            made = self._topic(component, topic, loose=True)
            subscriber = Subscriber(self.participant, qos=self._partition(component, topic))
            qos = quality(topic, writes=False, table=self.table)
            self.readers[component, topic] = DataReader(subscriber, made, qos=qos)

    def follow(self, component: str, *events: str) -> None:
        self.listen(component, *(f"logevent_{each}" for each in events))

    def take(self) -> None:
        for (component, topic), reader in self.readers.items():
            for sample in reader.take(N=5_000):
                if sample.sample_info.valid_data:
                    values = {name: getattr(sample, name) for _, _, name, _ in self.shape(component, topic).fields}
                    self.heard.append(Heard(component, topic, values, sample.sample_info.source_timestamp))

    def events(self, *events: str) -> list[Heard]:
        """In the order in which they were said."""
        self.take()
        wanted = {f"logevent_{each}" for each in events}
        return sorted((each for each in self.heard if each.topic in wanted), key=lambda each: each.at)

    def states(self) -> list[int]:
        return [each["summaryState"] for each in self.events("summaryState")]

    def await_state(self, state: int, told: Callable[[], str] = str, seconds: float = LIMIT) -> None:
        """Until that is the latest."""
        until(lambda: self.states()[-1:] == [state], lambda: f"state {state}: {self.states()}\n{told()}", seconds)

    # ── commanding ──────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, name: str, component: str = ARCHIVER, **values: Any) -> int:
        """Its number. Each command has a slice of the numbers, and begins in it somewhere."""
        if (component, "ackcmd") not in self.readers:
            self.listen(component, "ackcmd")
        self.voice(component, f"command_{name}")
        until(self.readers[component, "ackcmd"].get_matched_publications, f"that {component} acknowledges")
        commands = sorted(each for each in self._shapes[component] if each.startswith("command_"))
        width = (2**31 - 1) // len(commands)
        first = width * commands.index(f"command_{name}") + random.randrange(1, width // 2)
        number = self._numbers.get(f"command_{name}", first) + 1
        self.say(component, f"command_{name}", number=number, **values)
        return number

    def answers(self, number: int) -> list[Answer]:
        """What a commander takes for acknowledgements of his command, by origin, identity, then number."""
        self.take()
        return [
            Answer(each["ack"], each["result"], each["error"], each["timeout"], each.at)
            for each in self.heard
            if each.topic == "ackcmd"
            and each["origin"] == self.origin
            and each["identity"] in ("", self.identity)
            and each["private_seqNum"] == number
        ]

    def ended(self, number: int) -> bool:
        return any(each.code not in (ACK, IN_PROGRESS) for each in self.answers(number))

    def command(self, name: str, component: str = ARCHIVER, **values: Any) -> list[Answer]:
        """All that was answered."""
        number = self.send(name, component, **values)
        until(lambda: self.ended(number), lambda: f"the end of {name}: {self.answers(number)}")
        return self.answers(number)

    def obey(self, *names: str, component: str = ARCHIVER) -> None:
        for name in names:
            answers = self.command(name, component)
            assert [each.code for each in answers] == [ACK, IN_PROGRESS, COMPLETE], (name, answers)


Join = Callable[..., Peer]


@contextmanager
def peers(prefix: str) -> Iterator[Join]:
    """Makes peers, and has them leave DDS in the end."""
    made: list[Peer] = []

    def join(idl: Path, **more: Any) -> Peer:
        made.append(Peer(idl, prefix, **more))
        return made[-1]

    try:
        yield join
    finally:
        for each in made:
            each.close()


def alone(monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of partitions that nobody else has, in the environment."""
    for name in ("LSST_DDS_DOMAIN_ID", "LSST_DDS_INTERFACE", "LSST_DDS_ENABLE_AUTHLIST", "CYCLONEDDS_URI"):
        monkeypatch.delenv(name, raising=False)
    prefix = f"test{random.getrandbits(64):x}"
    monkeypatch.setenv("LSST_DDS_PARTITION_PREFIX", prefix)
    return prefix


def codes(answers: Sequence[Answer]) -> list[int]:
    return [each.code for each in answers]
