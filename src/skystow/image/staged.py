"""What the Archive Controller knows of one exposure, and of each file of it in staging."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from skystow.model.acts import Act, Adopt
from skystow.model.messages import FileTransferCompleted, Message, NewArchiveItem, day_and_number, digest_of
from skystow.model.records import DeadLetter, path_bytes
from skystow.model.reports import Adopted, HandedOff


@dataclass(slots=True)
class File:
    """One file of an exposure, by the name under which it was announced or found."""

    announced: FileTransferCompleted | None = None
    adopted: Adopted | None = None
    links: dict[str, HandedOff] = field(default_factory=dict)
    refused: str = ""
    gone: bool = False
    """Refused because nothing stood there: what comes later may be it."""
    dropped: bool = False
    again: bool = False
    """Announced by another forwarder when all its links stood: what he put there is to go, too."""

    @property
    def settled(self) -> bool:
        return bool(self.refused) or (self.dropped and not self.again)

    def to_adopt(self, *, whole: bool) -> bool:
        """`whole`: all its links stand."""
        if self.adopted is not None:
            return self.again and self.dropped
        return self.announced is not None and not self.refused and not whole


@dataclass(slots=True)
class Exposure:
    items: list[NewArchiveItem] = field(default_factory=list)
    """Not answered yet."""
    directory: str = ""
    expected: tuple[str, ...] = ()
    """Its detectors, where the event named them; else all that the camera has."""
    files: dict[str, File] = field(default_factory=dict)
    manifest: bool = False
    touched: datetime | None = None
    last: Message | None = None


def file_of(exposure: Exposure, path: str) -> File:
    """That which is `path` in staging, a new one where there is none."""
    for file in exposure.files.values():
        if file.adopted is not None and file.adopted.path == path:
            return file
    for name, file in exposure.files.items():  # adopted by a run that ended before it could say so
        if PurePosixPath(name).parts[-2:] == PurePosixPath(path).parts[-2:]:
            return file
    return exposure.files.setdefault(path, File())


def differs(adopted: Adopted, said: FileTransferCompleted) -> str:
    """How what was adopted is not what is announced; empty: it may be. A checksum of another kind tells nothing."""
    kind, _, digits = adopted.digest.partition(":")
    if said.size is not None and said.size != adopted.size:
        return f"{adopted.path} was adopted with {adopted.size} bytes, {said.size} are announced"
    if said.checksum and said.checksum_type.lower() == kind and said.checksum.lower() != digits:
        return f"{adopted.path} was adopted as {adopted.digest}, {kind}:{said.checksum} is announced"
    return ""


def letter(source: str, filename: str, reason: str) -> DeadLetter:
    try:
        return DeadLetter(source, path_bytes(filename), reason)
    except UnicodeEncodeError:  # half of a surrogate pair, which a JSON text can hold
        return DeadLetter(source, filename.encode("utf-8", "backslashreplace"), reason)


def ccd(file: File) -> tuple[str, str]:
    if file.adopted is not None and file.adopted.raft:
        return file.adopted.raft, file.adopted.sensor
    return (file.announced.raft, file.announced.sensor) if file.announced is not None else ("", "")


def detector(file: File) -> str:
    raft, sensor = ccd(file)
    return f"R{raft}_S{sensor}" if raft else ""


def digests(whole: Iterable[File], expected: Sequence[str]) -> dict[str, str]:
    """Path → sha256 of every file of an exposure, where none of the `expected` detectors is missing; else nothing."""
    files = [(detector(file), file.adopted) for file in whole if file.adopted is not None]
    if not expected or not {name for name, _ in files}.issuperset(expected):
        return {}
    found = {adopted.path: digest_of(adopted.digest) for _, adopted in files}
    if any(digest.algorithm != "sha256" for digest in found.values()):
        return {}
    return {path: found[path].hex for path in sorted(found)}


def day_of(exposure: Exposure, obsid: str, now: datetime) -> str:
    """By what the camera says, never by our clock where it says anything: a night is not cut in two."""
    said = [item.image_date for item in exposure.items]
    named = day_and_number(obsid)
    for text in (*said, str(named[0]) if named else ""):
        with suppress(ValueError):
            if re.fullmatch(r"[0-9]{8}", text):
                return datetime.strptime(text, "%Y%m%d").date().isoformat()
    return (now - timedelta(hours=12)).date().isoformat()


def obsid_of(act: Act) -> str:
    return act.announced.obsid if isinstance(act, Adopt) else str(getattr(act, "obsid", ""))
