"""What all tests share: the tools that must be there, one way to run the program, one way to lose our privileges."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.brokers import cut_proxy as cut_proxy
from tests.brokers import rabbitmq as rabbitmq
from tests.brokers import vhost as vhost
from tests.nursery import Nursery
from tests.redis_server import redis_process as redis_process
from tests.redis_server import redis_server as redis_server
from tests.router import router as router
from tests.servers import mariadb as mariadb
from tests.servers import mariadb_ledger as mariadb_ledger
from tests.servers import postgres as postgres
from tests.servers import postgres_ledger as postgres_ledger
from tests.servers import server as server

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    "bwrap",
    "epmd",
    "erl_call",
    "make",
    "mariadb-install-db",
    "mount",
    "openssl",
    "redis-server",
    "rsync",
    "setpriv",
    "ssh",
    "strace",
    "unshare",
    "/usr/sbin/rabbitmqctl",
    "/usr/sbin/sshd",
)


settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """A test that cannot run has not passed: a missing tool ends the run instead of skipping what needs it."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise pytest.UsageError(f"the tests need {', '.join(missing)}; `make test` installs them")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def skystow_bin() -> Path:
    """The program as it is installed beside the interpreter that runs the tests."""
    program = Path(sys.executable).with_name("skystow")
    assert program.is_file(), f"{program} is not there; `make test` installs it"
    return program


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Runs the program more quickly than it starts."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


Unprivileged = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def unprivileged() -> Unprivileged:
    """Run a command as somebody to whom permission bits apply, whoever runs the tests.

    Root is stripped of every capability, for good, instead of becoming another user: it still reaches an
    interpreter or a temporary directory below a home that is closed to others, but `chmod 0` now holds for it.
    """
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if os.geteuid() == 0 else []

    def run(argv: Sequence[str | os.PathLike[str]], *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [*prefix, *(os.fspath(word) for word in argv)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    return run
