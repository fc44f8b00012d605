"""A world without I/O in which all four conversations play a night, with mischief on the bus."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from random import Random

from tests.unit.night_parts import (
    AFTER,
    BEFORE,
    DETECTORS,
    EVENTS,
    FAILED,
    LIMIT,
    NOISY,
    SWEEP_AFTER,
    T0,
    Component,
    File,
    Talking,
    Transfer,
    _forwarder,
    _serving,
    _settings,
    digest_of,
)

from skystow.image import archiver, controller, oods
from skystow.model.acts import (
    Act,
    Admit,
    Adopt,
    Assemble,
    Beat,
    Bury,
    Do,
    DropLocal,
    DropStaged,
    Effect,
    FetchHeader,
    Ingest,
    Look,
    MakeDay,
    Mark,
    Milestone,
    PopForwarder,
    Register,
    Say,
    SweepStaging,
    WriteManifest,
)
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import Message, StartIntegration, file_name, raft_and_sensor
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
from skystow.testing.mischief import NEVER_LOST


class World:
    def __init__(self, dice: Random, *, away: tuple[float, float], crashes: dict[int, str], restart: str) -> None:
        self.dice, self.crashes = dice, dict(crashes)
        self.time, self._count, self.commits = 0.0, itertools.count(), 0
        self.mail: list[tuple[float, int, str, str, Message]] = []
        """(due, number, to whom: a component's name, what: an address, `hands` or `notice`, message)."""
        self.moves: list[tuple[float, int, Transfer, str]] = []
        links, settings = {"backbone": "/backbone", "oods": "/oods"}, _settings(restart)
        self.components = {
            "archiver": Component(lambda n: archiver.Archiver(settings(n))),
            "controller": Component(lambda _: controller.Controller(controller.Settings(links, detectors=DETECTORS))),
            "oods": Component(lambda _: oods.Oods(oods.Settings())),
            "f1": Component(_forwarder("f1"), away=away),
            "f2": Component(_forwarder("f2")),
        }
        self.addresses = {at: name for name, each in self.components.items() for at in each.talk.addresses}
        self.listed, self.alive = list[str](), dict[str, float]()
        self.wanted = Summary.ENABLED
        self.begun: dict[str, Summary] = {}
        self.said: list[Message] = []
        self.completed, self.days = set[str](), set[str]()
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
