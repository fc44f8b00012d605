"""A real crossbar of the tests' own: on a free port of loopback, in a directory of its own, stopped by its pid.

`make` installs it into a virtual environment beside ours (`.venv-crossbar`). One for each test process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
CROSSBAR = ROOT / ".venv-crossbar/bin/crossbar"
CONFIG = ROOT / "deploy/crossbar/config.json"
LIMIT = 60.0
"""Seconds that it may take to start."""


class Router:
    """`port` stays the same over a `kill` and a `start`."""

    def __init__(self) -> None:
        assert CROSSBAR.is_file(), f"{CROSSBAR} is not there; `make test` installs it"
        self.home = Path(tempfile.mkdtemp(prefix="skystow-crossbar-"))
        self.port = free_port()
        config = json.loads(CONFIG.read_text())
        endpoint = config["workers"][0]["transports"][0]["endpoint"]
        assert endpoint["interface"] == "127.0.0.1"
        endpoint["port"] = self.port
        (self.home / "config.json").write_text(json.dumps(config))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def hub(self) -> dict[str, str]:
        """For a site file of OCS."""
        there = f"127.0.0.1:{self.port}"
        return {
            "wamp_server": f"ws://{there}/ws",
            "wamp_http": f"http://{there}/call",
            "wamp_realm": "test_realm",
            "address_root": "observatory",
        }

    def start(self) -> None:
        """Started, and listening."""
        command = [str(CROSSBAR), "start", "--cbdir", str(self.home), "--logformat", "none", "--color", "false"]
        due = time.monotonic() + LIMIT
        while True:
            with (self.home / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "HOME": str(self.home)},
                )
            while self.process.poll() is None:
                if self._listens() and self.process.poll() is None:
                    return
                assert time.monotonic() < due, self.log()
                time.sleep(0.05)
            # Between a kill and this, somebody's connection may have been given our port, for a while.
            assert time.monotonic() < due, self.log()
            (self.home / "node.pid").unlink(missing_ok=True)
            time.sleep(0.5)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """In order: it says goodbye to whoever is connected."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        assert self.process is not None
        pid = self.process.pid
        workers = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for each in [pid, *(workers if number == signal.SIGKILL else ())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)
        self.process.wait(LIMIT)
        due = time.monotonic() + LIMIT
        while self._listens():
            assert time.monotonic() < due, "a worker of crossbar lives on"
            time.sleep(0.05)
        (self.home / "node.pid").unlink(missing_ok=True)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-4000:]


@pytest.fixture(scope="session")
def router() -> Iterator[Router]:
    with contextlib.closing(Router()) as made:
        yield made
