"""The Archiver on SAL: how long a command takes, and whether a burst of events is lost.

    python bench/sal.py [--commands 500] [--events 2000] [--root DIR]

A site with all components in one process on SQLite; we are the commander and the camera, in a process of our own.
`command`: seconds from writing the command to its final acknowledgement, enable and disable in turn: each of them is
written into the ledger, synced, and published as summaryState before it is complete. `burst`: startIntegration events
as fast as they can be written, until all of them are in the ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger
from skystow.adapters.process import this_worker
from skystow.config import load
from skystow.errors import Unreachable
from skystow.model.acts import Say
from skystow.model.messages import StartIntegration
from skystow.wiring.sal import Speech, instrument, remote

ENOUGH = 60.0
DAY_OBS = 20210304


def write_site(root: Path) -> Path:
    document: dict[str, Any] = {
        "ledger": f"sqlite:///{root}/ledger.db",
        "control": str(root / "control"),
        "image": {
            "detectors": ["R22_S00"],
            "staging": {"root": str(root / "staging"), "min_free": 0},
            "backbone": {"root": str(root / "backbone")},
            "forwarders": [{"name": "f99", "work": str(root / "work"), "camera": {"kind": "simulated"}}],
            "sal": {"kind": "dds"},
        },
    }
    site = root / "site.yaml"
    site.write_text(json.dumps(document))
    return site


def until(true: Callable[[], object], what: str) -> None:
    due = time.monotonic() + ENOUGH
    while not true():
        if time.monotonic() > due:
            raise SystemExit(f"in vain for {ENOUGH:.0f} s: {what}")
        time.sleep(0.005)


def commands(site: Path, count: int) -> list[float]:
    took: list[float] = []
    with remote("CCArchiver", Speech(str(site)), print) as archiver:

        def obey(name: str) -> float:
            began = time.perf_counter()
            last = list(archiver.command(name, {}, seconds=20.0))[-1]
            if last.code.name != "COMPLETE":
                raise SystemExit(f"{name}: {last.code.name} {last.text}")
            return time.perf_counter() - began

        def started() -> bool:
            try:
                obey("start")
            except Unreachable:
                return False
            return True

        until(started, "that the Archiver is there")
        for each in ("enable", "disable"):
            obey(each)  # for the first of its kind we must be found, too
        for number in range(count):
            took.append(obey("disable" if number % 2 else "enable"))
        if count % 2:
            obey("disable")
    return took


def burst(site: Path, count: int) -> tuple[float, float]:
    """Seconds to write them, and until all are in the ledger."""
    image = load(str(site)).image
    if image is None:
        raise SystemExit("the site has no image:")
    url = f"sqlite:///{site.parent}/ledger.db"
    ledger = open_ledger(url, worker=this_worker(), clock=SystemClock())
    try:
        with instrument(image, print) as camera:
            until(lambda: camera.heard, "that somebody hears the camera")
            began = time.perf_counter()
            for number in range(count):
                camera.publish([Say("", StartIntegration(f"CC_O_{DAY_OBS}_{number:06d}", image_date=str(DAY_OBS)))])
            wrote = time.perf_counter() - began
            until(lambda: len(ledger.talks.lines(day_obs=DAY_OBS)) >= count, f"{count} events")
            return wrote, time.perf_counter() - began
    finally:
        ledger.close()


@contextmanager
def running(site: Path) -> Any:
    with (site.parent / "run.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "skystow", "run", str(site)], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commands", type=int, default=500)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--root", type=Path, help="a directory on the file system that is to be measured")
    given = parser.parse_args()
    os.environ.setdefault("LSST_DDS_PARTITION_PREFIX", f"bench-{os.getpid()}")
    with tempfile.TemporaryDirectory(dir=given.root) as here:
        site = write_site(Path(here))
        with running(site):
            took = sorted(commands(site, given.commands))
            p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
            longest = f"max {took[-1] * 1e3:.1f} ms"
            print(f"command  {len(took)} of them: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, {longest}")
            wrote, all_ = burst(site, given.events)
            print(f"burst    {given.events} events: written in {wrote:.2f} s, all in the ledger after {all_:.2f} s")


if __name__ == "__main__":
    main()
