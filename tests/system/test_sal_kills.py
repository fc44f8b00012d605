"""The Archiver is killed in the middle of exposures, and commanded anew by who lived through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from skystow.model.acts import Milestone
from skystow.simulate.comcam import COMCAM
from tests.system.observatory_wire import COMPONENTS, DAY_OBS
from tests.system.sal_kit import ARCHIVER, CAMERA, ENABLED, STANDBY, Join, Peer, until, write_idl
from tests.system.sal_site import OUTCOMES, SalSite, due, instrument, outcomes, sal_site

pytestmark = pytest.mark.timeout(300)

START, END = "logevent_startIntegration", "logevent_endReadout"
INTRODUCTION = ("authList", "logLevel", "simulationMode", "softwareVersions")


def kill(site: SalSite, peer: Peer, camera: Peer) -> None:
    """And start it again, until it is ENABLED, and hears the camera."""
    dead = {topic: set(camera.voice(CAMERA, topic).get_matched_subscriptions()) for topic in (START, END)}
    site.kill("archiver")
    site.start("archiver")
    process = site.running["archiver"].pid

    def introduced() -> bool:
        return all(peer.events(each)[-1]["private_origin"] == process for each in (*INTRODUCTION, "summaryState"))

    until(introduced, lambda: f"that the successor introduces itself: {peer.heard[-20:]}\n{site.told()}")
    assert peer.states()[-1] == STANDBY
    peer.obey("start", "enable")
    for topic, before in dead.items():
        until(lambda t=topic, b=before: set(camera.voice(CAMERA, t).get_matched_subscriptions()) - b, "that it hears")  # type: ignore[misc]


def test_killed_in_the_middle_of_exposures_it_loses_none(tmp_path: Path, join: Join) -> None:
    idl = write_idl(tmp_path / "idl")
    peer, lens = join(idl), join(idl, identity=CAMERA)
    peer.follow(ARCHIVER, "summaryState", *INTRODUCTION, *OUTCOMES)
    with (
        sal_site(tmp_path, count=3, detectors=COMCAM) as site,
        site.ledger() as ledger,
        instrument(lens, site) as camera,
    ):
        site.start(*COMPONENTS)
        peer.await_state(STANDBY, site.told)
        peer.obey("start", "enable")

        def noted(obsid: str, what: Milestone) -> bool:
            return any(each.what is what for each in ledger.talks.lines(obsid=obsid))

        # Between its events.
        integrating, archiving, last = site.obsids
        camera.begin(integrating)
        until(lambda: noted(integrating, Milestone.STARTED), site.told)
        kill(site, peer, lens)
        camera.end(integrating)
        camera.announce(integrating)

        # Between its outcomes: some are published, some cannot be yet.
        until(lambda: noted(integrating, Milestone.COMPLETE), site.told)
        site.freeze("oods")
        camera.expose(archiving)
        until(lambda: any(each["obsid"] == archiving for each in peer.events(*OUTCOMES)), site.told)
        kill(site, peer, lens)
        site.thaw("oods")

        # As soon as the first outcome is heard.
        camera.expose(last)
        until(lambda: any(each["obsid"] == last for each in peer.events(*OUTCOMES)), site.told)
        kill(site, peer, lens)

        site.settled(ledger)
        said = outcomes(peer.events(*OUTCOMES))
        assert said.keys() == due(site)
        assert peer.states()[-1] == ENABLED
        assert {each["statusCode"] for each in peer.events(*OUTCOMES)} == {0}
        night = site.ask("night", str(DAY_OBS))
        assert (night["exposures"], night["complete"], night["owed"], night["gaps"]) == (3, 3, [], [])
        site.assert_whole()
