"""FITS files of simulated exposures, and a forwarder's bench on which they are assembled."""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters import header_yaml
from skystow.adapters.assembly import Assembler, contents_of
from skystow.adapters.fits import build
from skystow.adapters.header_yaml import Header
from skystow.adapters.work import WorkDirectory
from skystow.model.acts import Assemble
from skystow.model.reports import Assembled, AssemblyFailed
from skystow.simulate.comcam import COMCAM, ComCam, expected_header

OBSID, OTHER, DAY = "CC_O_20210304_000001", "CC_O_20210304_000002", "2021-03-04"
STOP = threading.Event()
HEADER = header_yaml.parse(expected_header(OBSID, (*COMCAM, "R00_SW0", "R04_SG1")))


def whole(detector: str = "R22_S00", header: Header = HEADER, obsid: str = OBSID) -> bytes:
    camera = ComCam(names=(*COMCAM, "R00_SW0", "R04_SG1"))
    return bytes(build(camera.read(obsid, detector, stop=STOP), contents_of(header, obsid, detector)))


WHOLE = whole()


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root / "work"
        self.root.mkdir()
        self.work = WorkDirectory(str(self.root), place="f99")
        self.camera = ComCam()
        self.hand = Assembler(self.work, self.camera)
        self.work.write(PurePosixPath("header/one.yaml"), expected_header(OBSID))

    def act(self, detector: str = "R22_S00", header: str = "one.yaml") -> Assemble:
        return Assemble(OBSID, detector, str(self.work.absolute(PurePosixPath("header") / header)), DAY)

    def made(self, act: Assemble | None = None) -> Assembled:
        [report] = self.hand(act or self.act(), stop=STOP)
        assert isinstance(report, Assembled), report
        return report

    def failed(self, act: Assemble | None = None) -> AssemblyFailed:
        [report] = self.hand(act or self.act(), stop=STOP)
        assert isinstance(report, AssemblyFailed), report
        return report

    def path(self, report: Assembled) -> Path:
        return self.root / "fits" / report.path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
