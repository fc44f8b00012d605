"""The image door under the load of a big camera: exposures of many CCDs, from pixels in memory to the OODS.

    python bench/image.py night [--exposures 20] [--cadence 17] [--detectors 205] [--shape 512x256] [--ssh] [--root DIR]
    python bench/image.py controller [--files 205] [--shape 512x256] [--rounds 5] [--root DIR]
    python bench/image.py idle [--seconds 60] [--root DIR]

`night`: all components in this one process, the embedded bus, SQLite; pixels are in memory before an exposure begins.
The clock of a file starts when endReadout was said and the header can be fetched; a stage's time is that of its
milestone in the ledger. `told` is when the Archiver told the outside that the file is in the OODS: its digest was read
back by then, and both links stand. When an exposure is told whole, each file is read once more from OODS and Data
Backbone, compared with its manifest, and removed. `--ssh` sends over rsync/SSH to an sshd of our own on this machine.
`controller`: the Archive Controller and a forwarder that only drops whole files into staging and announces them.
`idle`: everything is ENABLED, and nothing happens; the processor time of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from skystow.adapters.assembly import contents_of
from skystow.adapters.fits import build as build_fits
from skystow.adapters.header_yaml import parse
from skystow.config import read
from skystow.model.acts import Milestone, Say
from skystow.model.lifecycle import Verb
from skystow.model.messages import (
    EndReadout,
    FileTransferCompleted,
    FileTransferCompletedAck,
    ImageInOODS,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    StartIntegration,
    file_name,
    raft_and_sensor,
)
from skystow.ports import Stop
from skystow.ports.image import Amplifier, segments
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.simulate.comcam import ADDRESS, ComCam, HeaderService, expected_header
from skystow.wiring import House, build
from skystow.wiring.components import Imaging
from skystow.wiring.image import component_names

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

DAY_OBS = 20210304
STAGES = (Milestone.ASSEMBLED, Milestone.SENT, Milestone.ADOPTED, Milestone.LINKED, Milestone.INGESTED)
PATIENCE = 300.0
"""Seconds after which an exposure that is not whole is given up."""


class Frozen(ComCam):
    """A camera whose pixels are in memory: four different frames, each detector always the same one of them."""

    def __init__(self, names: Sequence[str], shape: tuple[int, int]) -> None:
        super().__init__("COMCAM", names=names, shape=shape)
        columns, rows = shape
        dice = np.random.default_rng(1)
        self.frames: list[list[bytes]] = []
        for _ in range(4):
            self.frames.append([dice.integers(0, 1 << 18, rows * columns, np.int32).tobytes() for _ in range(16)])

    def read(self, obsid: str, detector: str, *, stop: Stop) -> Sequence[Amplifier]:  # noqa: ARG002 - the port's
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
            asyncio.run(run_together(self.parts, self.halt, str(self.root / "control")))
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


# ── a night ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Night:
    """`said` and `told`: seconds since the epoch, of endReadout by exposure, and of each file that was told."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.detectors = LSST[: options.detectors]
        self.obsids = [f"CC_O_{DAY_OBS}_{number:06d}" for number in range(1, options.exposures + 1)]
        self.said: dict[str, float] = {}
        self.told: dict[str, list[float]] = {obsid: [] for obsid in self.obsids}
        self.cpu: list[float] = []
        self.whole = threading.Condition()

    def hear(self, message: Message) -> None:
        if isinstance(message, ImageInOODS):
            if message.status_code:
                print(f"not in the OODS: {message.description}", file=sys.stderr)
            with self.whole:
                self.told[message.obsid].append(time.time())
                self.whole.notify_all()

    def is_whole(self, obsid: str) -> bool:
        return len(self.told[obsid]) >= len(self.detectors)

    def drive(self, at: Site, headers: HeaderService) -> None:
        at.enable()
        begin, index = time.monotonic(), 0
        for index, obsid in enumerate(self.obsids):
            time.sleep(max(0.0, begin + index * self.options.cadence - time.monotonic()))
            day, count = f"{DAY_OBS:08d}", len(self.obsids)
            at.say(ADDRESS, StartIntegration(obsid, datetime.now(UTC), index, count, day, index + 1, 1.0, "O", "O"))
            time.sleep(1.0)
            before, self.said[obsid] = time.process_time(), time.time()
            at.say(ADDRESS, EndReadout(obsid, datetime.now(UTC), index, count), headers.announced(obsid))
            with self.whole:
                done = self.whole.wait_for(functools.partial(self.is_whole, obsid), PATIENCE)
            if not done:
                raise SystemExit(f"{obsid}: {len(self.told[obsid])} of {len(self.detectors)} after {PATIENCE} s")
            self.cpu.append(time.process_time() - before)
            last = max(self.told[obsid]) - self.said[obsid]
            print(f"{obsid}: whole after {last:.2f} s, {self.cpu[-1]:.2f} s of processor", file=sys.stderr, flush=True)
            verify(at.root, obsid, len(self.detectors))

    def report(self, at: Site) -> None:
        times: dict[Milestone, list[float]] = {stage: [] for stage in STAGES}
        for obsid in self.obsids:
            for line in at.imaging.ledger.talks.lines(obsid=obsid):
                if line.what is Milestone.FAULT:
                    print(f"{obsid} {line.detector}: {line.text}", file=sys.stderr)
                if line.what in times and line.detector:
                    times[line.what].append(line.at.timestamp() - self.said[obsid])
        told = [at - self.said[obsid] for obsid, several in self.told.items() for at in several]
        last = [max(several) - self.said[obsid] for obsid, several in self.told.items()]
        print("| stage | files | p50 s | p90 s | p99 s | last s |")
        print("|---|---|---|---|---|---|")
        for name, found in [*((stage.value, times[stage]) for stage in STAGES), ("told", told)]:
            print(row(name, found))
        print(row("the whole exposure", last))
        print(f"\nprocessor: {statistics.median(self.cpu):.2f} s an exposure (median)")


