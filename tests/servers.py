"""Real database servers, started by the tests: on free ports of loopback, in directories of their own, stopped by pid.

One of each per test process (`mariadb`, `postgres`), with an empty database for whoever asks (`Server.database`). What
the tests prove is that a killed server loses nothing; a power cut, which a sync on each commit guards against, is not
among them: so the servers do not sync, and are quick.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger
from skystow.testing.ledger_kit import ANNA

LIMIT = 60.0
"""Seconds that a server may take to start."""

PASSWORD = "p@ss:w/rd"  # noqa: S105 - of a server that lives as long as the tests
LEDGER_TABLES = (
    *("notices", "events", "transfers", "arrivals", "files", "workers", "places", "dead_letters"),
    *("steps", "talks", "parcels", "board", "kept", "milestones", "frames"),
)


class Server(ABC):
    """`home` is its directory, `port` stays the same over a `kill` and a `start`."""

    bare: ClassVar[dict[str, str]] = {}
    """Of a URL: without TLS, for which PyMySQL reads every certificate of the machine at each connect."""
    extra: tuple[str, ...] = ()
    """More arguments of the next `start`."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="skystow-db-"))  # short: a socket's path ends at 107 characters
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.databases = 0
        self.make_certificates()
        self.create()
        self.start()

    @abstractmethod
    def create(self) -> None: ...

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def url(self, database: str, **query: str) -> sa.URL:
        """Of the user whose password is `PASSWORD`."""

    @abstractmethod
    def empty(self, database: str) -> None:
        """No rows in a ledger's tables."""

    @property
    @abstractmethod
    def admin(self) -> sa.URL: ...

    def start(self) -> None:
        """Started, and answering."""
        due = time.monotonic() + LIMIT
        while True:
            with (self.home / "log").open("ab") as log:
                # It dies with us, even where we are killed.
                command = ["setpriv", "--pdeathsig", "KILL", *self.command(), *self.extra]
                self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            while self.process.poll() is None:
                if self.answers():
                    return
                assert time.monotonic() < due, self.log()
                time.sleep(0.02)
            # A killed PostgreSQL's children take a moment to see that it is gone, and until then no other may start.
            assert time.monotonic() < due, self.log()
            time.sleep(0.1)

    def kill(self) -> None:
        """The server and all that it started, as by the kernel's out-of-memory killer."""
        assert self.process is not None
        self._signal(signal.SIGKILL)
        self.process.wait(LIMIT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and statements, and says nothing."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        self.engine.dispose()
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-4000:]

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True

    @cached_property
    def engine(self) -> sa.Engine:
        return sa.create_engine(self.admin, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")

    def execute(self, *statements: str) -> Any:
        """As its administrator; the rows of the last one."""
        with self.engine.connect() as connection:
            results = [connection.exec_driver_sql(statement) for statement in statements]
            return results[-1].fetchall() if results[-1].returns_rows else []

    def ledger_url(self) -> str:
        """Of a new, empty database, password and all."""
        return self.url(self.database(), **self.bare).render_as_string(hide_password=False)

    def database(self) -> str:
        """A new, empty database; its name."""
        self.databases += 1
        name = f"test_{self.databases}"
        self.execute(*self.creation(name))
        return name

    @abstractmethod
    def creation(self, name: str) -> list[str]: ...

    def make_certificates(self, where: Path | None = None) -> None:
        certificates(where or self.home)

    @property
    def tls_ca(self) -> Path:
        return self.home / "ca.pem"


class MariaDb(Server):
    bare: ClassVar[dict[str, str]] = {"ssl_disabled": "true"}

    def create(self) -> None:
        make = ["mariadb-install-db", "--no-defaults", f"--datadir={self.home}/data", "--skip-test-db"]
        user = [f"--user={getpass.getuser()}", "--auth-root-authentication-method=normal"]
        subprocess.run([*make, *user], check=True, capture_output=True)

    def command(self) -> list[str]:
        files = [f"--datadir={self.home}/data", f"--socket={self.home}/s", f"--pid-file={self.home}/pid"]
        # A server that starts removes temporary tables from there, whosever they are.
        files.append(f"--tmpdir={self.home}")
        net = ["--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve", "--skip-log-bin"]
        tls = [f"--ssl-ca={self.tls_ca}", f"--ssl-cert={self.home}/cert.pem", f"--ssl-key={self.home}/key.pem"]
        pace = ["--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF"]
        # A server as its makers leave it: text in latin1, values cut to fit. A ledger must not depend on either.
        poor = ["--character-set-server=latin1", "--collation-server=latin1_swedish_ci", "--sql-mode="]
        program = [shutil.which("mariadbd") or "/usr/sbin/mariadbd", "--no-defaults", f"--user={getpass.getuser()}"]
        return [*program, *files, *net, *tls, *pace, *poor]

    @property
    def admin(self) -> sa.URL:
        return sa.URL.create("mysql+pymysql", "root", host="127.0.0.1", port=self.port, query=self.bare)

    def url(self, database: str, **query: str) -> sa.URL:
        return sa.URL.create("mysql", "skystow", PASSWORD, "127.0.0.1", self.port, database, query)

    def creation(self, name: str) -> list[str]:
        user = "'skystow'@'127.0.0.1'"
        return [
            f"CREATE DATABASE {name}",
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON {name}.* TO {user}",
        ]

    def empty(self, database: str) -> None:
        rows = [f"DELETE FROM {database}.{table}" for table in LEDGER_TABLES]  # noqa: S608
        self.execute("SET autocommit=0", *rows, "COMMIT")


class Postgres(Server):
    @cached_property
    def bin(self) -> Path:
        """Debian keeps several versions apart, away from PATH."""
        if found := shutil.which("initdb"):
            return Path(found).resolve().parent
        return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))

    @cached_property
    def user(self) -> list[str]:
        """PostgreSQL refuses to be root."""
        if os.geteuid() != 0:
            return []
        for path in (self.home, *self.home.iterdir()):
            shutil.chown(path, "postgres", "postgres")
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig", "KILL"]

    def create(self) -> None:
        (self.home / "password").write_text(PASSWORD)
        make = ["--username=postgres", f"--pwfile={self.home}/password", "--auth=scram-sha-256", "--no-sync"]
        locale = ["--encoding=UTF8", "--locale=C.UTF-8"]
        command = [*self.user, str(self.bin / "initdb"), f"--pgdata={self.home}/data", *make, *locale]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def command(self) -> list[str]:
        tls = ["ssl=on", f"ssl_cert_file={self.home}/cert.pem", f"ssl_key_file={self.home}/key.pem"]
        net = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories="]
        pace = ["fsync=off", "shared_buffers=32MB", "max_connections=100"]
        settings = [word for each in (*tls, *net, *pace) for word in ("-c", each)]
        return [*self.user, str(self.bin / "postgres"), "-D", f"{self.home}/data", *settings]

    @property
    def admin(self) -> sa.URL:
        return self.url("postgres").set(drivername="postgresql+psycopg", username="postgres")

    def url(self, database: str, **query: str) -> sa.URL:
        return sa.URL.create("postgresql", "skystow", PASSWORD, "127.0.0.1", self.port, database, query)

    def creation(self, name: str) -> list[str]:
        user = [f"CREATE ROLE skystow LOGIN PASSWORD '{PASSWORD}'"] if self.databases == 1 else []
        return [*user, f"CREATE DATABASE {name} OWNER skystow"]

    def empty(self, database: str) -> None:
        engine = sa.create_engine(self.admin.set(database=database), poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {', '.join(LEDGER_TABLES)} RESTART IDENTITY")
        engine.dispose()


EmptyLedger = Callable[[], str]
"""The URL of a ledger of this program's schema, without a row: the same one each time, made empty again."""


def _empty_ledger(server: Server) -> EmptyLedger:
    """To make the tables takes ten times as long as to empty them, and migrations have tests of their own."""
    database = server.database()
    url = server.url(database, **server.bare).render_as_string(hide_password=False)
    ledger = open_ledger(url, worker=ANNA, clock=SystemClock())
    ledger.identity()  # it stays: whoever counts its making must not be the first by chance
    ledger.close()

    def empty() -> str:
        server.empty(database)
        return url

    return empty


def certificates(where: Path) -> None:
    """An authority (`ca.pem`), and a certificate of it for this machine's loopback address (`cert.pem`, `key.pem`)."""
    subject = ["-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    authority = ["-x509", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"]
    server = ["-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=localhost", "-keyout", "key.pem"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE", "-out", "cert.pem"]
    for options in (authority, [*server, *names]):
        subprocess.run(["openssl", "req", *subject, *options], cwd=where, check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    with contextlib.closing(MariaDb()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with contextlib.closing(Postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_ledger(mariadb: Server) -> EmptyLedger:
    return _empty_ledger(mariadb)


@pytest.fixture(scope="session")
def postgres_ledger(postgres: Server) -> EmptyLedger:
    return _empty_ledger(postgres)


@pytest.fixture(params=["mariadb", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Server)
    return found
