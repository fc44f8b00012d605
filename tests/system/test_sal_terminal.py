"""`skystow sal` as people at a terminal use it: what it says, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.system.sal_kit import ARCHIVER, until
from tests.system.sal_site import SalSite, sal_site

pytestmark = pytest.mark.timeout(300)

NAME = "archiver"
REFUSED, UNFINISHED = 2, 5


def ask(nursery: Nursery, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return nursery.ask(words, cwd=Path.cwd(), env=os.environ | variables)


def rows(done: subprocess.CompletedProcess[str]) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(site: SalSite, *words: str) -> str:
    return site.terminal("sal", *words, code=REFUSED).stderr


def test_commanding_and_watching(tmp_path: Path, nursery: Nursery, skystow_bin: Path, prefix: str) -> None:
    assert prefix
    with sal_site(tmp_path, nursery) as site:
        site.start(NAME)
        watch = ["sal", "watch", ARCHIVER, "summaryState", "--count", "1"]
        [state] = rows(site.terminal(*watch, "--json"))
        assert (state["event"], state["summaryState"]) == ("summaryState", 5)
        assert site.terminal(*watch).stdout.split()[1:] == ["summaryState", "summaryState=5"]

        said = site.terminal("sal", "command", ARCHIVER, "setLogLevel", "level=10", "--site", str(site.site))
        assert said.stdout.splitlines() == [f"{ARCHIVER} setLogLevel: ACK", f"{ARCHIVER} setLogLevel: COMPLETE"]
        unlawful = site.tell("enable", code=REFUSED)
        assert unlawful[-1] == {
            "command": "enable",
            "ack": "FAILED",
            "code": -302,
            "error": 0,
            "result": "enable is not lawful in STANDBY; it is in DISABLED",
        }
        assert "has no command ‘dance’" in refused(site, "command", ARCHIVER, "dance")
        assert "is no FIELD=VALUE of setLogLevel" in refused(site, "command", ARCHIVER, "setLogLevel", "loud=1")
        assert "‘high’ is no long, which level is" in refused(site, "command", ARCHIVER, "setLogLevel", "level=high")
        assert "has no event ‘weather’" in refused(site, "watch", ARCHIVER, "weather")
        assert "no definitions of Dome" in refused(site, "watch", "Dome")
        assert "is not there" in refused(site, "watch", ARCHIVER, "--definitions", str(tmp_path / "none"))

        # Started as anybody starts it, it says nothing that was not asked for, and leaves at once.
        command = [str(skystow_bin), "sal", "command", ARCHIVER, "exitControl"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == f"{ARCHIVER} exitControl: COMPLETE"
        assert site.ended(NAME) == 0
        gone = site.terminal("sal", "command", ARCHIVER, "start", code=UNFINISHED)
        assert f"no {ARCHIVER} is there to obey" in gone.stderr
        assert "LSST_DDS_PARTITION_PREFIX" in gone.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LSST_DDS_PARTITION_PREFIX", ""),
        ("LSST_DDS_DOMAIN_ID", "231"),
        ("LSST_DDS_ENABLE_AUTHLIST", "yes"),
        ("LSST_DDS_INTERFACE", "nosuch0"),
        ("CYCLONEDDS_URI", "<CycloneDDS><Nonsense/></CycloneDDS>"),
    ],
)
def test_an_environment_that_is_ill_is_named(nursery: Nursery, prefix: str, name: str, value: str) -> None:
    done = ask(nursery, "sal", "command", ARCHIVER, "start", **{name: value})
    assert done.returncode == REFUSED, done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_an_archiver_without_the_prefix_does_not_begin(
    tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LSST_DDS_PARTITION_PREFIX", raising=False)
    with sal_site(tmp_path, nursery) as site:
        done = site.terminal("run", str(site.site), code=REFUSED)
        assert "LSST_DDS_PARTITION_PREFIX is not set" in done.stderr
        site.start("controller")  # it does not speak SAL
        until(lambda: (site.root / "control").exists() and not site.running["controller"].poll(), site.told)
        assert site.terminate("controller") == 0
