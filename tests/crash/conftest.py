from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server
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
