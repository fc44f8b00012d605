"""What only a ledger on a database server must do: schema, clock, several hosts at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.servers import Server

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, database, open_ledger, schema, servers, upgrade
from skystow.adapters.ledger.open import migrate
from skystow.adapters.memory import ManualClock
from skystow.errors import LedgerUnusable, SchemaMismatch
from skystow.model.records import Arrival, Health, Worker
from skystow.model.transfer import Delivered, Held, Reason, State
from skystow.ports import Admission
from skystow.testing.ledger_kit import ANNA, BEN, CHAIN, LEASE, ONE, STRAIGHT, arrival, receipt_for

Opened = Callable[..., SqlLedger]


@pytest.fixture
def url(server: Server) -> str:
    return server.ledger_url()


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    ledgers: list[SqlLedger] = []

    def opened(worker: Worker = ANNA) -> SqlLedger:
        ledgers.append(open_ledger(url, worker=worker, clock=SystemClock()))
        return ledgers[-1]

    yield opened
    for ledger in ledgers:
        ledger.close()


def raw(url: str, *statements: str) -> None:
    base = database.connect(url, SystemClock())
    with base.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    base.close()


@contextmanager
def dying_after(done: int) -> Iterator[None]:
    """Killed before the next table, column or index after so many, whoever makes them."""
    left = done

    def die(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal left
        if statement.lstrip().startswith(("CREATE", "ALTER", "DROP")):
            left -= 1
            if left < 0:
                raise InterruptedError("killed")

    sa.event.listen(sa.Engine, "before_cursor_execute", die)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", die)


class TestSchema:
    def test_migrations_make_exactly_these_tables(self, opened: Opened) -> None:
        with opened()._database.reading() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, schema.metadata) == []

    def test_an_older_one_is_brought_up_when_told_so(self, url: str, opened: Opened) -> None:
        base = database.connect(url, SystemClock())
        migrate(base, "0001")
        base.worker_id(ANNA)  # somebody used it: without that it is a ledger whose maker died
        base.close()
        with pytest.raises(SchemaMismatch, match="skystow ledger upgrade"):
            opened()
        assert upgrade(url, clock=SystemClock()) == ("0001", schema.HEAD)
        assert opened().admit([arrival("a")], ONE).admitted == 1

    def test_whoever_makes_it_may_be_killed_at_any_table(self, server: Server) -> None:
        """MariaDB commits each table by itself: the next to open it goes on where it stopped, and is killed in turn."""
        url, deaths = server.ledger_url(), 0
        while True:
            # PostgreSQL takes everything back: there, each gets further than the one before.
            done = 1 if server.admin.get_backend_name() == "mysql" else 3 * deaths
            try:
                with dying_after(done):
                    open_ledger(url, worker=ANNA, clock=SystemClock()).close()
                break
            except InterruptedError:
                deaths += 1
        assert deaths > 10
        with closing(open_ledger(url, worker=ANNA, clock=SystemClock())) as ledger:
            assert ledger.admit([arrival("a")], CHAIN).admitted == 1

    @pytest.mark.parametrize("version", ["0001", "0002"])
    def test_an_upgrade_may_be_killed_at_any_table(self, url: str, version: str) -> None:
        """With all that is in it."""
        base = database.connect(url, SystemClock())
        migrate(base, version)
        base.worker_id(ANNA)
        base.close()
        raw(url, "INSERT INTO places (name, well, since) VALUES ('archive', true, 1)")
        deaths = 0
        while True:
            done = 1 if url.startswith("mysql") else 3 * deaths
            try:
                with dying_after(done):
                    assert upgrade(url, clock=SystemClock())[1] == schema.HEAD
                break
            except InterruptedError:
                deaths += 1
        assert deaths > 2
        with closing(open_ledger(url, worker=ANNA, clock=SystemClock())) as ledger:
            assert [health.place for health in ledger.healths()] == ["archive"]
            with ledger._database.reading() as connection:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                assert compare_metadata(context, schema.metadata) == []

    def test_a_database_of_another_program(self, url: str, opened: Opened) -> None:
        raw(url, "CREATE TABLE songs (title VARCHAR(20))")
        with pytest.raises(LedgerUnusable, match="no ledger of skystow"):
            opened()

    def test_one_that_lost_its_version(self, url: str, opened: Opened) -> None:
        opened().admit([arrival("a")], ONE)
        raw(url, "DELETE FROM alembic_version")
        with pytest.raises(LedgerUnusable, match="no ledger of skystow"):
            opened()

    def test_a_newer_schema(self, url: str, opened: Opened) -> None:
        opened()
        raw(url, "UPDATE alembic_version SET version_num='9999'")
        with pytest.raises(SchemaMismatch, match="9999"):
            opened()

    def test_text_of_every_script_and_names_of_every_case(self, opened: Opened) -> None:
        """The test's MariaDB is set to latin1, to a collation without case, and to cut what is too long."""
        ledger, said = opened(), "→ nicht lesbar: ночь 夜 🔭 " + "x" * 5_000
        ledger.admit([arrival("a", path=PurePosixPath("Ω.fits"))], ONE)
        (work,) = ledger.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
        ledger.settle({work: Held(Reason("place", said))})
        dossier = ledger.dossier(ledger.find("Ω.fits")[0])
        assert dossier is not None
        assert dossier.copies[0].error == said
        for name in ("Tucson", "tucson", "TUCSON"):
            ledger.report(Health(name, True, datetime.now(UTC)))
        assert {health.place for health in ledger.healths()} == {"Tucson", "tucson", "TUCSON"}


