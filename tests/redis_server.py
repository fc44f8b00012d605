"""A real Redis of the tests' own: on a free port of loopback, in a directory of its own, stopped by its pid.

`Redis.ask` speaks to it as an original, or an operator, would: with redis-py, and with none of our code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.servers import certificates, free_port

LIMIT = 30.0
"""Seconds that it may take to start."""

PASSWORD = "p@ss:w/rd #1"  # noqa: S105 - of a server that lives as long as the tests
DB = 14
"""ComCam's."""


class RedisServer:
    """`port` stays the same over a `kill` and a `start`. What it keeps it keeps in memory: a start is a flush.
    `options`: more of its command line. `tls`: says nothing to whom does not speak TLS."""

    def __init__(self, *options: str, tls: bool = False) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="skystow-redis-"))
        self.port = free_port()
        self.options, self.tls = options, tls
        self.process: subprocess.Popen[bytes] | None = None
        if tls:
            certificates(self.home)
        self.start()

    def start(self) -> None:
        """Started, and answering."""
        net = ["--bind", "127.0.0.1", "--port", "0" if self.tls else str(self.port), "--dir", str(self.home)]
        if self.tls:
            files = [("cert", "cert"), ("key", "key"), ("ca-cert", "ca")]
            net += ["--tls-port", str(self.port), "--tls-auth-clients", "optional"]
            net += [word for option, name in files for word in (f"--tls-{option}-file", f"{self.home}/{name}.pem")]
        pace = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--databases", "16", "--loglevel", "warning"]
        # It dies with us, even where we are killed.
        command = ["setpriv", "--pdeathsig", "KILL", "redis-server", *net, *pace, *self.options]
        due = time.monotonic() + LIMIT
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while not self.answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < due, self.log()
            time.sleep(0.005)

    def answers(self) -> bool:
        try:
            self.ask("PING")
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False
        return True

    def client(self) -> redis.Redis:
        """As its administrator, in the database of the scoreboard."""
        ca = {"ssl": True, "ssl_ca_certs": f"{self.home}/ca.pem"} if self.tls else {}
        word = PASSWORD if "--requirepass" in self.options else None
        return redis.Redis(host="127.0.0.1", port=self.port, db=DB, password=word, **ca)  # type: ignore[arg-type]

    def ask(self, *words: str | bytes | int) -> Any:
        with contextlib.closing(self.client()) as client:
            command: Callable[..., Any] = client.execute_command
            return command(*words)

    def flush(self) -> None:
        self.ask("FLUSHALL")

    def pass_time(self, seconds: float) -> None:
        """Keys that expire are so much nearer to it."""
        for key in self.ask("KEYS", "*"):
            if (left := self.ask("PTTL", key)) >= 0:
                self.ask("PEXPIRE", key, left - round(seconds * 1000))  # a time that has passed removes the key

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(LIMIT)

    def restart(self) -> None:
        self.kill()
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and commands, and says nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def redis_process() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer()) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """An empty one, for tests that leave it running."""
    redis_process.flush()
    return redis_process
