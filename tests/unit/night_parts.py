"""The parts of a world without I/O in which whole nights are played: files, stores, components."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from skystow.image import archiver, controller, forwarder, oods
from skystow.model.acts import (
    Become,
    Effect,
    Keep,
    Note,
)
from skystow.model.lifecycle import Summary
from skystow.model.messages import (
    Message,
    file_name,
    raft_and_sensor,
)
from skystow.model.records import Arrival
from skystow.ports.talk import Conversation

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


def _serving(talk: Conversation) -> bool:
    return isinstance(talk, archiver.Archiver) and talk.state in (Summary.ENABLED, Summary.DISABLED)


def obsid_of(number: int) -> str:
    return f"CC_O_20260303_{number + 1:06d}"


def paths_of(obsid: str) -> set[str]:
    return {f"{DAY}/{file_name(obsid, *raft_and_sensor(each))}" for each in DETECTORS}


def _settings(restart: str) -> Callable[[int], archiver.Settings]:
    """Of each process of the Archiver, one after another; `restart`: the state in which it begins."""
    begin: Literal["standby", "last"] = "last" if restart == "last" else "standby"
    return lambda n: archiver.Settings(DETECTORS, f"s{n}", initial_state=begin)
