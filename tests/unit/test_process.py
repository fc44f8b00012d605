"""Who we are, who still lives; the clock; the journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from skystow.adapters.announce import JournalAnnouncer
from skystow.adapters.clock import SystemClock
from skystow.adapters.process import alive, this_worker
from skystow.errors import NoSpace, Unreachable
from skystow.model.records import Notice, Worker

WHO = """
import json, dataclasses, sys
from skystow.adapters.process import this_worker
print(json.dumps(dataclasses.asdict(this_worker())), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Worker]]:
    """Another process, that says who it is and lives until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield child, Worker(**json.loads(child.stdout.readline()))
        child.kill()


class TestAlive:
    def test_we_are(self) -> None:
        me = this_worker()
        assert me == this_worker()
        assert me.pid == os.getpid()
        assert me.pid_namespace.startswith("pid:[")
        assert len(me.boot_id) == 36
        assert alive(me, me) is True

    def test_another_process_until_it_is_killed(self, other: tuple[subprocess.Popen[str], Worker]) -> None:
        child, worker = other
        me = this_worker()
        assert worker.pid == child.pid
        assert worker.started >= me.started
        assert alive(worker, me) is True
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert alive(worker, me) is False, "a zombie"
        child.wait()
        assert alive(worker, me) is False, "gone"

    def test_a_stopped_process_lives(self, other: tuple[subprocess.Popen[str], Worker]) -> None:
        child, worker = other
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert alive(worker, this_worker()) is True

    def test_a_pid_that_is_used_again_is_another_process(self) -> None:
        me = this_worker()
        assert alive(replace(me, started=me.started - 1), me) is False

    @pytest.mark.parametrize(
        ("change", "answer"),
        [
            ({"boot_id": "another"}, False),
            ({"host": "another"}, None),
            ({"pid_namespace": "pid:[1]"}, None),
            ({"host": "another", "boot_id": "another"}, None),
            ({"pid_namespace": "pid:[1]", "boot_id": "another"}, None),
        ],
    )
    def test_other_boots_hosts_and_namespaces(self, change: dict[str, str], answer: bool | None) -> None:
        me = this_worker()
        assert alive(Worker(**{**asdict(me), **change}), me) is answer

    def test_another_pid_namespace_for_real(self) -> None:
        said = subprocess.run(
            ["unshare", "-rpf", "--mount-proc", sys.executable, "-c", WHO],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        worker = Worker(**json.loads(said.stdout))
        me = this_worker()
        assert worker.pid == 1
        assert (worker.host, worker.boot_id) == (me.host, me.boot_id)
        assert alive(worker, me) is None

    def test_a_name_that_looks_like_fields(self) -> None:
        comm = Path("/proc/self/comm")
        name = comm.read_text()
        before = this_worker()
        comm.write_text("a) Z 1 (b")
        try:
            assert this_worker() == before
            assert alive(before, before) is True
        finally:
            comm.write_text(name)

    def test_a_process_that_proc_hides_is_not_called_dead(self, other: tuple[subprocess.Popen[str], Worker]) -> None:
        child, worker = other
        ask = f"""
from skystow.adapters.process import alive, this_worker
from skystow.model.records import Worker
print(alive({worker!r}, this_worker()))
"""
        hide = f'mount -t tmpfs none /proc/{child.pid} && exec "$0" -c "$1"'
        said = subprocess.run(
            ["unshare", "-rm", "sh", "-c", hide, sys.executable, ask], capture_output=True, text=True, check=True
        )
        assert said.stdout == "None\n"

    def test_a_forked_child_is_somebody_else(self) -> None:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, str(this_worker().pid).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert int(os.read(read, 20)) == child
        os.close(read)
        os.close(write)


def test_the_clock_is_aware_and_goes_forward() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 60
    first = clock.monotonic()
    assert clock.monotonic() >= first


def notice(number: int) -> Notice:
    return Notice(
        number, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "delivered", {"path": f"a\nü{number}", "size": number}
    )


class TestJournal:
    def test_one_line_for_each_notice(self, tmp_path: Path) -> None:
        journal = JournalAnnouncer(tmp_path / "journal")
        for i in range(3):
            journal.announce([notice(i)])
        lines = (tmp_path / "journal").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {"id": i, "at": "2026-01-02T03:04:05+00:00", "kind": "delivered", "body": {"path": f"a\nü{i}", "size": i}}
            for i in range(3)
        ]

    def test_a_line_that_a_crash_cut_does_not_spoil_the_next(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        path.write_text('{"id": 1}\n{"id": 2, "at')
        JournalAnnouncer(path).announce([notice(2)])
        first, torn, last = path.read_text().splitlines()
        assert (json.loads(first)["id"], torn, json.loads(last)["id"]) == (1, '{"id": 2, "at', 2)

    def test_it_may_be_rotated_away(self, tmp_path: Path) -> None:
        journal = JournalAnnouncer(tmp_path / "journal")
        journal.announce([notice(1)])
        (tmp_path / "journal").rename(tmp_path / "journal.1")
        journal.announce([notice(2)])
        assert json.loads((tmp_path / "journal").read_text())["id"] == 2

    def test_a_full_disk_is_the_places_fault(self) -> None:
        with pytest.raises(NoSpace) as caught:
            JournalAnnouncer(Path("/dev/full"), place="diary").announce([notice(1)])
        assert caught.value.place == "diary"

    def test_a_directory_that_is_not_there_too(self, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match="no such file"):
            JournalAnnouncer(tmp_path / "none" / "journal").announce([notice(1)])
