"""What a component's own hands tell it. Reports never leave the process, but those that are steps are kept."""

from __future__ import annotations

from dataclasses import dataclass

from skystow.model.messages import Message


@dataclass(frozen=True, slots=True)
class Report(Message):
    """Base of what a component's own hands tell it; never leaves the process."""


class _ReportOfObsid(Report):
    __slots__ = ()
    key_field = "obsid"


@dataclass(frozen=True, slots=True)
class ForwarderFound(Report):
    """Popped from the scoreboard's list: its name, its address on the bus, its presence key, its `ip:hostname`."""

    name: str
    address: str
    presence_key: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class NoForwarder(Report):
    reason: str


@dataclass(frozen=True, slots=True)
class Presence(Report):
    """Whether a key is alive on the scoreboard."""

    scoreboard_key: str
    alive: bool


@dataclass(frozen=True, slots=True)
class Degraded(Report):
    """The bus or the scoreboard is away (`away`), or back."""

    place: str
    away: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DayMade(_ReportOfObsid):
    obsid: str
    directory: str
    """Absolute, ends with `/`."""


@dataclass(frozen=True, slots=True)
class DayRefused(_ReportOfObsid):
    obsid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Adopted(_ReportOfObsid):
    """A staged file is checked, digested, and durable with its name. `path` is relative to staging; times in ns."""

    obsid: str
    filename: str
    path: str
    raft: str
    sensor: str
    size: int
    digest: str
    mtime_ns: int
    inode: int
    ctime_ns: int
    swept: bool = False
    """Found by a sweep: its message never came."""


@dataclass(frozen=True, slots=True)
class AdoptionRefused(_ReportOfObsid):
    """`final`: it will never be adopted as it is; else looked at again. `gone`: nothing stands there. `obsid` is ""
    where a sweep (`swept`) found what bears no image's name."""

    obsid: str
    filename: str
    reason: str
    final: bool
    gone: bool = False
    swept: bool = False


@dataclass(frozen=True, slots=True)
class HandedOff(_ReportOfObsid):
    """A transfer of ours is DONE: `path` stands at `destination`, proven. `filename` is its absolute name there."""

    obsid: str
    path: str
    destination: str
    digest: str
    size: int
    filename: str = ""


@dataclass(frozen=True, slots=True)
class HandoffFailed(_ReportOfObsid):
    """A transfer of ours is QUARANTINED."""

    obsid: str
    path: str
    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped(_ReportOfObsid):
    """A staged or local name of ours is gone, after proof."""

    obsid: str
    path: str


@dataclass(frozen=True, slots=True)
class NotDropped(_ReportOfObsid):
    """A staged name stays for now: what came under it once more is not linked yet."""

    obsid: str
    path: str


@dataclass(frozen=True, slots=True)
class HeaderFetched(_ReportOfObsid):
    """`path`: where it was put, absolute."""

    obsid: str
    path: str


@dataclass(frozen=True, slots=True)
class HeaderFailed(_ReportOfObsid):
    obsid: str
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Assembled(_ReportOfObsid):
    """One CCD's FITS file, durable in the work directory. `path` is relative to the directory of finished files."""

    obsid: str
    detector: str
    path: str
    size: int
    digest: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class AssemblyFailed(_ReportOfObsid):
    obsid: str
    detector: str
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Ingested(_ReportOfObsid):
    """Registered; `obsid` is the request's. `already`: it was before."""

    obsid: str
    filename: str
    raft: str
    sensor: str
    already: bool = False


@dataclass(frozen=True, slots=True)
class IngestFailed(_ReportOfObsid):
    """`status_code` 1 or 2, as in `ImageInOODS`; `moved_to`: where the bad file is now."""

    obsid: str
    filename: str
    raft: str
    sensor: str
    status_code: int
    reason: str
    moved_to: str = ""


@dataclass(frozen=True, slots=True)
class ManifestWritten(_ReportOfObsid):
    """`problem`: what stands there instead of it, which is left as it is."""

    obsid: str
    path: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PassEnded(Report):
    """A sweep of staging, or a pass of expiry, is over."""


@dataclass(frozen=True, slots=True)
class CatchUp(_ReportOfObsid):
    """A person says: archive this exposure, though it began while the component was disabled."""

    obsid: str
