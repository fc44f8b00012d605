"""An Archiver that begins in STANDBY, killed when an event was published that it had not heard yet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from skystow.config import load
from skystow.image.night import Exposure, exposures
from skystow.model.acts import Milestone
from skystow.service.halt import Halt
from skystow.simulate.comcam import Programme
from skystow.simulate.night import Night, site
from skystow.simulate.program import Archiver, skystow
from skystow.wiring import rehearsal
from skystow.wiring.image import open_talks
from tests.system.night_kit import until

PROGRAMME = Programme(1, exposure_time=0.1)


class Fatal(rehearsal.Diary):
    """Kills its process as soon as the bus has the event of the header."""

    def write(self, **said: object) -> None:
        super().write(**said)
        if said["what"] == rehearsal.ANNOUNCED:
            os.kill(os.getpid(), signal.SIGKILL)


def rehearse(path: str, log: str) -> None:
    with closing(Fatal(Path(log))) as diary:
        rehearsal.rehearse(path, load(path), PROGRAMME, diary, Halt())


def control(night: Night, verb: str) -> str:
    answer = skystow("control", night.site, "archiver", verb)
    return answer.stdout if answer.returncode == 0 else ""


def record(night: Night) -> Exposure:
    with open_talks(str(night.site)) as talks:
        [found] = exposures(talks.lines(obsid=PROGRAMME.obsid(0)))
    return found


@pytest.mark.timeout(90)
def test_an_event_that_waited_on_the_bus_when_it_was_killed_is_not_lost(tmp_path: Path) -> None:
    night = Night(tmp_path, 1, cadence=5.0, exposure_time=PROGRAMME.exposure_time)
    night.prepare()
    text = site()
    assert text.count("initial_state: last") == 1
    night.site.write_text(text.replace("initial_state: last", "initial_state: standby"), encoding="utf-8")

    command = [sys.executable, "-m", __name__, str(night.site), str(night.diary)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            until(lambda: "STANDBY" in control(night, "state"))
            assert control(night, "start")
            assert control(night, "enable")
            assert process.wait(30) == -signal.SIGKILL
        finally:
            process.kill()
    assert night.taken() == {PROGRAMME.obsid(0)}, "the camera does not say it again"
    assert Milestone.HEADER not in record(night).at, "it was heard before the kill"

    with Archiver(night.site, "--exposures", "1", "--exposure-time", "0.1", "--log", str(night.diary)) as archiver:
        until(lambda: Milestone.HEADER in record(night).at)
        assert "STANDBY" in control(night, "state")
        archiver.enable()
        night.finish(archiver)
        archiver.end()
    assert night.compare() == []


if __name__ == "__main__":
    rehearse(*sys.argv[1:])
