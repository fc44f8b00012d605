"""The observatory's own definitions and quality of service on the other side, which needs events that are TRANSIENT."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from skystow.model.acts import Milestone
from skystow.simulate.comcam import Programme
from tests.nursery import Nursery
from tests.sal_kit import INTERFACES
from tests.system.observatory_wire import DAY_OBS
from tests.system.sal_kit import (
    ACK,
    ARCHIVER,
    COMPLETE,
    ENABLED,
    FAILED,
    IN_PROGRESS,
    OFFLINE,
    STANDBY,
    TAI,
    Join,
    Peer,
    codes,
    until,
)
from tests.system.sal_site import ALL, OUTCOMES, due, instrument, outcomes, sal_site

pytestmark = [
    pytest.mark.timeout(300),
    # A checkout by itself lacks the observatory's data; where all tests must run, this one fails then.
    pytest.mark.skipif(not INTERFACES.is_dir() and "CI" not in os.environ, reason=f"{INTERFACES} is not there"),
]

IDL = INTERFACES / "idl"
STATES = (
    *("appliedSettingsMatchStart", "authList", "errorCode", "logLevel", "settingVersions", "settingsApplied"),
    *("simulationMode", "softwareVersions", "summaryState"),
)
IGNORED = Programme().obsid(2)


def knows_the_state(peer: Peer) -> bool:
    peer.take()
    return {each.topic for each in peer.heard} >= {f"logevent_{each}" for each in STATES}


def latest(peer: Peer, event: str, field: str) -> object:
    return peer.events(event)[-1][field]


def test_a_night_with_the_observatorys_definitions_and_quality_of_service(
    tmp_path: Path, nursery: Nursery, join: Join
) -> None:
    peer = join(IDL, table=True)
    peer.follow(ARCHIVER, *STATES, *OUTCOMES, "heartbeat", "logMessage")
    sal = {"definitions": str(INTERFACES), "durability": "transient"}
    with sal_site(tmp_path, nursery, 2, sal=sal) as site, site.ledger() as ledger:
        site.run()
        until(lambda: knows_the_state(peer), lambda: f"all states: {peer.heard}\n{site.told()}")
        assert latest(peer, "summaryState", "summaryState") == STANDBY
        assert latest(peer, "softwareVersions", "xmlVersion") == "10.0.0"

        unlawful = peer.command("enable")
        assert codes(unlawful) == [ACK, IN_PROGRESS, FAILED]
        assert unlawful[-1].text == "enable is not lawful in STANDBY; it is in DISABLED"
        assert codes(peer.command("setLogLevel", level=logging.DEBUG)) == [ACK, COMPLETE]
        until(lambda: latest(peer, "logLevel", "level") == logging.DEBUG, "that the level is published")
        assert codes(peer.command("abort")) == [ACK, FAILED]

        peer.obey("start", "enable")
        with instrument(peer, site) as camera:
            camera.expose(*site.obsids)
            site.settled(ledger)

            late = join(IDL, identity="late@console", table=True)
            late.follow(ARCHIVER, *STATES)
            until(lambda: knows_the_state(late), lambda: f"all states: {late.heard}")
            assert latest(late, "summaryState", "summaryState") == ENABLED
            assert latest(late, "logLevel", "level") == logging.DEBUG

            peer.obey("disable")
            camera.expose(IGNORED)
            until(lambda: ledger.talks.lines(obsid=IGNORED), "that it is noted")
            assert [each.what for each in ledger.talks.lines(obsid=IGNORED)] == [Milestone.IGNORED]
        peer.obey("standby")
        assert codes(late.command("exitControl")) == [ACK, IN_PROGRESS, COMPLETE]
        peer.await_state(OFFLINE, site.told)
        # The others of its process go on; but of it nothing is left on DDS.
        acks = peer.readers[ARCHIVER, "ackcmd"]
        until(lambda: not acks.get_matched_publications(), "that the Archiver has left")

        assert outcomes(peer.events(*OUTCOMES)) == dict.fromkeys(due(site), 1)
        says = [each["message"] for each in peer.events("logMessage")]
        assert any("state=ENABLED" in each for each in says), says
        assert_wire(peer, site.running[ALL].pid)
        assert_beats(peer)
        night = site.ask("night", str(DAY_OBS))
        assert (night["exposures"], night["complete"], night["ignored"], night["owed"]) == (2, 2, 1, [])
        site.talking = ("controller", "f99", "oods")
        site.assert_whole()
        assert site.terminate(ALL) == 0, site.log(ALL)


def assert_wire(peer: Peer, process: int) -> None:
    """Private fields, and cmdtype, of all that the Archiver said."""
    names = sorted(peer._shapes[ARCHIVER])
    numbers: dict[str, list[int]] = {}
    for each in peer.heard:
        assert each["private_revCode"] == peer.shape(ARCHIVER, each.topic).revision
        assert (each["private_identity"], each["private_origin"]) == (ARCHIVER, process)
        assert each["private_sndStamp"] - TAI == pytest.approx(each.at / 1e9, abs=30.0)
        numbers.setdefault(each.topic, []).append(each["private_seqNum"])
        if each.topic == "ackcmd":
            assert each["cmdtype"] in range(len(names))
            assert names[each["cmdtype"]].startswith("command_")
            assert (each["timeout"] > 0) == (each["ack"] == IN_PROGRESS)
    for topic, found in numbers.items():
        if topic != "ackcmd":
            assert found == list(range(found[0], found[0] + len(found))), topic


def assert_beats(peer: Peer) -> None:
    """One a second, however many seconds these were."""
    beats = peer.events("heartbeat")
    span = (beats[-1].at - beats[0].at) / 1e9
    assert 3 <= len(beats) <= span + 2
    assert all(each["heartbeat"] is True for each in beats)
