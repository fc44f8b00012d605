"""The demonstration behind `make run`: both doors of one archiver, and a comparison with the truth.

    python -m skystow.simulate.demo [--seconds 30] [--corrupt]

A simulated instrument and a simulated SMuRF server write files for the file door; a simulated ComCam and its header
service take exposures for the image door. Nothing here knows how skystow works: it is commanded and asked by the
command line and ended with SIGTERM. Then each archived file is read and compared with what the simulators say that they
made, each row of the SMuRF server's table with the archive, and each image with its pixels and header. Exit 0 only if
every file is there, none is too many, no byte differs, and every row is `copied` with the path that its file has now.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skystow.simulate.night import Night, site, terminated
from skystow.simulate.program import SKYSTOW, Archiver, Trouble, lines, running
from skystow.simulate.proof import files

SOURCES = """\
  - name: instrument
    kind: directory
    root: instrument
    quiet_for: 3s
    sweep_every: 5s
    to: [archive]
  - name: smurf
    kind: pysmurf_files
    table: {url: "sqlite:///smurf.db"}
    targets: [pysmurf-monitor]
    root: smurf
    poll: 2s
    to: [data]
"""

DESTINATIONS = """\
  - name: archive
    kind: posix
    root: archive
    min_free: 0 %
  - name: data
    kind: posix
    root: data
    min_free: 0 %
