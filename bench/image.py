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
import functools
import hashlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from image_kit import LSST, Frozen, Headers, Site, processor, profiled, queued, site

from skystow.adapters.assembly import contents_of
from skystow.adapters.fits import build as build_fits
from skystow.adapters.header_yaml import parse
from skystow.model.acts import Milestone
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
from skystow.simulate.comcam import ADDRESS, HeaderService, expected_header
from skystow.wiring.image import component_names

DAY_OBS = 20210304
STAGES = (Milestone.ASSEMBLED, Milestone.SENT, Milestone.ADOPTED, Milestone.LINKED, Milestone.INGESTED)
PATIENCE = 300.0
"""Seconds after which an exposure that is not whole is given up."""


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
            before, waited, self.said[obsid] = processor(), queued(), time.time()
            at.say(ADDRESS, EndReadout(obsid, datetime.now(UTC), index, count), headers.announced(obsid))
            due = time.monotonic() + PATIENCE
            with self.whole:
                while not self.whole.wait_for(functools.partial(self.is_whole, obsid), 1.0):
                    if at.halt.is_set() or time.monotonic() > due:
                        raise SystemExit(f"{obsid}: {len(self.told[obsid])} of {len(self.detectors)} came")
            self.cpu.append(processor() - before)
            last, kept = max(self.told[obsid]) - self.said[obsid], queued() - waited
            print(f"{obsid}: whole after {last:.2f} s, {self.cpu[-1]:.2f} s of processor ({kept:.2f} s waited for one)")
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
            print(f"{obsid}: {took:.2f} s, {cpu[-1]:.2f} s of processor")

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
