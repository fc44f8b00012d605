"""One place on DDS: a participant, its readers, and the one thread that takes what comes.

What came is given out in the order in which it was said, whichever topic it came by, in that thread: whoever hears must
be quick. What cannot be read is counted and skipped, and said once a minute for each topic. Writers write in the
caller's thread, and wait there for readers that do not take what they are sent (`Environment.blocking`).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cyclonedds.core import (
    DDSException,
    Entity,
    GuardCondition,
    InstanceState,
    Policy,
    Qos,
    ReadCondition,
    SampleState,
    ViewState,
    WaitSet,
)
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter, Publisher
from cyclonedds.sub import DataReader, Subscriber
from cyclonedds.topic import Topic as DdsTopic
from cyclonedds.util import duration

from skystow.adapters.sal import types
from skystow.adapters.sal.definitions import Topic
from skystow.adapters.sal.environment import Environment
from skystow.adapters.sal.peers import Endpoint, Peers
from skystow.adapters.sal.quality import Category, Quality
from skystow.adapters.sal.tai import tai
from skystow.adapters.sal.topic import Unfit as Misfit
from skystow.errors import ConfigError, Unreachable

PLACE = "sal"

AT_ONCE = 500
"""Samples of one topic that are taken before the others have their turn."""

MANY = 1000
"""Lines that are remembered, so as not to be said again so soon."""

PRIVATE = ("private_seqNum", "private_identity", "private_origin")
"""Fields without which nobody knows whose a sample is."""

THREADS = 2
"""One takes what comes, one is for whoever else needs one (`Node.run`)."""

LOOK = 0.5
"""Seconds between two looks at who else is there, where nothing comes."""

LAST_LOOKS = 20
"""Looks at what has come already, when we end: whoever goes on to speak then is not heard."""

LEAVE = 5.0
"""Seconds for our thread to end."""

QUIET = 60.0
"""Seconds between two lines about samples of one topic that cannot be read."""

ANY = ViewState.Any | SampleState.Any | InstanceState.Any

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """`said`: source time, nanoseconds since 1970."""

    topic: Topic
    values: Mapping[str, Any]
    said: int


Hear = Callable[[Sample], None]
Unfit = Callable[[Any, str], None]
"""Given a sample as the library has it, and what is wrong with it."""


@dataclass(slots=True)
class _Reader:
    topic: Topic
    entity: DataReader[Any]
    condition: ReadCondition
    hear: Hear
    unfit: Unfit | None


class Writer:
    """Of one topic. `identity` and the process are said with each sample."""

    def __init__(self, topic: Topic, entity: DataWriter[Any], identity: str, cut: Log, first: int = 1) -> None:
        self.topic, self.entity, self._identity, self._cut = topic, entity, identity, cut
        self._next = first
        self._lock = threading.Lock()
        self.written = 0
        self.stamp = 0.0
        """Of the latest sample, as SAL has it."""

    def write(self, values: Mapping[str, object], *, seq_num: int | None = None) -> int:
        """Returns the sample's private_seqNum. A field that this version of the topic lacks is left out.
        Raises `Unreachable` where a reader that must have it takes nothing, and `ValueError` for a value that the
        topic cannot hold."""
        with self._lock:
            number = self._next if seq_num is None else seq_num
            stamp = tai(datetime.now(UTC))
            private = {
                "private_sndStamp": stamp,
                "private_seqNum": number,
                "private_identity": self._identity,
                "private_origin": os.getpid(),
            }
            known = {name: value for name, value in values.items() if self.topic.has(name)}
            fields, remarks = types.fitted(self.topic, {**known, **private})
            for each in remarks:
                self._cut(f"{self.topic.component} {self.topic.name}: {each}")
            try:
                self.entity.write(types.sample(self.topic, fields))
            except DDSException as error:
                text = f"{self.topic.dds_name} cannot be written: a reader takes nothing ({error.msg or error.code})"
                raise Unreachable(text, place=PLACE) from error
            self.written, self.stamp = self.written + 1, stamp
            if seq_num is None:
                self._next = self._next % (2**31 - 1) + 1
        return number

    def matched(self) -> frozenset[int]:
        """Who reads it, by handles that are nobody else's."""
        return frozenset(self.entity.get_matched_subscriptions())

    def flush(self, seconds: float) -> bool:
        """Whether all that was written is with every reader."""
        try:
            return bool(self.entity.wait_for_acks(duration(milliseconds=int(seconds * 1000))))
        except AttributeError:  # 11.0.1 stumbles over its own name for a time-out
            return False


