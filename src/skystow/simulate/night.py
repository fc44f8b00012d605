"""A night of the simulated ComCam behind `make run NIGHT=full`, which may be killed and started again.

    python -m skystow.simulate.night [--exposures 60] [--cadence 5] [--directory DIR]

The camera, its header service and the whole image archiver are one process: Archiver, Archive Controller, Forwarder,
OODS, and the file archiver, which carries the Data Backbone to a vault. It is commanded and asked by the command line
alone. At the end every file in OODS, Data Backbone and vault is compared with what the camera made, then the links in
the Data Backbone are retired, after proof. Exit 0 only if nothing is missing, too many or wrong.

Given a DIR in which a night was begun, it takes the exposures that are left, and finishes what was in flight.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from skystow.simulate.comcam import COMCAM, Programme
from skystow.simulate.program import SKYSTOW, Archiver, Trouble, asked, lines, skystow
from skystow.simulate.proof import Truth, files

IMAGE = f"""\
image:
  detectors: [{", ".join(COMCAM)}]
  staging: {{root: staging, min_free: 0 %}}
  backbone: {{root: backbone}}
  oods: {{root: oods, bad_files: bad}}
  archiver: {{initial_state: last}}  # killed while ENABLED it hears at once what was said meanwhile
  forwarders:
    - name: f99
      work: work
      camera: {{kind: simulated}}
"""

SOURCE = """\
  - name: data-backbone
    kind: directory
    root: backbone
    quiet_for: 1s
    sweep_every: 2s
    to: [vault]
    retire: {after: 1s}
"""

DESTINATION = """\
  - name: vault
    kind: posix
    root: vault
    digest: sha256
    min_free: 0 %