class TestTime:
    def test_it_is_the_servers_whatever_the_hosts_say(self, url: str) -> None:
        late, early = ManualClock(datetime(2071, 1, 1, tzinfo=UTC)), ManualClock(datetime(1999, 1, 1, tzinfo=UTC))
        with (
            closing(open_ledger(url, worker=ANNA, clock=late)) as anna,
            closing(open_ledger(url, worker=BEN, clock=early)) as ben,
        ):
            ben.admit([arrival("a")], ONE)
            (work,) = anna.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
            assert ben.claim(STRAIGHT, files=1, size=99, seconds=LEASE) == []
            assert 0 < (ben.next_wake(STRAIGHT) or 0) <= LEASE
            anna.settle({work: Delivered(receipt_for(work))})
            (copy,) = ben.copies(after=0, limit=1, state=State.DONE)
            assert copy.done_at is not None
            assert abs(copy.done_at - datetime.now(UTC)) < timedelta(minutes=5)

    def test_no_time_zone_of_the_server_matters(self, server: Server, url: str, opened: Opened) -> None:
        name = sa.make_url(url).database
        if server.admin.get_backend_name() == "mysql":
            server.execute("SET GLOBAL time_zone='-03:00'")
        else:
            server.execute(f"ALTER DATABASE {name} SET timezone TO 'America/Santiago'")
        try:
            ledger = opened()
            with ledger._database.reading() as connection:
                told = ledger._database.now(connection) / 1e6
        finally:
            if server.admin.get_backend_name() == "mysql":
                server.execute("SET GLOBAL time_zone='SYSTEM'")
        assert abs(told - datetime.now(UTC).timestamp()) < 300


