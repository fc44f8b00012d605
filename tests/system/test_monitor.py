"""The monitor without OCS: real datagrams on loopback, a real spool, a real table."""

from __future__ import annotations

import hashlib
import threading
import time
from functools import partial
from typing import Any

import pytest

from skystow.errors import Unreachable
from skystow.model.datagram import Reading, Session
from skystow.ports.monitor import Entry
from skystow.service.monitor import Monitor
from tests.publisher import Publisher
from tests.system.cli_kit import until
from tests.system.monitor_kit import Bench
from tests.system.monitor_kit import bench as bench


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
