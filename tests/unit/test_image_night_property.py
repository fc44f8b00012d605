"""Random nights: the real Archiver, Controller, OODS and two Forwarders talk to each other, while messages are lost,
doubled, late and out of order, processes die at any commit, and a person disables and enables in the midst of it.

Hands and spine are models: files are entries of dictionaries. What they do is what the real ones promise; time is a
number, and chance a seed of hypothesis's.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from skystow.image import archiver, controller, forwarder, oods
from skystow.model.acts import (
    Act,
    Admit,
    Adopt,
    Assemble,
    Beat,
    Become,
    Bury,
    Do,
    DropLocal,
    DropStaged,
    Effect,
    FetchHeader,
    Ingest,
    Keep,
    Look,
    MakeDay,
    Mark,
    Milestone,
    Note,
    PopForwarder,
    Register,
    Say,
    SweepStaging,
    WriteManifest,
)
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    EndReadout,
    LargeFileObjectAvailable,
    Message,
    StartIntegration,
    file_name,
    raft_and_sensor,
)
from skystow.model.records import Arrival
from skystow.model.reports import (
    Adopted,
    AdoptionRefused,
    Assembled,
    AssemblyFailed,
    DayMade,
    Dropped,
    ForwarderFound,
    HandedOff,
    HeaderFailed,
    HeaderFetched,
    Ingested,
    ManifestWritten,
    NoForwarder,
    NotDropped,
    PassEnded,
    Presence,
)
from skystow.ports.talk import Conversation
from skystow.testing.mischief import NEVER_LOST

T0 = datetime(2026, 3, 4, 2, 0, tzinfo=UTC)
DETECTORS = ("R22_S00", "R22_S01")
DAY = "2026-03-03"
EVENTS = "archiver/events"
NOISY = 150.0
"""Seconds after which every message arrives, once: whatever was lost before must be made good then."""

SWEEP_AFTER = 600.0
LIMIT = 5000.0

FAILED, BEFORE, AFTER = "commit failed", "killed before the commit", "killed after the commit"
Talking = archiver.Archiver | controller.Controller | forwarder.Forwarder | oods.Oods


def digest_of(path: str) -> str:
    return "sha256:" + hashlib.sha256(path.encode()).hexdigest()


@dataclass
class File:
    """`inode`: which of them; `mtime` is that of whoever made it, in ns."""

    inode: int
    mtime: int
    digest: str
    since: float = 0.0


@dataclass
class Transfer:
    """One version of an arrival, as the ledger has it."""

    arrival: Arrival
    done: dict[str, bool]
    retired: bool = False


@dataclass
class Store:
    """A component's part of the ledger: a step is written once, a closed talk is replayed only after something new."""

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
                case Keep(name, value):
                    self.kept[name] = value
                case Become(state):
                    self.kept["state"] = state.name
                case _:
                    pass

    def steps(self) -> list[tuple[datetime, Message]]:
        return [(at, message) for message, at in self.order.items() if message.key not in self.closed]


@dataclass
class Component:
    """One process. `away`: dead from … until … ."""

    make: Callable[[int], Talking]
    away: tuple[float, float] = (LIMIT * 2, LIMIT * 2)
    store: Store = field(default_factory=Store)
    births: int = 0
    fresh: bool = True
    """Rebuilt: its host asks at once what is due."""
    talk: Talking = field(init=False)

    def __post_init__(self) -> None:
        self.born()

    def born(self) -> None:
        self.births += 1
        self.talk = self.make(self.births)
        self.restored()

    def restored(self) -> None:
        self.fresh = True
        self.talk.restore(self.store.steps(), dict(self.store.kept))


def _forwarder(name: str) -> Callable[[int], Talking]:
    return lambda _: forwarder.Forwarder(
        forwarder.Settings(target_root="/staging", locations={"22/0": DETECTORS}, detectors=DETECTORS, name=name)
    )


