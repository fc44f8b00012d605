"""What comes that cannot be used, too much at once, or while the ledger is away; what is good is never lost for it."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from skystow.model.acts import Milestone
from tests.nursery import Nursery
from tests.system.sal_kit import (
    ACK,
    ARCHIVER,
    CAMERA,
    COMPLETE,
    ENABLED,
    FAILED,
    HEADERS,
    STANDBY,
    Join,
    Peer,
    codes,
    until,
    write_idl,
)
from tests.system.sal_site import ALL, OUTCOMES, SalSite, due, instrument, outcomes, sal_site

pytestmark = pytest.mark.timeout(300)

START, END, HEADER = "logevent_startIntegration", "logevent_endReadout", "logevent_largeFileObjectAvailable"
IMAGE = "CC_O_20210304_000099"
BURST, BURST_DAY = 2_000, 20210305
LONG = "x" * 300


def speak_badly(camera: Peer) -> None:
    """A camera and a header service whose strings have other bounds, or none, and whose values make no sense."""
    for component, topic in ((CAMERA, START), (CAMERA, END), (HEADERS, HEADER)):
        camera.voice(component, topic, loose=True)
    camera.say(CAMERA, START, imageName=IMAGE + LONG)
    camera.say(CAMERA, START, imageName=IMAGE, imageDate="2021-03-04")
    camera.say(CAMERA, START, imageName=IMAGE, raw=(b"CC_O", b"CC_\xff"))
    camera.say(CAMERA, START, imageName="../../etc/passwd")
    camera.say(CAMERA, START, imageName="")
    camera.say(CAMERA, START, imageName=IMAGE, exposureTime=math.nan)
    camera.say(CAMERA, START, imageName=IMAGE, exposureTime=-1.0)
    camera.say(CAMERA, START, imageName=IMAGE, timestampAcquisitionStart=math.inf)
    camera.say(CAMERA, START, imageName=IMAGE, timestampAcquisitionStart=1e300)
    camera.say(CAMERA, START, imageName=IMAGE, private_sndStamp=math.nan)
    camera.say(CAMERA, END, imageName=IMAGE, timestampEndOfReadout=-1.0)
    camera.say(HEADERS, HEADER, id=IMAGE, url="")
    camera.say(HEADERS, HEADER, id=IMAGE, url="http://127.0.0.1/" + LONG)


@contextmanager
def ledger_away(site: SalSite) -> Iterator[None]:
    """Nobody can write into it."""
    with closing(sqlite3.connect(site.root / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_bad_samples_a_burst_and_a_ledger_that_is_away(tmp_path: Path, nursery: Nursery, join: Join) -> None:
    idl = write_idl(tmp_path / "idl")
    peer, bad, good = join(idl), join(idl, identity=CAMERA), join(idl, identity=CAMERA)
    peer.follow(ARCHIVER, "summaryState", "heartbeat", *OUTCOMES)
    peer.voice(ARCHIVER, "command_start", loose=True, lonely=True)
    with sal_site(tmp_path, nursery, 3) as site, site.ledger() as ledger, instrument(good, site) as camera:
        site.run()
        peer.await_state(STANDBY, site.told)

        wrong = peer.command("start", settingsToApply=LONG)
        assert (codes(wrong), wrong[-1].text) == ([ACK, FAILED], "settingsToApply has 300 bytes, more than 256")
        unreadable = peer.send("start", settingsToApply="default", raw=(b"default", b"d\xff\xfeault"))
        assert site.await_log(f"{ARCHIVER}_command_start_", "skipped what cannot be read")
        peer.obey("start", "enable")
        assert peer.answers(unreadable) == [], "nobody can tell whose it is"

        speak_badly(bad)
        for topic in (f"{CAMERA}_{START}_", f"{CAMERA}_{END}_", f"{HEADERS}_{HEADER}_"):
            site.await_log(topic, "skipped what cannot be read")
        camera.expose(site.obsids[0])
        until(lambda: len(outcomes(peer.events(*OUTCOMES))) == 4, site.told)
        assert [len(site.logged("skipped", each)) for each in (START, END, HEADER)] == [1, 1, 1], "once, not once each"
        assert ledger.talks.lines(obsid=IMAGE) == []
        assert peer.states()[-1] == ENABLED

        # The camera vanishes, and returns while the ledger is away.
        bad.close()
        good.close()
        camera.peer = join(idl, identity=CAMERA)
        with ledger_away(site):
            camera.expose(*site.obsids[1:])
            beats = len(peer.events("heartbeat"))
            until(lambda: len(peer.events("heartbeat")) > beats + 2, "that its heart beats while the ledger is away")
            assert len(outcomes(peer.events(*OUTCOMES))) == 4
        site.settled(ledger)
        assert outcomes(peer.events(*OUTCOMES)) == dict.fromkeys(due(site), 1)
        site.assert_whole()

        peer.obey("disable")
        for number in range(1, BURST + 1):
            camera.begin(f"CC_O_{BURST_DAY}_{number:06d}")

        def noted() -> set[str]:
            lines = ledger.talks.lines(day_obs=BURST_DAY)
            return {each.obsid for each in lines if each.what is Milestone.IGNORED}

        until(lambda: len(noted()) == BURST, lambda: f"{len(noted())} of {BURST}\n{site.told()}")
        assert codes(peer.command("setLogLevel", level=20)) == [ACK, COMPLETE]
        assert site.terminate(ALL) == 0