def row(name: str, found: Sequence[float]) -> str:
    ordered = sorted(found)
    quantiles = [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.9, 0.99, 1.0)]
    return f"| {name} | {len(found)} | {' | '.join(f'{each:.2f}' for each in quantiles)} |"


def verify(root: Path, obsid: str, count: int) -> None:
    """Every file of an exposure, in OODS and Data Backbone, against its manifest; then they go."""
    for place in ("oods", "backbone"):
        due = time.monotonic() + 30
        while not (found := list((root / place).glob(f"*/{obsid}.sha256"))):
            if time.monotonic() > due:
                raise SystemExit(f"{obsid}: no manifest in {place}")
            time.sleep(0.05)
        lines = found[0].read_text().splitlines()
        if len(lines) != count:
            raise SystemExit(f"{obsid}: {len(lines)} files in the manifest of {place}")
        for line in lines:
            digits, name = line.split("  ")
            other = root / "oods" / found[0].parent.name / name
            path = found[0].with_name(name)
            if place == "backbone" and path.stat().st_ino == other.stat().st_ino:
                continue  # the same inode, which was read already
            if hashlib.sha256(path.read_bytes()).hexdigest() != digits:
                raise SystemExit(f"{path}: not what its manifest says")
    for place in ("oods", "backbone"):
        for path in (root / place).glob(f"*/{obsid}-*.fits"):
            path.unlink()


def night(root: Path, options: argparse.Namespace) -> None:
    run = Night(options)
    camera = Frozen(run.detectors, options.shape)
    print(f"disk alone: {disk_alone(root, len(run.detectors), options.shape):.2f} s for the bytes of one exposure")
    with (
        Headers(camera, run.obsids).serving() as headers,
        site(root, camera, threads=options.threads, ssh=options.ssh) as at,
    ):
        at.told = run.hear
        names = component_names(at.house.config) if at.house.config else []
        with profiled(options.profile):
            at.run(names, functools.partial(run.drive, headers=headers))
        run.report(at)


