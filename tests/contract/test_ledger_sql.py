"""What only the SQL ledger must do: schema, its file, trouble, and the index behind its claims."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.contract.sqlite_kit import ledger as ledger
from tests.contract.sqlite_kit import opened, raw, refusal
from tests.contract.sqlite_kit import path as path

from skystow.adapters.ledger import (
    SqlLedger,
    events,
    frames,
    inquiry,
    intake,
    letters,
    mail,
    queue,
    repair,
    schema,
    sqlite,
    talks,
    upgrade,
    verdicts,
)
from skystow.adapters.ledger.database import Database, connect
from skystow.adapters.ledger.open import MIGRATIONS, migrate
from skystow.adapters.ledger.values import storable
from skystow.adapters.memory import ManualClock
from skystow.errors import NoSpace, SchemaMismatch, Unreachable
from skystow.model.records import Fingerprint
from skystow.model.transfer import Delivered, State
from skystow.testing.ledger_kit import ANNA, BEN, CHAIN, HANDOFF, LEASE, ONE, STRAIGHT, arrival, receipt_for


def described(path: Path) -> dict[str, Any]:
    """Each table with its columns, by name (a later migration adds them at the end), its indexes and its version."""
    with closing(sqlite3.connect(path)) as one:
        names = [name for (name,) in one.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables: dict[str, Any] = {}
        for name in names:
            columns = sorted(row[1:] for row in one.execute(f"PRAGMA table_info({name})"))
            indexes = {
                tuple(column for _, _, column in one.execute(f"PRAGMA index_info('{index}')")): (unique, origin)
                for _, index, unique, origin, _ in one.execute(f"PRAGMA index_list({name})")
            }
            keys = sorted(row[2:] for row in one.execute(f"PRAGMA foreign_key_list({name})"))
            tables[name] = (columns, indexes, keys)
        pragmas = [one.execute(f"PRAGMA {word}").fetchone() for word in ("application_id", "journal_mode")]
        return tables | {"version": one.execute("SELECT * FROM alembic_version").fetchall(), "pragmas": pragmas}


OF_0001 = (
    "INSERT INTO files (id, key, path_hash, archive, path) VALUES (1, x'00', 1, 'main', x'61')",
    "INSERT INTO arrivals (id, name_key, version, source, key, origin, origin_hash, file_id, priority, rank, attempts, "
    "admitted_at) VALUES (1, x'00', 1, 'camera', x'61', x'61', 1, 1, 0, 0, 0, 1)",
    "INSERT INTO transfers (id, arrival_id, file_id, source, destination, required, owned, state, wake_at, abandoned, "
    "neg_priority, rank, attempts, cap, alone, batch) VALUES (1, 1, 1, 'camera', 'archive', 1, 1, 1, 0, 0, 0, 0, 0, 0, "
    "0, 0)",
    "INSERT INTO notices (id, at, kind, transfer_id, text) VALUES (1, 1, 'delivered', 1, '')",
)
"""One file that was delivered, and nobody was told."""


class TestSchema:
    def test_migrations_make_exactly_these_tables(self, path: Path) -> None:
        base = connect(f"sqlite:///{path}", ManualClock())
        migrate(base)
        with base.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, schema.metadata) == []
        base.close()

    def test_a_new_ledger_is_what_the_migrations_make(self, ledger: SqlLedger, path: Path, tmp_path: Path) -> None:
        base = connect(f"sqlite:///{tmp_path / 'migrated.db'}", ManualClock())
        migrate(base)
        base.close()
        assert described(path) == described(tmp_path / "migrated.db")

    def test_head_is_the_last_migration(self) -> None:
        assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == schema.HEAD

    @pytest.mark.parametrize(
        "dialect", [sa.make_url(f"{name}://").get_dialect()() for name in ("mysql", "postgresql")], ids=lambda d: d.name
    )
    def test_servers_have_words_for_it(self, dialect: sa.Dialect) -> None:
        for table in schema.metadata.sorted_tables:
            assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
        for statement in (queue.ANYTHING, queue.CANDIDATES, queue.EXPIRED, queue.WAKE, queue.NEXT):
            assert "transfers" in str(statement.compile(dialect=dialect))

    def test_lists_of_values_are_looked_up_and_never_searched_for(self, ledger: SqlLedger, path: Path) -> None:
        """Whatever was archived before: no statement on a list of rows walks through a table. (Claims of the dead are
        looked for among all claims.)"""
        engine, plans = sqlite.make_engine(os.fsencode(path)), dict[str, str]()
        with engine.connect() as connection:
            for module in (events, frames, intake, letters, mail, queue, repair, talks, verdicts):
                for name, statement in vars(module).items():
                    if isinstance(statement, sa.Select | sa.Update | sa.Insert | sa.Delete) and name != "_OF_DEAD":
                        compiled = statement.compile(dialect=engine.dialect)
                        if re.search("json_each|pieces", str(compiled)):
                            nothing = (None,) * len(getattr(compiled, "positiontup", None) or ())
                            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", nothing).all()
                            plans[f"{module.__name__}.{name}"] = "\n".join(row[3] for row in rows)
        engine.dispose()
        assert len(plans) >= 15
        assert {name: plan for name, plan in plans.items() if re.search(r"SCAN (?!json_each|pieces|CONST)", plan)} == {}

    def test_upgrade_of_what_is_current_changes_nothing(self, ledger: SqlLedger, path: Path) -> None:
        ledger.admit([arrival("a")], ONE)
        assert upgrade(f"sqlite:///{path}", clock=ManualClock()) == (schema.HEAD, schema.HEAD)
        assert len(ledger.find("a")) == 1

    def test_an_older_one_is_brought_up_with_all_that_is_in_it(self, path: Path) -> None:
        base = connect(f"sqlite:///{path}", ManualClock())
        migrate(base, "0001")
        base.close()
        raw(path, "INSERT INTO places (name, root) VALUES ('archive', x'2f737276')")
        assert "skystow ledger upgrade" in str(refusal(path))
        assert upgrade(f"sqlite:///{path}", clock=ManualClock()) == ("0001", schema.HEAD)
        with closing(opened(path)) as ledger:
            assert ledger.places() == {"archive": "/srv"}
            assert ledger.admit([arrival("a")], ONE).admitted == 1

    def test_upgrade_of_an_empty_one_makes_it(self, path: Path) -> None:
        assert upgrade(f"sqlite:///{path}", clock=ManualClock()) == (None, schema.HEAD)
        opened(path).close()

    def test_a_ledger_of_the_first_schema_keeps_its_notices(self, path: Path) -> None:
        engine = sqlite.make_engine(os.fsencode(path))
        with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            sqlite.sign(connection)
            for statement in OF_0001:
                connection.exec_driver_sql(statement)
        engine.dispose()
        with pytest.raises(SchemaMismatch, match="has schema 0001"):
            opened(path)
        assert upgrade(f"sqlite:///{path}", clock=ManualClock()) == ("0001", schema.HEAD)
        with closing(opened(path)) as ledger:
            assert [notice.kind for notice in ledger.notices(limit=9)] == ["delivered"]
            assert len(ledger.identity()) == 32


class TestFile:
    def test_its_settings(self, ledger: SqlLedger, path: Path) -> None:
        def pragma(name: str) -> object:
            with ledger._database.reading() as connection:
                return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert [pragma(p) for p in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]
        assert pragma("busy_timeout") == 30_000
        assert pragma("application_id") == int.from_bytes(b"SKYS", "big")

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o007, 0o660), (0o077, 0o600)])
    def test_its_mode_heeds_the_umask(self, path: Path, umask: int, mode: int) -> None:
        before = os.umask(umask)
        try:
            with closing(opened(path)) as ledger:
                ledger.admit([arrival("a")], ONE)
                modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        finally:
            os.umask(before)
        assert modes == {mode}

    @pytest.mark.parametrize("name", ["a b?c=d#e%20.db", "l'o\"g.db", os.fsdecode(b"caf\xe9.db")])
    def test_any_name_will_do(self, tmp_path: Path, name: str) -> None:
        opened(f"{tmp_path}/{name}").close()
        assert os.fsencode(name) in os.listdir(os.fsencode(tmp_path))

    def test_reopening_keeps_everything(self, path: Path) -> None:
        clock = ManualClock()
        with closing(opened(path, clock)) as ledger:
            ledger.admit([arrival("a"), arrival("b")], CHAIN)
            first, second = ledger.claim(STRAIGHT, files=2, size=100, seconds=LEASE)
            ledger.settle({first: Delivered(receipt_for(first))})
            ledger.promise({second: receipt_for(second)}, seconds=LEASE)
            ledger.note_place("archive", "/srv/archive")
            dossiers, notices, counts = [ledger.dossier(n) for n in (1, 2)], ledger.notices(limit=9), ledger.counts()
        with closing(opened(path, clock)) as again:
            assert [again.dossier(n) for n in (1, 2)] == dossiers
            assert (again.notices(limit=9), again.counts()) == (notices, counts)
            assert again.places() == {"archive": "/srv/archive"}
            assert again.settle({second: Delivered(receipt_for(second))}) == {second}
            assert len(again.claim(HANDOFF, files=9, size=100, seconds=LEASE)) == 2

    def test_windows_leave_no_trace(self, ledger: SqlLedger) -> None:
        ledger.counts()
        ledger.find("a")
        ledger.next_wake(STRAIGHT)
        with ledger._database.reading() as connection:
            assert connection.execute(sa.select(schema.workers)).all() == []

    def test_many_processes_create_it_at_once(self, path: Path) -> None:
        program = (
            "import sys; from skystow.adapters.ledger import open_ledger; from skystow.testing.ledger_kit import *\n"
            "from skystow.adapters.clock import SystemClock; sys.stdin.read()\n"
            "me = Worker('h', 'b', 'p', int(sys.argv[2]), 1)\n"
            "ledger = open_ledger(sys.argv[1], worker=me, clock=SystemClock())\n"
            "print(ledger.admit([arrival('mine' + sys.argv[2]), arrival('ours')], ONE).admitted)\n"
        )
        command = [sys.executable, "-c", program, f"sqlite:///{path}"]
        several = [
            subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for n in range(4)
        ]
        for process in several:  # all are waiting by now, or start within a few milliseconds of each other
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        assert sorted(process.communicate(timeout=60)[0].strip() for process in several) == ["1", "1", "1", "2"]
        with closing(opened(path)) as ledger:
            assert len(ledger.claim(STRAIGHT, files=10, size=1000, seconds=LEASE)) == 5

    def test_threads_share_it(self, ledger: SqlLedger) -> None:
        ledger.admit([arrival(f"{n:03}") for n in range(200)], ONE)
        taken: list[int] = []

        def work() -> None:
            while works := ledger.claim(STRAIGHT, files=7, size=10**6, seconds=LEASE):
                taken.extend(w.id for w in ledger.settle({w: Delivered(receipt_for(w)) for w in works}))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(taken) == list(range(1, 201))


class TestTrouble:
    def test_full(self, ledger: SqlLedger) -> None:
        with ledger._database.writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")
        with pytest.raises(NoSpace) as caught:
            ledger.admit([arrival(f"{n}") for n in range(1000)], ONE)
        assert caught.value.place == "ledger"
        assert ledger.find("1") == []
        with ledger._database.writing() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=100000")
        assert ledger.admit([arrival(f"{n}") for n in range(1000)], ONE).admitted == 1000

    def test_locked_for_too_long(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
        with closing(opened(path)) as ledger, closing(sqlite3.connect(path)) as other:
            ledger.admit([arrival("a")], ONE)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unreachable) as caught:
                ledger.admit([arrival("b")], ONE)
            assert caught.value.place == "ledger"
            assert ledger.admit([arrival("a")], ONE).known == {State.WAITING: 1}  # readers do not wait
            assert ledger.claim(HANDOFF, files=1, size=1, seconds=1) == []
            other.rollback()
            assert ledger.admit([arrival("b")], ONE).admitted == 1

    def test_numbers_that_no_column_holds_count_as_unknown(self, ledger: SqlLedger) -> None:
        odd = arrival("a", fingerprint=Fingerprint(5, 2**64, 2**63, -(2**70)), rank=2**64)
        assert storable(odd.fingerprint) == Fingerprint(5)
        assert ledger.admit([odd], ONE).admitted == 1
        assert ledger.admit([odd], ONE).known == {State.WAITING: 1}
        assert ledger.claim(STRAIGHT, files=1, size=9, seconds=LEASE)[0].fingerprint == Fingerprint(5)

    def test_reclaim_knows_the_dead_of_an_earlier_process(self, path: Path) -> None:
        with closing(opened(path)) as ledger:
            ledger.admit([arrival("a")], ONE)
            (lost,) = ledger.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
        with closing(opened(path, worker=BEN)) as again:
            assert again.reclaim(lambda worker: None) == 0
            assert again.reclaim(lambda worker: worker != ANNA) == 1
            assert again.live_tokens() == set()
            (work,) = again.claim(STRAIGHT, files=1, size=99, seconds=LEASE)
            assert (work.id, work.attempts) == (lost.id, 0)
            assert again.settle({lost: Delivered(receipt_for(lost))}) == set()


class TestPlans:
    """The claim's queries walk the queue's index: nothing that is DONE is read, nothing is sorted."""

    @pytest.mark.parametrize("name", ["ANYTHING", "CANDIDATES", "EXPIRED", "WAKE", "NEXT"])
    def test_the_index_is_used(self, ledger: SqlLedger, name: str) -> None:
        plan = self.plan(ledger._database, getattr(queue, name))
        assert (searched := [line for line in plan if "transfers" in line])
        assert all("ix_transfers_queue (source=? AND destination=? AND state=?" in line for line in searched)
        assert not any("SCAN" in line or "TEMP B-TREE" in line for line in plan), plan

    @pytest.mark.parametrize("name", ["NEWS", "LEFT", "OLDEST_OF"])
    def test_a_tally_reads_no_more_than_there_is_news(self, ledger: SqlLedger, name: str) -> None:
        plan = self.plan(ledger._database, getattr(inquiry, name))
        assert (searched := [line for line in plan if "transfers" in line])
        assert all("ix_transfers_queue (source=? AND destination=? AND state=?" in line for line in searched)

    def plan(self, database: Database, statement: sa.Executable) -> list[str]:
        assert isinstance(statement, sa.ClauseElement)
        compiled = statement.compile(dialect=database.engine.dialect)
        named = {**compiled.params, "whence": "camera", "whither": "archive", "now": 1, "most": 10}
        named |= {"from": "camera", "to": "archive", "since": 1}
        names: list[str] = vars(compiled)["positiontup"]
        ordered = tuple(0 if isinstance(named[key], State) else named[key] for key in names)
        with database.reading() as connection:
            return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", ordered)]
