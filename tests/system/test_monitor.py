"""The monitor without OCS: real datagrams on loopback, a real spool, a real table."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from skystow.adapters.datagrams import BUFFER, UdpDatagrams
from skystow.adapters.pysmurf_files import FilesTable
from skystow.adapters.pysmurf_files.registrar import PysmurfFilesRegistrar
from skystow.adapters.spool import SqliteSpool
from skystow.adapters.tree import LocalTree
from skystow.errors import ConfigError, OperatorFault, Unreachable
from skystow.model.datagram import Reading, Registration, Session
from skystow.model.records import Digest
from skystow.model.sequence import Sequence
from skystow.ports import Stop
from skystow.ports.monitor import Entry
from skystow.service.halt import Halt
from skystow.service.monitor import Monitor, Rules
from skystow.service.proving import Fresh, prove
from tests.publisher import Publisher
from tests.servers import free_port
from tests.system.cli_kit import until


@dataclass
class Bench:
    """`here` has `data` (the root), `spool` and `table.db`."""

    here: Path
    told: list[str] = field(default_factory=list)
    news: list[Reading | Session] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    create: bool = True
    buffer: int = BUFFER
    before: Callable[[], None] = lambda: None
    """Called when the port is open, and nobody listens yet."""
    halted: bool = False
    """It is to end as soon as it begins."""

    @property
    def data(self) -> Path:
        return self.here / "data"

    def write(self, name: str, content: bytes = b"starlight") -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def registrar(self) -> PysmurfFilesRegistrar:
        table = FilesTable(f"sqlite:///{self.here}/table.db", "v1", place="table")
        return PysmurfFilesRegistrar(table, target="monitor", site="observatory", version="skystow", create=self.create)

    @contextmanager
    def monitor(self, wrap: Callable[[Any], Any] = lambda registrar: registrar, **rules: Any) -> Iterator[Monitor]:
        """At work, until the block is left; everything is closed as after a crash or in order."""
        halt = Halt()
        with ExitStack() as stack:
            registrar = wrap(stack.enter_context(closing(self.registrar())))
            spool = stack.enter_context(closing(SqliteSpool(str(self.here / "spool"))))
            datagrams = stack.enter_context(closing(UdpDatagrams("127.0.0.1", self.port, buffer=self.buffer)))
            self.before()
            roots = {PurePosixPath(self.data): LocalTree(str(self.data), place="data")}
            made = Monitor(
                datagrams,
                spool,
                registrar,
                Rules(roots, **{"settle": 0.0} | rules),
                publish=self.news.append,
                tell=self.told.append,
            )
            thread = threading.Thread(target=made.run, args=(halt, lambda _: None))
            if self.halted:
                halt.set()
            thread.start()
            try:
                yield made
            finally:
                halt.set()
                thread.join(30)
                assert not thread.is_alive()

    def rows(self, query: str = "SELECT path FROM pysmurf_files_v1 ORDER BY id") -> list[Any]:
        if not (self.here / "table.db").exists():
            return []
        with closing(sqlite3.connect(self.here / "table.db", timeout=30)) as session:
            try:
                found = session.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []
        return [row[0] if len(row) == 1 else row for row in found]

    def registered(self, count: int) -> None:
        until(lambda: len(self.rows()) >= count)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.data.mkdir()
    return made


def test_a_row_says_what_the_datagram_and_the_file_say(bench: Bench) -> None:
    path = bench.write("1564799250/outputs/1564799250_b1.txt")
    g3 = bench.write("15647/ufm/1_000.g3", b"frames")
    with bench.monitor():
        Publisher(bench.port).register(path, plot=True)
        Publisher(bench.port, id="STREAMER:ufm").publish("g3_file", {"path": str(g3), "archive_name": "timestreams"})
        bench.registered(2)
    names = "path, action, timestamp, action_timestamp, format, plot, site, pub_id, script_id, instance_id, copied"
    query = f"SELECT {names}, failed_copy_attempts, pysmurf_version, socs_version FROM pysmurf_files_v1 ORDER BY id"  # noqa: S608
    first, second = bench.rows(query)
    assert first[:2] == (str(path), "tune_band")
    assert first[2].startswith("2019-08-03 02:27:30")
    assert first[3:] == (
        *(1564799249, "txt", 1, "observatory", "crate1slot2", "tune.py", "monitor"),
        *(0, 0, "7.1", "skystow"),
    )
    assert (second[0], second[1], second[4], second[7]) == (str(g3), "timestreams", "g3", "STREAMER:ufm")
    md5s = [hashlib.md5(content, usedforsecurity=False).digest() for content in (b"starlight", b"frames")]
    assert bench.rows("SELECT md5sum FROM pysmurf_files_v1 ORDER BY id") == md5s
    assert bench.rows("SELECT id, size, deletable FROM skystow_pysmurf_extra ORDER BY id") == [(1, 9, 1), (2, 6, 1)]


def test_numpys_suffix_and_files_that_come_late(bench: Bench) -> None:
    late = bench.data / "1/late.txt"
    array = bench.write("1/array.npy")
    with bench.monitor() as monitor:
        speaker = Publisher(bench.port)
        speaker.register(late)
        speaker.register(bench.data / "1/array", format="npy")
        bench.registered(1)
        until(lambda: monitor.spool.census().fileless == 1)
        bench.write("1/late.txt")
        bench.registered(2)
    assert bench.rows() == [str(array), str(late)]


def test_what_is_not_ours_is_counted_and_told_once_a_minute(bench: Bench) -> None:
    path = bench.write("1/a.txt")
    secret = bench.here / "secret"
    secret.write_text("x")
    (bench.data / "1/link.txt").symlink_to(secret)
    with bench.monitor() as monitor:
        speaker = Publisher(bench.port)
        for _ in range(20):
            speaker.register("/etc/passwd")
            speaker.register(f"{bench.data}/../secret")
            speaker.raw(b'{"type": "data_file", "payload"')
        for count, large in ((61, b"x" * 65_000), (62, b"[" * 60_000)):  # a small buffer does not hold both
            until(partial(_malformed, monitor, count - 1))
            speaker.raw(large)
            until(partial(_malformed, monitor, count))
        speaker.publish("data_file", {"path": None, "timestamp": "never"})
        speaker.register(bench.data / "1/link.txt")
        speaker.register(path)
        bench.registered(1)
        until(lambda: monitor.counts["malformed"] == 63)
        until(lambda: monitor.spool.census().fileless == 1)
    assert bench.rows() == [str(path)]
    assert len(bench.told) == 2, "one of the sender, one of nobody"


def _malformed(monitor: Monitor, count: int) -> bool:
    return monitor.counts["malformed"] == count


def test_gaps_of_each_sender(bench: Bench) -> None:
    with bench.monitor() as monitor:
        one, other = Publisher(bench.port), Publisher(bench.port, id="crate1slot3")
        for speaker in (one, other):
            speaker.publish("log", {"message": "up"})
        one.number += 5
        one.publish("log", {"message": "again"})
        one.number = 0
        one.publish("start", "")
        until(lambda: monitor.counts["received"] == 4)
        found = monitor.document()
    senders = found["senders"]
    assert senders["smurf-srv/crate1slot2/tune.py"] | {"heard_at": 0} == {
        **{"last": 0, "received": 3, "lost": 5, "restarts": 1, "repeated": 0, "heard_at": 0}
    }
    assert senders["smurf-srv/crate1slot3/tune.py"]["lost"] == 0
    assert found["counts"]["lost"] == 5


def test_a_burst_of_twenty_thousand(bench: Bench) -> None:
    """Whatever the kernel took is registered; whatever it dropped is a gap. Nothing is both, nothing is neither."""
    paths = [bench.write(f"1/{n}.txt") for n in range(50)]
    with bench.monitor() as monitor:
        speaker = Publisher(bench.port)
        for n in range(20_000):
            speaker.register(paths[n % 50], action_ts=str(n))
        last = 20_000

        def settled() -> bool:
            counts = monitor.document()["counts"]
            heard = counts.get("received", 0) + counts.get("lost", 0)
            return bool(heard == speaker.number and 0 < counts.get("registered", 0) == counts.get("files", 0))

        due = time.monotonic() + 100
        while not settled():
            assert time.monotonic() < due, monitor.document()
            speaker.publish("log", {})  # the last may be among the lost: only what comes after shows the gap
            time.sleep(0.3)
        counts = monitor.document()["counts"]
    print(counts)
    told = bench.rows("SELECT action_timestamp FROM pysmurf_files_v1")
    assert len(told) == len(set(told)) == counts["files"] == counts["registered"]
    dropped = last - len(told)
    assert dropped <= counts.get("lost", 0) <= dropped + speaker.number - last
    assert len(bench.rows("SELECT id FROM skystow_pysmurf_extra")) == len(told)


def test_what_the_kernel_dropped_is_a_gap(bench: Bench) -> None:
    """So much while nobody listens that it cannot hold it."""
    paths = [bench.write(f"1/{n}.txt") for n in range(50)]
    speaker = Publisher(bench.port)

    def burst() -> None:
        for n in range(2_000):
            speaker.register(paths[n % 50], action_ts=str(n))

    bench.buffer, bench.before = 64 * 2**10, burst
    with bench.monitor() as monitor:
        until(lambda: monitor.counts["received"] > 0 and not monitor.document()["spool"]["waiting"])
        speaker.publish("log", {})
        until(lambda: monitor.counts["lost"] > 0)
        until(lambda: monitor.counts["registered"] == monitor.counts["files"])
        counts = monitor.document()["counts"]
    assert 0 < counts["files"] < 2_000
    assert counts["files"] + counts["lost"] == 2_000
    assert len(bench.rows()) == counts["files"]
    assert any("were lost before number 2000" in text for text in bench.told)


class Away:
    """A registrar whose table is away, or dies after the commit."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.away, self.dies = inner, True, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def mark(self) -> int:
        if self.away:
            raise Unreachable("no table", place="table")
        return int(self.inner.mark())

    def register(self, entries: list[Entry]) -> Any:
        found = self.inner.register(entries)
        if self.dies:
            self.dies = False
            raise Unreachable("it went away with the answer", place="table")
        return found


