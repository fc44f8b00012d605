from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest

from skystow.simulate.comcam import ComCam, HeaderService
from tests.brokers import Broker
from tests.crash.image_kit import Nights
from tests.crash.night_field import SHAPE
from tests.crash.wire_kit import CCDS, Servers
from tests.redis_server import RedisServer
from tests.servers import EmptyLedger, Server
from tests.sshd import Sshd, sshd


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
