"""The image door's tables in SQL: all or nothing, several processes at once, a ledger that is away, and the indexes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import sqlalchemy as sa
from tests.servers import EmptyLedger, Server

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, board, frames, mail, open_ledger, schema, sqlite, talks
from skystow.adapters.memory import ManualClock
from skystow.errors import LedgerUnusable, PlaceFault, SchemaMismatch, Unreachable
from skystow.model.acts import Bury, Mark, Milestone, Note, Say
from skystow.model.records import DeadLetter, Worker
from skystow.testing.catalogue_contract import frame
from skystow.testing.ledger_kit import ANNA, BEN
from skystow.testing.talks_contract import END, FIRST, OTHER, START, STARTED, said


@pytest.fixture(params=["sqlite", "mariadb", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    empty: EmptyLedger = request.getfixturevalue(f"{request.param}_ledger")
    return empty()


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    with closing(opened(url)) as ledger:
        yield ledger


def opened(url: str, worker: Worker = ANNA) -> SqlLedger:
    return open_ledger(url, worker=worker, clock=SystemClock())


@contextmanager
def dying(ledger: SqlLedger, after: int) -> Iterator[None]:
    """Killed before the statement that comes after so many that write."""
    left = after

    def die(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal left
        if statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
            left -= 1
            if left < 0:
                raise InterruptedError("killed")

    sa.event.listen(ledger._database.engine, "before_cursor_execute", die)
    try:
        yield
    finally:
        sa.event.remove(ledger._database.engine, "before_cursor_execute", die)


def rows(ledger: SqlLedger, *tables: sa.Table) -> list[int]:
    with ledger._database.reading() as connection:
        return [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in tables]


class TestAtomic:
    def test_all_of_a_transaction_or_nothing(self, ledger: SqlLedger) -> None:
        tables = (schema.talks, schema.steps, schema.parcels, schema.milestones, schema.dead_letters, schema.kept)

        def converse() -> None:
            ledger.talks.converse(
                "archiver",
                notes=[Note(START), Note(END, closes=True), Note(OTHER)],
                says=[Say("controller", START)],
                marks=[STARTED],
                buries=[Bury(DeadLetter("archiver", b"k", "no such image"))],
                keep={"jobnum": "1"},
            )

        survived = 0
        while True:
            try:
                with dying(ledger, after=survived):
                    converse()
                break
            except InterruptedError:
                survived += 1
            assert rows(ledger, *tables) == [0, 0, 0, 0, 0, 0]
        assert survived == 7  # one for each table, and one that closes
        assert rows(ledger, *tables) == [2, 3, 1, 1, 1, 1]
        converse()  # its answer was lost: what is known stays as it is, what is said is said again
        assert rows(ledger, *tables) == [2, 3, 2, 1, 1, 1]
        assert said(ledger) == [OTHER]

    def test_what_cannot_be_read_is_set_aside_with_its_letter_or_not_at_all(self, ledger: SqlLedger) -> None:
        ledger.bus.put("controller", "FromTheFuture", "{}")
        with pytest.raises(InterruptedError), dying(ledger, after=1):
            ledger.bus.receive("controller", limit=9)
        assert rows(ledger, schema.dead_letters) == [0]
        assert ledger.bus.receive("controller", limit=9) == []
        assert rows(ledger, schema.dead_letters, schema.parcels) == [1, 1]

    def test_half_a_conflict_registers_nothing(self, ledger: SqlLedger) -> None:
        with pytest.raises(InterruptedError), dying(ledger, after=0):
            ledger.catalogue.register([frame(1)])
        assert ledger.catalogue.register([frame(1)]) == 1

    def test_a_step_of_a_later_skystow_is_not_passed_over(self, ledger: SqlLedger) -> None:
        ledger.talks.converse("archiver", notes=[Note(START)])
        with ledger._database.writing() as connection:
            connection.execute(sa.update(schema.steps).values(kind="FromTheFuture"))
        with pytest.raises(SchemaMismatch, match="newer skystow"):
            ledger.talks.steps("archiver")


class TestHousekeeping:
    """What is hot stays small."""

    def test_accepted_messages_and_expired_keys_leave_no_row(self, ledger: SqlLedger) -> None:
        for _ in range(3):
            ledger.bus.publish([Say("controller", START)] * 50)
            ledger.bus.accept(ledger.bus.receive("controller", limit=50))
            ledger.board.register("f1", "forwarder/f1", "")
            ledger.board.pop()
        ledger.board.beat("f1", "", 0.001)
        time.sleep(0.01)  # the database's own clock
        assert not ledger.board.alive("f1")
        assert rows(ledger, schema.parcels, schema.board) == [0, 0]
        for n in range(3):
            ledger.board.beat(f"nobody looks at {n}", "", 0.001)
            time.sleep(0.01)
        assert rows(ledger, schema.board) == [1]

    def test_looking_writes_nothing(self, ledger: SqlLedger) -> None:
        ledger.board.beat("f1", "", 60)
        with dying(ledger, after=0):
            assert ledger.bus.receive("controller", limit=9) == []
            assert ledger.board.alive("f1")
            assert not ledger.board.alive("f2")
            assert ledger.board.pop() is None
            ledger.talks.converse("archiver")
            assert said(ledger) == []


class TestClock:
    def test_times_are_the_servers(self, server: Server) -> None:
        """Whatever the hosts' clocks say: 1999 here, 2071 there."""
        url = server.ledger_url()
        with (
            closing(open_ledger(url, worker=ANNA, clock=ManualClock(datetime(1999, 1, 1, tzinfo=UTC)))) as early,
            closing(open_ledger(url, worker=BEN, clock=ManualClock(datetime(2071, 1, 1, tzinfo=UTC)))) as late,
        ):
            early.board.beat("f1", "", 60)
            assert late.board.alive("f1")
            late.talks.converse("archiver", notes=[Note(START)], marks=[STARTED])
            late.catalogue.register([frame(1)])
            ((_, found),) = early.catalogue.find()
            told = [early.talks.steps("archiver")[0][0], early.talks.lines(obsid=FIRST)[0].at, found.ingested_at]
        now = datetime.now(UTC)
        assert all(at is not None and abs(at - now) < timedelta(minutes=5) for at in told)