def test_the_table_is_away_and_the_monitor_too(bench: Bench) -> None:
    """What waits survives both; what may have been written when the answer was lost is not written twice."""
    paths = [bench.write(f"1/{n}.txt") for n in range(30)]
    away: list[Away] = []

    def wrapped(registrar: Any) -> Away:
        away.append(Away(registrar))
        return away[-1]

    with bench.monitor(wrapped) as monitor:
        speaker = Publisher(bench.port)
        for path in paths[:20]:
            speaker.register(path)
        until(lambda: monitor.document()["spool"]["waiting"] == 20)
        until(lambda: "table" in monitor.faults)
    with bench.monitor(wrapped) as monitor:
        assert monitor.document()["spool"]["waiting"] == 20
        speaker.number += 2
        for path in paths[20:]:
            speaker.register(path)
        until(lambda: monitor.document()["spool"]["waiting"] == 30)
        assert monitor.counts["lost"] == 2, "numbers of before the restart count"
        away[-1].dies, away[-1].away = True, False
        until(lambda: monitor.document()["spool"]["waiting"] == 0)
        assert (monitor.faults, monitor.counts["registered"] + monitor.counts["registered_before"]) == ({}, 30)
        assert monitor.counts["registered_before"] > 0
    assert sorted(bench.rows()) == sorted(map(str, paths))


