"""A Forwarder's night as a list of messages, and everybody around it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from skystow.image.forwarder import Forwarder, Settings
from skystow.model.acts import Act, Admit, Assemble, Do, DropLocal, Effect, FetchHeader, Keep, Mark, Note, Say
from skystow.model.messages import (
    FileTransferCompleted,
    FileTransferCompletedAck,
    HeaderReady,
    ImageRetrieval,
    Message,
    ReadoutEnded,
    XferParams,
)
from skystow.model.packing import packed, unpacked
from skystow.model.reports import Assembled, Dropped, HandedOff, HeaderFetched

NOW = datetime(2021, 3, 5, 4, tzinfo=UTC)
DETECTORS = ("R22_S00", "R22_S01", "R22_S02")
SETTINGS = Settings("/data/staging", {"22/0": DETECTORS[:2], "22/1": DETECTORS[2:]}, DETECTORS)
FIRST, SECOND = "CC_O_20210304_000001", "CC_O_20210304_000002"
DIGEST = "sha256:" + "ab" * 32


def transfer(obsid: str, ack: str = "1", **other: object) -> XferParams:
    asked = XferParams(ack, 3, "s", obsid, "CC", "/data/staging/2021-03-04/", ("22/0", "22/1"), "host", "archiver")
    return replace(asked, **other)  # type: ignore[arg-type]


def readout(obsid: str, ack: str = "2") -> ReadoutEnded:
    return ReadoutEnded(ack, 3, "s", obsid, "archiver")


def header(obsid: str, ack: str = "3") -> HeaderReady:
    return HeaderReady(ack, obsid, f"http://localhost/{obsid}.yaml", "archiver", 100, "cd" * 16)


def orders(obsid: str) -> list[Message]:
    return [transfer(obsid, f"{obsid}:1"), readout(obsid, f"{obsid}:2"), header(obsid, f"{obsid}:3")]


class Night:
    """A Forwarder and everybody around it, who do what they are asked at once, unless `fail` says otherwise.

    Every message passes through the ledger's form. `died()` is a restart: what was noted is all that is left."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.talk = Forwarder(settings)
        self.now = NOW
        self.steps: list[tuple[datetime, Message]] = []
        self.closed: list[str] = []
        self.kept: dict[str, str] = {}
        self.says: list[Say] = []
        self.marks: list[Mark] = []
        self.acts: list[Act] = []
        self.admitted: set[bytes] = set()
        self.inbox: deque[Message] = deque()
        self.fail: Callable[[object], Sequence[Message] | None] = lambda asked: None
        self.heard = 0

    def hear(self, *messages: Message) -> None:
        for message in messages:
            self.follow(self.talk.hear(message, self.now))

    def follow(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Note(message, closes):
                    kind, body = packed(message)
                    self.steps.append((self.now, unpacked(kind, body)))
                    if closes:
                        self.closed.append(message.key)
                        self.steps = [step for step in self.steps if step[1].key != message.key]
                case Keep(name, value):
                    self.kept[name] = value
                case Say():
                    self.says.append(effect)
                case Mark():
                    self.marks.append(effect)
        for effect in effects:  # after the commit
            answer = self.fail(effect.act if isinstance(effect, Do) else effect)
            self.inbox += self.world(effect) if answer is None else answer

    def world(self, effect: Effect) -> Sequence[Message]:
        match effect:
            case Admit(arrival):
                self.admitted.add(arrival.key)
                obsid = arrival.path.name.partition("-R")[0]
                return [HandedOff(obsid, str(arrival.path), "staging", str(arrival.claimed), 8, "/x")]
            case Say("controller", FileTransferCompleted() as said):
                return [FileTransferCompletedAck(said.filename, said.obsid, "22", "00", "s", "3", "ARCHIVE_CTRL")]
            case Do(act):
                self.acts.append(act)
                return self.hand(act)
            case _:
                return []

    def hand(self, act: Act) -> Sequence[Message]:
        match act:
            case FetchHeader(obsid):
                return [HeaderFetched(obsid, f"/work/header/{obsid}.yaml")]
            case Assemble(obsid, detector, _, day):
                path = f"{day}/{obsid}-{detector.replace('_', '')}.fits"
                return [Assembled(obsid, detector, path, 8, DIGEST, 1_700_000_000)]
            case DropLocal(obsid, path):
                return [Dropped(obsid, path)]
            case _:
                return []

    def go(self, limit: int = 10_000) -> None:
        """Until nobody has anything to say, `limit` messages at most in all."""
        self.follow(self.talk.due(self.now))
        while self.inbox and self.heard < limit:
            self.heard += 1
            self.hear(self.inbox.popleft())

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.go()

    def died(self) -> None:
        """Reports of hands are lost with the process; what others told us is told again."""
        told = (HandedOff, FileTransferCompletedAck)
        self.inbox = deque(message for message in self.inbox if isinstance(message, told))
        self.talk = Forwarder(self.settings)
        self.talk.restore(self.steps, self.kept)

    def said(self, kind: type[Message]) -> list[Message]:
        return [say.message for say in self.says if isinstance(say.message, kind)]

    def retrieved(self) -> Counter[tuple[str, str, int]]:
        return Counter((m.obsid, f"R{m.raft}_S{m.sensor}", m.status_code) for m in map(_retrieval, self.says) if m)

    def did(self, kind: type[Act]) -> list[Act]:
        return [act for act in self.acts if isinstance(act, kind)]


def _retrieval(say: Say) -> ImageRetrieval | None:
    return say.message if isinstance(say.message, ImageRetrieval) else None


WELL = Counter({(FIRST, detector, 0): 1 for detector in DETECTORS})


def during(night: Night, seconds: int) -> list[Act]:
    before = len(night.acts)
    for _ in range(seconds):
        night.later(1)
    return night.acts[before:]
