"""Trouble with a ledger's database server: each has a name, a culprit and a remedy, and costs no verdict."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.servers import PASSWORD, Server, free_port

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, open_ledger, servers
from skystow.errors import ConfigError, LedgerUnusable, SkystowError, Unreachable
from skystow.model.transfer import Delivered, State, Step
from skystow.testing.ledger_kit import ANNA, ARCHIVE, CHAIN, LEASE, ONE, STRAIGHT, arrival, receipt_for


def opened(url: str | sa.URL) -> SqlLedger:
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    return open_ledger(text, worker=ANNA, clock=SystemClock())


def refusal(url: str | sa.URL, kind: type[SkystowError] = ConfigError) -> str:
    """What is said of a ledger that cannot be opened; never a password."""
    with pytest.raises(kind) as caught:
        opened(url)
    assert type(caught.value) is kind
    said = f"{caught.value} {caught.value.__cause__!r}"
    assert PASSWORD not in said
    assert "se%3Acret" not in said
    return str(caught.value)


@pytest.fixture
def url(server: Server) -> sa.URL:
    return server.url(server.database(), **server.bare)


@pytest.fixture
def ledger(url: sa.URL) -> Iterator[SqlLedger]:
    with closing(opened(url)) as ledger:
        yield ledger


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("mysql://u:se%3Acret@host:port/db", "cannot be understood"),
            ("nonsense", "cannot be understood"),
            ("oracle://u:se%3Acret@host/db", "oracle cannot hold a ledger"),
            ("mysql+mysqldb://u:se%3Acret@host/db", "not reached through mysqldb"),
            ("postgresql+asyncpg://u:se%3Acret@host/db", "not reached through asyncpg"),
            ("mysql://u:se%3Acret@host", "names no database"),
            ("mysql://u@host/db?passwd=se%3Acret", "a password in passwd"),
            ("mysql://u:se%3Acret@host/db?password_env=SECRET", "more than once"),
            ("mysql://u@host/db?password_env=A&password_file=/b", "more than once"),
            ("mysql://u@host/db?password_env=A&password_env=B", "more than once"),
            ("postgresql://u@host/db?tls_cert=/a", "need tls_ca"),
        ],
    )
    def test_what_cannot_be_right(self, url: str, said: str) -> None:
        assert said in refusal(url)

    @pytest.mark.parametrize(
        ("url", "driver", "extra"),
        [("mysql://u@127.0.0.1/db", "pymysql", "mysql"), ("postgresql://u@127.0.0.1/db", "psycopg", "postgres")],
    )
    def test_a_driver_that_is_not_installed(
        self, url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, driver, None)
        said = refusal(url)
        assert driver in said
        assert f"pip install 'skystow[{extra}]'" in said

    def test_drivers_are_left_alone_where_nobody_names_them(self, tmp_path: Path) -> None:
        program = (
            "import sys; from skystow.adapters.ledger import open_ledger; from skystow.testing.ledger_kit import ANNA\n"
            "from skystow.adapters.clock import SystemClock\n"
            "open_ledger(sys.argv[1], worker=ANNA, clock=SystemClock()).close()\n"
            "print([name for name in ('pymysql', 'psycopg', 'cryptography') if name in sys.modules])\n"
        )
        command = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/ledger.db"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


class TestDoor:
    def test_a_wrong_password(self, url: sa.URL) -> None:
        assert "user, password and database" in refusal(url.set(password="other"))  # noqa: S106

    def test_an_unknown_database(self, url: sa.URL) -> None:
        assert "was it created?" in refusal(url.set(database="nowhere"))

    def test_nobody_at_the_port(self, url: sa.URL) -> None:
        assert "the ledger's server" in refusal(url.set(port=free_port()), Unreachable)

    def test_a_password_in_a_file_or_the_environment(
        self, url: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bare, file = url._replace(password=None), tmp_path / "password"
        file.write_text(f"{PASSWORD}\nand a remark\n")
        file.chmod(0o600)
        monkeypatch.setenv("LEDGER_PASSWORD", PASSWORD)
        for options in ({"password_file": str(file)}, {"password_env": "LEDGER_PASSWORD"}):
            with closing(opened(bare.update_query_dict(options))) as ledger:
                assert ledger.counts() == []
                assert PASSWORD not in repr(ledger._database) + str(ledger._database.engine.url)

    def test_a_password_that_is_no_secret_or_not_there(self, url: sa.URL, tmp_path: Path) -> None:
        file = tmp_path / "password"
        by_file = url._replace(password=None).update_query_dict({"password_file": str(file)})
        assert "cannot read" in refusal(by_file)
        file.write_text(PASSWORD)
        file.chmod(0o640)
        said = refusal(by_file)
        assert "may be read by others" in said
        assert f"chmod 600 {file}" in said
        file.write_bytes(b"\n")
        file.chmod(0o600)
        assert "is empty" in refusal(by_file)
        by_name = url._replace(password=None).update_query_dict({"password_env": "NO_SUCH_NAME"})
        assert "$NO_SUCH_NAME" in refusal(by_name)

    def test_a_password_that_is_changed_while_we_run(self, server: Server, url: sa.URL, tmp_path: Path) -> None:
        """It is read anew at each connect."""
        file = tmp_path / "password"
        file.write_text(PASSWORD)
        file.chmod(0o600)
        by_file = url._replace(password=None).update_query_dict({"password_file": str(file)})
        with closing(opened(by_file)) as ledger:
            set_password(server, "another one")
            try:
                file.write_text("another one")
                ledger._database.engine.dispose()
                assert ledger.counts() == []
            finally:
                set_password(server, PASSWORD)

    def test_tls_to_a_server_of_our_authority_alone(self, server: Server, url: sa.URL, tmp_path: Path) -> None:
        secure = sa.URL.create(*url[:6]).update_query_dict({"tls_ca": str(server.tls_ca)})
        mysql = url.get_backend_name() == "mysql"
        question = (
            "SHOW STATUS LIKE 'Ssl_version'"
            if mysql
            else "SELECT 0, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        with closing(opened(secure)) as ledger, ledger._database.reading() as connection:
            assert connection.exec_driver_sql(question).one()[1].startswith("TLSv1")
        other = tmp_path / "ca.pem"
        server.make_certificates(tmp_path)
        refusal(secure.update_query_dict({"tls_ca": str(other)}), Unreachable)
        refusal(secure.set(host="localhost").update_query_dict({"tls_ca": str(other)}), Unreachable)

    def test_a_user_who_may_not_write(self, server: Server, url: sa.URL, ledger: SqlLedger) -> None:
        ledger.admit([arrival("a")], ONE)
        if url.get_backend_name() == "mysql":
            server.execute(
                "CREATE OR REPLACE USER 'reader'@'127.0.0.1' IDENTIFIED BY 'r'",
                f"GRANT SELECT ON {url.database}.* TO 'reader'@'127.0.0.1'",
            )
        else:
            role = "CREATE ROLE reader LOGIN PASSWORD 'r' IN ROLE pg_read_all_data"
            server.execute("DROP ROLE IF EXISTS reader", role)
        with closing(opened(url.set(username="reader", password="r"))) as reader:  # noqa: S106
            assert len(reader.find("a")) == 1
            with pytest.raises(ConfigError, match="grant the ledger's user"):
                reader.admit([arrival("b")], ONE)

    def test_a_table_that_somebody_dropped(self, ledger: SqlLedger) -> None:
        with ledger._database.writing() as connection:
            connection.exec_driver_sql("DROP TABLE places")
        with pytest.raises(LedgerUnusable) as caught:
            ledger.healths()
        assert caught.value.remedy


def set_password(server: Server, password: str) -> None:
    mysql = server.admin.get_backend_name() == "mysql"
    whom = "USER 'skystow'@'127.0.0.1' IDENTIFIED BY" if mysql else "ROLE skystow PASSWORD"
    server.execute(f"ALTER {whom} '{password}'")


class TestAway:
    def test_killed_between_two_calls(self, server: Server, ledger: SqlLedger) -> None:
        ledger.admit([arrival("a"), arrival("b")], CHAIN)
        a, b = ledger.claim(STRAIGHT, files=2, size=99, seconds=LEASE)
        server.kill()
        try:
            acts: list[Callable[[], object]] = [
                lambda: ledger.settle({a: Delivered(receipt_for(a))}),
                lambda: ledger.next_wake(STRAIGHT),
                lambda: ledger.admit([arrival("c")], ONE),
            ]
            for act in acts:
                with pytest.raises(Unreachable) as caught:
                    act()
                assert caught.value.place == "ledger"
        finally:
            server.start()
        assert ledger.promise({b: receipt_for(b)}, seconds=LEASE) == {b}
        verdicts = {work: Delivered(receipt_for(work)) for work in (a, b)}
        assert ledger.settle(verdicts) == {a, b}

    def test_killed_in_the_middle_of_a_transaction(self, server: Server, ledger: SqlLedger) -> None:
        ledger.admit([arrival("a")], ONE)
        (a,) = ledger.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
        with at_commit(ledger, before=server.kill), pytest.raises(Unreachable):
            ledger.settle({a: Delivered(receipt_for(a))})
        server.start()
        assert ledger.copies(after=0, limit=9, state=State.DONE) == []
        assert ledger.settle({a: Delivered(receipt_for(a))}) == {a}
        assert steps(ledger) == [Step.CLAIMED, Step.DELIVERED]

    def test_a_verdict_whose_answer_was_lost(self, ledger: SqlLedger) -> None:
        """The commit was done, the connection died before it said so: said again, the verdict has taken effect."""
        ledger.admit([arrival("a")], ONE)
        (a,) = ledger.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
        with at_commit(ledger, after=unplugged), pytest.raises(Unreachable):
            ledger.settle({a: Delivered(receipt_for(a))})
        assert len(ledger.copies(after=0, limit=9, state=State.DONE)) == 1
        assert ledger.settle({a: Delivered(receipt_for(a))}) == {a}
        assert steps(ledger) == [Step.CLAIMED, Step.DELIVERED]
        assert len(ledger.notices(limit=9)) == 1

    def test_a_claim_whose_answer_was_lost(self, ledger: SqlLedger) -> None:
        """Nobody has those files: they are not kept for the length of a lease, nor counted as abandoned."""
        ledger.admit([arrival(name) for name in "abcd"], ONE)
        ledger.identity()  # a fresh ledger writes it down when it is first asked for, else in this claim
        with at_commit(ledger, 2, after=unplugged), pytest.raises(Unreachable):  # the first is of a mere look
            ledger.claim(STRAIGHT, files=4, size=99, seconds=LEASE)
        assert len(ledger.live_tokens()) == 1
        assert ledger.next_wake(STRAIGHT) == 0
        assert len(ledger.claim(STRAIGHT, files=4, size=99, seconds=LEASE)) == 4
        assert {c.abandoned for c in ledger.copies(after=0, limit=9, state=State.WAITING)} == {0}
        assert steps(ledger) == [Step.CLAIMED, Step.HELD, Step.CLAIMED]

    def test_an_admission_whose_answer_was_lost(self, ledger: SqlLedger) -> None:
        with at_commit(ledger, after=unplugged), pytest.raises(Unreachable):
            ledger.note_place("archive", "/srv")
        with at_commit(ledger, 2, after=unplugged), pytest.raises(Unreachable):
            ledger.admit([arrival("a")], CHAIN)
        ledger.admit([arrival("a")], CHAIN)
        assert len(ledger.find("a")) == 1
        assert len(ledger.copies(after=0, limit=9, state=State.WAITING)) == 2

    def test_frozen(self, server: Server, url: sa.URL, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that takes a statement and never answers stops one call, for a while."""
        for limit in ("ANSWER_S", "CONNECT_S"):
            monkeypatch.setattr(servers, limit, 2)  # less than 2 is 2 for libpq
        with closing(opened(url)) as ledger:
            ledger.admit([arrival("a")], ONE)
            with server.frozen(), pytest.raises(Unreachable):
                ledger.counts()
            assert len(ledger.claim(STRAIGHT, files=4, size=99, seconds=LEASE)) == 1


def steps(ledger: SqlLedger) -> list[Step]:
    """Of the first file's first copy."""
    dossier = ledger.dossier(ledger.find("a")[0])
    assert dossier is not None
    return [event.step for event in dossier.events if event.destination == ARCHIVE]


def unplugged() -> None:
    raise OSError("the cable is out")


@contextmanager
def at_commit(
    ledger: SqlLedger,
    nth: int = 1,
    *,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Something happens around the nth commit of this ledger; an OSError after it is a connection that is lost."""
    dialect: Any = ledger._database.engine.dialect
    commit, left = dialect.do_commit, nth

    def do_commit(connection: Any) -> None:
        nonlocal left
        left -= 1
        if left:
            commit(connection)
            return
        dialect.do_commit = commit
        before()
        commit(connection)
        try:
            after()
        except OSError as error:
            connection.dbapi_connection.close()
            raise dialect.loaded_dbapi.OperationalError(2013, str(error)) from error

    dialect.do_commit = do_commit
    try:
        yield
    finally:
        dialect.do_commit = commit