"""

PATIENCE = 60.0
"""Seconds that the archiver has, after the last exposure, until nothing waits any more."""

LOOK = 3.0
"""Seconds between two questions how far it is."""


def site(sources: str = "", destinations: str = "") -> str:
    """A site file with the image door, and whatever else there is."""
    head = "# Made by the demonstration. Try: skystow exposures site.yaml\n"
    head += "ledger: sqlite:///ledger.db\njournal: notices.jsonl\n"
    return f"{head}sources:\n{sources}{SOURCE}destinations:\n{destinations}{DESTINATION}{IMAGE}"


@dataclass
class Night:
    """The image door of one demonstration. `cadence` in seconds; `exposure_time` is what the header says."""

    here: Path
    exposures: int
    cadence: float
    exposure_time: float = 1.0
    told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        programme = Programme(self.exposures)
        self.day_obs = programme.day_obs
        self.truth = Truth([programme.obsid(n) for n in range(self.exposures)], exposure_time=self.exposure_time)

    @property
    def site(self) -> Path:
        return self.here / "site.yaml"

    @property
    def diary(self) -> Path:
        return self.here / "camera.jsonl"

    def prepare(self) -> None:
        for each in ("backbone", "vault"):
            (self.here / each).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def at_work(self) -> Iterator[Archiver]:
        """Raises `Trouble`."""
        options = ["--exposures", str(self.exposures), "--cadence", str(self.cadence)]
        options += ["--exposure-time", str(self.exposure_time), "--log", str(self.diary)]
        with Archiver(self.site, *options) as archiver:
            archiver.enable()
            yield archiver

    # ── how far it is ───────────────────────────────────────────────────────────────────────────────────────────

    def taken(self) -> set[str]:
        return {line["obsid"] for line in lines(self.diary) if line["what"] == "announced"}

    def delivered(self) -> dict[tuple[str, str], datetime]:
        """When each file was first called archived, by destination and path, as the archiver told the world."""
        found: dict[tuple[str, str], datetime] = {}
        for line in lines(self.here / "notices.jsonl"):
            if line["kind"] == "delivered":
                key = line["body"]["destination"], line["body"]["path"]
                found.setdefault(key, datetime.fromisoformat(line["at"]))
        return found

    def known(self) -> dict[str, dict[str, Any]]:
        """What the archiver says of each exposure. Raises `Trouble`."""
        found = asked("exposures", self.site, "--day-obs", str(self.day_obs), lawful=(0, 3))  # 3: some are under way
        return {each["obsid"]: each for each in found["exposures"]}

    def complete(self, *, say: bool = False) -> set[str]:
        """Exposures that are; with `say`, each is told of once."""
        known = {name: each for name, each in self.known().items() if each["state"].startswith("complete")}
        for name in sorted(known.keys() - self.told) if say else ():
            self.told.add(name)
            print(
                f"  {name}: {known[name]['ingested']} of {known[name]['expected']} {known[name]['state']}", flush=True
            )
        return set(known)

    def owed(self, *, say: bool = False) -> str:
        """What is still to be done; empty: nothing. The cheap questions first."""
        if left := set(self.truth.obsids) - self.taken():
            return f"{len(left)} exposures are to be taken"
        if missing := {("vault", path) for path in self.truth.paths()} - self.delivered().keys():
            return f"{len(missing)} files are not in the vault"
        if left := set(self.truth.obsids) - self.complete(say=say):
            return f"{len(left)} exposures are not complete"
        if passing := files(self.here / "staging") | files(self.here / "work" / "fits"):
            return f"{len(passing)} files have not left staging and forwarder"
        waiting = asked("status", self.site)["waiting"]
        return f"{waiting} transfers wait" if waiting else ""

    def observe(self, archiver: Archiver) -> None:
        """Until all exposures are taken. Raises `Trouble`."""
        asked_at = 0.0
        while set(self.truth.obsids) - self.taken():
            archiver.look()
            time.sleep(0.2)
            if time.monotonic() > asked_at + LOOK and self.taken() - self.told:
                self.complete(say=True)
                asked_at = time.monotonic()

    def finish(self, archiver: Archiver) -> None:
        """Until nothing is owed. Raises `Trouble` where that takes too long."""
        deadline = time.monotonic() + PATIENCE
        while owed := self.owed(say=True):
            archiver.look()
            if time.monotonic() > deadline:
                raise Trouble(f"{PATIENCE:.0f} s after the last exposure {owed}")
            time.sleep(0.5)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def compare(self) -> list[str]:
        """Every file with what the camera made; then the Data Backbone's links go. Raises `Trouble`."""
        retiring = self.here / "retiring"  # a night that was killed in its last seconds finds some of them gone
        wrong = self.truth.differences(self.here / "oods")
        wrong += self.truth.differences(self.here / "backbone", may_be_gone=retiring.exists())
        wrong += self.truth.differences(self.here / "vault")
        wrong += [f"put aside by the OODS: {path}" for path in sorted(files(self.here / "bad"))]
        found = asked("oods", "find", self.site, "--day-obs", str(self.day_obs))["frames"]
        wrong += _differ("the OODS's table", [each["path"] for each in found], self._at("oods", self.truth.images()))
        if not wrong:
            retiring.touch()
            asked("retire", self.site)
            wrong += [f"not removed after proof: backbone/{path}" for path in sorted(files(self.here / "backbone"))]
            wrong += _differ("the OODS", sorted(files(self.here / "oods")), self.truth.paths())
        return wrong

    def _at(self, place: str, paths: Sequence[str] | dict[str, Any]) -> set[str]:
        return {str((self.here / place / path).resolve()) for path in paths}

    def rows(self) -> list[tuple[str, str]]:
        """Of the summary."""
        told = asked("night", self.site, str(self.day_obs), lawful=(0, 3))
        count = len(self.truth.images())
        at = {place: len(files(self.here / place) & self.truth.images().keys()) for place in ("oods", "vault")}
        linked = sum(place == "backbone" for place, _ in self.delivered())
        links = len(files(self.here / "backbone"))
        rows = [
            ("exposures complete", f"{told['complete']:,} of {self.exposures:,}"),
            ("images in the OODS", f"{at['oods']:,} of {count:,}"),
            ("in the Data Backbone", f"{linked:,} of {count:,}, {links:,} links left after proof in the vault"),
            ("images in the vault", f"{at['vault']:,} of {count:,}"),
        ]
        for what in ("published", "ingested"):
            if spent := told[f"seconds_to_{what}"]:
                rows.append((f"read out → {what}", f"median {spent['p50']:.1f} s, longest {spent['p100']:.1f} s"))
        return rows


