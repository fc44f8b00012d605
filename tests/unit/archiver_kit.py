"""An Archiver at a desk: a clock, what the ledger would hold, and everybody who answers it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from skystow.image.archiver import Archiver, Settings
from skystow.model.acts import Act, Become, Do, Effect, Keep, Look, Mark, Milestone, Note, Say
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
from skystow.model.reports import ForwarderFound, Presence

T0 = datetime(2026, 3, 4, 2, 0, tzinfo=UTC)
DETECTORS = tuple(f"R22_S{row}{column}" for row in range(3) for column in range(3))
FIRST, SECOND = "CC_O_20260303_000001", "CC_O_20260303_000002"
DAY = "/staging/2026-03-03/"
F1 = ForwarderFound("fp01", "forwarder/fp01", "fp01_association")
F2 = ForwarderFound("fp02", "forwarder/fp02", "fp02_association")
URL = "http://header/CC_O_20260303_000001.yaml"

Kind = TypeVar("Kind")


def settings(**more: object) -> Settings:
    return Settings(detectors=DETECTORS, session_id="s1", login="arc", host="archive", **more)  # type: ignore[arg-type]


def retrieved(obsid: str, detector: str, code: int = 0, text: str = "retrieved") -> ImageRetrieval:
    return ImageRetrieval(obsid, detector[1:3], detector[-2:], f"{DAY}{obsid}-{detector}.fits", code, text)


def ingested(obsid: str, detector: str, code: int = 0, text: str = "file ingested") -> ImageInOODS:
    name = f"{obsid}-{detector}.fits"
    return ImageInOODS("COMCAM", "CCArchiver", obsid, detector[1:3], detector[-2:], name, code, text)


class Desk:
    """An Archiver, a clock, and what the ledger would hold."""

    def __init__(self, config: Settings | None = None) -> None:
        self.now = T0
        self.steps: list[tuple[datetime, Message]] = []
        self.kept: dict[str, str] = {}
        self.log: list[Effect] = []
        self.begin(config or settings())

    def begin(self, config: Settings) -> None:
        """A new process."""
        self.archiver = Archiver(config)
        self.restore()

    def restore(self) -> None:
        self.archiver.restore(self.steps, self.kept)
        self.did(self.archiver.due(self.now))

    def did(self, effects: Sequence[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case Note(message, closes):
                    self.steps.append((self.now, message))
                    if closes:
                        self.steps = [(at, step) for at, step in self.steps if step.key != message.key]
                case Keep(field, value):
                    self.kept[field] = value
                case Become(state):
                    self.kept["state"] = state.name
                case _:
                    pass
        self.log += effects
        return list(effects)

    def hear(self, *messages: Message) -> list[Effect]:
        return [effect for message in messages for effect in self.did(self.archiver.hear(message, self.now))]

    def command(self, verb: Verb) -> list[Effect]:
        return self.did(self.archiver.command(verb, self.now))

    def wait(self, seconds: float, *, answering: bool = True) -> list[Effect]:
        """Let time pass, waking whenever something is due; the Controller answers and the forwarder lives."""
        until, effects = self.now + timedelta(seconds=seconds), list[Effect]()
        while (due := self.archiver.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            effects += self.round(answering=answering)
            following = self.archiver.next_due()
            assert following is None or following > self.now, "it would spin"
        self.now = until
        return effects

    def round(self, *, answering: bool = True) -> list[Effect]:
        effects = self.did(self.archiver.due(self.now))
        queue = list(effects) if answering else []
        while queue:
            more: list[Effect] = []
            match queue.pop(0):
                case Say(message=HealthCheck(ack_id, session_id)):
                    more = self.hear(HealthCheckAck(ack_id, session_id, "ARCHIVE_CTRL"))
                case Do(Look(key)):
                    more = self.hear(Presence(key, True))
                case _:
                    pass
            effects += more
            queue += more
        return effects

    def up(self, forwarder: ForwarderFound = F1) -> None:
        """Start and enable."""
        self.start(forwarder)
        self.command(Verb.ENABLE)

    def start(self, forwarder: ForwarderFound = F1) -> None:
        check = one(said(self.command(Verb.START), HealthCheck))
        self.hear(HealthCheckAck(check.ack_id, check.session_id, "ARCHIVE_CTRL"))
        asked = said(self.pair(forwarder), Associated)
        self.hear(AssociatedAck(one(asked).ack_id, forwarder.presence_key, forwarder.name))
        assert self.archiver.state is Summary.DISABLED

    def pair(self, forwarder: ForwarderFound) -> list[Effect]:
        self.hear(forwarder)
        self.did(self.archiver.due(self.now))
        return self.hear(Presence(forwarder.presence_key, True))

    def locate(self, obsid: str = FIRST) -> list[Effect]:
        item = [m for m in said(self.log, NewArchiveItem) if m.image_id == obsid][-1]
        return self.hear(NewArchiveItemAck(item.ack_id, item.job_num, item.session_id, obsid, DAY, "ARCHIVE_CTRL"))

    def take(self, obsid: str = FIRST) -> list[Effect]:
        """From the camera to the forwarder, all acknowledged."""
        effects = self.hear(StartIntegration(obsid, image_date="20260303"))
        effects += self.locate(obsid)
        effects += self.hear(EndReadout(obsid), LargeFileObjectAvailable(obsid, URL, 12, "ab"))
        self.acknowledge(effects)
        return effects

    def acknowledge(self, effects: Sequence[Effect], by: str = "fp01") -> list[Effect]:
        acks: list[Message] = []
        acks += [XferParamsAck(m.ack_id, m.image_id, by) for m in said(effects, XferParams)]
        acks += [ReadoutEndedAck(m.ack_id, m.image_id, by) for m in said(effects, ReadoutEnded)]
        acks += [HeaderReadyAck(m.ack_id, m.image_id, by) for m in said(effects, HeaderReady)]
        return self.hear(*acks)

    def finish(self, obsid: str = FIRST) -> list[Effect]:
        return self.hear(*[f(obsid, d) for f in (retrieved, ingested) for d in DETECTORS])


def said(effects: Sequence[Effect], kind: type[Kind]) -> list[Kind]:
    return [effect.message for effect in effects if isinstance(effect, Say) and isinstance(effect.message, kind)]


def done(effects: Sequence[Effect]) -> list[Act]:
    return [effect.act for effect in effects if isinstance(effect, Do)]


def of(effects: Sequence[Effect], kind: type[Kind]) -> list[Kind]:
    return [effect for effect in effects if isinstance(effect, kind)]


def marked(effects: Sequence[Effect], what: Milestone) -> list[Mark]:
    return [mark for mark in of(effects, Mark) if mark.what is what]


def one(things: Sequence[Kind]) -> Kind:
    assert len(things) == 1, things
    return things[0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def up() -> Desk:
    desk = Desk()
    desk.up()
    return desk
