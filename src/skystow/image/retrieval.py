"""One exposure at the Forwarder: what is known of it, what a step changes, and what it wants next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from skystow.errors import BadName
from skystow.model.acts import Act, Admit, Assemble, DropLocal, Effect, FetchHeader, Mark, Milestone, Say
from skystow.model.messages import (
    FileTransferCompleted,
    FileTransferCompletedAck,
    HeaderReady,
    ImageRetrieval,
    Message,
    ReadoutEnded,
    XferParams,
    digest_of,
    file_name,
    raft_and_sensor,
)
from skystow.model.records import Arrival, Fingerprint, shown
from skystow.model.reports import (
    Assembled,
    AssemblyFailed,
    Dropped,
    HandedOff,
    HandoffFailed,
    HeaderFailed,
    HeaderFetched,
)

HEADER_FAILED, PIXELS_FAILED, NOT_SENT = 5610, 5611, 5612
"""Codes of `ImageRetrieval`; 0 is well."""

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=1)
LONGEST_SILENCE = timedelta(minutes=5)
"""Between two announcements of one file."""

_DAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Settings:
    """`target_root`: the absolute directory at `target_host` (`[user@]host`; "": no host) below which locations may
    lie. `locations`: the camera's, each with its detectors; `detectors`: those of a message without locations.
    `component` is `ip:host`. `patience`: how long a header or pixels are tried for. `forget_after`: an exposure to
    which nothing happens for so long is not waited for any more. `shared_presence`: the key that this forwarder keeps
    alive together with others, as the originals do ("": one of its own)."""

    target_root: str
    locations: Mapping[str, tuple[str, ...]]
    detectors: tuple[str, ...]
    name: str = "f99"
    component: str = "127.0.0.1:localhost"
    target_host: str = ""
    association_key: str = "ccarchiver_association"
    destination: str = "staging"
    controller_address: str = "controller"
    archiver_address: str = "archiver"
    ack_timeout: timedelta = timedelta(seconds=10)
    patience: timedelta = timedelta(minutes=10)
    forget_after: timedelta = timedelta(days=7)
    initial_state: str = "enabled"
    shared_presence: str = ""

    @property
    def address(self) -> str:
        return f"forwarder/{self.name}"

    @property
    def presence_key(self) -> str:
        return self.shared_presence or f"{self.name}_association"


@dataclass(slots=True)
class Pace:
    """When something is tried again, at growing intervals; `busy`: it is being tried now."""

    at: datetime | None = None
    wait: timedelta = FIRST_WAIT
    busy: bool = False

    def again(self, now: datetime, longest: timedelta = LONGEST_WAIT) -> datetime:
        self.at, self.busy = now + self.wait, False
        self.wait = min(longest, self.wait * 2)
        return self.at

    def due(self, now: datetime) -> bool:
        return not self.busy and (self.at is None or self.at <= now)


@dataclass(slots=True)
class Ccd:
    """One CCD, and how far its file is. `failed` is 0, or a code of `ImageRetrieval`; `path` is `<day>/<file>`."""

    detector: str
    path: str
    made: bool = False
    size: int = 0
    digest: str = ""
    mtime_ns: int = 0
    sent: bool = False
    acknowledged: bool = False
    gone: bool = False
    failed: int = 0
    pace: Pace = field(default_factory=Pace)


Wish = tuple[Pace, Act | FileTransferCompleted]
"""What is to be done, or said again, and when."""


class Retrieval:
    """`ready` is the last time that something came which was waited for; `touched` that of the last step; `wakes`
    when something may be due (None: at once)."""

    def __init__(self, obsid: str, settings: Settings) -> None:
        self.obsid, self.settings = obsid, settings
        self.transfer: XferParams | None = None
        self.readout: ReadoutEnded | None = None
        self.header: HeaderReady | None = None
        self.header_path = ""
        self.header_failed = self.header_gone = False
        self.directory = self.day = ""  # "" as long as it is not known where files are to go, or that was refused
        self.ccds: dict[str, Ccd] = {}
        self.pace = Pace()  # of the header: fetched, and removed at the end
        self.ready: datetime | None = None
        self.touched: datetime | None = None
        self.wakes: datetime | None = None

    def settled(self) -> bool:
        """Nothing more is expected. A file that was not sent is: a person may have it tried again."""
        if not (self.transfer and self.readout and self.header) or (self.header_path and not self.header_gone):
            return False
        return all(ccd.gone or ccd.failed in (HEADER_FAILED, PIXELS_FAILED) for ccd in self.ccds.values())

    def ack_ids(self) -> list[str]:
        return [said.ack_id for said in (self.transfer, self.readout, self.header) if said is not None]

    def missing(self) -> list[str]:
        return [ccd.detector for ccd in self.ccds.values() if not ccd.gone]

    def ccd_of(self, message: Message) -> Ccd | None:
        """The CCD that a message is about."""
        match message:
            case Assembled(_, detector) | AssemblyFailed(_, detector) if detector:
                return self.ccds.get(self._path(detector))
            case HandedOff(_, path) | HandoffFailed(_, path) | Dropped(_, path):
                return self.ccds.get(path)
            case FileTransferCompletedAck(filename):
                return self.ccds.get(f"{self.day}/{PurePosixPath(filename).name}")
            case _:
                return None

    def _path(self, detector: str) -> str:
        return f"{self.day}/{file_name(self.obsid, *raft_and_sensor(detector))}"

    # ── a step: changes what is known, and says what follows (None: it changes nothing) ─────────────────────────

    def take(self, message: Message, now: datetime) -> list[Effect] | None:
        outcome = self._taken(message, now)
        if outcome is not None:
            self.touched = now
        return outcome

    def _taken(self, message: Message, now: datetime) -> list[Effect] | None:
        match message:
            case XferParams():
                return self._asked(message, now)
            case ReadoutEnded() if self.readout is None:
                self.readout, self.ready = message, now
                return []
            case HeaderReady() if not self.header_path and not self.header_failed:
                if self.header is not None and _same(self.header, message):
                    return None
                self.header, self.ready = message, now
                return []
            case HeaderFetched(_, path):
                self.pace = Pace()
                if self.header_path:
                    return None
                self.header_path, self.ready = path, now
                return []
            case HeaderFailed(_, reason, final):
                return self._without_header(f"header: {reason}", final, now)
            case Dropped(_, path) if path == self.header_path and not self.header_gone:
                self.header_gone = True
                return []
            case AssemblyFailed(_, ""):  # our own word: not waited for any more
                return []
            case _ if (ccd := self.ccd_of(message)) is not None:
                return self._of_ccd(ccd, message, now)
            case _:
                return None

    def _without_header(self, reason: str, final: bool, now: datetime) -> list[Effect] | None:
        if self.header_path or self.header_failed:
            return None
        if not final:
            self.pace.again(now)
            return None
        self.header_failed = True
        return [effect for ccd in self.ccds.values() for effect in self._failed(ccd, HEADER_FAILED, reason)]

    def _asked(self, asked: XferParams, now: datetime) -> list[Effect] | None:
        """The first that is lawful counts."""
        before = self.transfer
        if before is not None and (self.directory or before.target_location == asked.target_location):
            return None
        self.transfer, self.ready = asked, now
        try:
            self.directory, self.day = self._target(asked.target_location)
        except BadName as refused:
            return self._refused("", "", NOT_SENT, f"target refused: {refused}")
        effects: list[Effect] = []
        detectors = [] if asked.locations else list(self.settings.detectors)
        for location in asked.locations:
            if location in self.settings.locations:
                detectors += self.settings.locations[location]
            else:
                raft, _, sensor = shown(location).partition("/")
                text = f"location {shown(location)} is not one of this camera's"
                effects += self._refused(raft, sensor, PIXELS_FAILED, text)
        self.ccds = {path: Ccd(detector, path) for detector in detectors if (path := self._path(detector))}
        return effects

    def _target(self, location: str) -> tuple[str, str]:
        """`[user@host:]/root/day/` as (directory, day). Raises `BadName` for what our configuration does not allow."""
        host, _, path = ("", "", location[1:]) if location.startswith("/") else location.partition(":/")
        allowed, root = self.settings.target_host, PurePosixPath(self.settings.target_root)
        if host != allowed and (not allowed or host.rpartition("@")[2] != allowed):
            raise BadName(f"{shown(location)} is not at {shown(allowed) or 'this host'}")
        directory = PurePosixPath("/") / path
        if ".." in directory.parts or directory.parent != root or not _DAY.fullmatch(directory.name):
            raise BadName(f"{shown(location)} is no directory of a day in {root}")
        return str(directory), directory.name

    def _of_ccd(self, ccd: Ccd, message: Message, now: datetime) -> list[Effect] | None:
        ours, target = self.settings.name, self.settings.destination
        match message:
            case AssemblyFailed(_, _, reason, final) if not ccd.failed and not ccd.made:
                if final:
                    return self._failed(ccd, PIXELS_FAILED, reason)
                ccd.pace.again(now)
                return None
            case Assembled() if not ccd.made:
                ccd.made, ccd.failed, ccd.pace = True, 0, Pace()
                ccd.size, ccd.digest, ccd.mtime_ns = message.size, message.digest, message.mtime_ns
                return [Mark(self.obsid, Milestone.ASSEMBLED, ccd.detector), Admit(self._arrival(ccd))]
            case HandedOff(_, _, where, digest, size) if where == target and not ccd.sent:
                ccd.made = ccd.sent = True  # perhaps by a run that ended before it could say that it was made
                ccd.size, ccd.digest, ccd.failed = size, digest, 0
                ccd.pace = Pace(wait=self.settings.ack_timeout)
                ccd.pace.again(now, LONGEST_SILENCE)
                return self._sent(ccd)
            case HandoffFailed(_, _, where, reason) if where == target and not ccd.sent and not ccd.failed:
                return self._failed(ccd, NOT_SENT, reason)
            case HandoffFailed(_, _, where, reason) if where == ours and ccd.acknowledged and not ccd.gone:
                ccd.gone = True
                return [Mark(self.obsid, Milestone.FAULT, ccd.detector, text=f"our copy stays: {reason}")]
            case FileTransferCompletedAck() if ccd.sent and not ccd.acknowledged:
                ccd.acknowledged, ccd.pace = True, Pace()
                return []
            case Dropped() if ccd.acknowledged and not ccd.gone:
                ccd.gone = True
                return []
            case _:
                return None

    # ── what follows ────────────────────────────────────────────────────────────────────────────────────────────

    def _arrival(self, ccd: Ccd) -> Arrival:
        path, looks = PurePosixPath(ccd.path), Fingerprint(ccd.size, ccd.mtime_ns)
        archive, claimed = self.settings.destination, digest_of(ccd.digest)
        return Arrival(self.settings.name, ccd.path.encode(), path, archive, path, looks, claimed, rank=ccd.mtime_ns)

    def _sent(self, ccd: Ccd) -> list[Effect]:
        said = self._completed(ccd)
        retrieval = ImageRetrieval(self.obsid, said.raft, said.sensor, said.filename, 0, "file sent")
        return [
            Mark(self.obsid, Milestone.SENT, ccd.detector),
            Say(self.settings.controller_address, said),
            Say(self.settings.archiver_address, retrieval),
        ]

    def _completed(self, ccd: Ccd) -> FileTransferCompleted:
        session, job = (self.transfer.session_id, str(self.transfer.job_num)) if self.transfer else ("", "")
        raft, sensor = raft_and_sensor(ccd.detector)
        name, digest = f"{self.directory}/{PurePosixPath(ccd.path).name}", digest_of(ccd.digest)
        back, size = self.settings.address, ccd.size
        return FileTransferCompleted(
            name, self.obsid, raft, sensor, session, job, back, size, digest.hex, digest.algorithm
        )

    def _failed(self, ccd: Ccd, number: int, reason: str) -> list[Effect]:
        ccd.failed = number
        raft, sensor = raft_and_sensor(ccd.detector)
        said = ImageRetrieval(self.obsid, raft, sensor, PurePosixPath(ccd.path).name, number, reason)
        mark = Mark(self.obsid, Milestone.FAULT, ccd.detector, number=number, text=reason)
        return [Say(self.settings.archiver_address, said), mark]

    def _refused(self, raft: str, sensor: str, number: int, text: str) -> list[Effect]:
        said = ImageRetrieval(self.obsid, raft, sensor, "", number, text)
        return [Say(self.settings.archiver_address, said), Mark(self.obsid, Milestone.FAULT, number=number, text=text)]

    # ── what it wants ───────────────────────────────────────────────────────────────────────────────────────────

    def wishes(self, ccds: Iterable[Ccd] | None = None) -> Iterator[Wish]:
        """For the header, and for these CCDs (None: all)."""
        if not self.directory:
            return
        if self.header is not None and not self.header_path and not self.header_failed:
            yield self.pace, FetchHeader(self.obsid, self.header.url, self.header.size, self.header.checksum)
        for ccd in self.ccds.values() if ccds is None else ccds:
            if (wish := self._wish(ccd)) is not None:
                yield ccd.pace, wish
        if self.header_path and self.readout is not None and not self.header_gone and self._over():
            yield self.pace, DropLocal(self.obsid, self.header_path)

    def _wish(self, ccd: Ccd) -> Act | FileTransferCompleted | None:
        if ccd.gone or ccd.failed:
            return None
        if ccd.acknowledged:
            return DropLocal(self.obsid, ccd.path, ccd.size, ccd.digest, ccd.mtime_ns)
        if ccd.sent:
            return self._completed(ccd)
        if not ccd.made and self.header_path and self.readout is not None:
            return Assemble(self.obsid, ccd.detector, self.header_path, self.day)
        return None

    def _over(self) -> bool:
        return all(ccd.gone or ccd.failed for ccd in self.ccds.values())


def _same(one: HeaderReady, other: HeaderReady) -> bool:
    return (one.url, one.size, one.checksum) == (other.url, other.size, other.checksum)
