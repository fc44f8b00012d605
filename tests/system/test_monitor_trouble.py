"""What may go wrong with a monitor: ports, spools, roots, files that change, hostile senders."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.datagrams import UdpDatagrams
from skystow.adapters.spool import SqliteSpool
from skystow.adapters.tree import LocalTree
from skystow.errors import ConfigError, OperatorFault, Unreachable
from skystow.model.datagram import Registration
from skystow.model.records import Digest
from skystow.model.sequence import Sequence
from skystow.ports import Stop
from skystow.service.halt import Halt
from skystow.service.proving import Fresh, prove
from tests.publisher import Publisher
from tests.system.cli_kit import until
from tests.system.monitor_kit import Bench
from tests.system.monitor_kit import bench as bench


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