def disk_alone(root: Path, files: int, shape: tuple[int, int]) -> float:
    """Seconds to write and sync as many bytes as an exposure has, by one thread, and nothing else."""
    content = os.urandom(shape[0] * shape[1] * 64)
    os.sync()
    began = time.monotonic()
    for n in range(files):
        with open(root / f"trial-{n}", "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
    took = time.monotonic() - began
    for n in range(files):
        (root / f"trial-{n}").unlink()
    return took


# ── the Controller alone ────────────────────────────────────────────────────────────────────────────────────────


def controller(root: Path, options: argparse.Namespace) -> None:
    """From the first announcement to the last acknowledgement and ingest request."""
    detectors, rates, cpu = LSST[: options.files], list[float](), list[float]()
    camera = Frozen(detectors, options.shape)

    def drive(at: Site) -> None:
        bus = at.imaging.ledger.bus
        for index in range(options.rounds):
            obsid = f"CC_O_{DAY_OBS}_{index + 1:06d}"
            at.say("controller", NewArchiveItem("ask", 1, "s", obsid, "archiver", image_date=f"{DAY_OBS}"))
            (ack,) = await_messages(bus, "archiver", NewArchiveItemAck, 1)
            directory, header = Path(ack.target_dir), parse(expected_header(obsid, detectors))
            said: list[Message] = []
            for detector in detectors:
                raft, sensor = raft_and_sensor(detector)
                whole = build_fits(camera.read(obsid, detector, stop=at.halt), contents_of(header, obsid, detector))
                path = directory / file_name(obsid, raft, sensor)
                path.write_bytes(whole)
                hexes = hashlib.sha256(whole).hexdigest()
                said.append(
                    FileTransferCompleted(
                        str(path), obsid, raft, sensor, "s", "1", "forwarder/f99", len(whole), hexes, "sha256"
                    )
                )
            os.sync()
            began, before = time.monotonic(), time.process_time()
            at.say("controller", *said)
            await_messages(bus, "forwarder/f99", FileTransferCompletedAck, len(detectors))
            took = time.monotonic() - began
            cpu.append(time.process_time() - before)
            asked = len(bus.receive("oods", limit=10_000))
            if asked != len(detectors) * (index + 1):
                raise SystemExit(f"{asked} ingest requests")
            rates.append(len(detectors) / took)
            print(f"{obsid}: {took:.2f} s, {cpu[-1]:.2f} s of processor", file=sys.stderr, flush=True)

    with site(root, camera) as at, profiled(options.profile):
        at.run(["controller"], drive)
    print(
        f"Controller alone: {statistics.median(rates):.0f} files/s ({min(rates):.0f} … {max(rates):.0f}), "
        f"{1000 * statistics.median(cpu) / len(detectors):.1f} ms of processor a file"
    )


def await_messages(bus: Any, address: str, kind: type[Message], count: int) -> list[Any]:
    """As they come, accepted; raises `SystemExit` after `PATIENCE`."""
    found: list[Any] = []
    due = time.monotonic() + PATIENCE
    while len(found) < count:
        if time.monotonic() > due:
            raise SystemExit(f"{len(found)} of {count} {kind.__name__} after {PATIENCE} s")
        deliveries = bus.receive(address, limit=10_000)
        bus.accept(deliveries)
        found += [each.message for each in deliveries if isinstance(each.message, kind)]
        time.sleep(0.02)
    return found


# ── nothing to do ───────────────────────────────────────────────────────────────────────────────────────────────


def idle(root: Path, options: argparse.Namespace) -> None:
    camera = Frozen(LSST, (64, 32))

    def drive(at: Site) -> None:
        at.enable()
        time.sleep(5.0)
        before, began = time.process_time(), time.monotonic()
        time.sleep(options.seconds)
        used, took = time.process_time() - before, time.monotonic() - began
        print(f"idle: {100 * used / took:.2f} % of one processor ({used:.2f} s in {took:.0f} s)")

    with site(root, camera) as at, profiled(options.profile):
        at.run(component_names(at.house.config) if at.house.config else [], drive)


# ── ────────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def shape(text: str) -> tuple[int, int]:
        columns, _, rows = text.partition("x")
        return int(columns), int(rows)

    def command(name: str, call: Callable[[Path, argparse.Namespace], None]) -> argparse.ArgumentParser:
        made = commands.add_parser(name)
        made.set_defaults(call=call)
        made.add_argument("--root", type=Path, default=None, help="where to work (default: the temporary directory)")
        made.add_argument("--shape", type=shape, default=(512, 256), help="columns x rows of an amplifier")
        made.add_argument("--profile", action="store_true", help="print where the time goes, by samples")
        return made

    one = command("night", night)
    one.add_argument("--exposures", type=int, default=20)
    one.add_argument("--cadence", type=float, default=17.0)
    one.add_argument("--detectors", type=int, default=len(LSST))
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--ssh", action="store_true")
    two = command("controller", controller)
    two.add_argument("--files", type=int, default=len(LSST))
    two.add_argument("--rounds", type=int, default=5)
    three = command("idle", idle)
    three.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skystow-bench-", dir=options.root) as work:
        options.call(Path(work), options)


if __name__ == "__main__":
    main()
