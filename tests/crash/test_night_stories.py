"""Each place of the image archiver is full in the midst of a night, and is freed: it rests, says so, and goes on.

python -m tests.crash.test_night_stories STORY DIRECTORY      in a mount namespace (`unshare -rm`)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skystow.simulate.comcam import ComCam, HeaderService
from tests.crash.image_kit import Nights
from tests.crash.kit import wait_until
from tests.crash.night_field import DETECTORS, SHAPE, NightField, watched
from tests.crash.stories import MIB, tmpfs

DISK = 4 * MIB


def fill_up(disk: Path) -> Path:
    """To the last byte."""
    filler = disk / ".filler"
    with filler.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return filler


def stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def full_then_freed(made: NightField, disk: Path, act: str, place: str) -> None:
    """Somebody fills the disk right after the first such act."""
    assert made.home is not None
    made.write()
    with HeaderService(ComCam(names=DETECTORS, shape=SHAPE)).serving() as headers:
        nights = Nights(made.home, headers.url)
        with watched(made) as seen:
            process = nights.started(made, {"freeze": {"act": act, "at": 0, "when": "after"}})
            wait_until(lambda: stopped(process), "that it stops itself")
            filler = fill_up(disk)
            os.kill(process, signal.SIGCONT)
            with made.ledger() as ledger:
                wait_until(lambda: any(h.place == place and not h.well for h in ledger.healths()), "that it says so")
                (ill,) = [health for health in ledger.healths() if health.place == place]
                assert "space" in ill.reason or "min_free" in ill.reason
                filler.unlink()
                assert nights.ended(process) == 0
                assert all(health.well for health in ledger.healths())
        nights.close()
    assert seen == []
    made.assert_whole()


def work(root: Path) -> None:
    """The forwarder's own disk, when it has the header and no CCD yet."""
    tmpfs(root / "disk", DISK)
    made = NightField(root / "site", send="copy", home=root, works=root / "disk" / "work")
    full_then_freed(made, root / "disk", "link disk/work/header/*.yaml", "f99")


def staging(root: Path, act: str, place: str) -> None:
    """Staging, Data Backbone and OODS are one file system, and the forwarder has another."""
    tmpfs(root / "disk", DISK)
    made = NightField(root / "disk" / "site", send="copy", home=root, works=root / "work")
    full_then_freed(made, root / "disk", act, place)


STORIES: dict[str, Callable[[Path], None]] = {
    "work": work,
    "staging": lambda root: staging(root, "mkdir disk/site/staging/DAY", "staging"),
    # Adopted, and not yet told to the ledger: whatever threads do, its links are still to come.
    "backbone": lambda root: staging(root, "fsync disk/site/staging/DAY/*.fits", "backbone"),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("story", STORIES)
def test_full_then_freed(tmp_path: Path, repository: Path, story: str) -> None:
    command = ["unshare", "-rm", sys.executable, "-m", "tests.crash.test_night_stories", story, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=170, check=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


if __name__ == "__main__":
    STORIES[sys.argv[1]](Path(sys.argv[2]))
    print("well")
