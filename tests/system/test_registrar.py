"""What a monitor writes into a real table on a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from skystow.adapters.pysmurf_files import FilesTable
from skystow.adapters.pysmurf_files.registrar import PysmurfFilesRegistrar
from skystow.model.datagram import Registration
from skystow.ports.monitor import Entry
from tests.servers import PASSWORD, Server

Make = Callable[..., PysmurfFilesRegistrar]


@pytest.fixture
def database(mariadb: Server) -> str:
    return mariadb.database()


@pytest.fixture
def make(mariadb: Server, database: str) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(session: str = "", user: str = "skystow") -> PysmurfFilesRegistrar:
            query = mariadb.bare | ({"init_command": f"SET SESSION {session}"} if session else {})
            url = mariadb.url(database, **query).set(username=user).render_as_string(hide_password=False)
            table = FilesTable(url, "v1", place="table", password=PASSWORD)
            registrar = PysmurfFilesRegistrar(table, target="monitor", site="o", version="v", create=True)
            return stack.enter_context(closing(registrar))

        yield made


def entry(name: str, **more: Any) -> Entry:
    path = f"/data/smurf_data/1/{name}"
    said = replace(Registration(path, "smurf", 1.5e9, action="tune", action_timestamp=7, pub_id="slot2"), **more)
    return Entry(said, path, hashlib.md5(name.encode(), usedforsecurity=False).digest(), len(name), True)


def rows(server: Server, database: str, what: str = "path") -> list[Any]:
    return list(server.execute(f"SELECT {what} FROM {database}.pysmurf_files_v1 ORDER BY id"))  # noqa: S608


def test_a_time_that_the_servers_zone_does_not_have_is_left_out(mariadb: Server, database: str, make: Make) -> None:
    strict = make("sql_mode='STRICT_TRANS_TABLES', time_zone='+05:00'")
    those = [entry("a"), entry("early", timestamp=1.0), entry("b"), entry("action", action="\N{MUSHROOM}")]
    refused = strict.register(those)
    assert set(refused) == {3}, "latin1 has no such letter"
    found = rows(mariadb, database, "path, timestamp IS NULL")
    assert found == [(those[0].path, 0), (those[1].path, 1), (those[2].path, 0)]