def _differ(what: str, found: Sequence[str], wanted: set[str]) -> list[str]:
    wrong = [f"missing in {what}: {path}" for path in sorted(wanted - set(found))]
    wrong += [f"too many in {what}: {path}" for path in sorted(set(found) - wanted)]
    return wrong + ([f"{what} has doubles"] if len(found) > len(set(found)) else [])


# ── the night alone ─────────────────────────────────────────────────────────────────────────────────────────────


def begun(here: Path, exposures: int, cadence: float) -> Night:
    """A night in this directory: the one that was begun there, or a new one."""
    here.mkdir(parents=True, exist_ok=True)
    plan = here / "night.json"
    if not plan.exists():
        (here / "site.yaml").write_text(site(), encoding="utf-8")
        new = plan.with_suffix(".new")
        new.write_text(json.dumps({"exposures": exposures, "cadence": cadence}), encoding="utf-8")
        new.rename(plan)
    night = Night(here, **json.loads(plan.read_text(encoding="utf-8")))
    night.prepare()
    return night


@contextmanager
def alone(here: Path) -> Iterator[None]:
    """Raises `Trouble` where another demonstration is at work in this directory."""
    with (here / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"a night is under way in {here}/ already") from None
        yield


def play(night: Night) -> int:
    """From the first exposure that is left to the comparison; the exit code."""
    began, wrong, restarts = time.monotonic(), list[str](), 0
    try:
        with alone(night.here):
            with night.at_work() as archiver:
                print(f"  The archiver and the camera are process {archiver.pid}.", flush=True)
                night.observe(archiver)
                night.finish(archiver)
                archiver.end()
                restarts = archiver.restarts
            print("\nEvery file in OODS, Data Backbone and vault, compared with what the camera made:", flush=True)
            wrong += night.compare()
            rows = [*night.rows(), ("files that differ", f"{len(wrong):,}")]
            rows += [("killed and restarted", f"{restarts:,} times")] if restarts else []
            rows.append(("took", f"{time.monotonic() - began:.0f} s"))
            print(*(f"  {name:<22}{value}" for name, value in rows), sep="\n")
    except Trouble as trouble:
        wrong.append(str(trouble))
    for each in wrong:
        print(f"  ✗ {each}")
    print("  ✗ the archive is not what was made" if wrong else "  ✓ all there, once; no byte differs")
    return 1 if wrong else 0


def terminated(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.simulate.night", description=__doc__.partition("\n")[0])
    parser.add_argument("--exposures", type=int, default=60, help="how many (default 60)")
    parser.add_argument("--cadence", type=float, default=5.0, help="seconds from one to the next (default 5)")
    parser.add_argument("--directory", type=Path, help="where it is, or was, done (default: a new one below run)")
    options = parser.parse_args(argv)
    if options.exposures < 1 or options.cadence <= 0:
        parser.error("--exposures and --cadence must be above 0")
    signal.signal(signal.SIGTERM, terminated)
    here = options.directory or Path("run") / f"night-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    night = begun(here, options.exposures, options.cadence)
    if taken := night.taken():
        print(
            f"{len(taken)} of {night.exposures} exposures of the night in {here}/ were taken; it goes on.", flush=True
        )
    else:
        print(
            f"A simulated ComCam takes {night.exposures} exposures, one each {night.cadence:g} s; skystow archives. "
            f"All of it is in {here}/\n  Killed, it goes on with: make run NIGHT=full NIGHT_DIR={here}",
            flush=True,
        )
    try:
        code = play(night)
    except KeyboardInterrupt:
        return 130
    if (here / "ledger.db").exists():
        print("\n" + skystow("night", night.site, str(night.day_obs)).stdout, end="")
    image = os.path.join(here, "oods", *sorted(night.truth.images())[:1])
    print(f"\nLook around:  {SKYSTOW} exposures {night.site}\n              {SKYSTOW} trace {night.site} {image}")
    return code


if __name__ == "__main__":
    sys.exit(main())
