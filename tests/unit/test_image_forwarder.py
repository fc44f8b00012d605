"""The Forwarder's conversation: a night as a list of messages; what it says, has done and writes down."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from skystow.errors import BadName, Refused
from skystow.image.forwarder import Forwarder, Settings
from skystow.model.acts import (
    Act,
    Admit,
    Assemble,
    Beat,
    Do,
    DropLocal,
    Effect,
    FetchHeader,
    Keep,
    Look,
    Mark,
    Milestone,
    Note,
    Register,
    Say,
)
from skystow.model.lifecycle import Verb
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    FileTransferCompleted,
    FileTransferCompletedAck,
    HeaderReady,
    HeaderReadyAck,
    ImageRetrieval,
    Message,
    ReadoutEnded,
    XferParams,
    XferParamsAck,
)
from skystow.model.packing import packed, unpacked
from skystow.model.reports import (
    Assembled,
    AssemblyFailed,
    Dropped,
    HandedOff,
    HandoffFailed,
    HeaderFailed,
    HeaderFetched,
    Presence,
)

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


def test_an_exposure_from_the_orders_to_the_end() -> None:
    night = Night()
    night.hear(*orders(FIRST))
    night.go()
    acks = [type(say.message).__name__ for say in night.says if say.to == "archiver"][:3]
    assert acks == ["XferParamsAck", "ReadoutEndedAck", "HeaderReadyAck"]
    assert night.retrieved() == WELL
    [said, *_] = night.said(FileTransferCompleted)
    assert said == FileTransferCompleted(
        f"/data/staging/2021-03-04/{FIRST}-R22S00.fits",
        FIRST,
        "22",
        "00",
        "s",
        "3",
        "forwarder/f99",
        8,
        "ab" * 32,
        "sha256",
    )
    assert night.admitted == {f"2021-03-04/{FIRST}-R22S0{ccd}.fits".encode() for ccd in range(3)}
    assert [(mark.what, mark.detector) for mark in night.marks if mark.what is not Milestone.SENT] == [
        (Milestone.ASSEMBLED, detector) for detector in DETECTORS
    ]
    assert len(night.did(DropLocal)) == 4, "three files and the header"
    assert night.closed == [FIRST]
    assert night.steps == []


def test_what_is_carried_is_what_was_assembled() -> None:
    night = Night()
    admits: list[Admit] = []

    def note(asked: object) -> None:
        if isinstance(asked, Admit):
            admits.append(asked)

    night.fail = note
    night.hear(*orders(FIRST))
    night.go()
    arrival = admits[0].arrival
    assert (arrival.source, arrival.archive, str(arrival.claimed)) == ("f99", "staging", DIGEST)
    assert (arrival.fingerprint.size, arrival.fingerprint.mtime_ns) == (8, 1_700_000_000)
    assert arrival.origin == arrival.path
    assert str(arrival.path) == f"2021-03-04/{FIRST}-R22S00.fits"


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_orders_come_in_any_order_and_twice(order: tuple[int, ...]) -> None:
    night = Night()
    for index in order:
        night.hear(orders(FIRST)[index], orders(FIRST)[index])
        night.go()
    assert night.retrieved() == WELL
    assert len(night.did(Assemble)) == 3
    assert len(night.did(FetchHeader)) == 1
    assert len(night.said(XferParamsAck)) == 2, "a repeat is acknowledged again"
    night.hear(*orders(FIRST))
    night.go()
    assert len(night.did(Assemble)) == 3, "and after the end too, without any work"
    assert len(night.said(HeaderReadyAck)) == 3
    night.died()
    night.hear(*orders(FIRST))
    night.go()
    assert len(night.did(Assemble)) == 3, "nor after a restart"
    assert night.steps == []


def test_an_exposure_that_is_asked_for_anew_is_retrieved_anew() -> None:
    """A person had the Archiver catch up: other orders, by their `ack_id`s."""
    night = Night()
    night.hear(*orders(FIRST))
    night.go()
    night.hear(transfer(FIRST), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == WELL + WELL
    night.died()
    night.hear(*orders(FIRST), transfer(FIRST), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == WELL + WELL


def count_of_steps() -> int:
    night = Night()
    night.hear(*orders(FIRST), *orders(SECOND))
    night.go()
    return night.heard


TWO = WELL + Counter({(SECOND, detector, 0): 1 for detector in DETECTORS})


@pytest.mark.parametrize("cut", range(count_of_steps() + 1))
def test_a_restart_after_any_step_gives_the_same_end(cut: int) -> None:
    night = Night()
    night.hear(*orders(FIRST), *orders(SECOND))
    night.go(limit=cut)
    assert night.heard == cut
    night.died()
    night.go()
    night.later(11)  # announcements whose answer was lost
    assert night.retrieved() == TWO
    assert sorted(night.closed) == [FIRST, SECOND]
    assert night.steps == []
    assert len(night.admitted) == 6


@pytest.mark.parametrize("seed", range(40))
def test_random_nights_end_well(seed: int) -> None:
    """Doubled, reordered, delayed; acts that fail in passing; restarts. Nothing is doubled and nothing left over."""
    dice = random.Random(seed)
    night = Night()

    def sometimes(asked: object) -> Sequence[Message] | None:
        match asked:
            case FetchHeader(obsid) if dice.random() < 0.3:
                return [HeaderFailed(obsid, "404", final=False)]
            case Assemble(obsid, detector) if dice.random() < 0.3:
                return [AssemblyFailed(obsid, detector, "not there yet", final=False)]
            case Say("controller", FileTransferCompleted()) if dice.random() < 0.3:
                return []  # the announcement, or its acknowledgement, is lost
            case _:
                return None

    night.fail = sometimes
    messages = [*orders(FIRST), *orders(SECOND)] * 2
    dice.shuffle(messages)
    for message in messages:
        night.hear(message)
        dice.shuffle(night.inbox)
        night.go(limit=night.heard + dice.randrange(6))
        if dice.random() < 0.2:
            night.died()
        night.now += timedelta(seconds=dice.random() * 5)
    for _ in range(200):  # an announcement that is lost time and again waits for 5 min between two
        night.later(15)
        if night.closed and len(night.closed) == 2:
            break
    assert night.retrieved() == TWO
    assert sorted(night.closed) == [FIRST, SECOND]


def test_a_header_is_tried_again_and_given_up_once_for_every_ccd() -> None:
    night = Night()
    tries: list[datetime] = []

    def fail(asked: object) -> Sequence[Message] | None:
        if isinstance(asked, FetchHeader):
            tries.append(night.now)
            return [HeaderFailed(asked.obsid, "404 Not Found", final=False)]
        return None

    night.fail = fail
    night.hear(*orders(FIRST))
    night.go()
    while not night.closed and night.now < NOW + timedelta(hours=1):
        due = night.talk.next_due()
        assert due is not None
        night.later(max(0.0, (due - night.now).total_seconds()))
    gaps = [(b - a).total_seconds() for a, b in pairwise(tries)]
    assert gaps[:4] == [1, 2, 4, 8]
    assert max(gaps) == 60
    assert night.retrieved() == Counter({(FIRST, detector, 5610): 1 for detector in DETECTORS})
    assert all("404 Not Found" in m.description for m in map(_retrieval, night.says) if m)
    assert timedelta(minutes=10) <= night.now - NOW < timedelta(minutes=12)
    assert night.closed == [FIRST]


def test_one_bad_ccd_does_not_stop_the_others() -> None:
    night = Night()

    def fail(asked: object) -> Sequence[Message] | None:
        if isinstance(asked, Assemble) and asked.detector == "R22_S01":
            return [AssemblyFailed(asked.obsid, asked.detector, "15 amplifiers", final=True)]
        return None

    night.fail = fail
    night.hear(*orders(FIRST))
    night.go()
    wanted = Counter({(FIRST, "R22_S00", 0): 1, (FIRST, "R22_S01", 5611): 1, (FIRST, "R22_S02", 0): 1})
    assert night.retrieved() == wanted
    assert [mark.detector for mark in night.marks if mark.what is Milestone.FAULT] == ["R22_S01"]
    assert night.closed == [FIRST]


def test_pixels_that_are_late_are_waited_for() -> None:
    night = Night()
    asked_for: list[Assemble] = []

    def fail(asked: object) -> Sequence[Message] | None:
        if not isinstance(asked, Assemble):
            return None
        asked_for.append(asked)
        late = night.now < NOW + timedelta(seconds=20)
        return [AssemblyFailed(asked.obsid, asked.detector, "not read out", final=False)] if late else None

    night.fail = fail
    night.hear(*orders(FIRST))
    during(night, 40)
    assert night.retrieved() == WELL
    assert len(asked_for) == 3 * 6, "at 0, 1, 3, 7, 15 and 31 s"
    faults = {(mark.detector, mark.text) for mark in night.marks if mark.what is Milestone.FAULT}
    assert faults == {(detector, "not read out; it is tried again") for detector in DETECTORS}


def test_a_file_is_announced_until_it_is_acknowledged() -> None:
    night = Night()
    night.fail = lambda asked: [] if isinstance(asked, Say) and asked.to == "controller" else None
    night.hear(transfer(FIRST, locations=("22/1",)), readout(FIRST), header(FIRST))
    told: list[int] = []
    for second in range(900):
        night.later(1)
        told += [second] * (len(night.said(FileTransferCompleted)) - len(told))
    assert [b - a for a, b in pairwise(told)] == [10, 20, 40, 80, 160, 300]
    assert night.did(DropLocal) == [], "our copy stays until it is"
    assert night.retrieved() == Counter({(FIRST, "R22_S02", 0): 1})
    said = night.said(FileTransferCompleted)[0]
    assert isinstance(said, FileTransferCompleted)
    ack = FileTransferCompletedAck(said.filename, FIRST, "22", "02", "s", "3", "ARCHIVE_CTRL")
    night.hear(ack, ack, replace(ack, filename="/etc/passwd"), replace(ack, obsid=SECOND))
    night.go()
    [drop, _] = night.did(DropLocal)
    assert drop == DropLocal(FIRST, f"2021-03-04/{FIRST}-R22S02.fits", 8, DIGEST, 1_700_000_000)
    assert night.closed == [FIRST]


def test_a_file_that_cannot_be_sent_is_said_once_and_may_be_sent_after_all() -> None:
    night = Night()
    bad = f"2021-03-04/{FIRST}-R22S01.fits"
    night.fail = lambda asked: (
        [HandoffFailed(FIRST, bad, "staging", "the name is taken")] * 2
        if isinstance(asked, Admit) and str(asked.arrival.path) == bad
        else None
    )
    night.hear(*orders(FIRST))
    night.go()
    assert night.retrieved()[(FIRST, "R22_S01", 5612)] == 1
    assert night.closed == [], "a person may have it tried again"
    night.died()
    night.hear(HandedOff(FIRST, bad, "staging", DIGEST, 8))
    night.go()
    assert night.retrieved()[(FIRST, "R22_S01", 0)] == 1
    assert night.closed == [FIRST]


def test_a_copy_of_ours_that_changed_stays_and_is_said() -> None:
    night = Night()
    night.fail = lambda asked: (
        [HandoffFailed(asked.obsid, asked.path, "f99", "another file")]
        if isinstance(asked, DropLocal) and asked.path.endswith("S01.fits")
        else None
    )
    night.hear(*orders(FIRST))
    night.go()
    assert [(m.detector, m.text) for m in night.marks if m.what is Milestone.FAULT] == [
        ("R22_S01", "our copy stays: another file")
    ]
    assert night.closed == [FIRST]


@pytest.mark.parametrize(
    "target",
    [
        "/etc/2021-03-04/",
        "/data/staging/../2021-03-04/",
        "/data/staging/a/../../b",
        "/data/staging/",
        "/data/staging/2021-03-04/deeper",
        "/data/staging/a;rm -rf b",
        "/data/stagingX/2021-03-04",
        "data/staging/2021-03-04",
        "arc@elsewhere:/data/staging/2021-03-04/",
        "",
    ],
)
def test_a_target_that_is_not_allowed_is_no_work(target: str) -> None:
    night = Night()
    asked = transfer(FIRST, target_location=target)
    night.hear(asked, asked, readout(FIRST))
    night.go()
    assert [(m.status_code, m.filename) for m in map(_retrieval, night.says) if m] == [(5612, "")]
    assert [mark.number for mark in night.marks] == [5612]
    assert night.did(FetchHeader) == night.did(Assemble) == []
    night.died()
    night.hear(asked, transfer(FIRST, ack="9"), header(FIRST))
    night.go()
    assert night.retrieved()[(FIRST, "R22_S00", 0)] == 1, "a lawful one may still come"


@pytest.mark.parametrize(
    ("allowed", "target", "lawful"),
    [
        ("arc@10.0.0.1", "arc@10.0.0.1:/data/staging/2021-03-04//", True),
        ("10.0.0.1", "arc@10.0.0.1:/data/staging/2021-03-04", True),
        ("10.0.0.1", "/data/staging/2021-03-04", False),
        ("arc@10.0.0.1", "root@10.0.0.1:/data/staging/2021-03-04", False),
        ("", ":/data/staging/2021-03-04", True),
    ],
)
def test_the_host_of_a_target(allowed: str, target: str, lawful: bool) -> None:
    night = Night(replace(SETTINGS, target_host=allowed))
    night.hear(transfer(FIRST, target_location=target), readout(FIRST), header(FIRST))
    night.go()
    assert set(night.retrieved().elements()) == (set(WELL) if lawful else {(FIRST, "R_S", 5612)})


def test_an_unknown_location_is_said_and_the_known_ones_are_retrieved() -> None:
    night = Night()
    night.hear(transfer(FIRST, locations=("22/1", "23/0")), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == Counter({(FIRST, "R22_S02", 0): 1, (FIRST, "R23_S0", 5611): 1})
    assert night.closed == [FIRST]


def test_without_locations_all_detectors_are_meant() -> None:
    night = Night()
    night.hear(transfer(FIRST, locations=()), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == WELL


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", "$(reboot)", "x" * 65, "a\0"])
def test_a_name_that_cannot_become_a_file_is_for_the_dead_letters(name: str) -> None:
    night = Night()
    for message in orders(name):
        with pytest.raises(BadName):
            night.talk.hear(message, NOW)
    night.go()
    assert {type(act) for act in night.acts} <= {Beat, Look, Register}


def test_what_was_never_asked_for_changes_nothing() -> None:
    night = Night()
    night.hear(
        FileTransferCompletedAck("/x", FIRST, "22", "00", "s", "3", "c"),
        HandedOff(FIRST, "2021-03-04/x.fits", "staging", DIGEST, 8),
        Assembled(FIRST, "R22_S00", "x", 8, DIGEST, 1),
        Dropped(FIRST, "x"),
        HeaderFetched(FIRST, "/x"),
    )
    assert (night.steps, night.says, night.marks) == ([], [], [])


def test_a_better_header_counts_as_long_as_none_is_there() -> None:
    night = Night()
    urls: list[str] = []

    def fail(asked: object) -> Sequence[Message] | None:
        if isinstance(asked, FetchHeader):
            urls.append(asked.url)
            return [HeaderFailed(asked.obsid, "404", final=False)] if "better" not in asked.url else None
        return None

    night.fail = fail
    night.hear(*orders(FIRST))
    night.later(1)
    night.hear(replace(header(FIRST), url="http://localhost/better.yaml"))
    night.later(10)
    assert urls[-1] == "http://localhost/better.yaml"
    assert night.retrieved() == WELL


def test_an_exposure_to_which_nothing_happens_is_not_waited_for() -> None:
    night = Night()
    night.hear(transfer(FIRST), header(FIRST))
    night.go()
    night.later(timedelta(days=6).total_seconds())
    assert night.closed == []
    night.later(timedelta(days=1.1).total_seconds())
    assert night.closed == [FIRST]
    [fault] = night.marks
    assert "R22_S00 R22_S01 R22_S02" in fault.text


def test_late_repeats_of_what_was_done_are_forgotten_without_a_word() -> None:
    night = Night()
    night.hear(*orders(FIRST))
    night.go()
    night.hear(transfer(FIRST, "anew"))
    night.go()
    night.later(timedelta(days=8).total_seconds())
    assert night.closed == [FIRST, FIRST]
    assert [mark for mark in night.marks if mark.what is Milestone.FAULT] == []


# ── being there ─────────────────────────────────────────────────────────────────────────────────────────────────────


def during(night: Night, seconds: int) -> list[Act]:
    before = len(night.acts)
    for _ in range(seconds):
        night.later(1)
    return night.acts[before:]


def test_it_announces_itself_until_it_is_associated_and_again_when_the_archiver_is_gone() -> None:
    night = Night()
    acts = during(night, 30)
    assert acts.count(Beat("f99_association", "pong", 10.0)) == 10
    assert acts.count(Register()) == 3
    assert acts.count(Look("ccarchiver_association")) == 3
    night.hear(Associated("7", "another_key", "archiver"))
    assert night.says == [Say("archiver", AssociatedAck("7", "f99_association", "127.0.0.1:localhost"))]
    acts = during(night, 30)
    assert acts.count(Register()) == 0
    assert acts.count(Look("another_key")) == 3
    night.hear(Presence("ccarchiver_association", alive=False))
    assert during(night, 9).count(Register()) == 0, "that key is nobody's any more"
    night.hear(Presence("another_key", alive=False))
    assert night.acts[-1] == Register(), "at once"
    assert during(night, 20).count(Register()) == 2
    night.hear(Presence("another_key", alive=True))
    assert during(night, 20).count(Register()) == 0


def test_in_standby_it_is_not_there_but_ends_what_it_began() -> None:
    night = Night()
    night.hear(*orders(FIRST))
    night.talk.command(Verb.DISABLE, NOW)
    assert not night.talk.hears("forwarder/f99")
    night.go()
    assert night.retrieved() == WELL
    assert not any(isinstance(act, Beat | Register | Look) for act in night.acts)
    with pytest.raises(Refused):
        night.talk.command(Verb.START, NOW)
    night.talk.command(Verb.ENABLE, NOW)
    assert night.talk.hears("forwarder/f99")
    assert Register() in during(night, 1)


def test_next_due_is_when_due_has_something() -> None:
    """Never later: nothing is due before it."""
    night = Night()
    night.fail = lambda asked: [] if isinstance(asked, Say) and asked.to == "controller" else None
    night.hear(*orders(FIRST))
    night.go()
    for _ in range(200):
        due = night.talk.next_due()
        assert due is not None
        assert due > night.now
        night.now = due - timedelta(microseconds=1)
        assert night.talk.due(night.now) == []
        night.now = due
        effects = night.talk.due(due)
        assert effects
        night.follow(effects)
        while night.inbox:
            night.hear(night.inbox.popleft())
