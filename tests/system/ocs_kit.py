"""What the tests of the OCS agents share: OCS's own launcher and client, a site file of OCS, a table in MariaDB."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.router import Router
from tests.servers import PASSWORD, Server
from tests.system.table_kit import ORIGINAL, TABLE

LIMIT = 90.0
"""Seconds that anything may take."""

ARCHIVER, MONITOR = "pysmurf-archiver", "pysmurf-monitor"
INSERT = """INSERT INTO pysmurf_files_v1 (path, action, timestamp, instance_id, copied, failed_copy_attempts, md5sum)
VALUES (%s, 'tune_band', '2019-08-03 02:27:30', %s, 0, 0, %s)"""


def ocs(program: str) -> str:
    path = Path(sys.executable).with_name(program)
    assert path.is_file(), f"{path} is not there; `make test` installs it"
    return str(path)


@dataclass
class Station:
    """A host of an observatory: `home` has OCS's site file, what agents write to stdout, `src` and `dst`."""

    home: Path
    router: Router
    server: Server
    database: str = ""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = self.database or self.server.database()
        for name in ("config", "src", "dst"):
            (self.home / name).mkdir(parents=True, exist_ok=True)

    @property
    def src(self) -> Path:
        return self.home / "src"

    @property
    def dst(self) -> Path:
        return self.home / "dst"

    @property
    def env(self) -> dict[str, str]:
        return {
            "OCS_CONFIG_DIR": str(self.home / "config"),
            "HOME": str(self.home),
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.server.port),
            "MYSQL_DATABASE": self.database,
            "MYSQL_USER": "skystow",
            "MYSQL_PASSWORD": PASSWORD,
        }

    # ── OCS ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def configure(self, *instances: dict[str, Any], **host: Any) -> None:
        """OCS's site file."""
        document = {"hub": self.router.hub, "hosts": {"localhost": {"agent-instances": list(instances), **host}}}
        (self.home / "config/default.yaml").write_text(yaml.safe_dump(document))

    def start(
        self, instance: str, *options: str, prefix: Sequence[str] = (), env: dict[str, str | None] | None = None
    ) -> subprocess.Popen[bytes]:
        """By `ocs-agent-cli`; ended with the test. None in `env`: not there."""
        whole = {**os.environ, **self.env, **(env or {})}
        command = [*prefix, ocs("ocs-agent-cli"), "--instance-id", instance, "--site-host", "localhost", *options]
        with self.log_of(instance).open("ab") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.home,
                env={key: value for key, value in whole.items() if value is not None},
            )
        self.running[instance] = process
        return process

    def log_of(self, instance: str) -> Path:
        return self.home / f"{instance}.log"

    def said(self, instance: str) -> str:
        return self.log_of(instance).read_text(errors="replace")

    def stop(self, instance: str, number: int = signal.SIGTERM) -> int:
        process = self.running.pop(instance)
        process.send_signal(number)
        return process.wait(LIMIT)

    def client(self, instance: str) -> Any:
        """OCS's own, as soon as the agent is there."""
        from ocs.ocs_client import OCSClient

        due = time.monotonic() + LIMIT
        options = ["--site-file", str(self.home / "config/default.yaml"), "--site-host", "localhost"]
        while True:
            try:
                return OCSClient(instance, args=options)
            except RuntimeError:
                self.alive(instance)
                assert time.monotonic() < due, self.said(instance)[-4000:]
                time.sleep(0.1)

    def alive(self, instance: str) -> None:
        process = self.running.get(instance)
        assert process is None or process.poll() is None, self.said(instance)[-4000:]

    def data(self, client: Any, operation: str = "run") -> dict[str, Any]:
        found: dict[str, Any] = getattr(client, operation).status().session
        return found

    def until(self, client: Any, true: Callable[[dict[str, Any]], bool], operation: str = "run") -> dict[str, Any]:
        """Poll the session until `true(session)`; the router may be away meanwhile."""
        due, session = time.monotonic() + LIMIT, dict[str, Any]()
        while True:
            with contextlib.suppress(RuntimeError):
                session = self.data(client, operation)
                if session and true(session):
                    return session
            self.alive(client.instance_id)
            assert time.monotonic() < due, (session, self.said(client.instance_id)[-3000:])
            time.sleep(0.1)

    # ── table and files ─────────────────────────────────────────────────────────────────────────────────────────

    def session(self) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1",
            port=self.server.port,
            user="skystow",
            password=PASSWORD,
            database=self.database,
            ssl_disabled=True,
            autocommit=True,
        )

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(self.session()) as session:
            cursor = session.cursor()
            cursor.execute(query, values or None)
            return list(cursor.fetchall())

    def register(self, names: Sequence[str], *, seen_in: Path | None = None, target: str = MONITOR) -> None:
        """Write files and their rows. `seen_in`: where the archiver has `src`."""
        for name in names:
            path = self.src / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(name))
        root = seen_in or self.src
        rows = [(str(root / n), target, hashlib.md5(content(n), usedforsecurity=False).digest()) for n in names]
        with closing(self.session()) as session:
            session.cursor().executemany(INSERT, rows)

    def archived(self) -> dict[str, bytes]:
        found = (path for path in self.dst.rglob("*") if path.is_file() and ".skystow" not in path.parts)
        return {path.name: path.read_bytes() for path in found}

    def copied(self) -> int:
        return int(self.ask(f"SELECT COUNT(*) FROM {TABLE} WHERE copied = 1")[0][0])  # noqa: S608

    def has_all(self, names: Sequence[str]) -> None:
        """Each file once, whole, and its row told."""
        assert self.archived() == {Path(name).name: content(name) for name in names}
        told = self.ask(f"SELECT path, copied, failed_copy_attempts FROM {TABLE}")  # noqa: S608
        assert len(told) == len(names)
        assert {(copied, failed) for _, copied, failed in told} == {(1, 0)}
        assert len({path for path, _, _ in told}) == len(names)


def instead(directory: Path, replaced: dict[str, Path]) -> list[str]:
    """Options of bwrap: `directory` as it is, but that names in it stand for other directories."""
    options = [] if directory == Path("/") else ["--tmpfs", str(directory)]
    for each in sorted(directory.iterdir()):
        if each.name not in replaced:
            link = each.is_symlink()
            options += ["--symlink", os.readlink(each), str(each)] if link else ["--dev-bind", str(each), str(each)]
    for name, path in replaced.items():
        options += ["--bind", str(path), str(directory / name)]
    return options


def content(name: str) -> bytes:
    return f"starlight of {name}\n".encode() * (1 + len(name) % 7)


def names(count: int, begin: int = 0) -> list[str]:
    return [f"1564799250/outputs/{number:05d}_tuning.txt" for number in range(begin, begin + count)]


def archiver_entry(station: Station, *more: Any) -> dict[str, Any]:
    arguments = [["--data-dir", str(station.dst)], ["--target", MONITOR], ["--smurf-root", str(station.src)], *more]
    return {"agent-class": "PysmurfArchiverAgent", "instance-id": ARCHIVER, "arguments": arguments}


@contextmanager
def station(home: Path, router: Router, server: Server) -> Iterator[Station]:
    made = Station(home, router, server)
    try:
        made.ask(ORIGINAL)
        yield made
    finally:
        for instance in list(made.running):
            process = made.running[instance]
            if process.poll() is None:
                made.stop(instance, signal.SIGKILL)
