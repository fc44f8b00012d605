"""What a monitor writes into a real table on a real server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from skystow.adapters.pysmurf_files import FilesTable
from skystow.adapters.pysmurf_files.registrar import PysmurfFilesRegistrar
from skystow.errors import Unreachable
from skystow.model.datagram import Registration
from skystow.ports.monitor import Entry
from tests.servers import PASSWORD, Server
from tests.system.cli_kit import until

BUSY = "SELECT info FROM information_schema.processlist WHERE id != CONNECTION_ID()"
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


def test_who_is_closed_while_the_server_is_at_his_statement_writes_nothing(
    mariadb: Server, database: str, make: Make
) -> None:
    """And whoever comes after him waits for it: a file has one row."""
    first, second = make(), make()
    first.register([entry("a")])
    after, those = second.mark(), [entry(f"b{n}") for n in range(5)]
    died: list[BaseException] = []

    def work() -> None:
        try:
            first.register(those)
        except Unreachable as fault:
            died.append(fault)

    def asked() -> bool:
        return any((row[0] or "").startswith("INSERT INTO pysmurf_files") for row in mariadb.execute(BUSY))

    with mariadb.engine.connect() as holder:
        holder.exec_driver_sql(f"LOCK TABLES {database}.pysmurf_files_v1 READ")
        left = threading.Thread(target=work)
        left.start()
        until(asked)
        first.close()
        answer: list[set[int]] = []
        next_one = threading.Thread(target=lambda: answer.append(second.known(those, after)))
        next_one.start()
        holder.exec_driver_sql("UNLOCK TABLES")
    left.join(60)
    next_one.join(60)
    assert len(died) == 1
    assert answer == [set()]
    second.register(those)
    assert len(rows(mariadb, database)) == 6


def test_a_commit_that_is_on_its_way_is_waited_for(mariadb: Server, database: str, make: Make) -> None:
    one = make()
    one.register([entry("a")])
    name = one._gate()["name"]
    with mariadb.engine.connect() as other:
        other.exec_driver_sql(f"SELECT GET_LOCK('{name}', 0)")
        answer: list[set[int]] = []
        asking = threading.Thread(target=lambda: answer.append(make().known([entry("a")], 0)))
        asking.start()
        until(lambda: any("GET_LOCK" in (row[0] or "") for row in mariadb.execute(BUSY)))
        assert answer == []
    asking.join(60)
    assert answer == [{0}]


def test_ours_is_told_from_others_alike(mariadb: Server, database: str, make: Make) -> None:
    one = make()
    elsewhere = replace(entry("a"), path="/data/smurf_data/2/a")
    one.register([entry("a"), entry("late", timestamp=1.6e9)])
    assert one.known([entry("a"), entry("a")], 0) == {0}, "one row is that of one"
    assert one.known([elsewhere], 0) == set()
    assert one.known([entry("a", pub_id="slot3")], 0) == set()
    assert one.known([entry("a", action_timestamp=8)], 0) == set()
    assert one.known([entry("late")], 0) == set()
    mariadb.execute(f"UPDATE {database}.pysmurf_files_v1 SET copied = 1, path = '/archive/x/a' WHERE id = 1")  # noqa: S608
    assert one.known([entry("a")], 0) == {0}
    strict = make("sql_mode='STRICT_TRANS_TABLES', time_zone='+05:00'")
    strict.register([entry("early", timestamp=1.0)])
    assert strict.known([entry("early", timestamp=1.0)], 0) == {0}


def test_sizes_are_given_up_for_want_of_a_right_and_for_nothing_else(
    mariadb: Server, database: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make()
    with monkeypatch.context() as patch:

        def away(*_: Any, **__: Any) -> None:
            raise Unreachable("it went away", place="table")

        patch.setattr(one._extra, "create", away)
        with pytest.raises(Unreachable):
            one.register([entry("a")])
    one.register([entry("a")])
    assert mariadb.execute(f"SELECT id, size FROM {database}.skystow_pysmurf_extra") == [(1, 1)]  # noqa: S608
    mariadb.execute(f"DROP TABLE {database}.skystow_pysmurf_extra")
    mariadb.execute(
        f"CREATE USER 'poor_{database}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
        f"GRANT SELECT, INSERT ON {database}.* TO 'poor_{database}'@'127.0.0.1'",
    )
    poor = make(user=f"poor_{database}")
    assert poor.register([entry("b")]) == {}
    assert "sizes are not written down" in poor.notes[0]
