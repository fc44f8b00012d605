"""A night over DDS, commanded from other processes: every part of the archiver, the instrument, and who commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skystow.model.acts import Milestone
from skystow.simulate.comcam import COMCAM, Programme
from tests.nursery import Nursery
from tests.system.observatory_wire import CAMERA as INSTRUMENT
from tests.system.observatory_wire import COMPONENTS, DAY_OBS
from tests.system.sal_kit import ARCHIVER, COMPLETE, LIMIT, OFFLINE, STANDBY, Join, Peer, until, write_idl
from tests.system.sal_site import OUTCOMES, SalSite, due, instrument, outcomes, sal_site

pytestmark = pytest.mark.timeout(300)

IGNORED = Programme().obsid(2)


@contextmanager
def watching(site: SalSite, *events: str) -> Iterator[Path]:
    """Somebody at a terminal, until the block is left: what he sees."""
    seen, complaints = site.root / "watch.jsonl", site.root / "watch.txt"
    with seen.open("wb") as out, complaints.open("wb") as err:
        command = [sys.executable, "-m", "skystow", "sal", "watch", ARCHIVER, *events, "--json"]
        watcher = subprocess.Popen(command, stdout=out, stderr=err)
        try:
            yield seen
            watcher.send_signal(signal.SIGINT)
            assert (watcher.wait(LIMIT), complaints.read_text()) == (0, "")
        finally:
            watcher.kill()
            watcher.wait()


def words(peer: Peer) -> list[int | str]:
    """States and the ends of commands, in the order in which they were said."""
    peer.take()
    ends = [each for each in peer.heard if each.topic == "ackcmd" and each["ack"] == COMPLETE]
    said = sorted([*peer.events("summaryState"), *ends], key=lambda each: each.at)
    return [each["summaryState"] if each.topic.startswith("logevent_") else "complete" for each in said]


def test_a_night_over_dds(tmp_path: Path, nursery: Nursery, join: Join) -> None:
    peer = join(write_idl(tmp_path / "idl"))
    peer.follow(ARCHIVER, "summaryState", *OUTCOMES)
    peer.listen(ARCHIVER, "ackcmd")
    with sal_site(tmp_path, nursery, 2, detectors=COMCAM) as site, site.ledger() as ledger:
        site.start(*COMPONENTS)
        site.observe(cadence=1.5)
        peer.await_state(STANDBY, site.told)
        with watching(site, "summaryState", *OUTCOMES) as seen:
            until(seen.read_text, "that who came late sees the state")
            site.command("start")
            assert site.said("begun") == [], "the camera waits until it is ENABLED"
            site.command("enable")
            site.settled(ledger)
            site.command("disable")

            with instrument(peer, site) as strange:
                strange.expose(IGNORED)
            until(lambda: ledger.talks.lines(obsid=IGNORED), "that it is noted")
            assert [each.what for each in ledger.talks.lines(obsid=IGNORED)] == [Milestone.IGNORED]

            site.command("standby", "exitControl")
            assert site.ended("archiver") == 0, site.log("archiver")

        assert words(peer) == [5, 1, "complete", 2, "complete", 1, "complete", 5, "complete", OFFLINE, "complete"]
        assert outcomes(peer.events(*OUTCOMES)) == dict.fromkeys(due(site), 1)
        assert {each["statusCode"] for each in peer.events(*OUTCOMES)} == {0}
        watched = [json.loads(line) for line in seen.read_text().splitlines()]
        assert [each["summaryState"] for each in watched if each["event"] == "summaryState"] == [5, 1, 2, 1, 5, OFFLINE]
        assert sorted(each["obsid"] for each in watched if each["event"] == "imageInOODS") == sorted(
            obsid for obsid in site.obsids for _ in COMCAM
        )

        night = site.ask("night", str(DAY_OBS))
        assert (night["exposures"], night["complete"], night["ignored"], night["owed"]) == (2, 2, 1, [])
        site.talking = ("controller", "oods")  # of the ignored one the Archiver still has what it heard
        site.assert_whole()
        for name in ("controller", "f99", "oods", INSTRUMENT):
            assert site.terminate(name) == 0, site.log(name)
