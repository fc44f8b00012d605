"""Somebody who reads what we say and takes nothing of it: nobody else waits for him."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skystow.model.acts import Say
from skystow.model.messages import ImageInOODS
from skystow.ports.talk import outside
from tests.system.sal_kit import ACK, ARCHIVER, COMPLETE, IN_PROGRESS, STANDBY, Join, codes, until, write_idl
from tests.system.sal_site import SalSite, sal_site

pytestmark = pytest.mark.timeout(300)

NAME, MANY = "archiver", 3_000
"""More outcomes than a writer keeps for a reader that does not take them."""


def outcome(number: int) -> ImageInOODS:
    return ImageInOODS("COMCAM", ARCHIVER, f"CC_O_20210304_{number:06d}", "22", "00", "x", 0, "d" * 250)


@contextmanager
def frozen(site: SalSite, *events: str) -> Iterator[None]:
    """A watcher of these, who has heard the state and then nothing more."""
    seen = site.root / "watch.txt"
    with seen.open("wb") as out:
        command = [sys.executable, "-m", "skystow", "sal", "watch", ARCHIVER, "summaryState", *events]
        watcher = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=out, stderr=out)
    try:
        until(lambda: "summaryState" in seen.read_text(), "that he hears")
        watcher.send_signal(signal.SIGSTOP)
        yield
    finally:
        watcher.kill()
        watcher.wait()


def test_a_frozen_reader_holds_up_no_command_and_no_outcome_is_lost(tmp_path: Path, join: Join) -> None:
    peer = join(write_idl(tmp_path / "idl"))
    peer.follow(ARCHIVER, "summaryState", "imageInOODS", "heartbeat")
    with sal_site(tmp_path) as site, site.ledger() as ledger:
        site.start(NAME)
        peer.await_state(STANDBY, site.told)
        with frozen(site, "imageInOODS", "logMessage"):
            ledger.bus.publish([Say(outside(ARCHIVER), outcome(number)) for number in range(MANY)])

            def heard() -> set[str]:
                return {each["obsid"] for each in peer.events("imageInOODS")}

            until(heard, site.told)
            answers = peer.command("setLogLevel", level=20)
            assert codes(answers) == [ACK, COMPLETE]
            until(lambda: len(heard()) == MANY, lambda: f"{len(heard())} of {MANY}\n{site.told()}")
            said = [each.at for each in peer.events("imageInOODS")]
            assert answers[-1].at < said[-1], "the command did not wait until DDS gave him up"
            assert [each for each in peer.events("heartbeat") if said[0] < each.at < said[-1]]
            until(lambda: site.parcels() == 0, "that none is owed")
        with frozen(site, "imageInOODS", "logMessage"):
            assert codes(peer.command("exitControl")) == [ACK, IN_PROGRESS, COMPLETE]
            assert site.ended(NAME) == 0, site.log(NAME)
