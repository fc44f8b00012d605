"""The demonstration behind `make run`: a simulated instrument and a simulated SMuRF server, the shipped program, and a
comparison with the truth.

    python -m skystow.simulate.demo [--seconds 30] [--corrupt]

Nothing here knows how skystow works: it is started as anybody would start it, asked with `skystow status --json`, ended
with SIGTERM, and then each archived file is read and compared with what the simulators say that they made, and each row
of the SMuRF server's table with the archive. Exit 0 only if every file is there, none is too many, no byte differs, and
every row is `copied` with the path that its file has now.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

SKYSTOW = Path(sys.executable).with_name("skystow")

SITE = """\
# Made by the demonstration. Try: skystow status {here}/site.yaml
ledger: sqlite:///ledger.db
journal: notices.jsonl
sources:
  - name: instrument
    kind: directory
    root: instrument
    quiet_for: 3s
    sweep_every: 5s
    to: [archive]
  - name: smurf
    kind: pysmurf_files
    table: {{url: "sqlite:///smurf.db"}}
    targets: [pysmurf-monitor]
    root: smurf
    poll: 2s
    to: [data]
destinations:
  - name: archive
    kind: posix
    root: archive
    min_free: 0 %
  - name: data
    kind: posix
    root: data
    min_free: 0 %
"""

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
        scene.site.write_text(SITE.format(here=scene.here), encoding="utf-8")
        return scene

    def made(self) -> dict[str, dict[str, Any]]:
        """What the instrument says that it wrote, by path."""
        return {line["path"]: line for line in _lines(self.truth)}

    def registered(self) -> dict[str, dict[str, Any]]:
        """What the SMuRF server says that it wrote, by path in its archive."""
        return {line["path"]: line for line in _lines(self.here / "smurf.jsonl")}

    def wanted(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All of it, by destination and path."""
        each = {"archive": self.made(), "data": self.registered()}
        return {(place, path): line for place, lines in each.items() for path, line in lines.items()}

    def delivered(self) -> dict[tuple[str, str], datetime]:
        """When each file was called archived, as the archiver told the world."""
        told = [line for line in _lines(self.here / "notices.jsonl") if line["kind"] == "delivered"]
        return {(n["body"]["destination"], n["body"]["path"]): datetime.fromisoformat(n["at"]) for n in told}

    def rows(self) -> list[tuple[str, int]]:
        """Path and `copied` of each row."""
        with closing(sqlite3.connect(self.table, timeout=30)) as session:
            return list(session.execute("SELECT path, copied FROM pysmurf_files_v1 ORDER BY id"))


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; none where the file is not there yet, and without a last line that is being written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def run(scene: Scene, *, seconds: float, rate: float, corrupt: bool) -> list[str]:
    """The simulators and the archiver side by side, until all is archived; returns what went wrong."""
    subprocess.run([str(SKYSTOW), "pysmurf-files", "create", str(scene.site)], check=True, stdout=subprocess.DEVNULL)
    smurf = [sys.executable, "-m", "skystow.simulate.smurf", str(scene.here / "smurf"), "--table", str(scene.table)]
    smurf += ["--truth", str(scene.here / "smurf.jsonl"), "--seconds", str(seconds), "--rate", str(rate)]
    instrument = [sys.executable, "-m", "skystow.simulate.instrument", str(scene.here / "instrument")]
    instrument += ["--truth", str(scene.truth), "--seconds", str(seconds), "--rate", str(rate)]
    with _process([str(SKYSTOW), "run", str(scene.site)]) as archiver:
        with _process([*instrument, "--corrupt"] if corrupt else instrument) as one, _process(smurf) as other:
            while None in (one.poll(), other.poll()) and archiver.poll() is None:
                time.sleep(0.1)
            if archiver.poll() is not None:
                return [f"the archiver ended before its time, with exit {archiver.returncode}"]
            if one.returncode or other.returncode:
                return [f"the simulators ended with exit {one.returncode} and {other.returncode}"]
        trouble = _wait_until_archived(scene, archiver)
        archiver.send_signal(signal.SIGTERM)
        if code := archiver.wait(timeout=15):
            trouble.append(f"the archiver ended with exit {code} after SIGTERM")
    return trouble