PROGRAM = """
import sys
from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger
from skystow.model.acts import Mark, Milestone, Note, Say
from skystow.model.messages import StartIntegration
from skystow.model.records import Worker
from skystow.testing.catalogue_contract import frame
ledger = open_ledger(sys.argv[1], worker=Worker("h" + sys.argv[2], "b", "p", 1, 1), clock=SystemClock())
print("ready", flush=True)
sys.stdin.read()
while (taken := ledger.board.pop()) is not None:
    print(taken[0])
for n in range(20):
    obsid = f"CC_O_20210304_{n:06}"
    ledger.talks.converse(
        "archiver",
        notes=[Note(StartIntegration(obsid))],
        says=[Say("controller", StartIntegration(obsid, image_index=int(sys.argv[2])))],
        marks=[Mark(obsid, Milestone.STARTED)],
    )
    ledger.talks.keep("archiver", {"jobnum": str(n)})
    ledger.board.beat("archiver", "", 60)
    ledger.catalogue.register([frame(n), frame(n + 1)])
"""


class TestTogether:
    def test_two_processes_pop_and_write_at_once(self, url: str, ledger: SqlLedger) -> None:
        names = [f"f{n:02}" for n in range(40)]
        for name in names:
            ledger.board.register(name, f"forwarder/{name}", name)
        command = [sys.executable, "-c", PROGRAM, url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        both: list[subprocess.Popen[str]] = [subprocess.Popen([*command, str(n)], **pipes) for n in range(2)]  # type: ignore[call-overload]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        taken = [process.communicate("", timeout=60)[0].split() for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert sorted(taken[0] + taken[1]) == names
        assert all(mine == sorted(mine) for mine in taken)
        assert rows(ledger, schema.talks, schema.steps, schema.milestones, schema.frames) == [20, 20, 20, 21]
        assert ledger.talks.kept("archiver") == {"jobnum": "19"}
        messages = [delivery.message for delivery in ledger.bus.receive("controller", limit=99)]
        for sender in range(2):
            from_one = [message.key for message in messages if getattr(message, "image_index", None) == sender]
            assert from_one == [f"CC_O_20210304_{n:06}" for n in range(20)]


WRITERS = 11
"""So many of `calls` write, the others only read."""


def calls(ledger: SqlLedger) -> dict[str, Callable[[], object]]:
    return {
        "converse": lambda: ledger.talks.converse("a", notes=[Note(START)]),
        "mark": lambda: ledger.talks.converse("a", marks=[Mark(FIRST, Milestone.SENT)]),
        "keep": lambda: ledger.talks.keep("a", {"state": "ENABLED"}),
        "publish": lambda: ledger.bus.publish([Say("controller", START)]),
        "accept": lambda: ledger.bus.accept(ledger.bus.receive("controller", limit=1)),
        "register": lambda: ledger.board.register("f2", "forwarder/f2", ""),
        "pop": ledger.board.pop,
        "beat": lambda: ledger.board.beat("f1", "", 60),
        "forget": lambda: ledger.board.forget("f1"),
        "catalogue": lambda: ledger.catalogue.register([frame(2)]),
        "expired": lambda: ledger.catalogue.expired([1], "old"),
        "steps": lambda: ledger.talks.steps("a"),
        "kept": lambda: ledger.talks.kept("a"),
        "lines": lambda: ledger.talks.lines(obsid=FIRST),
        "days": ledger.talks.days,
        "receive": lambda: ledger.bus.receive("controller", limit=1),
        "alive": lambda: ledger.board.alive("f1"),
        "find": lambda: ledger.catalogue.find(path=PurePosixPath("/oods/a")),
        "expirable": lambda: ledger.catalogue.expirable(older_than=0, after=0, limit=1),
    }


class TestAway:
    def test_a_server_that_is_gone_is_the_places_fault(self, server: Server) -> None:
        with closing(opened(server.ledger_url())) as ledger:
            ledger.bus.publish([Say("controller", START)])
            ledger.board.register("f1", "forwarder/f1", "")
            server.kill()
            try:
                for name, call in calls(ledger).items():
                    with pytest.raises(Unreachable) as caught:
                        call()
                    assert caught.value.place == "ledger", name
            finally:
                server.start()
            for call in calls(ledger).values():
                call()
            assert said(ledger, "a") == [START]

    def test_a_file_that_is_locked_stops_writers_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
        url = f"sqlite:///{tmp_path}/ledger.db"
        with closing(opened(url)) as ledger, closing(opened(url)) as other:
            ledger.bus.publish([Say("controller", START)])
            ledger.board.register("f1", "forwarder/f1", "")
            locked, done = threading.Event(), threading.Event()

            def hold() -> None:
                with other._database.writing():
                    locked.set()
                    done.wait(30)

            holder = threading.Thread(target=hold)
            holder.start()
            assert locked.wait(30)
            try:
                writers, readers = list(calls(ledger).values())[:WRITERS], list(calls(ledger).values())[WRITERS:]
                for call in writers:
                    with pytest.raises(PlaceFault) as caught:
                        call()
                    assert caught.value.place == "ledger"
                for call in readers:
                    call()
            finally:
                done.set()
                holder.join(30)

    def test_a_damaged_file_is_said_to_be(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.db"
        with closing(opened(f"sqlite:///{path}")) as ledger:
            ledger.bus.publish([Say("controller", START)])
            with ledger._database.reading() as connection:
                page = "SELECT rootpage FROM sqlite_master WHERE name='parcels'"
                root = connection.exec_driver_sql(page).scalar_one()
                size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        with path.open("r+b") as file:
            file.seek((root - 1) * size)
            file.write(b"\xff" * size)
        with closing(opened(f"sqlite:///{path}")) as again, pytest.raises(LedgerUnusable, match="damaged"):
            again.bus.receive("controller", limit=9)


HOT = {
    "mail.WAITING": (mail.WAITING, "ix_parcels_address (address_hash=? AND unreadable=?)"),
    "talks.DAY_BEFORE": (talks.DAY_BEFORE, "ix_milestones_day (day_obs<?)"),
    "talks.OF_DAY": (talks.OF_DAY, "ix_milestones_day (day_obs=?)"),
    "talks.OF_OBSID": (talks.OF_OBSID, "ix_milestones_obsid (obsid_hash=?)"),
    "board.ALIVE": (board.ALIVE, "(hash=?)"),
    "board.FIRST": (board.FIRST, "ix_board_expiry (expires_at=?)"),
    "board.EXPIRED": (board.EXPIRED, "ix_board_expiry (expires_at"),
    "frames.EXPIRABLE": (frames.EXPIRABLE, "ix_frames_expirable (expired_at=? AND ingested_at>? AND ingested_at<?)"),
}


class TestPlans:
    """What is asked all the time walks an index: neither what was accepted nor what was closed is read."""

    @pytest.mark.parametrize("name", HOT)
    def test_the_index_is_used(self, tmp_path: Path, name: str) -> None:
        statement, index = HOT[name]
        (line, *more) = self.plan(tmp_path, statement)
        assert line.startswith("SEARCH")
        assert index in line
        assert more == []

    @pytest.mark.parametrize(
        "statement", [talks.TALKS, talks.KNOWN_STEPS, talks.KNOWN_MARKS, talks.DAYS_OF, frames.KNOWN]
    )
    def test_hashes_are_looked_up(self, tmp_path: Path, statement: Any) -> None:
        first, *rest = self.plan(tmp_path, statement)
        assert re.match(r"SEARCH \w+ USING (COVERING )?INDEX \w+ \((obsid_|path_)?hash=\?\)", first)
        assert not [line for line in rest if re.match("SCAN (?!pieces|CONSTANT)", line)]

    def test_only_open_conversations_are_replayed(self, tmp_path: Path) -> None:
        outer, inner, *order = self.plan(tmp_path, talks.OPEN_STEPS)
        assert "ix_talks_open (component=? AND closed_at=?)" in outer
        assert "ix_steps_talk (talk_id=?)" in inner
        assert order == ["USE TEMP B-TREE FOR ORDER BY"]  # of what is open alone

    def plan(self, tmp_path: Path, statement: Any) -> list[str]:
        with closing(opened(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
            database = ledger._database
            text = str(statement.compile(dialect=database.engine.dialect))
            with database.reading() as connection:
                found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (b"",) * text.count("?"))
                return [row.detail for row in found]
