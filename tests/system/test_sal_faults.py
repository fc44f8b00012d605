"""A FAULT and the ways out of it; who may command."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.system.sal_kit import (
    ACK,
    ARCHIVER,
    COMPLETE,
    DISABLED,
    FAILED,
    FAULT,
    IN_PROGRESS,
    NO_PERMISSION,
    STANDBY,
    TAI,
    Join,
    Peer,
    codes,
    until,
    write_idl,
)
from tests.system.sal_site import ALL, SalSite, sal_site

pytestmark = pytest.mark.timeout(300)

NOT_STARTED = 5701
FAULTS = (
    ("f99", 5755, "no forwarder", "standby"),
    ("controller", 5751, "the Archive Controller is silent", "resetFromFault"),
)
"""Who leaves, the code and the report of the FAULT, and the way out."""


def words(peer: Peer) -> list[tuple[str, int]]:
    """States and error codes, in the order in which they were said."""
    return [
        (each.topic.removeprefix("logevent_"), each["summaryState" if "summaryState" in each.values else "errorCode"])
        for each in peer.events("summaryState", "errorCode")
    ]


def control(site: SalSite, name: str, *verbs: str) -> None:
    for verb in verbs:
        site.terminal("control", str(site.site), name, verb)


def test_a_fault_and_the_ways_out_of_it(tmp_path: Path, nursery: Nursery, join: Join) -> None:
    peer = join(write_idl(tmp_path / "idl"))
    peer.follow(ARCHIVER, "summaryState", "errorCode", "logMessage")
    with sal_site(tmp_path, nursery, 1, archiver={"patience": 1, "heartbeat": 2, "ack_timeout": 8}) as site:
        site.run()
        peer.await_state(STANDBY, site.told)
        assert codes(peer.command("resetFromFault", value=True)) == [ACK, FAILED]
        assert words(peer) == [("summaryState", STANDBY), ("errorCode", 0)]

        for who, number, report, way in FAULTS:
            peer.obey("start")
            control(site, who, "disable", "standby")
            peer.await_state(FAULT, site.told)
            exits = peer.command("exitControl")
            assert (codes(exits), exits[-1].text[:31]) == (
                [ACK, IN_PROGRESS, FAILED],
                "exit is not lawful in FAULT; it",
            )
            peer.obey(way)
            peer.await_state(STANDBY, site.told)
            until(lambda: words(peer)[-1] == ("errorCode", 0), lambda: f"{words(peer)}")
            assert words(peer)[-5:] == [
                ("summaryState", DISABLED),
                ("errorCode", number),
                ("summaryState", FAULT),
                ("summaryState", STANDBY),
                ("errorCode", 0),
            ]
            [said] = [each for each in peer.events("errorCode") if each["errorCode"] == number]
            assert said["errorReport"].startswith(report)
            control(site, who, "start", "enable")

        control(site, "controller", "disable", "standby")
        refused = peer.command("start")
        assert (codes(refused), refused[-1].error) == ([ACK, IN_PROGRESS, FAILED], NOT_STARTED)
        assert refused[-1].text.startswith("the Archive Controller does not answer")
        control(site, "controller", "start", "enable")
        peer.obey("start")

        logged = peer.events("logMessage")
        assert all(each["timestamp"] - TAI == pytest.approx(each.at / 1e9, abs=30.0) for each in logged)
        faults = [(each["level"], each["process"]) for each in logged if "state=FAULT" in each["message"]]
        assert faults == 2 * [(logging.ERROR, site.running[ALL].pid)]


def test_who_may_command(tmp_path: Path, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSST_DDS_ENABLE_AUTHLIST", "1")
    idl = write_idl(tmp_path / "idl")
    she, he, own = (join(idl, identity=each) for each in ("she@there", "he@there", ARCHIVER))
    script = join(idl, identity="Script:2")
    she.follow(ARCHIVER, "summaryState", "authList")

    def tries(peer: Peer) -> Sequence[int]:
        return codes(peer.command("setLogLevel", level=20))

    with sal_site(tmp_path) as site:
        site.start("archiver")
        she.await_state(STANDBY, site.told)
        denied = she.command("exitControl")
        assert codes(denied) == [ACK, NO_PERMISSION]
        assert denied[-1].text == "‘she@there’ is not on the list of who may command"
        assert tries(script) == [ACK, COMPLETE]

        changed = own.command("setAuthList", authorizedUsers="she@there", nonAuthorizedCSCs="Script")
        assert codes(changed) == [ACK, COMPLETE]
        until(lambda: len(she.events("authList")) == 2, "that the list is published")
        listed = she.events("authList")[-1]
        assert (listed["authorizedUsers"], listed["nonAuthorizedCSCs"]) == ("she@there", "Script")
        assert tries(script) == [ACK, NO_PERMISSION]
        assert tries(he) == [ACK, NO_PERMISSION]
        assert she.states() == [STANDBY]
        assert codes(she.command("exitControl")) == [ACK, IN_PROGRESS, COMPLETE]
        assert site.ended("archiver") == 0
