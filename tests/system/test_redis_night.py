"""Exposures while the scoreboard on Redis is flushed, killed and started again; what was on it before is stale."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skystow.model.acts import Say
from skystow.model.messages import EndReadout, StartIntegration
from skystow.simulate.comcam import ADDRESS, ComCam, HeaderService
from tests.crash.kit import wait_until
from tests.crash.night_field import DETECTORS, OBSIDS, SHAPE, NightField
from tests.redis_server import DB, RedisServer

OURS = '{"hostname":"before","ip_address":"10.0.0.1","consume_queue":"fp01_consume"}'
STRANGER = '{"hostname":"dead","ip_address":"10.0.0.2","consume_queue":"f77_consume"}'


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer()) as server:
        yield server


@contextlib.contextmanager
def running(made: NightField) -> Iterator[None]:
    """All components in one process; it is whole at the end, and ends when it is asked to."""
    command = [sys.executable, "-m", "skystow", "run", str(made.site)]
    with (made.root / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
            assert process.poll() is None, (made.root / "log").read_text()
            process.terminate()
            assert process.wait(30) == 0, (made.root / "log").read_text()
        finally:
            process.kill()


def shown(redis: RedisServer) -> dict[str, str]:
    with contextlib.closing(redis.client()) as client:
        found: Any = client.hgetall("CCArchiver")
    return {key.decode(): value.decode() for key, value in found.items()}


@pytest.mark.timeout(240)
def test_the_scoreboard_is_a_hint(tmp_path: Path, redis: RedisServer) -> None:
    """With the originals' presence key, by option."""
    made = NightField(tmp_path / "site", hurried=True)
    made.write([made.forwarder("fp01")])
    site = json.loads(made.site.read_text())
    site["image"]["scoreboard"] = {"kind": "redis", "port": redis.port, "db": DB, "presence": "shared"}
    made.site.write_text(json.dumps(site))
    for entry in (b"\xff", OURS, STRANGER, "{}", OURS, "garbage"):
        redis.ask("LPUSH", "forwarder_list", entry)
    redis.ask("HSET", "CCArchiver", "state", "ENABLED", "jobnum", "99")

    first, second = OBSIDS
    with HeaderService(ComCam(names=DETECTORS, shape=SHAPE)).serving() as headers, running(made):
        for verb in ("start", "enable"):
            control = [sys.executable, "-m", "skystow", "control", str(made.site), "archiver", verb]
            wait_until(lambda: subprocess.run(control, capture_output=True, check=False).returncode == 0, verb)  # noqa: B023
        wait_until(lambda: shown(redis).get("state") == "ENABLED" and shown(redis)["session"], "that it is shown")
        assert json.loads(shown(redis)["paired_forwarder"])["consume_queue"] == "fp01_consume"
        assert redis.ask("EXISTS", "f99_association", "ccarchiver_association") == 2
        assert not redis.ask("EXISTS", "fp01_association")

        with made.ledger() as ledger:
            ledger.bus.publish([Say(ADDRESS, StartIntegration(first))])
            redis.flush()
            ledger.bus.publish([Say(ADDRESS, EndReadout(first)), Say(ADDRESS, headers.announced(first))])
            wait_until(lambda: shown(redis).get("jobnum") == "1", "that it is shown again")
            redis.kill()
            ledger.bus.publish([Say(ADDRESS, StartIntegration(second)), Say(ADDRESS, EndReadout(second))])
            wait_until(lambda: ledger.talks.kept("CCArchiver")["jobnum"] == "2", "that it is taken")
            redis.start()
            ledger.bus.publish([Say(ADDRESS, headers.announced(second))])

        def whole() -> bool:
            with contextlib.suppress(AssertionError):
                made.assert_whole()
                return True
            return False

        wait_until(whole, "that all is archived")
        wait_until(lambda: shown(redis).get("jobnum") == "2" and shown(redis)["paired_forwarder"], "that it is shown")
        wait_until(lambda: redis.ask("EXISTS", "f99_association", "ccarchiver_association") == 2, "that they live")
        assert (shown(redis)["state"], redis.ask("LLEN", "forwarder_list")) == ("ENABLED", 0)
    made.assert_whole()
