"""Random nights through the Archiver: messages lost, doubled, late, out of order; a forwarder that dies; disable and
enable in the middle; a process that is killed at any commit, and a person who is slow to start the next one while the
camera goes on. Time is a number, chance is a seed of hypothesis's.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from skystow.image.archiver import Archiver, Settings
from skystow.model.acts import Beat, Become, Do, Effect, Keep, Look, Mark, Milestone, Note, PopForwarder, Say, Tell
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    EndReadout,
    HeaderReady,
    HeaderReadyAck,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    ReadoutEnded,
    ReadoutEndedAck,
    StartIntegration,
    XferParams,
    XferParamsAck,
)
from skystow.model.reports import ForwarderFound, NoForwarder, Presence

T0 = datetime(2026, 3, 4, 2, 0, tzinfo=UTC)
DETECTORS = ("R22_S00", "R22_S01", "R22_S10")
NOISY = 150.0
"""Seconds after which every message arrives, once: whatever was lost before must be made good then."""
LIMIT = 6 * 3600.0
CRASH, FAILED_COMMIT = "crash", "failed commit"


@dataclass
class Ledger:
    """As the SQL one: a step is written once, a closed talk is replayed only after something new."""

    order: dict[Message, datetime] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)

    def write(self, effects: Sequence[Effect], now: datetime) -> None:
        for effect in effects:
            match effect:
                case Note(message, closes):
                    if closes:
                        self.closed.add(message.key)
                    elif message not in self.order:
                        self.closed.discard(message.key)
                    self.order.setdefault(message, now)
                case Keep(field_, value):
                    self.kept[field_] = value
                case Become(state):
                    self.kept["state"] = state.name
                case _:
                    pass

    def steps(self) -> list[tuple[datetime, Message]]:
        return [(at, message) for message, at in self.order.items() if message.key not in self.closed]


@dataclass
class Forwarder:
    """Obeys the protocol: acknowledges what it has, retrieves when it has all three, says again what it said."""

    found: ForwarderFound
    dies_at: float
    has: dict[str, set[type[Message]]] = field(default_factory=lambda: defaultdict(set))


class Night:
    def __init__(
        self, dice: Random, *, dies_at: float, crashes: dict[int, str], restart: str, asleep: float = 0.0
    ) -> None:
        self.dice, self.crashes, self.restart, self.asleep = dice, crashes, restart, asleep
        self.time, self._count, self.commits = 0.0, itertools.count(), 0
        self.mail: list[tuple[float, int, str, Message]] = []
        self.ledger = Ledger()
        self.forwarders = {
            name: Forwarder(ForwarderFound(name, f"forwarder/{name}", f"{name}_association"), dies)
            for name, dies in (("fp01", dies_at), ("fp02", LIMIT * 2))
        }
        self.listed = list(self.forwarders)
        self.association_until = 0.0
        self.wanted = Summary.ENABLED
        self.told: Counter[Message] = Counter()
        self.begun: dict[str, Summary] = {}
        self.said: list[Say] = []
        self.completed: set[str] = set()
        self.processes = 0
        self.recovering = False
        """Died while ENABLED, and not started since."""
        self.resting: set[str] = set()
        """Begun while recovering, and not enabled since."""
        self.awake_at = 0.0
        self._born()
        self.awake_at = 0.0

    # ── the process ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.time)

    def _born(self) -> None:
        self.processes += 1
        self.archiver = Archiver(Settings(DETECTORS, f"s{self.processes}", initial_state=self.restart))
        kept = dict(self.ledger.kept)
        self.recovering |= self.restart == "standby" and kept.get("state") == "ENABLED"
        self.awake_at = self.time + self.asleep
        self._restored(kept)

    def _commit_failed(self) -> None:
        self._restored(self.ledger.kept | {"state": self.state.name})  # as the host remembers it

    def _restored(self, kept: dict[str, str]) -> None:
        self.mail = [each for each in self.mail if each[2] != "hands"]  # their reports go with the process
        heapq.heapify(self.mail)
        self.archiver.restore(self.ledger.steps(), kept)
        self.state = self.archiver.state

    def commit(self, effects: Sequence[Effect]) -> bool:
        """Whether it is durable; else the process, or what it knew, is gone."""
        self.commits += bool(effects)
        if effects and (how := self.crashes.pop(self.commits, None)) is not None:
            self._commit_failed() if how == FAILED_COMMIT else self._born()
            return False
        self.ledger.write(effects, self.now)
        for become in [effect for effect in effects if isinstance(effect, Become)]:
            self.state = become.state
            self.recovering &= become.state is Summary.STANDBY
            self.resting = set() if become.state is Summary.ENABLED else self.resting
        for effect in effects:
            match effect:
                case Say(to, message):
                    assert message.key not in self.resting, "acted upon before it is enabled again"
                    self.said.append(effect)
                    self.send(to, message, may_be_lost=True)
                case Tell(message):
                    self.told[message] += 1
                case Mark(obsid, Milestone.COMPLETE):
                    self.completed.add(obsid)
                case Do(act):
                    self.act(act)
                case _:
                    pass
        return True

    def act(self, act: object) -> None:
        match act:
            case PopForwarder() if self.listed:
                self._report(self.forwarders[self.listed.pop(0)].found)
            case PopForwarder():
                self._report(NoForwarder("the list is empty"))
            case Look(key):
                alive = any(f.found.presence_key == key and f.dies_at > self.time for f in self.forwarders.values())
                self._report(Presence(key, alive))
            case Beat(_, _, seconds):
                self.association_until = self.time + seconds
            case _:
                raise AssertionError(act)

    def _report(self, message: Message) -> None:
        heapq.heappush(self.mail, (self.time + 0.05, next(self._count), "hands", message))

    # ── the bus ─────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, to: str, message: Message, *, may_be_lost: bool) -> None:
        noisy = self.time < NOISY
        if noisy and may_be_lost and self.dice.random() < 0.2:
            return
        for _ in range(2 if noisy and self.dice.random() < 0.2 else 1):
            delay = self.dice.uniform(0, 8) if noisy and self.dice.random() < 0.3 else 0.1
            heapq.heappush(self.mail, (self.time + delay, next(self._count), to, message))

    def deliver(self, to: str, message: Message) -> None:
        if to in ("hands", "archiver", "archiver/events"):
            self.to_archiver(to, message)
        elif to == "controller":
            self.to_controller(message)
        else:
            self.to_forwarder(self.forwarders[to.removeprefix("forwarder/")], message)

    def to_archiver(self, to: str, message: Message) -> None:
        if to != "hands" and not self.archiver.hears(to):  # on the bus, acks and outcomes wait
            heapq.heappush(self.mail, (self.time + 1, next(self._count), to, message))
            return
        state, recovering = self.archiver.state, self.recovering
        effects = self.archiver.hear(message, self.now)
        if to == "archiver/events" and state is not Summary.ENABLED:
            assert not any(isinstance(effect, Say) for effect in effects), "acted upon while it is not enabled"
        if to == "archiver/events" and not self._listens(message):
            assert effects == [], "heard by somebody whom a person, or a fault, had stopped"
            heapq.heappush(self.mail, (self.time + 1, next(self._count), to, message))  # the camera of this world waits
            return
        durable = self.commit(effects)
        if not durable and to != "hands":
            heapq.heappush(self.mail, (self.time + 1, next(self._count), to, message))
        elif durable and isinstance(message, StartIntegration) and message.image_id not in self.begun:
            self.begun[message.image_id] = Summary.ENABLED if recovering else state
            self.resting |= {message.image_id} if recovering else set()

    def _listens(self, event: Message) -> bool:
        serving = self.archiver.state in (Summary.ENABLED, Summary.DISABLED)
        return serving or self.recovering or self.begun.get(event.key) is Summary.ENABLED

    def to_controller(self, message: Message) -> None:
        match message:
            case HealthCheck(ack_id, session_id, reply_to):
                self.send(reply_to, HealthCheckAck(ack_id, session_id, "ARCHIVE_CTRL"), may_be_lost=True)
            case NewArchiveItem(ack_id, job, session_id, obsid, reply_to):
                ack = NewArchiveItemAck(ack_id, job, session_id, obsid, "/staging/2026-03-03/", "ARCHIVE_CTRL")
                self.send(reply_to, ack, may_be_lost=True)
            case _:
                raise AssertionError(message)

    def to_forwarder(self, forwarder: Forwarder, message: Message) -> None:
        if forwarder.dies_at <= self.time:
            return
        name = forwarder.found.name
        match message:
            case Associated(ack_id, _, reply_to):
                self.send(reply_to, AssociatedAck(ack_id, forwarder.found.presence_key, name), may_be_lost=True)
                return
            case XferParams():
                ack: Message = XferParamsAck(message.ack_id, message.image_id, name)
            case ReadoutEnded():
                ack = ReadoutEndedAck(message.ack_id, message.image_id, name)
            case HeaderReady():
                ack = HeaderReadyAck(message.ack_id, message.image_id, name)
            case _:
                raise AssertionError(message)
        has = forwarder.has[message.key]
        has.add(type(message))
        self.send("archiver", ack, may_be_lost=True)
        if len(has) == 3:
            self.retrieve(message.key)

    def retrieve(self, obsid: str) -> None:
        """At least once: outcomes are late, doubled and out of order, and are not lost."""
        for detector in DETECTORS:
            raft, sensor = detector[1:3], detector[-2:]
            name = f"/staging/2026-03-03/{obsid}-R{raft}S{sensor}.fits"
            if self.dice.random() < 0.2:
                failed = ImageRetrieval(obsid, raft, sensor, name, 5612, "not sent")
                self.send("archiver", failed, may_be_lost=False)
            done = ImageRetrieval(obsid, raft, sensor, name, 0, "retrieved")
            stored = ImageInOODS("COMCAM", "CCArchiver", obsid, raft, sensor, name, 0, "file ingested")
            self.send("archiver", done, may_be_lost=False)
            self.send("archiver", stored, may_be_lost=False)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def operate(self) -> None:
        """A person who wants a state, and knows the law. Forwarders that nobody holds put themselves on the list."""
        if self.time < self.awake_at:
            return
        state, verb = self.archiver.state, None
        if state is Summary.FAULT or (state is Summary.STANDBY and self._under_way()):
            verb = Verb.STANDBY if state is Summary.FAULT else None
        elif state is Summary.STANDBY:
            verb = Verb.START
        elif state is not self.wanted:
            verb = Verb.ENABLE if self.wanted is Summary.ENABLED else Verb.DISABLE
        if verb is not None:
            self.commit(self.archiver.command(verb, self.now))
        if self.association_until <= self.time and int(self.time) % 10 == 0:
            self.listed += [n for n, f in self.forwarders.items() if f.dies_at > self.time and n not in self.listed]

    def _under_way(self) -> bool:
        return self.archiver.hears("archiver")

    def wake(self) -> None:
        archiver = self.archiver
        if self.commit(archiver.due(self.now)):
            due = archiver.next_due()
            assert due is None or due > self.now, "it spins"

    def run(self, script: Sequence[tuple[float, Callable[[], None]]], over: Callable[[], bool]) -> None:
        todo = sorted(script, key=lambda each: each[0])
        tick = 0.0
        while todo or not over():
            due = self.archiver.next_due()
            wake = LIMIT if due is None else (due - T0).total_seconds()
            mail = self.mail[0][0] if self.mail else LIMIT
            act = todo[0][0] if todo else LIMIT
            self.time = max(self.time, min(tick, wake, mail, act))
            assert self.time < LIMIT, f"not complete: {self.begun} {self.completed}"
            if act <= self.time:
                todo.pop(0)[1]()
            elif mail <= self.time:
                _, _, to, message = heapq.heappop(self.mail)
                self.deliver(to, message)
            elif tick <= self.time:
                self.operate()
                tick += 1
            else:
                self.wake()


def obsid_of(number: int) -> str:
    return f"CC_O_20260303_{number + 1:06d}"


@st.composite
def exposures(draw: st.DrawFn) -> list[tuple[float, float, float]]:
    """When each begins, is read out, and has its header."""
    starts = draw(st.lists(st.floats(10, 100), min_size=1, max_size=5))
    return [(at, at + draw(st.floats(0, 20)), at + draw(st.floats(-3, 25))) for at in starts]


@given(
    seed=st.integers(0, 2**32 - 1),
    night=exposures(),
    switches=st.lists(st.floats(12, 140), max_size=4),
    dies_at=st.one_of(st.just(LIMIT * 2), st.floats(0, 140)),
    crashes=st.dictionaries(st.integers(5, 120), st.sampled_from([CRASH, FAILED_COMMIT]), max_size=4),
    restart=st.sampled_from(["last", "standby"]),
    asleep=st.sampled_from([0.0, 5.0, 30.0]),
)
def test_every_exposure_begun_while_enabled_is_complete(
    seed: int,
    night: list[tuple[float, float, float]],
    switches: list[float],
    dies_at: float,
    crashes: dict[int, str],
    restart: str,
    asleep: float,
) -> None:
    world = Night(Random(seed), dies_at=dies_at, crashes=crashes, restart=restart, asleep=asleep)

    def event(message: Message) -> Callable[[], None]:
        return lambda: world.send("archiver/events", message, may_be_lost=False)

    def want(state: Summary) -> Callable[[], None]:
        def switch() -> None:
            world.wanted = state

        return switch

    script: list[tuple[float, Callable[[], None]]] = [(NOISY, want(Summary.ENABLED))]
    for number, (start, end, header) in enumerate(night):
        obsid = obsid_of(number)
        script.append((start, event(StartIntegration(obsid))))
        script.append((end, event(EndReadout(obsid))))
        script.append((header, event(LargeFileObjectAvailable(obsid, f"http://header/{obsid}.yaml"))))
    for state, at in zip(itertools.cycle([Summary.DISABLED, Summary.ENABLED]), sorted(switches), strict=False):
        script.append((at, want(state)))

    def over() -> bool:
        heard = len(world.begun) == len(night)
        ours = {obsid for obsid, state in world.begun.items() if state is Summary.ENABLED}
        quiet = not any(to in ("archiver", "archiver/events") and m.key for _, _, to, m in world.mail)
        return heard and ours <= world.completed and quiet and world.time > NOISY

    world.run(script, over)
    for obsid, state in world.begun.items():
        about = [say for say in world.said if say.message.key == obsid]
        if state is not Summary.ENABLED:
            assert not about, "begun while disabled, and acted upon"
            assert obsid not in world.completed
            continue
        check_one(world, obsid, about)


def check_one(world: Night, obsid: str, about: Sequence[Say]) -> None:
    """Each outcome told once, each detector's at least once; one JOB_NUM; nothing before the parameters."""
    told = {message: times for message, times in world.told.items() if message.key == obsid}
    assert set(told.values()) == {1}
    well = {
        (type(m), m.raft, m.sensor) for m in told if isinstance(m, ImageRetrieval | ImageInOODS) and not m.status_code
    }
    assert well == {(kind, d[1:3], d[-2:]) for kind in (ImageRetrieval, ImageInOODS) for d in DETECTORS}
    jobs = {m.job_num for m in (s.message for s in about) if isinstance(m, NewArchiveItem | XferParams | ReadoutEnded)}
    others = {s.message.job_num for s in world.said if isinstance(s.message, NewArchiveItem) and s.message.key != obsid}
    assert len(jobs) == 1
    assert not jobs & others
    introduced: set[str] = set()
    for say in about:
        if isinstance(say.message, XferParams):
            introduced.add(say.to)
        assert say.to == "controller" or say.to in introduced
