"""A site whose Archiver speaks SAL, all in one process or each part in its own, and an instrument that is somebody
else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger.schema import parcels
from skystow.errors import PlaceFault
from skystow.simulate.comcam import ComCam, HeaderService
from tests.crash.night_field import DETECTORS
from tests.nursery import Nursery
from tests.system.observatory_wire import CAMERA as INSTRUMENT
from tests.system.observatory_wire import Wired, obsids
from tests.system.sal_kit import ARCHIVER, CAMERA, HEADERS, TAI, Heard, Peer, until

ALL = "site"
OUTCOMES = ("imageRetrievalForArchiving", "imageInOODS")


@dataclass
class SalSite(Wired):
    """`sal`, `archiver`: of `image:`. `announced`: exposures whose header was announced by an `Instrument`."""

    detectors: Sequence[str] = DETECTORS
    sal: Mapping[str, Any] = field(default_factory=dict)
    archiver: Mapping[str, Any] = field(default_factory=dict)
    nursery: Nursery | None = None
    announced: list[str] = field(default_factory=list)

    def write(self, forwarders: Sequence[dict[str, Any]] = ()) -> None:
        # A busy machine may answer late, which is no reason to refuse `start`.
        archiver = {"initial_state": "standby", "ack_timeout": 20} | dict(self.archiver)
        self.more = {"sal": {"kind": "dds"} | dict(self.sal), "archiver": archiver} | dict(self.more)
        super().write(forwarders)

    def run(self) -> None:
        """All components in one process."""
        self._start(ALL, [sys.executable, "-m", "skystow", "run", str(self.site)])

    def said(self, what: str) -> list[str]:
        return super().said(what) if INSTRUMENT in self.running else list(self.announced)

    def parcels(self) -> int:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        try:
            with closing(engine.connect()) as connection:
                return int(connection.execute(sa.select(sa.func.count()).select_from(parcels)).scalar_one())
        except sa.exc.OperationalError as error:
            raise PlaceFault(str(error), place="ledger") from error

    # ── people at terminals ─────────────────────────────────────────────────────────────────────────────────────

    def terminal(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`skystow …`, in a process of its own."""
        assert self.nursery is not None
        done = self.nursery.ask(words, cwd=self.root, env=os.environ)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr, self.told())
        return done

    def tell(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """`skystow sal command CCArchiver …`: what it answers."""
        done = self.terminal("sal", "command", ARCHIVER, *words, "--json", "--timeout", "60s", code=code)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def command(self, *verbs: str) -> None:
        for verb in verbs:
            answers = self.tell(verb)
            assert [each["ack"] for each in answers] == ["ACK", "IN_PROGRESS", "COMPLETE"], answers

    # ── what is in the log ──────────────────────────────────────────────────────────────────────────────────────

    def logged(self, *words: str, name: str = ALL) -> list[str]:
        """Lines with all of the words."""
        lines = (self.root / f"{name}.log").read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def await_log(self, *words: str, name: str = ALL) -> str:
        until(lambda: self.logged(*words, name=name), lambda: f"{words} in the log\n{self.told()}")
        return self.logged(*words, name=name)[0]


@dataclass
class Instrument:
    """A camera and a Header Service on SAL. `first`: imageIndex of the first image of a sequence."""

    peer: Peer
    site: SalSite
    headers: HeaderService
    camera: str = CAMERA
    service: str = HEADERS
    first: int = 0

    def begin(self, obsid: str, **more: Any) -> None:
        self.peer.say(self.camera, "logevent_startIntegration", **self._image(obsid), exposureTime=1.0, **more)

    def end(self, obsid: str, **more: Any) -> None:
        values = self._image(obsid) | {"timestampEndOfReadout": time.time() + TAI}
        self.peer.say(self.camera, "logevent_endReadout", **values, **more)

    def announce(self, obsid: str, **more: Any) -> None:
        made = self.headers.announced(obsid)
        values: dict[str, Any] = {
            "url": made.url,
            "generator": "CCHeaderService",
            "version": 1.0,
            "byteSize": made.size,
        }
        values |= {"checkSum": made.checksum, "mimeType": "YAML", "id": obsid}
        self.peer.say(self.service, "logevent_largeFileObjectAvailable", **values | more)
        self.site.announced.append(obsid)

    def expose(self, *obsids: str) -> None:
        for obsid in obsids:
            self.begin(obsid)
            self.end(obsid)
            self.announce(obsid)

    def _image(self, obsid: str) -> dict[str, Any]:
        source, controller, date, number = obsid.split("_")
        return {
            "imageName": obsid,
            "imageSource": source,
            "imageController": controller,
            "imageDate": date,
            "imageNumber": int(number),
            "imageIndex": self.first,
            "imagesInSequence": 1,
            "timestampAcquisitionStart": time.time() + TAI,
        }


@contextmanager
def instrument(peer: Peer, site: SalSite, **more: Any) -> Iterator[Instrument]:
    headers = HeaderService(ComCam("COMCAM", names=tuple(site.detectors), shape=site.shape))
    with headers.serving():
        yield Instrument(peer, site, headers, **more)


@contextmanager
def sal_site(
    here: Path, nursery: Nursery | None = None, count: int = 0, images: Sequence[str] = (), **more: Any
) -> Iterator[SalSite]:
    """A new site of so many exposures, or of these; nothing runs yet. In the end nothing of it does."""
    here.mkdir(exist_ok=True)
    root = here / "site"
    made = SalSite(root, images or obsids(count), ledger_url=f"sqlite:///{root}/ledger.db", nursery=nursery, **more)
    made.write()
    with closing(made):
        yield made


def outcomes(heard: Sequence[Heard]) -> dict[tuple[str, str, str, str], int]:
    """How often each outcome was said: (event, image, raft, sensor)."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for each in heard:
        key = each.topic.removeprefix("logevent_"), each["obsid"], each["raft"], each["sensor"]
        counts[key] = counts.get(key, 0) + 1
    return counts


def due(site: SalSite, images: Sequence[str] = ()) -> set[tuple[str, str, str, str]]:
    """Every outcome that is to be said."""
    ccds = [(each[1:3], each[5:7]) for each in site.detectors]
    return {(what, obsid, *ccd) for what in OUTCOMES for obsid in images or site.obsids for ccd in ccds}