def _wait_until_archived(scene: Scene, archiver: subprocess.Popen[bytes]) -> list[str]:
    """Poll the program itself: nothing waits, and it has told of every file that was made."""
    made, deadline, waiting = scene.wanted().keys(), time.monotonic() + PATIENCE, "?"
    while time.monotonic() < deadline and archiver.poll() is None:
        if made <= scene.delivered().keys():
            command = [str(SKYSTOW), "status", str(scene.site), "--json"]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            if answer.returncode != 0:
                return [f"skystow status ended with exit {answer.returncode}: {answer.stderr.strip()}"]
            waiting = json.loads(answer.stdout)["waiting"]
            if waiting == 0:
                return []
        time.sleep(0.5)
    missing = len(made - scene.delivered().keys())
    return [f"after {PATIENCE:.0f} s {missing} files were not archived, and {waiting} waited"]


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child that does not outlive us, however we leave."""
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def compare(archive: Path, made: dict[str, dict[str, Any]]) -> list[str]:
    """Read every archived file; returns a sentence for each that is missing, too many, or wrong."""
    found = {
        os.path.relpath(os.path.join(directory, name), archive)
        for directory, _, names in os.walk(archive)
        for name in names
        if not os.path.relpath(directory, archive).startswith(".skystow")
    }
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


def summary(scene: Scene, differences: Sequence[str], seconds: float) -> list[str]:
    made, delivered = scene.wanted(), scene.delivered()
    waits = sorted(delivered[path].timestamp() - made[path]["at"] for path in made.keys() & delivered.keys())
    rows = [
        ("files made", f"{len(made):,}"),
        ("bytes made", f"{sum(line['size'] for line in made.values()):,}"),
        ("files archived", f"{len(delivered):,}"),
        ("rows copied", f"{sum(copied == 1 for _, copied in scene.rows()):,} of {len(scene.registered()):,}"),
        ("files that differ", f"{len(differences):,}"),
    ]
    if waits:
        rows.append(("written → archived", f"median {statistics.median(waits):.1f} s, longest {waits[-1]:.1f} s"))
    rows.append(("took", f"{seconds:.0f} s"))
    return [f"  {name:<20}{value}" for name, value in rows]


def _terminated(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.simulate.demo", description="a demonstration of skystow")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the simulators write (default 30)")
    parser.add_argument("--rate", type=float, default=8.0, help="files per second of each (default 8)")
    parser.add_argument("--corrupt", action="store_true", help="the instrument spoils one file; exit 1 is then right")
    parser.add_argument("--into", type=Path, default=Path("run"), help="where its directory is made (default run)")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _terminated)
    begun = time.monotonic()
    scene = Scene.build(options.into)
    print(
        f"A simulated instrument and a SMuRF server with its table write for {options.seconds:g} s; skystow archives. "
        f"All of it is in {scene.here}/",
        flush=True,
    )
    try:
        trouble = run(scene, seconds=options.seconds, rate=options.rate, corrupt=options.corrupt)
    except KeyboardInterrupt:
        return 130
    differences = compare(scene.archive, scene.made()) + compare(scene.data, scene.registered())
    differences += compare_rows(scene)
    well = not (trouble or differences)
    print("\nEvery archived file and every row, compared with what was made:")
    print(*summary(scene, differences, time.monotonic() - begun), sep="\n")
    for each in (*trouble, *differences):
        print(f"  ✗ {each}")
    print("  ✓ all there, no byte differs" if well else "  ✗ the archive is not what was made")
    print(f"\nLook around:  {SKYSTOW} status {scene.site}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
