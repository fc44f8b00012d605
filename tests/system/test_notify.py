"""What a service manager hears of `skystow run`, on a real socket; and that it hears nothing of who hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.memory import MemoryLedger
from skystow.errors import ConfigError, Unreachable
from skystow.image.standing import Standing
from skystow.model.lifecycle import Verb
from skystow.model.records import Worker
from skystow.model.transfer import RetryPolicy
from skystow.ports.talk import Delivery
from skystow.service.halt import Bells, Halt
from skystow.service.notify import Manager, informed
from skystow.service.status import Progress
from skystow.service.talk import Talk
from tests.system.cli_kit import Bench, interrupt, make_site

LIMIT = 20.0


class Listener:
    """A service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind("\0" + address[1:] if address.startswith("@") else address)

    def hear(self, seconds: float) -> list[str]:
        """What is said within so many seconds."""
        due, heard = time.monotonic() + seconds, list[str]()
        while (left := due - time.monotonic()) > 0:
            self.line.settimeout(left)
            try:
                heard.append(self.line.recv(4096).decode())
            except TimeoutError:
                break
        return heard

    def hear_until(self, word: str) -> list[str]:
        """Up to this word, with it."""
        due, heard = time.monotonic() + LIMIT, list[str]()
        self.line.settimeout(LIMIT)
        while word not in heard:
            assert time.monotonic() < due, heard
            heard.append(self.line.recv(4096).decode())
        return heard


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "notify"))
    yield made
    made.line.close()


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path) -> Bench:
    made = Bench(tmp_path, skystow_bin)
    make_site(made)
    return made


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


# ── the program ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_ready_then_alive_then_stopping_and_nothing_while_it_is_stopped(bench: Bench, listener: Listener) -> None:
    with _environment(NOTIFY_SOCKET=listener.address, WATCHDOG_USEC="6000000"):
        process = bench.start("run", "site.yaml")
    try:
        before = listener.hear_until("READY=1")
        assert "WATCHDOG=1" not in before
        listener.hear_until("WATCHDOG=1")
        assert "STATUS=files ENABLED" in [*before, *listener.hear(0.1)]
        process.send_signal(signal.SIGSTOP)
        listener.hear(0.2)  # what was on its way
        assert listener.hear(3.2) == []
        process.send_signal(signal.SIGCONT)
        listener.hear_until("WATCHDOG=1")
    finally:
        process.send_signal(signal.SIGCONT)
        code, *_ = interrupt(process, signal.SIGTERM)
    assert code == 0
    after = listener.hear(0.2)
    assert after[-1] == "STOPPING=1"
    assert after.count("STOPPING=1") == 1


def test_a_watchdog_of_another_process_is_not_ours(bench: Bench, listener: Listener) -> None:
    with _environment(NOTIFY_SOCKET=listener.address, WATCHDOG_USEC="400000", WATCHDOG_PID="1"):
        process = bench.start("run", "site.yaml")
    listener.hear_until("READY=1")
    assert "WATCHDOG=1" not in listener.hear(1.0)
    assert interrupt(process, signal.SIGTERM)[0] == 0


def test_it_waits_for_a_ledger_that_is_not_there_yet_and_is_stopped_meanwhile(bench: Bench, tmp_path: Path) -> None:
    with socket.socket() as taken, Listener(str(tmp_path / "notify")).line as line:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        site = bench.here / "site.yaml"
        url = f"mysql://skystow@127.0.0.1:{taken.getsockname()[1]}/skystow"
        site.write_text(site.read_text().replace("sqlite:///ledger.db", url))
        with _environment(NOTIFY_SOCKET=str(tmp_path / "notify")):
            process = bench.start("run", "site.yaml")
        line.settimeout(LIMIT)
        said = [line.recv(4096).decode(), line.recv(4096).decode()]
        assert all(each.startswith("STATUS=waits: the ledger") for each in said), said
        code, took, _, err = interrupt(process, signal.SIGTERM)
    assert (code, took < 5) == (0, True), err
    waits = [each.rpartition("seconds=")[2] for each in err.splitlines() if "event=waiting" in each]
    assert waits[:2] == ["0.5", "1.0"], "they grow, and are said in the log"


