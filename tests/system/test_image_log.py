"""What `skystow run` writes into its journal of an image archiver: what is told outside, what went wrong, and whose."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, open_ledger
from skystow.adapters.process import this_worker
from skystow.model.acts import Say
from skystow.model.messages import HeaderReadyAck, ImageInOODS, Message, StartIntegration
from tests.nursery import Nursery
from tests.system.cli_kit import Bench
from tests.system.night_kit import settings, until

STRANGER = "CC_O_20210304_000777"


class Running:
    def __init__(self, bench: Bench, site: Path, ledger: SqlLedger, log: Path) -> None:
        self.bench, self.site, self.ledger, self.log = bench, site, ledger, log

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.bench.run("control", self.site, *words)

    def say(self, to: str, *messages: Message) -> None:
        self.ledger.bus.publish([Say(to, each) for each in messages])

    def line(self, *words: str) -> str:
        """The first line, soon, that has all of these words."""
        found: Callable[[], list[str]] = lambda: [  # noqa: E731
            line for line in self.log.read_text().splitlines() if all(word in line for word in words)
        ]
        until(found)
        return found()[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, skystow_bin: Path, nursery: Nursery) -> Iterator[Running]:
    """One process for all of this; the last test ends one of its components."""
    tmp_path = tmp_path_factory.mktemp("site")
    bench, site, log = Bench(tmp_path, skystow_bin, nursery), tmp_path / "site.yaml", tmp_path / "log"
    site.write_text(json.dumps(settings(tmp_path)))
    assert bench.run("check", site).returncode == 0
    with log.open("w") as stderr:
        process = subprocess.Popen([bench.program, "run", site], cwd=tmp_path, stdout=stderr, stderr=stderr)
        try:
            ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db", worker=this_worker(), clock=SystemClock())
            yield Running(bench, site, ledger, log)
            ledger.close()
        finally:
            process.terminate()
            process.wait(30)


def test_events_faults_and_letters_are_seen(running: Running) -> None:
    until(lambda: running.control("archiver", "start").returncode == 0)
    assert running.control("archiver", "enable").returncode == 0
    assert "state=ENABLED" in running.line("event=state", "component=CCArchiver", "ENABLED")

    told = ImageInOODS("COMCAM", "CCArchiver", STRANGER, "22", "00", "x.fits", 2, "x.fits: cut off\n\x1b[31m")
    running.say("archiver", told)
    line = running.line("event=told", "what=ImageInOODS", STRANGER)
    assert "status_code=2" in line
    assert r"cut off\n\x1b[31m" in line.replace("\\\\", "\\")
    assert "level=warning" in running.line("event=fault", "component=CCArchiver", STRANGER, "number=2")

    running.say("archiver/events", StartIntegration("../../etc/passwd; x" + "y" * 5000))
    line = running.line('event="dead letter"', "StartIntegration", "../../etc/passwd; x", "is no name of an image")
    assert len(line) < 2000

    running.say("archiver", HeaderReadyAck("a_1", STRANGER, "f99"), HeaderReadyAck("a_1", STRANGER, "f99"))

    def counted() -> bool:
        document = json.loads(running.control("archiver", "state", "--json").stdout)
        return bool(document.get("ignored", {}).get("HeaderReadyAck") == 2)

    until(counted)
    assert running.control("archiver", "exit").returncode != 0
    assert "ENABLED" in running.control("archiver", "state").stdout


def test_a_second_one_of_the_same_site_is_refused(running: Running) -> None:
    until(lambda: running.control("oods", "state").returncode == 0)
    begin = time.monotonic()
    second = running.bench.run("run", running.site)
    assert second.returncode == 2
    assert "of this site runs already" in second.stderr + second.stdout
    assert "Traceback" not in second.stderr
    assert time.monotonic() - begin < 30
    assert running.control("oods", "state").returncode == 0  # the first one's socket is still there


def test_exit_is_answered_before_the_component_is_gone(running: Running) -> None:
    until(lambda: running.control("oods", "state").returncode == 0)
    for verb in ("disable", "standby", "exit"):
        done = running.control("oods", verb)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "OFFLINE" in done.stdout
    until(lambda: not (running.bench.here / "control" / "oods.sock").exists())
    assert running.control("controller", "state").returncode == 0
