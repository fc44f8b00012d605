"""What the components of the image door say to each other, and what their hands report to them.

The fields are those of the originals' messages (CCArchiver 3.1, forwarder 2.3, OODS 5.0), by Python's names; the
wire's names and types are an adapter's business. What we add (size, checksum) is optional: originals do not send it.
`reply_to` is an address, where the answer goes.

Each message knows its `key`, the exposure that it is about ("" for none).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import ClassVar

from skystow.errors import BadName
from skystow.model.records import Digest, shown

_OBSID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
_NUMBERED = re.compile(r"[A-Z]{2}_[A-Z]_(\d{8})_(\d{1,9})")
_DETECTOR = re.compile(r"R(\d\d)_S([0-9GW]\d)")
_FILE = re.compile(r"(.+?)--?R(\d\d)S([0-9GW]\d)\.fits")


def lawful_obsid(text: str) -> str:
    """An image's name as it may become part of file names. Raises `BadName`."""
    if not _OBSID.fullmatch(text) or ".." in text:
        raise BadName(f"‘{shown(text)}’ is no name of an image")
    return text


def day_and_number(obsid: str) -> tuple[int, int] | None:
    """`CC_O_20210304_000001` → (20210304, 1); None where the name does not say."""
    found = _NUMBERED.fullmatch(obsid)
    return (int(found[1]), int(found[2])) if found else None


def raft_and_sensor(detector: str) -> tuple[str, str]:
    """`R22_S00` → ("22", "00"), `R41_SW0` → ("41", "W0"). Raises `BadName`."""
    if (found := _DETECTOR.fullmatch(detector)) is None:
        raise BadName(f"‘{shown(detector)}’ is no name of a detector, such as R22_S00")
    return found[1], found[2]


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all. `key_field` names the field that holds the exposure's name."""

    key_field: ClassVar[str] = ""

    @property
    def key(self) -> str:
        return str(getattr(self, self.key_field)) if self.key_field else ""


class _OfImage(Message):
    __slots__ = ()
    key_field = "image_id"


class _OfObsid(Message):
    __slots__ = ()
    key_field = "obsid"


# ── events of the camera and of the header service ──────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StartIntegration(_OfImage):
    """`at` is the camera's own time. `image_date` YYYYMMDD, may be empty; `exposure_time` in seconds."""

    image_id: str
    at: datetime | None = None
    image_index: int = 0
    images_in_sequence: int = 1
    image_date: str = ""
    image_number: int = 0
    exposure_time: float = 0.0
    image_source: str = ""
    image_controller: str = ""
    detectors: tuple[str, ...] = ()
    """`R22_S00` …; empty: all that the camera has."""


@dataclass(frozen=True, slots=True)
class EndReadout(_OfImage):
    image_id: str
    at: datetime | None = None
    image_index: int = 0
    images_in_sequence: int = 1


@dataclass(frozen=True, slots=True)
class LargeFileObjectAvailable(_OfImage):
    """The header is there. `checksum` is md5, hexadecimal; `size` in bytes; empty or 0 where it is not said."""

    image_id: str
    url: str
    size: int = 0
    checksum: str = ""
    generator: str = ""


# ── messages between components ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class HealthCheck(Message):
    """ARCHIVE_HEALTH_CHECK."""

    ack_id: str
    session_id: str
    reply_to: str


@dataclass(frozen=True, slots=True)
class HealthCheckAck(Message):
    ack_id: str
    session_id: str
    component: str


@dataclass(frozen=True, slots=True)
class Associated(Message):
    """The Archiver has paired with a forwarder. `association_key`: what it keeps alive on the scoreboard."""

    ack_id: str
    association_key: str
    reply_to: str


@dataclass(frozen=True, slots=True)
class AssociatedAck(Message):
    """`association_key`: what the forwarder keeps alive; `component` is not said by originals."""

    ack_id: str
    association_key: str
    component: str = ""


@dataclass(frozen=True, slots=True)
class NewArchiveItem(_OfImage):
    ack_id: str
    job_num: int
    session_id: str
    image_id: str
    reply_to: str
    image_index: int = 0
    images_in_sequence: int = 1
    image_date: str = ""
    exposure_time: float = 0.0
    detectors: tuple[str, ...] = ()
    """As the event named them; empty: all that the camera has. Originals do not say it."""