class Hanging(Away):
    """A table whose server takes a statement and answers nothing."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.asked, self.answer = threading.Event(), threading.Event()

    def mark(self) -> int:
        self.asked.set()
        self.answer.wait(60)
        return int(self.inner.mark())


def test_it_ends_though_the_table_does_not_answer(bench: Bench) -> None:
    path = bench.write("1/a.txt")
    hanging: list[Hanging] = []

    def wrapped(registrar: Any) -> Hanging:
        hanging.append(Hanging(registrar))
        return hanging[-1]

    with bench.monitor(wrapped) as monitor:
        Publisher(bench.port).register(path)
        assert hanging[0].asked.wait(60)
        assert monitor.document()["spool"]["waiting"] == 1
    hanging[0].answer.set()
    with bench.monitor():
        bench.registered(1)
    assert bench.rows() == [str(path)]


def test_a_file_that_never_comes_is_given_up(bench: Bench) -> None:
    bench.write("1/another.txt")  # the root is there, and is no disk that somebody forgot to mount
    with bench.monitor(patience=0.0) as monitor:
        Publisher(bench.port).register(bench.data / "1/never.txt")
        until(lambda: monitor.counts["given_up"] == 1)
        assert monitor.document()["spool"]["waiting"] == 0
    assert any("given up" in text for text in bench.told)


def test_a_path_longer_than_its_column_is_refused_and_the_rest_goes_on(bench: Bench) -> None:
    long = bench.write("1/" + "/".join(["d" * 100] * 3) + "/a.txt")
    good = bench.write("1/b.txt")
    with bench.monitor() as monitor:
        speaker = Publisher(bench.port)
        speaker.register(long)
        speaker.register(good)
        bench.registered(1)
        until(lambda: monitor.counts["refused"] == 1)
    assert bench.rows() == [str(good)]


@pytest.mark.parametrize("bound", [{"most": 5}, {"most_bytes": 1_800}])
def test_a_full_spool_is_a_fault_until_there_is_room(bench: Bench, bound: dict[str, Any]) -> None:
    paths = [bench.data / f"1/{n}.txt" for n in range(8)]
    bench.write("1/another.txt")
    with bench.monitor(**bound) as monitor:
        speaker = Publisher(bench.port)
        for path in paths:
            speaker.register(path, filler="x" * 5_000)
        until(lambda: monitor.counts["received"] == 8)
        until(lambda: monitor.counts["files"] + monitor.counts["no_room"] == 8)
        until(lambda: "spool: full" in monitor.document()["faults"])
        assert 0 < monitor.counts["no_room"] < 6
        assert monitor.counts["malformed"] == 0
        kept = paths[: monitor.counts["files"]]
        for path in kept:
            path.write_bytes(b"starlight")
        bench.registered(len(kept))
        until(lambda: not monitor.document()["faults"])
        bench.write("1/7.txt")
        speaker.register(paths[7])
        bench.registered(len(kept) + 1)
    assert sum("takes no more" in text for text in bench.told) >= 1


def test_news_are_passed_on(bench: Bench) -> None:
    with bench.monitor():
        speaker = Publisher(bench.port, id="STREAMER:ufm")
        speaker.publish("metadata", {"path": "AMCc.temperature", "value": 7.5, "type": "float"})
        speaker.publish("session_log", "a line")
        until(lambda: len(bench.news) == 2)
    reading, session = bench.news
    assert isinstance(reading, Reading)
    assert (reading.stream, reading.name, reading.value) == ("ufm", "AMCc.temperature", 7.5)
    assert isinstance(session, Session)
    assert session.body["payload"] == "a line"


def test_a_port_that_is_taken_and_a_spool_that_is_none(bench: Bench) -> None:
    with closing(UdpDatagrams("127.0.0.1", bench.port)) as first:
        assert first.buffer > 0
        with pytest.raises(ConfigError, match="cannot be had"):
            UdpDatagrams("127.0.0.1", bench.port)
    with pytest.raises(ConfigError, match="no address"):
        UdpDatagrams("no such host.", bench.port)
    with closing(sqlite3.connect(bench.here / "other.db")) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(OperatorFault, match="no spool of ours"):
        SqliteSpool(str(bench.here / "other.db"))
    with pytest.raises(OperatorFault, match="no directory"):
        SqliteSpool(str(bench.here / "other.db/spool"))
    with closing(SqliteSpool(str(bench.here / "spool"))), pytest.raises(OperatorFault, match="locked"):
        SqliteSpool(str(bench.here / "spool"), patience=0.1)


def test_a_spool_that_is_held_is_waited_for_unless_we_are_to_end(bench: Bench) -> None:
    path, halt, found = str(bench.here / "spool"), Halt(), list[str]()

    def work() -> None:
        try:
            SqliteSpool(path, patience=3_600, stop=halt).close()
        except OperatorFault as fault:
            found.append(str(fault))

    with closing(SqliteSpool(path)):
        waiting = threading.Thread(target=work)
        waiting.start()
        halt.set()
        waiting.join(60)
        assert not waiting.is_alive()
        assert "locked" in found[0]
        later = threading.Thread(target=lambda: SqliteSpool(path, patience=3_600).close())
        later.start()
    later.join(60)
    assert not later.is_alive()


def test_invented_senders_do_not_fill_the_spool(bench: Bench) -> None:
    with closing(SqliteSpool(str(bench.here / "spool"))) as spool:
        for n in range(3):
            spool.add([], {f"{n}/{m}": Sequence(heard_at=n) for m in range(1_000)})
        assert len(spool.numbers()) <= 2_000


def test_numbers_that_no_database_holds_cost_no_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.write("1/a.txt")
    beyond = {"evil": Sequence(expected=2**63)}
    with bench.monitor() as monitor:
        add = monitor.spool.add
        with pytest.raises(Unreachable):
            add([], beyond)
        monkeypatch.setattr(monitor.spool, "add", lambda keep, heard: add(keep, beyond if heard else heard))
        speaker = Publisher(bench.port)
        speaker.number = 2**63 - 1
        speaker.register(bench.data / "1/evil.txt")
        speaker.number = 0
        speaker.register(path)
        bench.registered(1)
        assert monitor.counts["malformed"] == 1


def test_a_directory_that_was_moved_away_is_walked_to_again(bench: Bench) -> None:
    first = bench.write("1/d/a.txt")
    with bench.monitor() as monitor:
        speaker = Publisher(bench.port)
        speaker.register(first)
        bench.registered(1)
        (bench.data / "1/d").rename(bench.data / "1/old")
        second = bench.write("1/d/b.txt")
        speaker.register(first)
        speaker.register(second)
        bench.registered(2)
        until(lambda: monitor.spool.census().fileless == 1)
    assert bench.rows() == [str(first), str(second)], "the first is in the directory of before"


def test_a_root_that_is_away_is_a_fault(bench: Bench) -> None:
    path = bench.write("1/a.txt")
    bench.data.rename(bench.here / "away")
    with bench.monitor() as monitor:
        Publisher(bench.port).register(path)
        until(lambda: "data" in monitor.document()["faults"])
        until(lambda: bool(monitor.document()["spool"]["why"]))
        assert "No such file" in monitor.document()["spool"]["why"][0]
        (bench.here / "away").rename(bench.data)
        bench.registered(1)
        until(lambda: not monitor.document()["faults"])
    assert any("data" in text for text in bench.told)


def test_a_file_that_is_being_written_waits(bench: Bench) -> None:
    path = bench.write("1/a.dat", b"one half")
    ahead = bench.write("1/ahead.dat")
    os.utime(ahead, (time.time() + 3600,) * 2)
    with bench.monitor(settle=3_600.0) as monitor:
        speaker = Publisher(bench.port)
        speaker.register(path)
        speaker.register(ahead)
        bench.registered(1)
        until(lambda: monitor.spool.due(time.time() + 7_200, limit=9)[0].tries > 0)
        assert bench.rows() == [str(ahead)], "a clock that is wrong keeps nobody out"
        assert monitor.document()["spool"]["fileless"] == 0
    with bench.monitor() as monitor:
        assert monitor.document()["spool"]["waiting"] == 1


class Growing(LocalTree):
    """Each file that is read grows meanwhile, once."""

    def digest(self, path: PurePosixPath, algorithm: str, *, stop: Stop) -> Digest:
        found = super().digest(path, algorithm, stop=stop)
        with Path(os.fsdecode(self.root), path).open("ab") as file:
            file.write(b", the other half")
        return found


def test_what_is_written_while_it_is_read_is_not_believed(bench: Bench) -> None:
    path = bench.write("1/a.dat", b"one half")
    said = Registration(str(path), "smurf", 1.5e9)
    root = PurePosixPath(bench.data)
    with pytest.raises(Fresh):
        prove(said, {root: Growing(str(bench.data), place="data")}, settle=0.0, stop=Halt())
    found = prove(said, {root: LocalTree(str(bench.data), place="data")}, settle=0.0, stop=Halt())
    assert found.md5 == hashlib.md5(b"one half, the other half", usedforsecurity=False).digest()


def test_a_datagram_that_means_nothing_has_a_sender_and_leaves_no_gap(bench: Bench) -> None:
    with bench.monitor() as monitor:
        one, other = Publisher(bench.port), Publisher(bench.port, host="other")
        for speaker in (one, other):
            speaker.publish("log", {})
            speaker.publish("data_file", {"path": None})
            speaker.publish("log", {})
        one.raw(b"no JSON")
        until(lambda: monitor.counts["received"] == 7)
        until(lambda: monitor.counts["malformed"] == 3)
        found = monitor.document()
    assert found["counts"].get("lost", 0) == 0
    senders = [each["sender"] for each in found["refusals"]]
    assert senders == ["smurf-srv/crate1slot2/tune.py", "other/crate1slot2/tune.py", "127.0.0.1"]
    assert len(bench.told) == 3


def test_what_the_kernel_holds_when_it_ends_is_spooled(bench: Bench) -> None:
    paths = [bench.write(f"1/{n}.txt") for n in range(500)]
    speaker = Publisher(bench.port)

    def burst() -> None:
        for path in paths:
            speaker.register(path)

    bench.before, bench.halted = burst, True
    with bench.monitor() as monitor:
        pass
    counts = monitor.counts
    assert counts["files"] > 0, "all that it held, which may be little"
    with closing(SqliteSpool(str(bench.here / "spool"))) as spool:
        assert spool.census().waiting == counts["files"]