class World:
    def __init__(self, dice: Random, *, away: tuple[float, float], crashes: dict[int, str], restart: str) -> None:
        self.dice, self.crashes = dice, dict(crashes)
        self.time, self._count, self.commits = 0.0, itertools.count(), 0
        self.mail: list[tuple[float, int, str, str, Message]] = []
        """(due, number, to whom: a component's name, what: an address, `hands` or `notice`, message)."""
        self.moves: list[tuple[float, int, Transfer, str]] = []
        links = {"backbone": "/backbone", "oods": "/oods"}
        self.components = {
            "archiver": Component(
                lambda n: archiver.Archiver(archiver.Settings(DETECTORS, f"s{n}", initial_state=restart))
            ),
            "controller": Component(lambda _: controller.Controller(controller.Settings(links, detectors=DETECTORS))),
            "oods": Component(lambda _: oods.Oods(oods.Settings())),
            "f1": Component(_forwarder("f1"), away=away),
            "f2": Component(_forwarder("f2")),
        }
        self.addresses = {at: name for name, each in self.components.items() for at in each.talk.addresses}
        self.listed: list[str] = []
        self.alive: dict[str, float] = {}
        self.wanted = Summary.ENABLED
        self.begun: dict[str, Summary] = {}
        self.said: list[Message] = []
        self.completed: set[str] = set()
        self.days: set[str] = set()
        self.places: dict[str, dict[str, File]] = {name: {} for name in ("f1", "f2", "staging", "backbone", "oods")}
        self.headers: dict[str, set[str]] = {"f1": set(), "f2": set()}
        self.placed: Counter[tuple[str, str]] = Counter()
        self.manifests: dict[str, dict[str, str]] = {}
        self.catalogue: dict[str, str] = {}
        self.ledger: dict[tuple[str, str], list[Transfer]] = {}

    @property
    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.time)

    @property
    def archiver(self) -> Talking:
        return self.components["archiver"].talk

    def lives(self, name: str) -> bool:
        since, until = self.components[name].away
        return not since <= self.time < until

    # ── commit ──────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, name: str, effects: Sequence[Effect]) -> bool:
        """Whether what was heard may be forgotten; else the process, or what it knew, is gone."""
        component = self.components[name]
        for effect in effects:
            if isinstance(effect, Admit):
                self.admit(effect.arrival)
        self.commits += bool(effects)
        how = self.crashes.pop(self.commits, None) if effects else None
        if how in (FAILED, BEFORE):
            self._gone(name, born=how is not FAILED)
            return False
        component.store.write(effects, self.now)
        for effect in effects:
            match effect:
                case Say(to, message):
                    self.said.append(message)
                    self.send(to, message)
                case Mark(obsid, Milestone.COMPLETE):
                    self.completed.add(obsid)
                case Bury(letter):
                    raise AssertionError(letter)
                case Do(act) if how is None:
                    self.act(name, act)
                case _:
                    pass
        if how == AFTER:
            self._gone(name, born=True)
            return False
        return True

    def _gone(self, name: str, *, born: bool) -> None:
        self.mail = [each for each in self.mail if (each[2], each[3]) != (name, "hands")]
        heapq.heapify(self.mail)
        self.components[name].born() if born else self.components[name].restored()

    # ── the bus ─────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, to: str, message: Message) -> None:
        noisy = self.time < NOISY
        if noisy and not isinstance(message, NEVER_LOST) and self.dice.random() < 0.15:
            return
        for _ in range(2 if noisy and self.dice.random() < 0.2 else 1):
            delay = self.dice.uniform(0, 8) if noisy and self.dice.random() < 0.3 else 0.05
            self.post(delay, self.addresses[to], to, message)

    def post(self, delay: float, name: str, to: str, message: Message) -> None:
        heapq.heappush(self.mail, (self.time + delay, next(self._count), name, to, message))

    def deliver(self, name: str, to: str, message: Message) -> None:
        component = self.components[name]
        if not self.lives(name):
            if to != "hands":
                self.post(1, name, to, message)
            return
        talk = component.talk
        # The camera of this world rests while nobody listens; all else waits on the bus.
        listens = _serving(talk) if to == EVENTS else to in ("hands", "notice") or talk.hears(to)
        if not listens:
            self.post(1, name, to, message)
            return
        state = talk.state
        effects = talk.hear(message, self.now)
        if to == EVENTS and state is Summary.DISABLED:
            assert not any(isinstance(effect, Say | Do) for effect in effects), "acted upon while disabled"
        durable = self.commit(name, effects)
        if durable and isinstance(message, StartIntegration):
            self.begun.setdefault(message.image_id, state)
        elif not durable and to != "hands":
            self.post(1, name, to, message)
        if not durable and isinstance(message, StartIntegration) and message in component.store.order:
            self.begun.setdefault(message.image_id, state)

    # ── hands ───────────────────────────────────────────────────────────────────────────────────────────────────

    def act(self, name: str, act: Act) -> None:
        delay = self.dice.uniform(0.01, 3.0 if self.time < NOISY else 0.2)
        for report in self.done(name, act):
            self.post(delay, name, "hands", report)

    def done(self, name: str, act: Act) -> list[Message]:
        match act:
            case PopForwarder():
                if not self.listed:
                    return [NoForwarder("the list is empty")]
                found = self.listed.pop(0)
                return [ForwarderFound(found, f"forwarder/{found}", f"{found}_association")]
            case Register():
                self.listed += [] if name in self.listed else [name]
            case Beat(key, _, seconds):
                self.alive[key] = self.time + seconds
            case Look(key):
                return [Presence(key, self.alive.get(key, 0.0) > self.time)]
            case MakeDay(obsid, day):
                self.days.add(day)
                return [DayMade(obsid, f"/staging/{day}/")]
            case FetchHeader(obsid):
                if self.time < NOISY and self.dice.random() < 0.3:
                    return [HeaderFailed(obsid, "404", final=False)]
                self.headers[name].add(f"/{name}/{obsid}.yaml")
                return [HeaderFetched(obsid, f"/{name}/{obsid}.yaml")]
            case Assemble(obsid, detector, _, day):
                return [self.assembled(name, obsid, detector, day)]
            case DropLocal(obsid, path, _, digest):
                if digest:
                    self.release(name, path)
                else:
                    self.headers[name].discard(path)
                return [Dropped(obsid, path)]
            case Adopt(announced):
                return self.adopted(announced.obsid, announced.filename, announced.raft, announced.sensor)
            case DropStaged(obsid, path):
                return [Dropped(obsid, path) if self.release("staging", path) else NotDropped(obsid, path)]
            case WriteManifest(obsid, directory, files):
                self.manifests.setdefault(f"{directory}/{obsid}", dict(files))
                return [ManifestWritten(obsid, f"{directory}/{obsid}.sha256")]
            case Ingest(request):
                path = request.filename.removeprefix("/oods/")
                already = path in self.catalogue
                self.catalogue[path] = self.places["oods"][path].digest
                return [Ingested(request.obsid, request.filename, request.raft, request.sensor, already)]
            case SweepStaging():
                return self.swept()
            case _:
                raise AssertionError(act)
        return []

    def assembled(self, name: str, obsid: str, detector: str, day: str) -> Message:
        if self.time < NOISY and self.dice.random() < 0.2:
            return AssemblyFailed(obsid, detector, "no pixels yet", final=False)
        path = f"{day}/{file_name(obsid, *raft_and_sensor(detector))}"
        number = next(self._count)
        made = self.places[name].setdefault(path, File(number, number, digest_of(path)))
        return Assembled(obsid, detector, path, 100, made.digest, made.mtime)

    def adopted(self, obsid: str, filename: str, raft: str, sensor: str, *, swept: bool = False) -> list[Message]:
        path = filename.removeprefix("/staging/")
        latest = next(reversed(self.ledger.get(("staging", path), [])), None)
        links: list[Message] = []
        if latest is not None and all(latest.done.values()):
            links = [HandedOff(obsid, path, to, digest_of(path), 100) for to in latest.done]
        if (found := self.places["staging"].get(path)) is None:
            return links or [AdoptionRefused(obsid, filename, "no such file", final=False, gone=True)]
        same = latest is not None and latest.arrival.fingerprint.mtime_ns == found.mtime
        adopted = Adopted(obsid, filename, path, raft, sensor, 100, found.digest, found.mtime, found.inode, 0, swept)
        return [adopted, *(links if same else [])]

    def swept(self) -> list[Message]:
        """Whole files of which nobody spoke, or which came once more."""
        found: list[Message] = []
        for path, file in list(self.places["staging"].items()):
            versions = self.ledger.get(("staging", path), [])
            if self.time - file.since > SWEEP_AFTER and (not versions or versions[-1].retired):
                obsid, _, name = PurePosixPath(path).stem.rpartition("-")
                found += self.adopted(obsid, f"/staging/{path}", name[1:3], name[4:], swept=True)
        return [*found, PassEnded()]

    # ── the spine ───────────────────────────────────────────────────────────────────────────────────────────────

    def admit(self, arrival: Arrival) -> None:
        """By what a file looks like; another one under the same name is another version, and is carried anew."""
        versions = self.ledger.setdefault((arrival.source, str(arrival.path)), [])
        if versions and versions[-1].arrival.fingerprint.same_content(arrival.fingerprint):
            return
        to = ("backbone", "oods") if arrival.source == "staging" else ("staging",)
        versions.append(Transfer(arrival, dict.fromkeys(to, False)))
        for destination in to:
            delay = self.dice.uniform(0.05, 5.0 if self.time < NOISY else 0.3)
            heapq.heappush(self.moves, (self.time + delay, next(self._count), versions[-1], destination))

    def carrier(self, transfer: Transfer) -> str:
        """Whose pump it is."""
        return "controller" if transfer.arrival.source == "staging" else transfer.arrival.source

    def move(self, transfer: Transfer, destination: str) -> None:
        """By hard link; what stands there with the same content is a success."""
        source, path = transfer.arrival.source, str(transfer.arrival.path)
        if not self.lives(owner := self.carrier(transfer)):
            heapq.heappush(self.moves, (self.time + 1, next(self._count), transfer, destination))
            return
        there = self.places[destination].get(path)
        if there is None:
            # A KeyError: it went before it was carried.
            self.places[destination][path] = replace(self.places[source][path], since=self.time)
            if destination != "staging":
                self.placed[destination, path] += 1
        transfer.done[destination] = True
        obsid = PurePosixPath(path).name.rpartition("-")[0]
        self.post(0.02, owner, "notice", HandedOff(obsid, path, destination, digest_of(path), 100))

    def release(self, source: str, path: str) -> bool:
        """As `skystow.engine.retire.release`."""
        for transfer in reversed(self.ledger.get((source, path), [])):
            if not all(transfer.done.values()):
                return False
            found = self.places[source].get(path)
            if found is not None and transfer.arrival.fingerprint.mtime_ns == found.mtime:
                del self.places[source][path]
            transfer.retired = True
            return True
        return False

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def operate(self) -> None:
        """A person who wants a state, and knows the law."""
        talk = self.archiver
        assert isinstance(talk, archiver.Archiver)
        verb = None
        if talk.state is Summary.FAULT:
            verb = Verb.STANDBY
        elif talk.state is Summary.STANDBY:
            verb = None if talk.hears("archiver") else Verb.START
        elif talk.state is not self.wanted:
            verb = Verb.ENABLE if self.wanted is Summary.ENABLED else Verb.DISABLE
        if verb is not None:
            self.commit("archiver", talk.command(verb, self.now))

    def wake(self, name: str) -> None:
        component = self.components[name]
        component.fresh = False
        if self.lives(name) and self.commit(name, component.talk.due(self.now)):
            due = component.talk.next_due()
            assert due is None or due > self.now, f"{name} spins"

    def due(self, name: str) -> float:
        if not self.lives(name):
            return max(self.time + 1, self.components[name].away[1])
        if self.components[name].fresh:
            return self.time
        due = self.components[name].talk.next_due()
        return LIMIT if due is None else (due - T0).total_seconds()

    def run(self, script: Sequence[tuple[float, Callable[[], None]]], over: Callable[[], bool]) -> None:
        todo = sorted(script, key=lambda each: each[0])
        tick = 0.0
        while todo or not over():
            assert self.time < LIMIT, self.told()
            soonest = min(self.components, key=self.due)
            wake = self.due(soonest)
            mail = self.mail[0][0] if self.mail else LIMIT
            move = self.moves[0][0] if self.moves else LIMIT
            script_at = todo[0][0] if todo else LIMIT
            self.time = max(self.time, min(tick, wake, mail, move, script_at))
            if todo and script_at <= self.time:
                todo.pop(0)[1]()
            elif self.mail and mail <= self.time:
                _, _, name, to, message = heapq.heappop(self.mail)
                self.deliver(name, to, message)
            elif self.moves and move <= self.time:
                _, _, transfer, destination = heapq.heappop(self.moves)
                self.move(transfer, destination)
            elif tick <= self.time:
                self.operate()
                tick += 1
            else:
                self.wake(soonest)

    def quiet(self) -> bool:
        """Nothing is on its way to anybody who lives."""
        said = any(message.key and self.lives(name) for _, _, name, _, message in self.mail)
        return not said and all(not self.lives(self.carrier(transfer)) for _, _, transfer, _ in self.moves)

    def left(self) -> list[str]:
        """Files that should be gone by now."""
        found = [*self.places["staging"]]
        for name in ("f1", "f2"):
            # Who waits for the end of a readout that another was told of forgets the exposure after days.
            open_ = {step.key for _, step in self.components[name].store.steps()}
            headers = {each for each in self.headers[name] if PurePosixPath(each).stem not in open_}
            found += [*self.places[name], *headers] if self.lives(name) else []
        return found

    def told(self) -> str:
        open_ = [f"{name}: {step}" for name, each in self.components.items() for _, step in each.store.steps()]
        left = [f"{name}: {self.places[name]}" for name in ("staging", "f1", "f2") if self.places[name]]
        told = [f"{self.begun}", f"{self.completed}", *open_, *left, f"{self.headers}", f"{self.mail}"]
        return "not over: " + "\n".join(told)


