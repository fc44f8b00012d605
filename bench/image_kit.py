"""What bench/image.py measures with: a camera whose pixels are in memory, a site in this process, a profiler."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from skystow.config import read
from skystow.model.acts import Say
from skystow.model.lifecycle import Verb
from skystow.model.messages import (
    Message,
)
from skystow.ports import Stop
from skystow.ports.image import Amplifier, segments
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.simulate.comcam import ComCam, HeaderService, expected_header
from skystow.wiring import House, build
from skystow.wiring.components import Imaging

SCIENCE = tuple(
    f"R{row}{column}_S{s}{t}"
    for row in range(5)
    for column in range(5)
    if not (row in (0, 4) and column in (0, 4))
    for s in range(3)
    for t in range(3)
)
CORNERS = tuple(f"R{row}{column}_S{name}" for row in (0, 4) for column in (0, 4) for name in ("G0", "G1", "W0", "W1"))
LSST = SCIENCE + CORNERS
"""189 science sensors, 8 guiders and 8 halves of wavefront sensors."""


class Frozen(ComCam):
    """A camera whose pixels are in memory: four different frames, each detector always the same one of them."""

    def __init__(self, names: Sequence[str], shape: tuple[int, int]) -> None:
        super().__init__("COMCAM", names=names, shape=shape)
        columns, rows = shape
        dice = np.random.default_rng(1)
        self.frames: list[list[bytes]] = []
        for _ in range(4):
            self.frames.append([dice.integers(0, 1 << 18, rows * columns, np.int32).tobytes() for _ in range(16)])

    def read(self, obsid: str, detector: str, *, stop: Stop) -> Sequence[Amplifier]:
        columns, rows = self.shape
        names, frame = segments(detector), self.frames[self._names.index(detector) % 4]
        if len(names) == 8:  # a wavefront sensor's half: amplifiers of twice the height, files of the same size
            return [Amplifier(n, columns, 2 * rows, frame[2 * i] + frame[2 * i + 1]) for i, n in enumerate(names)]
        return [Amplifier(name, columns, rows, pixels) for name, pixels in zip(names, frame, strict=True)]


class Headers(HeaderService):
    """Headers that are made beforehand: the service is not what is measured."""

    def __init__(self, camera: ComCam, obsids: Sequence[str]) -> None:
        super().__init__(camera)
        detectors = camera.detectors()
        self.ready = {f"/{obsid}.yaml": expected_header(obsid, detectors) for obsid in obsids}

    def content(self, path: str) -> bytes:
        return self.ready.get(path, b"")


@dataclass
class Site:
    """One process with a site in it, on which a test drives from a thread of its own."""

    root: Path
    house: House
    imaging: Imaging
    halt: Halt
    told: Callable[[Message], None] = lambda _: None
    parts: Mapping[str, Any] = field(default_factory=dict)

    def say(self, address: str, *messages: Message) -> None:
        self.imaging.ledger.bus.publish([Say(address, message) for message in messages])
        self.imaging.bells.ring()

    def run(self, names: Sequence[str], drive: Callable[[Site], None]) -> None:
        def driver() -> None:
            try:
                time.sleep(1.0)
                drive(self)
            finally:
                self.halt.set()

        self.parts = self.house.components(names)
        with ThreadPoolExecutor(1, "driver") as thread:
            driven = thread.submit(driver)
            try:
                asyncio.run(run_together(self.parts, self.halt, str(self.root / "control")))
            finally:
                self.halt.set()  # or the driver would wait for a component that has ended with an error
            driven.result()

    def enable(self) -> None:
        for verb in (Verb.START, Verb.ENABLE):
            self.parts["archiver"].talk.command(verb)


@contextmanager
def site(root: Path, camera: ComCam, *, threads: int = 2, ssh: bool = False) -> Iterator[Site]:
    """`told` of what is given hears what the Archiver tells the outside."""
    halt, tellers = Halt(), list[Site]()
    forwarder: dict[str, object] = {"name": "f99", "work": str(root / "work"), "camera": {"kind": "simulated"}}
    forwarder |= {"threads": threads, "header_size": 2**24, "header_timeout": 30.0}
    with ExitStack() as stack:
        if ssh:
            from tests.sshd import sshd

            server = stack.enter_context(sshd(root / "sshd", "Subsystem sftp internal-sftp"))
            forwarder |= {"send": "remote", "host": {"name": server.name, "config_file": f"{server.here}/ssh_config"}}
        document = {
            "ledger": f"sqlite:///{root}/ledger.db",
            "control": str(root / "control"),
            "image": {
                "detectors": list(camera.detectors()),
                "staging": {"root": str(root / "staging")},
                "backbone": {"root": str(root / "backbone")},
                "oods": {"root": str(root / "oods"), "bad_files": str(root / "bad")},
                "forwarders": [forwarder],
            },
        }
        config = read(json.dumps(document), directory=str(root))
        house = stack.enter_context(build(config, tell=lambda message: tellers[0].told(message)))
        imaging = house.imaging
        if imaging is None:
            raise SystemExit("no image door")
        imaging.cameras = lambda _config, _image: camera
        tellers.append(Site(root, house, imaging, halt))
        yield tellers[0]


def processor() -> float:
    """Seconds of processor that this process and its children that ended have used."""
    return sum(os.times()[:4])


def queued() -> float:
    """Seconds that the threads of this process, all together, were ready to run and had to wait for a processor."""
    return sum(int(each.read_text().split()[1]) for each in Path("/proc/self/task").glob("*/schedstat")) / 1e9


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Samples where each thread spends the processor's time; prints the places of ours that cost most."""
    if not wanted:
        yield
        return
    lines, functions, done = Counter[str](), Counter[str](), threading.Event()

    def sample() -> None:
        before: dict[int, int] = {}
        while not done.wait(0.005):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                try:
                    spent = int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0])
                except OSError:
                    continue
                used = spent - before.get(thread.native_id or 0, spent)
                before[thread.native_id or 0] = spent
                if used and thread.ident in frames and thread is not threading.current_thread():
                    chain = ours(frames[thread.ident])
                    lines[" < ".join(chain[:3])] += used
                    for name in {each.split(":")[0] + " " + each.split()[-1] for each in chain}:
                        functions[name] += used

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield
    done.set()
    thread.join()
    for found, most in ((lines, 40), (functions, 60)):
        print(f"{sum(lines.values()) / 1e9:7.2f} s of processor, of it", file=sys.stderr)
        for name, spent in found.most_common(most):
            print(f"{spent / 1e9:7.2f} {name}", file=sys.stderr)


def ours(frame: FrameType | None) -> list[str]:
    """From the innermost line outwards: that one, and then those of skystow."""
    chain: list[str] = []
    while frame is not None:
        if not chain or "skystow/" in frame.f_code.co_filename:
            chain.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return chain
