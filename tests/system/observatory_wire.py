"""An image archiver whose components and whose instrument have a process each, on real servers; and what is true of it
when nothing is owed any more.

It is commanded by `skystow control` alone. With a broker and a scoreboard what is said goes by them; without, by
tables of the ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from skystow.adapters.ledger import SqlLedger
from skystow.adapters.ledger.schema import parcels
from skystow.errors import PlaceFault
from skystow.simulate.comcam import COMCAM, Programme
from skystow.simulate.program import lines
from skystow.simulate.proof import files
from tests.brokers import USER, Vhost
from tests.crash.night_field import NightField
from tests.redis_server import DB, RedisServer
from tests.servers import Server

LIMIT = 120.0
"""Seconds that anything may take: the machine may be busy, and whoever was refused waits longer each time."""

DAY_OBS = 20210304
COMPONENTS = ("archiver", "controller", "f99", "oods")
TALKING = ("CCArchiver", "controller", "oods")
ORDERS = {"XferParams", "ReadoutEnded", "HeaderReady"}
"""A forwarder may have been told of an exposure that another one has retrieved before all was said."""

SHAPE = (8, 4)
CAMERA = "camera"


def until(true: Callable[[], object], what: str | Callable[[], str], seconds: float = LIMIT) -> None:
    due = time.monotonic() + seconds
    while not true():
        if time.monotonic() > due:
            raise AssertionError(f"in vain for {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


@dataclass
class Wired(NightField):
    """`obsids` and `root` as a `NightField` has them. `vhost`, `redis`: who carries (None: the ledger). `port`: of the
    broker, or of a proxy before it. `forwarders`: their names."""

    detectors: Sequence[str] = COMCAM
    shape: tuple[int, int] = SHAPE
    hurried: bool = True
    talking: Sequence[str] = TALKING
    ledger_url: str = ""
    vhost: Vhost | None = None
    redis: RedisServer | None = None
    port: int = 0
    forwarders: Sequence[str] = ("f99",)
    more: Mapping[str, Any] = field(default_factory=dict)
    """For `image:`."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.ledger_url

    @property
    def diary(self) -> Path:
        return self.root / "camera.jsonl"

    def write(self, forwarders: Sequence[dict[str, Any]] = ()) -> None:
        super().write(forwarders or [self.forwarder(name, self.root / name) for name in self.forwarders])
        site = json.loads(self.site.read_text())
        image = site["image"]
        # A busy machine is not late; and whoever was killed goes on as it was.
        image["archiver"] |= {"initial_state": "last", "deadline": LIMIT, "patience": LIMIT}
        if self.vhost is not None:
            broker = self.vhost.broker
            image["bus"] = {"kind": "rabbitmq", "port": self.port or broker.port, "vhost": self.vhost.name}
            image["bus"] |= {"user": USER, "password_file": str(broker.password_file), "heartbeat": 5}
        if self.redis is not None:
            image["scoreboard"] = {"kind": "redis", "port": self.redis.port, "db": DB}
        for key, value in self.more.items():
            image[key] = image.get(key, {}) | value if isinstance(value, dict) else value
        self.site.write_text(json.dumps(site))

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, *names: str) -> None:
        for name in names:
            self._start(name, [sys.executable, "-m", "skystow", "run", str(self.site), "--component", name])

    def observe(self, cadence: float, exposure_time: float = 1.0) -> None:
        """The instrument: it begins when the Archiver is ENABLED."""
        what = ["--exposures", str(len(self.obsids)), "--cadence", str(cadence), "--exposure-time", str(exposure_time)]
        module = [sys.executable, "-m", "skystow.wiring.rehearsal", str(self.site), "--alone"]
        self._start(CAMERA, [*module, "--log", str(self.diary), *what])

    def _start(self, name: str, command: Sequence[str]) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            # It dies with us, even where we are killed.
            self.running[name] = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(LIMIT)

    def freeze(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGCONT)

    def ended(self, name: str) -> int:
        """The exit code of one that was told to end."""
        process = self.running.pop(name)
        try:
            return process.wait(LIMIT)
        finally:
            process.kill()

    def terminate(self, name: str) -> int:
        self.running[name].terminate()
        return self.ended(name)

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait(LIMIT)

    # ── commands and questions ──────────────────────────────────────────────────────────────────────────────────

    def ask(self, *words: str, lawful: Sequence[int] = (0,)) -> dict[str, Any]:
        """The one JSON object that a command of the program answers."""
        command = [sys.executable, "-m", "skystow", words[0], str(self.site), *words[1:], "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode in lawful, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def obey(self, name: str, *verbs: str) -> None:
        """One after the other; what cannot be obeyed yet is said again."""
        for verb in verbs:
            self._obey(name, verb)

    def _obey(self, name: str, verb: str) -> None:
        command = [sys.executable, "-m", "skystow", "control", str(self.site), name, verb]
        said: list[subprocess.CompletedProcess[str]] = []

        def obeyed() -> bool:
            said.append(subprocess.run(command, capture_output=True, text=True, timeout=200, check=False))
            assert self.running[name].poll() is None or verb == "exit", self.log(name)
            return said[-1].returncode == 0

        until(obeyed, lambda: f"{name} {verb}: {said[-1].stdout}{said[-1].stderr}\n{self.log(name)}")

    def state(self, name: str = "archiver") -> dict[str, Any]:
        return self.ask("control", name, "state")

    def log(self, name: str) -> str:
        lines = (self.root / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if "event=progress" not in line][-40:])

    def told(self) -> str:
        """For who wants to know why."""
        return "\n".join(f"── {path.stem}\n{self.log(path.stem)}" for path in sorted(self.root.glob("*.log")))

    # ── how far it is ───────────────────────────────────────────────────────────────────────────────────────────

    def said(self, what: str) -> list[str]:
        """Exposures of which the camera has said so (`begun`, `announced`)."""
        return [line["obsid"] for line in lines(self.diary) if line["what"] == what]

    def begun(self, count: int) -> None:
        """Until the camera has begun so many."""
        until(lambda: len(self.said("begun")) >= count, lambda: f"{count} exposures\n{self.told()}")

    def paired(self, ledger: SqlLedger) -> str:
        return dict(ledger.talks.kept("CCArchiver")).get("paired_forwarder", "")

    def owed(self, ledger: SqlLedger) -> str:
        """What is still to be done; empty: nothing. The cheap questions first."""
        if left := set(self.obsids) - set(self.said("announced")):
            return f"{len(left)} exposures are to be taken"
        for tree in self.trees.values():
            if left := self.truth.paths() - files(tree):
                return f"{len(left)} files are not in {tree.name}"
        if passing := [path for place in (self.staging, *self.works_of()) for path in files(place)]:
            return f"{len(passing)} files have not left staging and forwarders"
        try:
            if owing := {name: kinds for name in self.talking if (kinds := self._steps(ledger, name))}:
                return f"steps are left: {owing}"
            if owing := {name: kinds for name in self.forwarders if not (kinds := self._steps(ledger, name)) <= ORDERS}:
                return f"steps are left: {owing}"
            if count := self.parcels():
                return f"{count} parcels are in the ledger"
        except PlaceFault as away:
            return str(away)
        return f"messages are left: {waiting}" if (waiting := self.messages()) else ""

    def _steps(self, ledger: SqlLedger, name: str) -> set[str]:
        """Kinds of those that a component has not closed."""
        return {type(message).__name__ for _, message in ledger.talks.steps(name)}

    def works_of(self) -> list[Path]:
        return [self.root / name / "fits" for name in self.forwarders]

    def parcels(self) -> int:
        """In outboxes, and on the ledger's own bus."""
        engine = sa.create_engine(sa.make_url(self.url).set(drivername="mysql+pymysql"), poolclass=sa.NullPool)
        try:
            with closing(engine.connect()) as connection:
                return int(connection.execute(sa.select(sa.func.count()).select_from(parcels)).scalar_one())
        except sa.exc.OperationalError as error:
            raise PlaceFault(str(error), place="ledger") from error

    def messages(self) -> dict[str, int]:
        """In queues of the broker, whether or not somebody has them already."""
        queues = self.vhost.queues() if self.vhost is not None else {}
        counts = {name: int(q["messages_ready"]) + int(q["messages_unacknowledged"]) for name, q in queues.items()}
        return {name: count for name, count in counts.items() if count}

    def settled(self, ledger: SqlLedger, seconds: float = LIMIT) -> None:
        """Until nothing is owed."""
        until(lambda: not self.owed(ledger), lambda: f"{self.owed(ledger)}\n{self.told()}", seconds)

    # ── what must be true ───────────────────────────────────────────────────────────────────────────────────────

    def assert_night(self) -> None:
        """By what the program says of it; and by the files themselves (`assert_whole`)."""
        count, night = len(self.obsids), self.ask("night", str(DAY_OBS))
        assert (night["exposures"], night["complete"], night["ignored"]) == (count, count, 0)
        assert (night["late"], night["owed"], night["gaps"]) == ([], [], [])
        assert set(night["files"].values()) == {count * len(self.detectors)}
        self.assert_whole()

    def hash(self) -> dict[str, str]:
        """What others read of the Archiver."""
        assert self.redis is not None
        with closing(self.redis.client()) as client:
            found: Any = client.hgetall("CCArchiver")
            return {key.decode(): value.decode() for key, value in found.items()}


def obsids(count: int) -> list[str]:
    return [Programme().obsid(number) for number in range(count)]


@contextmanager
def wired(here: Path, server: Server, count: int, **more: Any) -> Iterator[Wired]:
    """A new site on a new database; nothing runs yet."""
    made = Wired(here, obsids(count), ledger_url=server.ledger_url(), **more)
    made.write()
    os.chmod(made.site, 0o600)  # the ledger's password is in it
    with closing(made):
        yield made
