"""A large file that was part-done goes on where it stopped: after our process was killed, and after the other end was.
What goes over the wire is counted on the wire: ssh reaches sshd through a meter."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from skystow.adapters.remote.pull import LARGE
from tests.crash.far_kit import PATIENT, blamed, command, remote, swept
from tests.crash.kit import ended, wait_until, watched
from tests.crash.smurf_kit import FarSite, make_far
from tests.sshd import Sshd, sshd

MIB = 2**20
SIZE = LARGE + 4 * MIB
ENOUGH = 24 * MIB
"""That a part must have before the blow."""
RATE = "32M"


class Meter:
    """Passes on what ssh and sshd say to each other; `carried` is bytes, both ways."""

    def __init__(self, server: Sshd) -> None:
        self.server, self.carried = server, 0
        self.door = socket.create_server(("127.0.0.1", 0))
        port = str(self.door.getsockname()[1])
        for name in ("ssh_config", "known_hosts"):
            file = server.here / name
            file.write_text(file.read_text().replace(str(server.port), port))
        self.threads = [threading.Thread(target=self._welcome)]
        self.threads[0].start()

    def close(self) -> None:
        self.door.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.door.close()

    def _welcome(self) -> None:
        with suppress(OSError):  # until the door is closed
            while True:
                caller, _ = self.door.accept()
                self.threads.append(threading.Thread(target=self._serve, args=[caller]))
                self.threads[-1].start()

    def _serve(self, caller: socket.socket) -> None:
        # Where nobody answers there, the caller hears that the line is dead.
        with caller, suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port)) as called:
            back = threading.Thread(target=self._carry, args=(called, caller))
            back.start()
            self._carry(caller, called)
            back.join()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):  # a killed end resets the line
            while block := one.recv(MIB):
                other.sendall(block)
                self.carried += len(block)
        for side in (one, other):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def end(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as server:
        yield server


@pytest.fixture
def meter(end: Sshd) -> Iterator[Meter]:
    with closing(Meter(end)) as made:
        yield made


def one_large(root: Path, where: str, end: Sshd, *, patience: float = 10) -> FarSite:
    pull, push = (end if where == each else None for each in ("pull", "push"))
    made = make_far(root, 0, bwlimit=RATE, patience=patience, pull=pull, push=push)
    made.write(b"night/large.fits", os.urandom(SIZE))
    return made


def parts(made: FarSite) -> dict[Path, os.stat_result]:
    """What is there of it, under no final name."""
    found = {}
    for path in (made.dest / ".skystow" / "partial").rglob("*"):
        try:
            look = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[path] = look
    return found


def wait_for_half(made: FarSite, process: subprocess.Popen[bytes]) -> None:
    def half() -> bool:
        assert process.poll() is None, process.communicate()
        return any(look.st_size > ENOUGH for look in parts(made).values())

    wait_until(half, "that half is there")


@pytest.mark.parametrize("killed", ["ours", "theirs"])
@pytest.mark.parametrize("where", ["pull", "push"])
def test_it_goes_on_where_it_stopped(tmp_path: Path, end: Sshd, meter: Meter, where: str, killed: str) -> None:
    made = one_large(tmp_path / "site", where, end)
    with watched(made) as seen, made.started(None, *PATIENT) as process:
        wait_for_half(made, process)
        if killed == "ours":
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_until(lambda: remote(end, "rsync") + remote(end, "python3") == [], "that nothing is left there")
            left, meter.carried = parts(made), 0
            said = made.finish()
        else:
            end.stop()
            place = "camera" if where == "pull" else "archive"
            wait_until(lambda: blamed(made, place), "that status names the place")
            left, meter.carried = parts(made), 0
            end.start()
            code, said, err = ended(process)
            assert code == 0, err
    assert (said["archived"], said["failed"], seen) == (1, 0, [])
    kept = max(look.st_size for look in left.values())
    assert ENOUGH <= kept < SIZE
    # What went over the wire is the rest, sums of blocks of the part, and no file's worth of anything else.
    assert abs(meter.carried - (SIZE - kept)) < 4 * MIB
    published = os.stat(made.dest / "night" / "large.fits")
    assert published.st_ino not in {look.st_ino for look in left.values()}, "it is an inode of another claim"
    swept(made)


def test_a_late_writer_of_a_part_wakes(tmp_path: Path, end: Sshd, meter: Meter) -> None:
    """The rsync that writes it at the other end is frozen, and so is its connection. What it left is where another goes
    on from, in another inode; when it wakes it has nothing in its hands that anybody reads."""
    made = one_large(tmp_path / "site", "push", end, patience=2)
    with watched(made) as seen, made.started(None, *PATIENT) as process:
        wait_for_half(made, process)
        late, left = end.children(), parts(made)
        end.signal_all(signal.SIGSTOP)
        meter.carried = 0
        code, said, err = ended(process)
        assert (code, said.get("archived"), said.get("failed")) == (0, 1, 0), (code, said, err)
        assert meter.carried < SIZE - ENOUGH + 4 * MIB
        published = os.stat(made.dest / "night" / "large.fits")
        assert published.st_ino not in {look.st_ino for look in left.values()}
        writers = [pid for pid in late if "rsync --server" in command(pid)]
        assert writers != [], "nobody is left to wake"
        for pid in late:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: remote(end, "rsync") + remote(end, "python3") == [], "that the late ones have ended")
        again = os.stat(made.dest / "night" / "large.fits")
        assert (again.st_ino, again.st_ctime_ns, again.st_size) == (published.st_ino, published.st_ctime_ns, SIZE)
        swept(made)
    assert seen == []
