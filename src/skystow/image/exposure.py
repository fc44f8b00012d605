"""One exposure as the Archiver knows it: the fold of its steps, and what of it waits for an acknowledgement."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from skystow.errors import BadName
from skystow.model.acts import Say
from skystow.model.messages import (
    EndReadout,
    HeaderReady,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    ReadoutEnded,
    StartIntegration,
    XferParams,
    raft_and_sensor,
)
from skystow.model.reports import CatchUp, ForwarderFound

LONGEST_WAIT = 60.0
"""Seconds between two sayings of what is not acknowledged, at most; each wait is twice the one before."""

FIRST_NUDGE, LONGEST_NUDGE = 60.0, 3600.0
"""Seconds without a retrieval, though all is acknowledged, before a forwarder is told everything anew."""

GIVEN_UP = (5610, 5611)
"""Codes of a retrieval that a forwarder has tried for long, and does not try any more: no header, no pixels."""

MOST_OUTCOMES = 32
"""Different outcomes that are passed on per detector; a component that says more of one is not well."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds: `ack_timeout` for an answer, `heartbeat` between looks at the Controller, `patience` without a
    forwarder before the fault, `deadline` from endReadout to a whole image, `presence` between looks at the
    forwarder, `beat` between signs of life of the association, which expires after `beat_expires`.

    `detectors`: all that the camera has; `locations`: the same as the DAQ has them (derived where empty).
    `login`@`host`: where forwarders send files, before the directory (empty: a local path).
    `session_id` is another one for each process. `initial_state`: standby, or last. `outside`: where outcomes wait for
    whoever publishes them (empty: nobody does).
    """

    detectors: tuple[str, ...]
    session_id: str
    name: str = "CCArchiver"
    short_name: str = "CC"
    camera: str = "COMCAM"
    locations: tuple[str, ...] = ()
    ack_timeout: float = 5.0
    heartbeat: float = 5.0
    patience: float = 30.0
    deadline: float = 7.0
    presence: float = 3.0
    beat: float = 3.0
    beat_expires: float = 10.0
    catch_up: bool = False
    association_key: str = "ccarchiver_association"
    login: str = ""
    host: str = ""
    initial_state: str = "standby"
    address: str = "archiver"
    events: str = "archiver/events"
    controller: str = "controller"
    outside: str = ""

    def target(self, directory: str) -> str:
        """`[user@host:]directory/`."""
        where = f"{self.login}@{self.host}" if self.login and self.host else self.host
        return f"{where}:{directory}" if where else directory

    def boards(self, detectors: tuple[str, ...]) -> tuple[str, ...]:
        """`R22_S00` … → `22/0`: one for each board of the DAQ, in order."""
        if detectors == self.detectors and self.locations:
            return self.locations
        pairs = [raft_and_sensor(each) for each in detectors]
        return tuple(dict.fromkeys(f"{raft}/{sensor[0]}" for raft, sensor in pairs))


class Step(StrEnum):
    """What the Archiver asks for, in this order."""

    ITEM = "new archive item"
    XFER = "transfer parameters"
    READOUT = "end of readout"
    HEADER = "header"


TO_FORWARDER = (Step.XFER, Step.READOUT, Step.HEADER)
UNACKNOWLEDGED = {Step.ITEM: 5752, Step.XFER: 5752, Step.READOUT: 5753, Step.HEADER: 5754}
"""The fault codes of the original: reported on the exposure, while the step is said again."""


@dataclass(slots=True)
class Asked:
    """Something said that wants an acknowledgement. It is said again word by word, so that one `ack_id` will do."""

    ack_id: str
    say: Say
    again_at: datetime
    wait: float
    acked: bool = False

    def again(self, now: datetime) -> Say:
        self.wait = min(self.wait * 2, LONGEST_WAIT)
        self.again_at = now + timedelta(seconds=self.wait)
        return self.say


@dataclass(slots=True)
class Exposure:
    """`fold` is all that changes what is known, for a message that is heard as for a step that is replayed."""

    obsid: str
    expected: tuple[str, ...]
    """Its detectors: the camera's, where the event does not say."""
    since: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    first: Message | None = None
    begun: StartIntegration | None = None
    item: NewArchiveItem | None = None
    """There from the moment on at which it is acted upon: begun while ENABLED, or caught up. Holds its JOB_NUM."""
    directory: str = ""
    readout: EndReadout | None = None
    readout_at: datetime | None = None
    """By our clock: the camera's may be another time."""
    header: LargeFileObjectAvailable | None = None
    caught_up: bool = False
    retrieved: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    """By the forwarder: to be told anew would have it retrieve the whole exposure again, and fail again."""
    ingested: set[str] = field(default_factory=set)
    told: set[Message] = field(default_factory=set)
    last_at: datetime | None = None
    """When the last one was ingested."""

    released: set[Step] = field(default_factory=set)
    """May be said now: its event came while ENABLED, or the component has been enabled since."""
    said: dict[Step, Asked] = field(default_factory=dict)
    reported: set[Step] = field(default_factory=set)
    late: bool = False
    nudge_at: datetime | None = None
    nudge: float = FIRST_NUDGE

    # ── what is known ───────────────────────────────────────────────────────────────────────────────────────────

    def fold(self, message: Message, at: datetime) -> bool:
        """Whether it says anything new; if so, it is a step."""
        new = self._folded(message, at)
        if new and self.first is None:
            self.first, self.since = message, at
        return new

    def _folded(self, message: Message, at: datetime) -> bool:
        match message:
            case StartIntegration() if self.begun is None:
                self.begun = message
                self.expected = tuple(dict.fromkeys(message.detectors)) or self.expected
            case NewArchiveItem() if self.item is None:
                self.item = message
            case NewArchiveItemAck() if self.item is not None and not self.directory:
                self.directory = message.target_dir
            case EndReadout() if self.readout is None:
                self.readout, self.readout_at = message, at
            case LargeFileObjectAvailable() if message != self.header:
                self.header = message
                self.said.pop(Step.HEADER, None)
                if self.given_up:  # with this one it may be had
                    self.given_up.clear()
                    self.forget(*TO_FORWARDER)
            case CatchUp() if not self.caught_up:
                self.caught_up = True
            case ImageRetrieval() | ImageInOODS() if message not in self.told and len(self.told) < self._most():
                self.told.add(message)
                self._outcome(message, at)
            case _:
                return False
        return True

    def _most(self) -> int:
        return MOST_OUTCOMES * max(1, len(self.expected))

    def _outcome(self, message: ImageRetrieval | ImageInOODS, at: datetime) -> None:
        detector = detector_of(message)
        if message.status_code:  # what was well once stays so: a failure that comes late is of an earlier attempt
            if isinstance(message, ImageRetrieval) and message.status_code in GIVEN_UP:
                self.given_up.add(detector)
            return
        if isinstance(message, ImageRetrieval):
            self.retrieved.add(detector)
            self.given_up.discard(detector)
        elif detector not in self.ingested:
            self.ingested.add(detector)
            self.last_at = at

    @property
    def ended(self) -> EndReadout | None:
        """A person who wants an exposure caught up, of which there is a header, knows that it was read out."""
        lost = self.readout is None and self.caught_up and self.header is not None
        return EndReadout(self.obsid) if lost else self.readout

    @property
    def missing(self) -> list[str]:
        return [each for each in self.expected if each not in self.ingested]

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def over(self) -> bool:
        """Nothing more will come but repeats."""
        return self.complete and self.retrieved.issuperset(self.expected)

    @property
    def owed(self) -> bool:
        """Whether a forwarder has something left to retrieve."""
        return not (self.retrieved | self.ingested | self.given_up).issuperset(self.expected)

    def summed_up(self, now: datetime) -> str:
        """`203 of 205 at 6.1 s, missing R22_S11, R41_SW0`: the seconds from endReadout to the last that came."""
        missing, of = self.missing, len(self.expected)
        text = f"{of - len(missing)} of {of}"
        if self.readout_at is not None:
            text += f" at {((self.last_at or now) - self.readout_at).total_seconds():.1f} s"
        if not missing:
            return text
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        return f"{text}, missing {', '.join(missing[:20])}{more}"

    # ── what is to be said ──────────────────────────────────────────────────────────────────────────────────────

    def known(self) -> set[Step]:
        """The steps for which we have what they say."""
        steps = {
            Step.ITEM: self.item is not None,
            Step.XFER: bool(self.directory),
            Step.READOUT: self.ended is not None,
            Step.HEADER: self.header is not None,
        }
        return {step for step, known in steps.items() if known}

    def due_steps(self, paired: bool) -> list[Step]:
        """Not said yet, allowed, in the order in which they are said."""
        to_forwarder = paired and bool(self.directory) and self.owed
        lawful = {Step.ITEM} if not self.directory else set(TO_FORWARDER) if to_forwarder else set()
        sayable = (self.known() & self.released & lawful) - self.said.keys()
        return [step for step in Step if step in sayable]

    def forget(self, *steps: Step) -> None:
        """As if these had not been said: they are, to the next who hears them."""
        for step in steps:
            self.said.pop(step, None)
        self.nudge_at = None

    def repeated(self, now: datetime, *steps: Step) -> list[Say]:
        """What was said of these, acknowledged or not: once more, word by word, so that whoever has heard it before
        knows it again, however late it comes."""
        said = [asked for step in steps if (asked := self.said.get(step)) is not None]
        for asked in said:
            asked.acked = False
        return [asked.again(now) for asked in said]

    def release(self) -> None:
        """What is known now may be said, and what was begun goes on in any state that hears answers."""
        self.released |= {Step.ITEM, Step.XFER} | self.known()

    def rest(self) -> None:
        """Nothing is under way, and nothing may be said until the component is enabled again."""
        self.forget(*Step)
        self.released.clear()

    def acknowledged(self, step: Step, ack_id: str, now: datetime) -> bool:
        asked = self.said.get(step)
        if asked is None or asked.acked or asked.ack_id != ack_id:
            return False
        asked.acked = True
        self.expect(now)
        return True

    def progressed(self, now: datetime) -> None:
        """A retrieval, or an image in the OODS: the forwarder is at work, or has nothing left to be told."""
        if not self.owed:
            self.forget(*TO_FORWARDER)
        elif self.nudge_at is not None:
            self.expect(now)

    def expect(self, now: datetime) -> None:
        """Start to wait for retrievals, where the forwarder has been told all and has something left to do."""
        told_all = all((asked := self.said.get(step)) is not None and asked.acked for step in TO_FORWARDER)
        self.nudge_at = now + timedelta(seconds=self.nudge) if told_all and self.owed else None

    def lengthen(self) -> None:
        """The next nudge comes later."""
        self.nudge = min(self.nudge * 2, LONGEST_NUDGE)

    def word(self, step: Step, ack_id: str, settings: Settings, forwarder: ForwarderFound | None) -> Say:
        """The message of a step that `due_steps` gave."""
        item = self.item
        if item is None:
            raise ValueError(f"{self.obsid} is not acted upon")
        if step is Step.ITEM:
            return Say(settings.controller, item)
        if forwarder is None:
            raise ValueError(f"{self.obsid}: nobody to tell the {step}")
        job, session, reply_to = item.job_num, item.session_id, settings.address
        if step is Step.HEADER and (header := self.header) is not None:
            size, checksum = header.size, header.checksum
            return Say(forwarder.address, HeaderReady(ack_id, self.obsid, header.url, reply_to, size, checksum))
        if step is Step.READOUT and (end := self.ended) is not None:
            index, images = end.image_index, end.images_in_sequence
            return Say(forwarder.address, ReadoutEnded(ack_id, job, session, self.obsid, reply_to, index, images))
        target, boards = settings.target(self.directory), settings.boards(self.expected)
        device, name = settings.short_name, forwarder.name
        return Say(
            forwarder.address, XferParams(ack_id, job, session, self.obsid, device, target, boards, name, reply_to)
        )

    def anew(self, now: datetime) -> None:
        for asked in self.said.values():
            asked.again_at = now + timedelta(seconds=asked.wait)
        self.expect(now)

    def timers(self) -> list[datetime]:
        """When something happens by time alone."""
        dues = [asked.again_at for asked in self.said.values() if not asked.acked]
        return dues if self.nudge_at is None else [*dues, self.nudge_at]

    def late_at(self, settings: Settings) -> datetime | None:
        """When it is late, unless it is known to be or cannot be any more."""
        if self.late or self.readout_at is None or self.item is None or self.complete:
            return None
        return self.readout_at + timedelta(seconds=settings.deadline)


def detector_of(message: ImageRetrieval | ImageInOODS) -> str:
    """`R22_S00`, of components that say `22` or `R22`, `00` or `S00`; "" where it is neither."""
    raft = message.raft.removeprefix("R")
    sensor = message.sensor if len(message.sensor) == 2 else message.sensor.removeprefix("S")
    try:
        raft_and_sensor(name := f"R{raft}_S{sensor}")
    except BadName:
        return ""
    return name