@dataclass(frozen=True, slots=True)
class NewArchiveItemAck(_OfImage):
    """`target_dir` is absolute and ends with `/`."""

    ack_id: str
    job_num: int
    session_id: str
    image_id: str
    target_dir: str
    component: str


@dataclass(frozen=True, slots=True)
class XferParams(_OfImage):
    """CC_FWDR_XFER_PARAMS. `target_location` is `[user@host:]directory/`, `locations` are the camera's (`22/0`)."""

    ack_id: str
    job_num: int
    session_id: str
    image_id: str
    device: str
    target_location: str
    locations: tuple[str, ...]
    forwarder: str
    reply_to: str
    raft: str = ""


@dataclass(frozen=True, slots=True)
class ReadoutEnded(_OfImage):
    """CC_FWDR_END_READOUT."""

    ack_id: str
    job_num: int
    session_id: str
    image_id: str
    reply_to: str
    image_index: int = 0
    images_in_sequence: int = 1


@dataclass(frozen=True, slots=True)
class HeaderReady(_OfImage):
    """CC_FWDR_HEADER_READY. `checksum` is md5, hexadecimal; `size` in bytes; empty or 0 where it is not said."""

    ack_id: str
    image_id: str
    url: str
    reply_to: str
    size: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class XferParamsAck(_OfImage):
    ack_id: str
    image_id: str
    component: str


@dataclass(frozen=True, slots=True)
class ReadoutEndedAck(_OfImage):
    ack_id: str
    image_id: str
    component: str


@dataclass(frozen=True, slots=True)
class HeaderReadyAck(_OfImage):
    ack_id: str
    image_id: str
    component: str


@dataclass(frozen=True, slots=True)
class FileTransferCompleted(_OfObsid):
    """A file stands in staging under `filename` (absolute). `checksum_type` is one of `records.ALGORITHMS`."""

    filename: str
    obsid: str
    raft: str
    sensor: str
    session_id: str
    job_num: str
    reply_to: str
    size: int | None = None
    checksum: str = ""
    checksum_type: str = ""


@dataclass(frozen=True, slots=True)
class FileTransferCompletedAck(_OfObsid):
    filename: str
    obsid: str
    raft: str
    sensor: str
    session_id: str
    job_num: str
    component: str


@dataclass(frozen=True, slots=True)
class ImageRetrieval(_OfObsid):
    """IMAGE_RETRIEVAL_FOR_ARCHIVING. 0, 5610 header failed, 5611 pixels or format failed, 5612 not sent."""

    obsid: str
    raft: str
    sensor: str
    filename: str
    status_code: int
    description: str


@dataclass(frozen=True, slots=True)
class FileIngestRequest(_OfObsid):
    """`filename` is the absolute path of the link below the OODS directory."""

    camera: str
    archiver: str
    obsid: str
    raft: str
    sensor: str
    filename: str
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class ImageInOODS(_OfObsid):
    """`status_code` 0 ingested, 1 not ingested, 2 its metadata cannot be read. `description` names the file."""

    camera: str
    archiver: str
    obsid: str
    raft: str
    sensor: str
    filename: str
    status_code: int
    description: str


def digest_of(text: str) -> Digest:
    """`sha256:…` as `Digest` writes itself."""
    algorithm, _, digits = text.partition(":")
    return Digest(algorithm, digits)


def file_name(obsid: str, raft: str, sensor: str) -> PurePosixPath:
    """`CC_O_20210304_000001-R22S00.fits`, as the forwarder names it."""
    return PurePosixPath(f"{obsid}-R{raft}S{sensor}.fits")


def named_by(name: str) -> tuple[str, str, str]:
    """The reverse: (obsid, raft, sensor); older forwarders write `--R..S..`. Raises `BadName`."""
    if (found := _FILE.fullmatch(name)) is None:
        raise BadName(f"‘{shown(name)}’ is not named as a forwarder names files")
    return lawful_obsid(found[1]), found[2], found[3]
