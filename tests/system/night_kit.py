"""An image archiver in one process, as `skystow run` has it, with a simulated camera and its header service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skystow.adapters.ledger import SqlLedger
from skystow.config import read
from skystow.errors import Refused
from skystow.image.night import Exposure, exposures
from skystow.model.acts import Milestone, Say
from skystow.model.lifecycle import Verb
from skystow.model.messages import (
    EndReadout,
    FileTransferCompleted,
    LargeFileObjectAvailable,
    Message,
    StartIntegration,
    day_and_number,
)
from skystow.model.records import DeadLetter
from skystow.service import talk as hosting
from skystow.service.component import Component, Ending
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.simulate.comcam import ADDRESS, ComCam, HeaderService, Observe, Programme
from skystow.wiring import build
from skystow.wiring.components import Imaging
from skystow.wiring.image import component_names

CCDS = ("R22_S00", "R22_S01")
LIMIT = 20.0
DAY_OBS, DAY = 20210304, "2021-03-04"


def settings(here: Path, **more: Any) -> dict[str, Any]:
    """A site file's content; `more` goes into `image:`."""
    for name in ("staging", "backbone", "oods", "bad", "work"):
        (here / name).mkdir(parents=True, exist_ok=True)
    image = {
        "detectors": list(CCDS),
        "staging": {"root": str(here / "staging"), "min_free": 0.0},
        "backbone": {"root": str(here / "backbone")},
        "oods": {"root": str(here / "oods"), "bad_files": str(here / "bad")},
        "forwarders": [{"name": "f99", "work": str(here / "work"), "camera": {"kind": "simulated"}}],
    }
    return {"ledger": f"sqlite:///{here}/ledger.db", "control": str(here / "control"), "image": image | more}


@dataclass
class Night:
    """What runs. `told` is what the Archiver said to the outside."""

    here: Path
    imaging: Imaging
    ledger: SqlLedger
    camera: ComCam
    headers: HeaderService
    components: dict[str, Component]
    told: list[Message] = field(default_factory=list)
    taken: int = 0

    def publish(self, *messages: Message, to: str = ADDRESS) -> None:
        self.say([Say(to, each) for each in messages])

    def say(self, says: Sequence[Say]) -> None:
        """The components hear it at once, as if one of them had said it."""
        self.ledger.bus.publish(says)
        self.imaging.bells.ring()

    def obsid(self) -> str:
        """That of an exposure that was not taken yet."""
        self.taken += 1
        return f"CC_O_{DAY_OBS}_{self.taken:06d}"

    def expose(self, obsid: str = "", *, header: LargeFileObjectAvailable | None = None, late: float = 0.0) -> str:
        """One exposure, its events as the camera and the header service send them."""
        obsid = obsid or self.obsid()
        programme = Programme(exposures=1, exposure_time=0.0, readout_time=0.0, late=late)
        if header is None:
            Observe(self.camera, self.headers, self.say, programme).expose(obsid, 0, Halt())
        else:
            day, number = day_and_number(obsid) or (DAY_OBS, 0)
            self.publish(StartIntegration(obsid, image_date=str(day), image_number=number), EndReadout(obsid), header)
        return obsid

    def record(self, obsid: str) -> Exposure:
        found = exposures(self.ledger.talks.lines(obsid=obsid))
        return found[0] if found else Exposure(obsid, (), {}, {})

    def faults(self, obsid: str) -> list[str]:
        lines = self.ledger.talks.lines(obsid=obsid)
        return [line.text for line in lines if line.what is Milestone.FAULT]

    def complete(self, *obsids: str) -> None:
        """Each becomes complete, and every file of it is in OODS and Data Backbone, once."""
        for obsid in obsids:
            until(lambda obsid=obsid: self.faults(obsid) or self.record(obsid).complete)  # type: ignore[misc]
            assert self.faults(obsid) == []
            day = obsid[5:13]
            for place in ("oods", "backbone"):
                names = [f"{obsid}-R22S0{n}.fits" for n in range(len(CCDS))]
                found = sorted((self.here / place).rglob(f"{obsid}-*"))
                assert [each.name for each in found] == names
                assert {each.parent.name for each in found} == {f"{day[:4]}-{day[4:6]}-{day[6:]}"}

    def letters(self) -> list[DeadLetter]:
        return list(self.ledger.dead_letters(after=0, limit=1000))

    def buried(self, *words: str) -> DeadLetter:
        """The one letter, soon, whose reason or key has all of the words."""

        def found() -> list[DeadLetter]:
            texts = {each: f"{each.source} {each.key!r} {each.reason}" for each in self.letters()}
            return [each for each, text in texts.items() if all(word in text for word in words)]

        until(found)
        (letter,) = found()
        return letter

    def transferred(self, filename: str, obsid: str, **more: Any) -> FileTransferCompleted:
        """As a forwarder that nobody knows would say it; what is answered stays in `answers`."""
        return FileTransferCompleted(filename, obsid, "22", "00", "s", "1", "stranger", **more)

    def answers(self) -> list[Message]:
        return [each.message for each in self.ledger.bus.receive("stranger", limit=1000)]


def until(condition: Callable[[], object], seconds: float = LIMIT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def running(here: Path, **more: Any) -> Iterator[Night]:
    """Enabled, until the block is left; what a component dies of is raised then."""
    site = read(json.dumps(settings(here, **more)), directory=str(here))
    halt, told, camera = Halt(), list[Message](), ComCam("COMCAM", names=CCDS)
    with (
        pytest.MonkeyPatch.context() as patch,
        build(site, together=False, tell=told.append) as house,
        HeaderService(camera).serving() as headers,
    ):
        patch.setattr(hosting, "GATHER", 0.01)  # what is spared by sharing commits is not what is tried here
        assert house.imaging is not None
        house.imaging.cameras = lambda *_: camera
        components = house.components(component_names(site))
        with ThreadPoolExecutor(1) as thread:
            work = thread.submit(lambda: asyncio.run(run_together(components, halt, str(here / "control"))))
            try:
                _command(work, components["archiver"], Verb.START, Verb.ENABLE)
                yield Night(here, house.imaging, house.imaging.ledger, camera, headers, components, told)
            finally:
                halt.set()
                work.result(LIMIT)


def _command(work: Future[Ending], component: Component, *verbs: Verb) -> None:
    for verb in verbs:
        until(lambda verb=verb: work.done() or _obeyed(component, verb))  # type: ignore[misc]


def _obeyed(component: Component, verb: Verb) -> bool:
    assert component.talk is not None
    try:
        component.talk.command(verb)
    except Refused:
        return False  # it does not run yet
    return True
