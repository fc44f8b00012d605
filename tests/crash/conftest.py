from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skystow.simulate.comcam import ComCam, HeaderService
from tests.brokers import Broker
from tests.crash.image_kit import Nights
from tests.crash.kit import LIMIT, Plan
from tests.crash.night_field import SHAPE
from tests.crash.wire_kit import CCDS, Servers
from tests.redis_server import RedisServer
from tests.servers import EmptyLedger, Server
from tests.sshd import Sshd, sshd


class Nursery:
    """Runs the program by `skystow.testing.nursery`, one at a time."""

    def __init__(self, root: Path) -> None:
        self.out, self.err = root / "out", root / "err"
        command = [sys.executable, "-m", "skystow.testing.nursery"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(self, plan: Plan, arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
        assert self.process.stdin is not None
        job = {"plan": plan, "arguments": arguments, "out": str(self.out), "err": str(self.err)}
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        child = int(self._answer(arguments))
        try:
            _, status = map(int, self._answer(arguments).split())
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(arguments, status, self.out.read_bytes(), self.err.read_bytes())

    def _answer(self, arguments: list[str]) -> bytes:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], LIMIT)[0]:
            raise subprocess.TimeoutExpired(arguments, LIMIT)
        return self.process.stdout.readline()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """The other end of ssh. Whoever breaks it mends it."""
    with sshd(tmp_path_factory.mktemp("far") / "it") as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_table(mariadb: Server) -> str:
    """The URL of a database for a table; `make_smurf` empties it for each."""
    return mariadb.url(mariadb.database()).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def wired(tmp_path_factory: pytest.TempPathFactory, rabbitmq: Broker, mariadb_ledger: EmptyLedger) -> Iterator[Servers]:
    """RabbitMQ, MariaDB and a Redis of our own; whoever kills one of them starts it again."""
    root = tmp_path_factory.mktemp("wired")
    with contextlib.ExitStack() as closed:
        headers = closed.enter_context(HeaderService(ComCam(names=CCDS, shape=SHAPE)).serving())
        redis = closed.enter_context(contextlib.closing(RedisServer()))
        count = itertools.count()

        def nights() -> Nights:
            (own := root / f"{next(count)}").mkdir()
            return closed.enter_context(contextlib.closing(Nights(own, headers.url, "tests.crash.wire_kit")))

        yield Servers(rabbitmq, redis, mariadb_ledger, nights)