@pytest.mark.parametrize("name", ["NOTIFY_SOCKET", "WATCHDOG_USEC"])
def test_nonsense_from_a_service_manager_is_named(bench: Bench, name: str) -> None:
    done = bench.run("run", "site.yaml", env={"NOTIFY_SOCKET": "/run/x", name: "vsock:2:1"})
    assert done.returncode == 2
    assert f"{name} is ‘vsock:2:1’" in done.stderr


# ── a talk that hangs ───────────────────────────────────────────────────────────────────────────────────────────


class World(MemoryLedger):
    """A ledger with two talks, the first of them on a bus that can be made to hang, as a mount does."""

    def __init__(self, *, away: bool) -> None:
        super().__init__(Worker("host", "boot", "ns", 1, 1), SystemClock(), RetryPolicy())
        self.away, self.go, self.progress = away, threading.Event(), Progress()
        self.go.set()
        steps, receive = self.talks.steps, self.bus.receive

        def restored(component: str) -> Any:
            if self.away:
                raise Unreachable("ledger: gone", place="ledger")
            return steps(component)

        def received(address: str, *, limit: int) -> Sequence[Delivery]:
            if address == "one":
                self.go.wait(LIMIT)
            return receive(address, limit=limit)

        self.talks.steps, self.bus.receive = restored, received  # type: ignore[method-assign]
        self.talks_of = [self.made("one"), self.made("other")]

    def made(self, name: str) -> Talk:
        return Talk(
            Standing(name, name),
            bus=self.bus,
            talks=self.talks,
            ledger=self,
            clock=SystemClock(),
            progress=self.progress,
            bells=Bells(),
            skills={},
            destinations={},
            translate=lambda _: None,
            tell=lambda _: None,
            poll=0.02,
        )


@contextmanager
def _two_talks(listener: Listener, watchdog: float, *, away: bool = False) -> Iterator[World]:
    world, halt = World(away=away), Halt()

    async def run() -> None:
        async with informed(Manager(listener.address, watchdog), world.talks_of, halt):
            await asyncio.gather(*(talk.run(halt) for talk in world.talks_of))

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield world
    finally:
        world.go.set()
        halt.set()
        thread.join(LIMIT)


def test_one_talk_that_hangs_starves_the_watchdog(listener: Listener) -> None:
    with _two_talks(listener, watchdog=0.8) as world:
        assert "WATCHDOG=1" not in listener.hear_until("READY=1")
        listener.hear_until("WATCHDOG=1")
        world.go.clear()
        listener.hear(0.8)  # until its latest round is too long ago
        assert listener.hear(1.0) == []
        world.go.set()
        listener.hear_until("WATCHDOG=1")


def test_a_talk_that_has_ended_starves_nobody(listener: Listener) -> None:
    with _two_talks(listener, watchdog=0.8) as world:
        listener.hear_until("READY=1")
        for verb in (Verb.DISABLE, Verb.STANDBY, Verb.EXIT):
            world.talks_of[0].command(verb)
        listener.hear_until("STATUS=one OFFLINE, other ENABLED")
        listener.hear(0.8)
        listener.hear_until("WATCHDOG=1")


def test_ready_only_when_each_was_restored(listener: Listener) -> None:
    with _two_talks(listener, watchdog=0.4, away=True) as world:
        heard = listener.hear(1.5)
        assert "STATUS=one begins, other begins; ledger: gone" in heard
        assert [each for each in heard if not each.startswith("STATUS=")] == []
        world.away = False
        heard = [*listener.hear_until("READY=1"), *listener.hear(0.5)]
        assert "STATUS=one ENABLED, other ENABLED" in heard
    assert listener.hear_until("STOPPING=1")


def test_an_address_without_a_file() -> None:
    listener = Listener(f"@skystow-test-{os.getpid()}")
    with listener.line:
        assert Manager(listener.address).tell("READY=1")
        assert listener.hear_until("READY=1") == ["READY=1"]


def test_a_manager_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    assert not Manager(str(tmp_path / "gone")).tell("READY=1")
    assert not Manager().tell("READY=1")
    with pytest.raises(ConfigError, match="NOTIFY_SOCKET"):
        Manager.of({"NOTIFY_SOCKET": "/" + "x" * 107})