class Node:
    """Joins DDS when it is made. Raises `ConfigError` where DDS refuses its configuration."""

    def __init__(self, environment: Environment, quality: Quality, *, identity: str, log: Log) -> None:
        self.environment, self.quality, self.identity, self.log = environment, quality, identity, log
        self.bad: Counter[str] = Counter()
        """Samples that could not be read, by topic."""
        try:
            configured(environment.domain, environment.configuration)
            self._participant = DomainParticipant(environment.domain)
        except DDSException as error:
            remedy = "look at LSST_DDS_INTERFACE, LSST_DDS_DOMAIN_ID and CYCLONEDDS_URI"
            raise ConfigError(f"DDS does not start: {error.msg or error}", remedy=remedy) from error
        self.peers = Peers(self._participant, log)
        self._topics: dict[tuple[str, bool], DdsTopic[Any]] = {}
        self._publishers: dict[str, Publisher] = {}
        self._subscribers: dict[str, Subscriber] = {}
        self._readers: list[_Reader] = []
        self._noted: dict[str, float] = {}
        self._guard, self._waitset = GuardCondition(self._participant), WaitSet(self._participant)
        self._waitset.attach(self._guard)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._threads = ThreadPoolExecutor(THREADS, "sal")
        self._jobs: list[Future[None]] = []
        self._turning = self.run(self._turn)

    def run(self, job: Callable[[], None]) -> Future[None]:
        """In a thread of ours, until it ends by itself; an error of it is ours."""
        done = self._threads.submit(job)
        self._jobs.append(done)
        return done

    @property
    def died(self) -> BaseException | None:
        """What a thread of ours has died of."""
        return next((error for each in self._jobs if each.done() and (error := each.exception()) is not None), None)

    def writer(self, topic: Topic, *, first: int = 1) -> Writer:
        """`first`: its first private_seqNum."""
        category = Category.of(topic.name)
        partition = self.environment.partition(topic.component, commands=category is Category.COMMAND)
        qos = self.quality.offered(category)
        entity = DataWriter(self._publisher(partition), self._topic(topic), qos=qos)
        self.peers.ours(Endpoint(topic, qos, partition, writes=True, entity=entity))
        return Writer(topic, entity, self.identity, self.say_once, first)

    def reader(
        self, topic: Topic, hear: Hear, *, unfit: Unfit | None = None, history: bool = False, foreign: bool = False
    ) -> None:
        """`hear` is called in our thread for each sample, `unfit` for each that cannot be used. `history`: also for
        what was said before; `foreign`: not for what we say ourselves."""
        category = Category.of(topic.name)
        partition = self.environment.partition(topic.component, commands=category is Category.COMMAND)
        qos = self.quality.asked(category, history=history, foreign=foreign)
        entity = DataReader(self._subscriber(partition), self._topic(topic, bounds=False), qos=qos)
        condition = ReadCondition(entity, ANY)
        with self._lock:
            self._readers.append(_Reader(topic, entity, condition, hear, unfit))
            self._waitset.attach(condition)
        self.peers.ours(Endpoint(topic, qos, partition, writes=False, entity=entity))

    def writers_of(self, topic: Topic) -> frozenset[int]:
        """Who writes what we read."""
        with self._lock:
            ends = [each.entity for each in self._readers if each.topic == topic]
        return frozenset(handle for end in ends for handle in end.get_matched_publications())

    def close(self) -> None:
        """Leave DDS, at once, with all that is ours there: nobody has to miss us first. Whoever runs in a thread of
        ours (`run`) ends by himself."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._guard.set(True)
        wait([self._turning], timeout=LEAVE)
        self._threads.shutdown(wait=False)
        with self._lock:
            for each in self._readers:
                self._waitset.detach(each.condition)
            self._readers.clear()
        if self._turning.done():
            Entity.__del__(self._participant)  # the binding has no other way

    # ── the thread ──────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        looked = 0.0
        while not self._ended.is_set():
            self._waitset.wait(duration(milliseconds=int(LOOK * 1000)))
            self._give_out()
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                self.peers.look()
        self._give_out()  # what has come already is heard

    def _give_out(self) -> None:
        """In the order in which it was said, whatever topic it came by: one that was said before another is here when
        that one is, but our look at its topic may have come before it. So we look twice, and what is newer than all of
        the first look waits for the next."""
        held, until = self._look()
        looks = LAST_LOOKS
        while held and looks:
            looks -= self._ended.is_set()
            newest = min(until, max(sample.said for sample, _ in held))
            more, until = self._look()
            held = sorted([*held, *more], key=lambda pair: pair[0].said)
            due = [pair for pair in held if pair[0].said <= newest]
            held = held[len(due) :]
            for sample, hear in due:
                hear(sample)
        for sample, hear in held:
            hear(sample)

    def _look(self) -> tuple[list[tuple[Sample, Hear]], float]:
        """What is there, and up to when nothing older can be left (of a topic of which we left some)."""
        with self._lock:
            readers = list(self._readers)
        found: list[tuple[Sample, Hear]] = []
        until = math.inf
        for each in readers:
            taken = self._taken(each)
            found += [(sample, each.hear) for sample in taken]
            if len(taken) >= AT_ONCE:
                until = min(until, taken[-1].said)
        return found, until

    def _taken(self, reader: _Reader) -> list[Sample]:
        found: list[Sample] = []
        for taken in reader.entity.take(N=AT_ONCE):
            if not taken.sample_info.valid_data:
                continue  # a writer has gone
            try:
                values = types.read(reader.topic, taken)
            except Misfit as fault:
                self.count(reader.topic, fault)
                if reader.unfit is not None:
                    reader.unfit(taken, str(fault))
                continue
            found.append(Sample(reader.topic, values, taken.sample_info.source_timestamp))
        return found

    def count(self, topic: Topic, error: Exception) -> None:
        """One more sample that could not be used."""
        self.bad[topic.dds_name] += 1
        count = self.bad[topic.dds_name]
        self.say_once(
            f"{topic.dds_name}: skipped what cannot be read ({error})", of=topic.dds_name, more=f"; {count} in all"
        )

    def say_once(self, text: str, *, of: str = "", more: str = "") -> None:
        """Once a minute. `of`: the same for all that are one line (else each text is its own); `more` follows it."""
        now, key = time.monotonic(), of or text
        if len(self._noted) > MANY:
            self._noted.clear()
        if now - self._noted.get(key, -QUIET) >= QUIET:
            self._noted[key] = now
            self.log(text + more)

    # ── entities ────────────────────────────────────────────────────────────────────────────────────────────────

    def _topic(self, topic: Topic, *, bounds: bool = True) -> DdsTopic[Any]:
        with self._lock:
            key = topic.dds_name, bounds
            if key not in self._topics:
                topic.must_have(*PRIVATE)
                made = types.make(topic) if bounds else types.make(topic, bounds=False)
                self._topics[key] = DdsTopic(self._participant, topic.dds_name, made)
            return self._topics[key]

    def _publisher(self, partition: str) -> Publisher:
        """Partitions are a publisher's, from its first moment."""
        with self._lock:
            if partition not in self._publishers:
                self._publishers[partition] = Publisher(self._participant, qos=_in(partition))
            return self._publishers[partition]

    def _subscriber(self, partition: str) -> Subscriber:
        with self._lock:
            if partition not in self._subscribers:
                self._subscribers[partition] = Subscriber(self._participant, qos=_in(partition))
            return self._subscribers[partition]


@cache
def configured(domain: int, configuration: str | None) -> Domain | None:
    """A domain is configured once in a process, and kept as long. None: the library reads the environment itself."""
    return Domain(domain, configuration) if configuration is not None else None


def _in(partition: str) -> Qos:
    return Qos(Policy.Partition([partition]))
