"""A night with each component in a process of its own, on real servers; Archiver and Forwarder are killed in it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.brokers import Vhost
from tests.redis_server import RedisServer
from tests.servers import Server
from tests.system.observatory_wire import CAMERA, COMPONENTS, until, wired

QUEUES = (
    *("archive_ctrl_consume", "archive_ctrl_publish", "cc_foreman_ack_publish", "cc_publish_to_oods"),
    *("f99_consume", "oods_publish_to_cc", "telemetry_queue"),
)


@pytest.mark.timeout(400)
def test_a_night_in_which_archiver_and_forwarder_are_killed(
    tmp_path: Path, mariadb: Server, vhost: Vhost, redis_server: RedisServer
) -> None:
    with wired(tmp_path / "site", mariadb, 6, vhost=vhost, redis=redis_server) as site, site.ledger() as ledger:
        site.start(*COMPONENTS)
        site.observe(cadence=1.5)
        site.obey("archiver", "start")
        until(lambda: site.hash().get("state") == "DISABLED", "that the scoreboard says so")
        first = site.hash()["session"]
        assert site.said("begun") == [], "the camera waits until it is ENABLED"

        site.obey("archiver", "enable")
        site.begun(2)
        site.kill("archiver")
        site.start("archiver")  # ENABLED by itself: what the camera says meanwhile waits for it
        site.begun(4)
        site.kill("f99")
        site.start("f99")
        site.settled(ledger)
        assert site.said("begun") == site.said("announced") == list(site.obsids)
        assert set(vhost.queues()) == set(QUEUES)
        site.assert_night()

        assert site.state()["state"] == "ENABLED"
        until(lambda: site.hash()["jobnum"] == "6", lambda: f"the sixth job: {site.hash()}")
        shown, kept = site.hash(), ledger.talks.kept("CCArchiver")
        assert (shown["state"], kept["state"], kept["jobnum"], kept["paired_forwarder"]) == (
            *2 * ["ENABLED"],
            "6",
            "f99",
        )
        assert json.loads(shown["paired_forwarder"])["consume_queue"] == "f99_consume"
        assert datetime.fromisoformat(first.replace("_", " ")) < datetime.fromisoformat(
            shown["session"].replace("_", " ")
        )

        for name in COMPONENTS:
            site.obey(name, "disable", "standby", "exit")
            assert site.ended(name) == 0, site.log(name)
        until(lambda: site.hash()["state"] == "OFFLINE", lambda: f"that it is over: {site.hash()}")
        assert site.terminate(CAMERA) == 0, site.log(CAMERA)
