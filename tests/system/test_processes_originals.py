"""Our Archiver and Controller among an original forwarder and an original OODS."""

from __future__ import annotations

from pathlib import Path

import pytest

from skystow.simulate.comcam import LOCATIONS
from tests.brokers import Vhost
from tests.redis_server import RedisServer
from tests.servers import Server
from tests.system.observatory_wire import CAMERA, DAY_OBS, SHAPE, until, wired
from tests.system.originals_kit import OriginalForwarder, OriginalOods


@pytest.mark.timeout(400)
def test_two_exposures_with_an_original_forwarder_and_an_original_oods(
    tmp_path: Path, mariadb: Server, vhost: Vhost, redis_server: RedisServer
) -> None:
    forwarder, oods = OriginalForwarder(vhost, redis_server, SHAPE), OriginalOods(vhost)
    shared = {"scoreboard": {"presence": "shared"}}
    with (
        wired(tmp_path / "site", mariadb, 2, vhost=vhost, redis=redis_server, more=shared) as site,
        site.ledger() as ledger,
        oods,
        forwarder,
    ):
        site.start("archiver", "controller")
        site.obey("archiver", "start", "enable")
        site.observe(cadence=2.0)
        site.settled(ledger)
        until(lambda: len(forwarder.of("FILE_TRANSFER_COMPLETED_ACK")) >= 18, "that all is acknowledged")
        night = site.ask("night", str(DAY_OBS))
        paired = ledger.talks.kept("CCArchiver")["paired_forwarder"]
        assert list(ledger.dead_letters(after=0, limit=9)) == []
        assert site.state()["state"] == "ENABLED"
        for name in ("archiver", "controller", CAMERA):
            assert site.terminate(name) == 0, site.log(name)

    assert (night["complete"], night["late"], night["owed"], night["faults"]) == (2, [], [], [])
    assert (night["files"]["linked"], night["files"]["ingested"]) == (18, 18)
    for tree in site.trees.values():
        assert site.truth.differences(tree) == []
    assert paired == "f99"

    asked = forwarder.of("CC_FWDR_XFER_PARAMS")
    assert [each["IMAGE_ID"] for each in asked] == list(site.obsids)
    assert [each["JOB_NUM"] for each in asked] == [1, 2]
    assert {each["TARGET_LOCATION"] for each in asked} == {f"{site.staging}/2021-03-04/"}
    assert [each["XFER_PARAMS"]["RAFT_CCD_LIST"] for each in asked] == 2 * [list(LOCATIONS)]
    assert {each["DEVICE"] for each in asked} == {"CC"}
    acks = forwarder.of("FILE_TRANSFER_COMPLETED_ACK")
    assert {(each["OBSID"], each["RAFT"], each["SENSOR"]) for each in acks} == {
        (obsid, "22", detector[5:7]) for obsid, detector in site.truth.images().values()
    }
    assert {(each["COMPONENT"], str(each["JOB_NUM"])) for each in acks} == {
        ("ARCHIVE_CTRL", "1"),
        ("ARCHIVE_CTRL", "2"),
    }
    requests = oods.of("CC_FILE_INGEST_REQUEST")
    assert {each["FILENAME"] for each in requests} == {str(site.trees["oods"] / path) for path in site.truth.images()}
    assert {(each["CAMERA"], each["ARCHIVER"]) for each in requests} == {("COMCAM", "CCArchiver")}