class TestTogether:
    """Several hosts at once."""

    def test_many_processes_create_it(self, url: str, opened: Opened) -> None:
        program = (
            "import sys; from skystow.adapters.ledger import open_ledger; from skystow.testing.ledger_kit import *\n"
            "from skystow.adapters.clock import SystemClock; sys.stdin.read()\n"
            "me = Worker('h' + sys.argv[2], 'b', 'p', 1, 1)\n"
            "ledger = open_ledger(sys.argv[1], worker=me, clock=SystemClock())\n"
            "print(ledger.admit([arrival('mine' + sys.argv[2]), arrival('ours')], ONE).admitted)\n"
        )
        command = [sys.executable, "-c", program, url]
        several = [
            subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for n in range(4)
        ]
        for process in several:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        assert sorted(process.communicate(timeout=60)[0].strip() for process in several) == ["1", "1", "1", "2"]
        assert len(opened().claim(STRAIGHT, files=10, size=1000, seconds=LEASE)) == 5

    def test_all_admit_the_same_names(self, opened: Opened) -> None:
        """Each in another order, new ones and, then, changed ones: every name is admitted once."""
        names = [f"{n:03}" for n in range(150)]
        for mtime in (1, 2):
            files = [arrival(name, mtime_ns=mtime) for name in names]
            told = together(opened, partial(_admit_from, files))
            assert sum(each.admitted for each in told) == (150 if mtime == 1 else 0)
            assert sum(each.refreshed for each in told) == (0 if mtime == 1 else 150)
        ledger = opened()
        assert {len(ledger.find(name)) for name in names} == {1}
        assert len(ledger.copies(after=0, limit=1000, state=State.WAITING)) == 300

    def test_no_file_is_handed_out_twice(self, opened: Opened) -> None:
        opened().admit([arrival(f"{n:03}") for n in range(300)], ONE)

        def work(ledger: SqlLedger, _n: int) -> list[tuple[int, int]]:
            mine = []
            while ledger.next_wake(STRAIGHT) == 0:
                works = ledger.claim(STRAIGHT, files=7, size=10**6, seconds=LEASE)
                mine += [(w.id, len(works)) for w in ledger.settle({w: Delivered(receipt_for(w)) for w in works})]
            return mine

        told = [pair for mine in together(opened, work) for pair in mine]
        assert len({number for number, _ in told}) == len(told) == 300

    def test_a_batch_knows_how_many_it_got(self, opened: Opened) -> None:
        """Where another took some of the same candidates, what counts for a death in company is what was taken."""
        opened().admit([arrival(f"{n:03}") for n in range(60)], ONE)
        told = together(opened, lambda ledger, _n: ledger.claim(STRAIGHT, files=25, size=10**6, seconds=LEASE))
        sizes = {works[0].token: len(works) for works in told if works}
        with opened()._database.reading() as connection:
            rows = connection.execute(sa.select(schema.transfers.c.token, schema.transfers.c.batch)).all()
        assert {row.token: row.batch for row in rows if row.token} == sizes

    def test_whoever_locks_crosswise_is_run_again(self, opened: Opened) -> None:
        ledgers = [opened(), opened()]
        meeting = threading.Barrier(2)
        for name in "ab":
            ledgers[0].note_place(name, "0")
        tries = []

        @database.whole
        def cross(base: database.Database, order: str) -> None:
            tries.append(order)
            with base.writing() as connection:
                for name in order:
                    change = sa.update(schema.places).where(schema.places.c.name == name)
                    connection.execute(change.values(well=order == "ab"))
                    if name == order[0] and tries.count(order) == 1:
                        meeting.wait(30)  # both hold their first row, and want the other's

        pair = zip(ledgers, ("ab", "ba"), strict=True)
        threads = [threading.Thread(target=cross, args=(ledger._database, order)) for ledger, order in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert 3 <= len(tries) <= 6  # whoever is run again may meet the other once more
        assert sorted(set(tries)) == ["ab", "ba"]
        assert not any(thread.is_alive() for thread in threads)

    def test_a_client_that_freezes_in_a_transaction_does_not_stop_the_others(
        self, url: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(servers, "IDLE_S", 1)
        frozen = opened()
        frozen.admit([arrival("a")], ONE)
        (work,) = frozen.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
        connection = frozen._database.engine.connect()
        connection.execute(sa.update(schema.transfers).values(rank=7))
        assert opened(BEN).settle({work: Delivered(receipt_for(work))}) == {work}
        connection.invalidate()
        connection.close()


def _admit_from(files: list[Arrival], ledger: SqlLedger, n: int) -> Admission:
    return ledger.admit(files[n * 37 :] + files[: n * 37], CHAIN)


def together(opened: Opened, act: Callable[[SqlLedger, int], Any]) -> list[Any]:
    """What four hosts say that do the same at the same moment."""
    ledgers = [opened(Worker(f"host{n}", "boot", "ns", 1, 1)) for n in range(4)]
    meeting, told = threading.Barrier(4), []

    def run(n: int) -> None:
        meeting.wait(30)
        told.append(act(ledgers[n], n))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(told) == 4
    return told
