"""The Forwarder with its real hands: the simulated camera exposes, and what comes to staging is what it made."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits  # type: ignore[import-untyped]

from skystow.adapters.assembly import Assembler, LocalDropper
from skystow.adapters.headers import FetchOptions, HeaderFetcher
from skystow.adapters.work import WorkDirectory
from skystow.image.forwarder import Forwarder, Settings
from skystow.model.acts import Act, Admit, Assemble, Do, DropLocal, Effect, FetchHeader, Note, Say
from skystow.model.messages import (
    EndReadout,
    FileTransferCompleted,
    FileTransferCompletedAck,
    HeaderReady,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    ReadoutEnded,
    StartIntegration,
    XferParams,
)
from skystow.model.reports import HandedOff
from skystow.ports.talk import Hand
from skystow.simulate.comcam import COMCAM, LOCATIONS, ComCam, HeaderService, Observe, Programme, expected_pixels

STOP = threading.Event()
DAY = "2021-03-04"


class House:
    """The Archiver translated away, a spine that links at once, and a Controller that says yes."""

    def __init__(self, root: Path, headers: HeaderService, camera: ComCam) -> None:
        self.staging, work = root / "staging", root / "work"
        for directory in (self.staging / DAY, work):
            directory.mkdir(parents=True)
        self.work = WorkDirectory(str(work), place="f99")
        self.settings = Settings(str(self.staging), LOCATIONS, COMCAM, patience=timedelta(seconds=30))
        self.hands: dict[type, Hand] = {
            FetchHeader: HeaderFetcher(self.work, FetchOptions(seconds=2.0)),
            Assemble: Assembler(self.work, camera),
            DropLocal: LocalDropper(self.work, "f99"),
        }
        self.headers = headers
        self.talk = Forwarder(self.settings)
        self.now = datetime(2021, 3, 5, tzinfo=UTC)
        self.inbox: deque[Message] = deque()
        self.said: list[Message] = []
        self.closed: list[str] = []
        self.acts: list[Act] = []
        self.wrong_url: dict[str, str] = {}

    def publish(self, says: Sequence[Say]) -> None:
        for say in says:
            self.hear(self.order(say.message))

    def order(self, event: Message) -> Message:
        match event:
            case StartIntegration(obsid):
                target = f"{self.staging}/{DAY}/"
                return XferParams(f"{obsid}:1", 1, "s", obsid, "CC", target, tuple(LOCATIONS), "host", "archiver")
            case EndReadout(obsid):
                return ReadoutEnded(f"{obsid}:2", 1, "s", obsid, "archiver")
            case LargeFileObjectAvailable(obsid, url, size, checksum):
                return HeaderReady(f"{obsid}:3", obsid, self.wrong_url.get(obsid, url), "archiver", size, checksum)
            case _:
                raise AssertionError(event)

    def hear(self, message: Message) -> None:
        self.follow(self.talk.hear(message, self.now))
        while self.inbox:
            self.follow(self.talk.hear(self.inbox.popleft(), self.now))

    def follow(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Note(message, True):
                    self.closed.append(message.key)
                case Admit(arrival):
                    there = self.staging / arrival.path
                    os.link(self.work.absolute("fits" / arrival.path), there)
                    digest = f"sha256:{hashlib.sha256(there.read_bytes()).hexdigest()}"
                    size = there.stat().st_size
                    obsid = arrival.path.name.rpartition("-")[0]
                    assert (digest, size) == (str(arrival.claimed), arrival.fingerprint.size)
                    self.inbox.append(HandedOff(obsid, str(arrival.path), "staging", digest, size))
                case Say(_, message):
                    self.said.append(message)
                    if isinstance(message, FileTransferCompleted):
                        said = (message.filename, message.obsid, message.raft, message.sensor)
                        self.inbox.append(FileTransferCompletedAck(*said, "s", "1", "ARCHIVE_CTRL"))
                case Do(act) if type(act) in self.hands:
                    self.acts.append(act)
                    self.inbox += self.hands[type(act)](act, stop=STOP)
                case _:
                    pass

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.follow(self.talk.due(self.now))
        while self.inbox:
            self.follow(self.talk.hear(self.inbox.popleft(), self.now))

    def codes(self, obsid: str) -> Counter[int]:
        return Counter(m.status_code for m in self.said if isinstance(m, ImageRetrieval) and m.obsid == obsid)

    def left(self) -> list[Path]:
        root = Path(os.fsdecode(self.work.tree.root))
        return [path for top in ("header", "fits") for path in (root / top).rglob("*") if path.is_file()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    camera = ComCam()
    with HeaderService(camera).serving() as headers:
        yield House(tmp_path, headers, camera)


def observe(house: House, count: int) -> list[str]:
    programme = Programme(exposures=count, cadence=0.0, exposure_time=0.0, readout_time=0.0)
    run = Observe(house.headers.camera, house.headers, house.publish, programme)
    run.run(STOP)
    return run.taken


def test_every_pixel_of_every_exposure_comes_to_staging(house: House) -> None:
    taken = observe(house, 2)
    assert house.closed == taken
    for obsid in taken:
        assert house.codes(obsid) == {0: 9}
        for detector in COMCAM:
            path = house.staging / DAY / f"{obsid}-{detector.replace('_', '')}.fits"
            with fits.open(path, checksum=True, memmap=False) as hdus:
                assert hdus[0].header["OBSID"] == obsid
                assert np.array_equal([hdu.data for hdu in hdus[1:]], expected_pixels(obsid, detector))
    assert len(list((house.staging / DAY).iterdir())) == 18
    assert house.left() == [], "nothing of ours stays"
    assert len([act for act in house.acts if isinstance(act, FetchHeader)]) == 2


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:1/x.yaml", "http://127.0.0.1/../../x y"])
def test_a_header_that_cannot_be_had_disturbs_no_other(house: House, url: str) -> None:
    bad = "CC_O_20210304_000001"
    house.wrong_url[bad] = url
    observe(house, 2)
    for _ in range(10):
        house.later(8)
    assert house.codes(bad) == {5610: 9}
    assert house.codes("CC_O_20210304_000002") == {0: 9}
    assert sorted(house.closed) == [bad, "CC_O_20210304_000002"]
    assert house.left() == []


def test_a_camera_that_lost_one_ccd(house: House) -> None:
    house.hands[Assemble] = Assembler(house.work, ComCam(names=COMCAM[1:]))
    [obsid] = observe(house, 1)
    assert house.codes(obsid) == {0: 8}
    for _ in range(10):
        house.later(8)
    assert house.codes(obsid) == {0: 8, 5611: 1}
    [lost] = [m for m in house.said if isinstance(m, ImageRetrieval) and m.status_code]
    assert (lost.raft, lost.sensor, lost.filename) == ("22", "00", f"{obsid}-R22S00.fits")
    assert "no R22_S00" in lost.description
    assert house.closed == [obsid]
