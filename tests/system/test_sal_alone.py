"""One Archiver of a name at a time; and one that is killed while it obeys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.sal_kit import (
    ACK,
    ARCHIVER,
    COMPLETE,
    FAILED,
    IN_PROGRESS,
    STANDBY,
    Join,
    codes,
    until,
    write_idl,
)
from tests.system.sal_site import sal_site

pytestmark = pytest.mark.timeout(300)

NAME = "archiver"
REFUSED = 2


def test_a_second_one_refuses_and_one_that_was_killed_has_a_successor(tmp_path: Path, join: Join) -> None:
    peer = join(write_idl(tmp_path / "idl"))
    peer.follow(ARCHIVER, "summaryState", "softwareVersions", "heartbeat")
    with (
        sal_site(tmp_path / "one", count=1, archiver={"ack_timeout": 100}) as first,
        sal_site(tmp_path / "two", count=1) as second,
    ):
        first.start(NAME)
        peer.await_state(STANDBY, first.told)
        process = first.running[NAME].pid

        second.start(NAME)
        assert second.ended(NAME) == REFUSED, second.log(NAME)
        assert f"another {ARCHIVER} is alive on DDS ({ARCHIVER}, process {process})" in second.log(NAME)
        assert codes(peer.command("enable")) == [ACK, IN_PROGRESS, FAILED]
        assert {each["private_origin"] for each in peer.heard} == {process}, "the second one has said nothing at all"

        # Killed while it obeys: its commander waits for its end, in vain.
        number = peer.send("start")
        until(lambda: codes(peer.answers(number)) == [ACK, IN_PROGRESS], lambda: f"{peer.answers(number)}")
        first.kill(NAME)
        first.start(NAME)
        until(lambda: peer.events("softwareVersions")[-1]["private_origin"] != process, first.told)
        successor = first.running[NAME].pid
        peer.await_state(STANDBY, first.told)

        # DDS may not miss the dead one yet; the younger one owns the acknowledgements.
        refused = peer.command("enable")
        assert (codes(refused), refused[-1].text[:30]) == (
            [ACK, IN_PROGRESS, FAILED],
            "enable is not lawful in STANDB",
        )
        assert [each["private_origin"] for each in peer.heard if each.topic == "ackcmd"][-3:] == 3 * [successor]
        assert codes(peer.answers(number)) == [ACK, IN_PROGRESS], "nobody obeys what was said to the dead one"
        assert set(peer.states()) == {STANDBY}

        assert codes(peer.command("exitControl")) == [ACK, IN_PROGRESS, COMPLETE]
        assert first.ended(NAME) == 0, first.log(NAME)


def test_of_two_that_begin_at_once_at_most_one_survives(tmp_path: Path, join: Join) -> None:
    peer = join(write_idl(tmp_path / "idl"))
    with sal_site(tmp_path / "one", count=1) as one, sal_site(tmp_path / "two", count=1) as two:
        for each in (one, two):
            each.start(NAME)
        until(lambda: {each.running[NAME].poll() for each in (one, two)} != {None}, lambda: one.told() + two.told())
        lost, left = sorted((one, two), key=lambda each: each.running[NAME].poll() is None)
        assert lost.ended(NAME) == REFUSED, lost.log(NAME)
        assert f"another {ARCHIVER} is alive on DDS" in lost.log(NAME)
        process = left.running[NAME]
        peer.follow(ARCHIVER, "heartbeat")
        until(lambda: len(peer.events("heartbeat")) > 3 or process.poll() is not None, left.told)
        assert {each["private_origin"] for each in peer.events("heartbeat")} <= {process.pid}
        assert process.poll() in (None, REFUSED)
