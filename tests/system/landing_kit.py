"""A staging tree on a real disk, its Landing, and files of simulated exposures to land in it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from skystow.adapters.assembly import contents_of
from skystow.adapters.fits import build, read_frame
from skystow.adapters.header_yaml import parse
from skystow.adapters.landing import Landing
from skystow.adapters.memory import ManualClock, MemoryLedger
from skystow.adapters.tree import LocalTree
from skystow.errors import Unreadable
from skystow.model.acts import Adopt, MakeDay, SweepStaging
from skystow.model.messages import FileTransferCompleted, Message, digest_of
from skystow.model.records import Arrival, Fingerprint, Worker
from skystow.model.reports import Adopted, PassEnded
from skystow.model.transfer import Delivered, Destination, Receipt, Route
from skystow.simulate.comcam import ComCam, expected_header

OBSID, OTHER, DAY = "CC_O_20210304_000001", "CC_O_20210304_000002", "2021-03-04"
NAME = f"{OBSID}-R22S00.fits"
NEVER = threading.Event()
LINKS = (Destination("backbone", owned=False), Destination("oods"))


def frame(detector: str = "R22_S00", obsid: str = OBSID) -> bytes:
    """A whole FITS file."""
    pixels = ComCam().read(obsid, detector, stop=NEVER)
    return bytes(build(pixels, contents_of(parse(expected_header(obsid)), obsid, detector)))


FRAME = frame()


def inspect(fd: int, obsid: str, detector: str) -> None:
    said = read_frame(fd)
    if (said.obsid, said.detector) != (obsid, detector):
        raise Unreadable(f"its headers say {said.obsid} {said.detector}")


class Staging:
    """`sweep_after` is 0: whatever stands there is old enough, but for what was written to in the future."""

    def __init__(self, here: Path) -> None:
        self.root = here / "staging"
        self.day = self.root / DAY
        self.day.mkdir(parents=True, exist_ok=True)
        self.tree = LocalTree(str(self.root), place="staging")
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), ManualClock())
        self.landing = Landing(self.tree, self.ledger, inspect=inspect, sweep_after=-60.0)

    def put(self, name: str = NAME, content: bytes = FRAME, day: str = DAY) -> Path:
        path = self.root / day / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def said(self, filename: str | Path = "", **more: object) -> FileTransferCompleted:
        fields: dict[str, object] = {"obsid": OBSID, "raft": "22", "sensor": "00", "session_id": "s", "job_num": "1"}
        fields |= {"reply_to": "forwarder/f99"} | more
        name = str(filename or self.day / NAME)
        return FileTransferCompleted(name, **fields)  # type: ignore[arg-type]

    def adopt(self, said: FileTransferCompleted | None = None) -> Sequence[Message]:
        return self.landing.adopt([Adopt(said or self.said())], stop=NEVER)

    def adopted(self, said: FileTransferCompleted | None = None) -> Adopted:
        (report,) = self.adopt(said)
        assert isinstance(report, Adopted), report
        return report

    def make_day(self, day: str = DAY) -> Sequence[Message]:
        return self.landing.make_day(MakeDay(OBSID, day), stop=NEVER)

    def sweep(self) -> list[Message]:
        *found, last = self.landing.sweep(SweepStaging(), stop=NEVER)
        assert last == PassEnded()
        return found

    def linked(self, adopted: Adopted) -> None:
        """As the spine would have it: both links are made, and the ledger knows."""
        admitted = arrival(adopted)
        looks, digest = admitted.fingerprint, digest_of(adopted.digest)
        self.ledger.admit([admitted], LINKS)
        for each in LINKS:
            (work,) = self.ledger.claim(Route("staging", each.name), files=9, size=2**40, seconds=60)
            assert self.ledger.settle({work: Delivered(Receipt(digest, adopted.size, looks))}) == {work}

    def dropped(self, adopted: Adopted) -> None:
        """And its name went."""
        self.linked(adopted)
        os.unlink(self.root / adopted.path)
        for number in self.ledger.find(adopted.path.encode()):
            dossier = self.ledger.dossier(number)
            assert dossier is not None
            self.ledger.retired(dossier)


def arrival(adopted: Adopted) -> Arrival:
    path, looks = PurePosixPath(adopted.path), Fingerprint(adopted.size, adopted.mtime_ns, adopted.inode)
    return Arrival("staging", adopted.path.encode(), path, "staging", path, looks, digest_of(adopted.digest))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
