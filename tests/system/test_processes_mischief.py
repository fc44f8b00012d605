"""One night in which servers and processes are killed, cut off, emptied and frozen, by a plan of chance."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.brokers import Vhost
from tests.crash.night_field import watched
from tests.cutproxy import CutProxy
from tests.redis_server import RedisServer
from tests.servers import Server
from tests.system.mischief_wire import Mischief, Story, planned
from tests.system.observatory_wire import CAMERA, Wired, wired

FORWARDERS = ("f98", "f99")
COMPONENTS = ("archiver", "controller", "oods", *FORWARDERS)
SERVERS = ("broker_killed", "line_cut", "redis_flushed", "redis_killed", "mariadb_killed", "forwarder_frozen")
PROCESSES = ("archiver_killed", "controller_killed", "oods_killed", "forwarder_killed", "line_refused")
SEED = 5


def _night(site: Wired, mariadb: Server, proxy: CutProxy, plan: Sequence[Mischief], cadence: float) -> None:
    print(*plan, sep="\n")
    with watched(site) as seen, site.ledger() as ledger:
        site.start(*COMPONENTS)
        site.obey("archiver", "start", "enable")
        site.observe(cadence)
        story = Story(site, ledger, mariadb, proxy)
        story.play(plan)
        assert story.froze >= 1
        site.settled(ledger, 300)
        site.assert_night()
        assert site.state()["state"] == "ENABLED"
        assert site.hash()["state"] == "ENABLED"
    assert seen == []
    for name in (CAMERA, *COMPONENTS):
        assert site.terminate(name) == 0, site.log(name)


@pytest.mark.timeout(600)
def test_a_night_of_mischief(
    tmp_path: Path, mariadb: Server, vhost: Vhost, redis_process: RedisServer, cut_proxy: CutProxy
) -> None:
    options = {"vhost": vhost, "redis": redis_process, "port": cut_proxy.port, "forwarders": FORWARDERS}
    with wired(tmp_path / "site", mariadb, 12, **options) as site:
        _night(site, mariadb, cut_proxy, planned(SEED, 12, SERVERS), cadence=3.0)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("run", range(2))
def test_a_long_night_of_mischief(
    tmp_path: Path, mariadb: Server, vhost: Vhost, redis_process: RedisServer, cut_proxy: CutProxy, run: int
) -> None:
    """Another one each time; `SKYSTOW_SEED` plays one again."""
    seed = int(os.environ.get("SKYSTOW_SEED") or secrets.randbelow(10**6)) + run
    print(f"SKYSTOW_SEED={seed - run}, run {run}")
    options = {"vhost": vhost, "redis": redis_process, "port": cut_proxy.port, "forwarders": FORWARDERS}
    with wired(tmp_path / "site", mariadb, 60, **options) as site:
        _night(site, mariadb, cut_proxy, planned(seed, 60, 2 * (*SERVERS, *PROCESSES)), cadence=3.0)