"""

CADENCE = 5.0
"""Seconds from one exposure to the next; a short demonstration has two all the same."""

PATIENCE = 60.0
"""Seconds that the archiver has, after the last file was written, until nothing waits any more."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The directory of one demonstration, made anew for each."""

    here: Path

    @property
    def site(self) -> Path:
        return self.here / "site.yaml"

    @property
    def truth(self) -> Path:
        return self.here / "truth.jsonl"

    @property
    def archive(self) -> Path:
        return self.here / "archive"

    @property
    def data(self) -> Path:
        """The archive of the SMuRF server."""
        return self.here / "data"

    @property
    def table(self) -> Path:
        return self.here / "smurf.db"

    @classmethod
    def build(cls, parent: Path) -> Scene:
        scene = cls(parent / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        for each in ("instrument", "archive", "smurf", "data"):
            (scene.here / each).mkdir(parents=True)
        scene.site.write_text(site(SOURCES, DESTINATIONS), encoding="utf-8")
        return scene

    def made(self) -> dict[str, dict[str, Any]]:
        """What the instrument says that it wrote, by path."""
        return {line["path"]: line for line in lines(self.truth)}

    def registered(self) -> dict[str, dict[str, Any]]:
        """What the SMuRF server says that it wrote, by path in its archive."""
        return {line["path"]: line for line in lines(self.here / "smurf.jsonl")}

    def wanted(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All of it, by destination and path."""
        each = {"archive": self.made(), "data": self.registered()}
        return {(place, path): line for place, lines in each.items() for path, line in lines.items()}

    def rows(self) -> list[tuple[str, int]]:
        """Path and `copied` of each row."""
        with closing(sqlite3.connect(self.table, timeout=30)) as session:
            return list(session.execute("SELECT path, copied FROM pysmurf_files_v1 ORDER BY id"))


def run(scene: Scene, night: Night, *, seconds: float, rate: float, corrupt: bool) -> None:
    """The simulators and the archiver side by side, until all is archived. Raises `Trouble`."""
    subprocess.run([str(SKYSTOW), "pysmurf-files", "create", str(scene.site)], check=True, stdout=subprocess.DEVNULL)
    smurf = [sys.executable, "-m", "skystow.simulate.smurf", str(scene.here / "smurf"), "--table", str(scene.table)]
    smurf += ["--truth", str(scene.here / "smurf.jsonl"), "--seconds", str(seconds), "--rate", str(rate)]
    instrument = [sys.executable, "-m", "skystow.simulate.instrument", str(scene.here / "instrument")]
    instrument += ["--truth", str(scene.truth), "--seconds", str(seconds), "--rate", str(rate)]
    with night.at_work() as archiver:
        with running([*instrument, "--corrupt"] if corrupt else instrument) as one, running(smurf) as other:
            night.observe(archiver)
            while None in (one.poll(), other.poll()):
                archiver.look()
                time.sleep(0.1)
            if one.returncode or other.returncode:
                raise Trouble(f"the simulators ended with exit {one.returncode} and {other.returncode}")
        _wait_until_archived(scene, night, archiver)
        archiver.end()


def _wait_until_archived(scene: Scene, night: Night, archiver: Archiver) -> None:
    """Nothing waits, and the program has told of every file that was made. Raises `Trouble`."""
    made, deadline = scene.wanted().keys(), time.monotonic() + PATIENCE
    while missing := made - night.delivered().keys():
        archiver.look()
        if time.monotonic() > deadline:
            raise Trouble(f"after {PATIENCE:.0f} s {len(missing)} files were not archived")
        time.sleep(0.5)
    night.finish(archiver)


def compare(archive: Path, made: dict[str, dict[str, Any]]) -> list[str]:
    """Read every archived file; returns a sentence for each that is missing, too many, or wrong."""
    found = files(archive)
    differences = [f"missing in the archive: {path}" for path in sorted(made.keys() - found)]
    differences += [f"too many in the archive: {path}" for path in sorted(found - made.keys())]
    for path in sorted(found & made.keys()):
        content = (archive / path).read_bytes()
        if hashlib.sha256(content).hexdigest() != made[path]["sha256"]:
            differences.append(f"wrong bytes in the archive: {path} ({len(content)} bytes, {made[path]['size']} made)")
    return differences


def compare_rows(scene: Scene) -> list[str]:
    """A sentence for each row of the table that does not say where its file is now."""
    rows, wanted = scene.rows(), {str((scene.data / path).resolve()) for path in scene.registered()}
    wrong = [f"a row is not copied: {path}" for path, copied in rows if copied != 1]
    paths = {path for path, copied in rows if copied == 1}
    return wrong + [f"no row has the path {path}" for path in sorted(wanted - paths)]


def summary(scene: Scene, night: Night, differences: Sequence[str], seconds: float) -> list[str]:
    made, delivered = scene.wanted(), night.delivered()
    archived = made.keys() & delivered.keys()
    waits = sorted(delivered[path].timestamp() - made[path]["at"] for path in archived)
    rows = [
        ("files made", f"{len(made):,}"),
        ("bytes made", f"{sum(line['size'] for line in made.values()):,}"),
        ("files archived", f"{len(archived):,}"),
        ("rows copied", f"{sum(copied == 1 for _, copied in scene.rows()):,} of {len(scene.registered()):,}"),
    ]
    if waits:
        rows.append(("written → archived", f"median {statistics.median(waits):.1f} s, longest {waits[-1]:.1f} s"))
    ends = [("files that differ", f"{len(differences):,}"), ("took", f"{seconds:.0f} s")]
    told = [" the file door", *_table(rows), " the image door", *_table(night.rows()), " both", *_table(ends)]
    return [f" {line}" for line in told]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {name:<22}{value}" for name, value in rows]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.simulate.demo", description="a demonstration of skystow")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the simulators write (default 30)")
    parser.add_argument("--rate", type=float, default=8.0, help="files per second of each (default 8)")
    parser.add_argument("--corrupt", action="store_true", help="the instrument spoils one file; exit 1 is then right")
    parser.add_argument("--into", type=Path, default=Path("run"), help="where its directory is made (default run)")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, terminated)
    begun = time.monotonic()
    scene = Scene.build(options.into)
    exposures = max(2, int(options.seconds / CADENCE))
    night = Night(scene.here, exposures, min(CADENCE, options.seconds / exposures))
    night.prepare()
    print(
        f"For {options.seconds:g} s a simulated instrument writes files, a SMuRF server others with its table, and a "
        f"ComCam takes {exposures} exposures; skystow archives. All of it is in {scene.here}/",
        flush=True,
    )
    trouble, differences = list[str](), list[str]()
    try:
        try:
            run(scene, night, seconds=options.seconds, rate=options.rate, corrupt=options.corrupt)
        except Trouble as fault:
            trouble.append(str(fault))
        print("\nEvery archived file, every row and every image, compared with what was made:", flush=True)
        differences = compare(scene.archive, scene.made()) + compare(scene.data, scene.registered())
        differences += compare_rows(scene) + night.compare()
        print(*summary(scene, night, differences, time.monotonic() - begun), sep="\n")
    except Trouble as fault:
        trouble.append(str(fault))
    except KeyboardInterrupt:
        return 130
    for each in (*trouble, *differences):
        print(f"  ✗ {each}")
    well = not (trouble or differences)
    print("  ✓ all there, no byte differs" if well else "  ✗ the archive is not what was made")
    print(f"\nLook around:  {SKYSTOW} status {scene.site}\n              {SKYSTOW} exposures {scene.site}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