def _serving(talk: Conversation) -> bool:
    return isinstance(talk, archiver.Archiver) and talk.state in (Summary.ENABLED, Summary.DISABLED)


def obsid_of(number: int) -> str:
    return f"CC_O_20260303_{number + 1:06d}"


def paths_of(obsid: str) -> set[str]:
    return {f"{DAY}/{file_name(obsid, *raft_and_sensor(each))}" for each in DETECTORS}


@st.composite
def exposures(draw: st.DrawFn) -> list[tuple[float, float, float]]:
    """When each begins, is read out, and has its header."""
    starts = draw(st.lists(st.floats(10, 100), min_size=1, max_size=4))
    return [(at, at + draw(st.floats(0, 20)), at + draw(st.floats(-3, 25))) for at in starts]


@given(
    seed=st.integers(0, 2**32 - 1),
    night=exposures(),
    switches=st.lists(st.floats(12, 140), max_size=4),
    dies_at=st.one_of(st.just(LIMIT * 2), st.floats(0, 140)),
    away_for=st.one_of(st.just(LIMIT * 2), st.floats(1, 200)),
    crashes=st.dictionaries(st.integers(5, 400), st.sampled_from([FAILED, BEFORE, AFTER]), max_size=6),
    restart=st.sampled_from(["last", "standby"]),
)
def test_every_exposure_begun_while_enabled_is_archived_once(
    seed: int,
    night: list[tuple[float, float, float]],
    switches: list[float],
    dies_at: float,
    away_for: float,
    crashes: dict[int, str],
    restart: str,
) -> None:
    world = World(Random(seed), away=(dies_at, dies_at + away_for), crashes=crashes, restart=restart)

    def event(message: Message) -> Callable[[], None]:
        return lambda: world.send(EVENTS, message)

    def want(state: Summary) -> Callable[[], None]:
        def switch() -> None:
            world.wanted = state

        return switch

    def reborn() -> None:
        if world.components["f1"].away[0] < LIMIT:
            world._gone("f1", born=True)

    script: list[tuple[float, Callable[[], None]]] = [(NOISY, want(Summary.ENABLED)), (dies_at + away_for, reborn)]
    script = [(at, act) for at, act in script if at < LIMIT]
    for number, (start, end, header) in enumerate(night):
        obsid = obsid_of(number)
        script.append((start, event(StartIntegration(obsid))))
        script.append((end, event(EndReadout(obsid))))
        script.append((header, event(LargeFileObjectAvailable(obsid, f"http://header/{obsid}.yaml"))))
    for state, at in zip(itertools.cycle([Summary.DISABLED, Summary.ENABLED]), sorted(switches), strict=False):
        script.append((at, want(state)))

    def ours() -> set[str]:
        return {obsid for obsid, state in world.begun.items() if state is Summary.ENABLED}

    def over() -> bool:
        if not (world.quiet() and world.time > NOISY + 10 and len(world.begun) == len(night)):
            return False
        return ours() <= world.completed and not world.left()

    world.run(script, over)
    wanted = {path for obsid in ours() for path in paths_of(obsid)}
    for place in ("backbone", "oods"):
        assert {path: file.digest for path, file in world.places[place].items()} == {p: digest_of(p) for p in wanted}
    assert set(world.placed.values()) <= {1}, "each name was made once"
    assert world.catalogue == {path: digest_of(path) for path in wanted}
    for obsid in world.begun:
        about = [message for message in world.said if message.key == obsid]
        manifest = world.manifests.get(f"{DAY}/{obsid}")
        if obsid in ours():
            assert manifest == {path: digest_of(path).partition(":")[2] for path in paths_of(obsid)}
        else:
            assert not about, "begun while disabled, and acted upon"
            assert manifest is None
    assert world.days <= {DAY}
