"""What a conversation wants: things to say, to write down, and to have done by its hands.

A conversation (`skystow.image`) hears a message and answers with effects; its host (`skystow.service.talk`) makes
them durable in one transaction, then has the acts done. An act may be done twice: hands are idempotent. What came of
it, they report as a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from skystow.model.lifecycle import Summary
from skystow.model.messages import FileIngestRequest, FileTransferCompleted, Message
from skystow.model.records import Arrival, DeadLetter

# ── acts, for hands ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PopForwarder:
    """Take one from the scoreboard's list → ForwarderFound or NoForwarder."""


@dataclass(frozen=True, slots=True)
class Register:
    """Put ourselves on the list of forwarders, once (nothing to report)."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Keep a key alive on the scoreboard for `seconds`; 0: forget it at once (nothing to report)."""

    key: str
    value: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """→ Presence."""

    key: str


@dataclass(frozen=True, slots=True)
class MakeDay:
    """Make the directory of a day below staging, durably → DayMade or DayRefused. `day` is `YYYY-MM-DD`."""

    obsid: str
    day: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Check, digest and sync a staged file → Adopted or AdoptionRefused; where all its links stand already and it
    is gone for that reason → HandedOff for each."""

    announced: FileTransferCompleted


@dataclass(frozen=True, slots=True)
class DropStaged:
    """Remove the staged name of a file whose required links all stand, by the same inode → Dropped."""

    obsid: str
    path: str


@dataclass(frozen=True, slots=True)
class SweepStaging:
    """Look for whole files whose message was lost → Adopted (swept) for each; less is reported, never adopted."""


@dataclass(frozen=True, slots=True)
class WriteManifest:
    """Write `<obsid>.sha256` beside the files, durably, never over another → ManifestWritten.
    `files`: relative path → sha256 (hexadecimal)."""

    obsid: str
    directory: str
    files: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class FetchHeader:
    """→ HeaderFetched or HeaderFailed."""

    obsid: str
    url: str
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Assemble:
    """Read one CCD's pixels and write its FITS file, durably → Assembled or AssemblyFailed."""

    obsid: str
    detector: str
    header: str
    day: str


@dataclass(frozen=True, slots=True)
class DropLocal:
    """Remove the forwarder's own copy of a file, which the Controller has acknowledged → Dropped; or HandoffFailed
    from the forwarder's own place, where it is not what was sent any more. `path` is relative to the directory of
    finished files, or a header's absolute one (`digest` ""). `mtime_ns` 0: unknown, the digest is the proof."""

    obsid: str
    path: str
    size: int = 0
    digest: str = ""
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Ingest:
    """→ Ingested or IngestFailed."""

    request: FileIngestRequest


@dataclass(frozen=True, slots=True)
class Expire:
    """One pass of expiry (nothing to report; what it did is logged and counted)."""


Act = (
    PopForwarder
    | Register
    | Beat
    | Look
    | MakeDay
    | Adopt
    | DropStaged
    | SweepStaging
    | WriteManifest
    | FetchHeader
    | Assemble
    | DropLocal
    | Ingest
    | Expire
)


# ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message; kept in the ledger until the bus has it."""

    to: str
    message: Message


@dataclass(frozen=True, slots=True)
class Do:
    """Have an act done after the commit. Not kept: after a restart the conversation asks for what it is owed."""

    act: Act


@dataclass(frozen=True, slots=True)
class Admit:
    """Write down files for the spine to carry. Idempotent. `to`: names of destinations (empty: all of the source's)."""

    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Note:
    """Write a message down as a step of the conversation about its key, to be replayed after a restart.
    `closes`: nothing more is expected, so that it need not be replayed."""

    message: Message
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Bury:
    """What cannot be used and must not be lost from sight."""

    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Tell:
    """For the outside: what SAL publishes as an event (imageRetrievalForArchiving, imageInOODS)."""

    message: Message


@dataclass(frozen=True, slots=True)
class Become:
    """The component's state changes. `number` and `report` are errorCode's; kept, shown, and told outside."""

    state: Summary
    number: int = 0
    report: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    """A small fact that outlives the process (`Talks.keep`), written with the steps: the next of a kind replaces it."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The command under way is over: obeyed, or refused with a sentence and a code."""

    refused: str = ""
    number: int = 0


class Milestone(StrEnum):
    """What happens to an exposure (detector "") or to one CCD of it. The first of a kind counts."""

    STARTED = "started"  # `text`: the expected detectors, blank separated
    IGNORED = "ignored"  # while the component was disabled
    READ_OUT = "read out"
    HEADER = "header"
    LOCATED = "located"  # the Controller gave a directory
    ASSEMBLED = "assembled"
    SENT = "sent"
    ADOPTED = "adopted"
    LINKED = "linked"  # every required link stands
    INGESTED = "ingested"
    COMPLETE = "complete"
    LATE = "late"  # the deadline passed; `text`: what was missing
    FAULT = "fault"  # `number` 5752 …, `text`


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of an exposure's record. `at` None: now. `detector` is `R22_S00`, or "" for the whole exposure."""

    obsid: str
    what: Milestone
    detector: str = ""
    at: datetime | None = None
    number: int = 0
    text: str = ""


Effect = Say | Do | Admit | Note | Bury | Tell | Become | Keep | Reply | Mark
