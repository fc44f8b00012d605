"""Every component in a process of its own, and two forwarders: one is killed, the other retrieves its exposures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from skystow.adapters.ledger import SqlLedger
from skystow.image.night import night
from skystow.model.acts import Say
from skystow.model.lifecycle import Summary
from skystow.model.messages import EndReadout, StartIntegration
from skystow.simulate.comcam import ADDRESS, ComCam, HeaderService
from skystow.simulate.proof import files
from tests.crash.kit import wait_until
from tests.crash.night_field import DETECTORS, OBSIDS, SHAPE, NightField, watched

BOTH = ("f1", "f2")


@contextmanager
def component(made: NightField, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Running by itself; asked to end at the end of the block, unless it was killed before."""
    command = [sys.executable, "-m", "skystow", "run", str(made.site), "--component", name]
    with (made.root / f"{name}.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)


def command(made: NightField, verb: str) -> None:
    def obeyed() -> bool:
        control = [sys.executable, "-m", "skystow", "control", str(made.site), "archiver", verb]
        return subprocess.run(control, capture_output=True, timeout=60, check=False).returncode == 0

    wait_until(obeyed, f"that it obeys {verb}")


def told(made: NightField, name: str) -> bool:
    with made.ledger() as ledger:
        return bool(ledger.talks.steps(name))


def at_work(made: NightField, name: str) -> bool:
    return bool(files(made.root / name / "fits"))


def complete(ledger: SqlLedger) -> list[str]:
    found = night(20210304, ledger.talks.lines(day_obs=20210304)).exposures
    return [each.obsid for each in found if each.complete]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("moment", [told, at_work])
def test_one_is_killed_and_the_other_retrieves(tmp_path: Path, moment: Callable[[NightField, str], bool]) -> None:
    """And when it is started again, it ends what it began, which changes nothing."""
    made = NightField(tmp_path / "site")
    made.write([made.forwarder(name, made.root / name) for name in BOTH])
    with (
        ExitStack() as stack,
        HeaderService(ComCam(names=DETECTORS, shape=SHAPE)).serving() as headers,
        watched(made) as seen,
    ):
        first, *_ = [stack.enter_context(component(made, name)) for name in ("controller", "oods", "archiver")]
        runs = {name: stack.enter_context(component(made, name)) for name in BOTH}
        command(made, "start")
        command(made, "enable")
        ledger = stack.enter_context(made.ledger())
        paired = ledger.talks.kept("CCArchiver")["paired_forwarder"]
        other = next(name for name in BOTH if name != paired)
        ledger.bus.publish([Say(ADDRESS, StartIntegration(obsid)) for obsid in OBSIDS])
        if moment is told:
            wait_until(lambda: told(made, paired), "that it is told")
            runs[paired].kill()
        events = [event for obsid in OBSIDS for event in (EndReadout(obsid), headers.announced(obsid))]
        ledger.bus.publish([Say(ADDRESS, event) for event in events])
        if moment is at_work:
            wait_until(lambda: at_work(made, paired), "that it has made a file")
            runs[paired].kill()
        wait_until(lambda: complete(ledger) == list(OBSIDS), "that all is archived")
        assert ledger.talks.kept("CCArchiver")["paired_forwarder"] == other
        assert ledger.talks.kept("CCArchiver")["state"] == Summary.ENABLED.name
        assert first.poll() is None
        stack.enter_context(component(made, paired))
        places = [made.staging, *(made.root / name / "fits" for name in BOTH)]
        wait_until(lambda: not any(files(place) for place in places), "that nothing is left")
        wait_until(lambda: not ledger.talks.steps(other), "that the other has closed all")
    assert seen == []
    for tree in made.trees.values():
        assert made.truth.differences(tree) == []
    with made.ledger() as ledger:
        assert len(ledger.catalogue.find(day_obs=20210304)) == len(made.truth.images())
        assert list(ledger.dead_letters(after=0, limit=9)) == []
