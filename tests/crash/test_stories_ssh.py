"""Stories of a far end that goes away in the middle of a transfer: the run rests, says which place is to blame, goes on
by itself and ends whole, and no file has spent an attempt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.crash.far_kit import PATIENT, below, blamed, command, remote, swept
from tests.crash.kit import Field, ended, wait_until, watched
from tests.crash.smurf_kit import FarSite, make_far, make_smurf
from tests.sshd import Sshd, sshd

FILES = 50
SLOW = "300k"
"""All of it takes about three seconds."""


@pytest.fixture
def end(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as server:
        yield server


def pulled(root: Path, end: Sshd, patience: float) -> FarSite:
    """Rows of a table, and files at the other end."""
    return make_smurf(root, FILES, largest=40_000, pull=end, patience=patience, batch=15, bwlimit=SLOW)


def pushed(root: Path, end: Sshd, patience: float) -> FarSite:
    """The archive is at the other end."""
    return make_far(root, FILES, largest=40_000, push=end, patience=patience, batch=15, bwlimit=SLOW)


BOTH = pytest.mark.parametrize(("make", "place"), [(pulled, "smurf"), (pushed, "archive")], ids=["pull", "push"])
Maker = Callable[[Path, Sshd, float], FarSite]


def in_the_midst(made: Field, process: subprocess.Popen[bytes]) -> None:
    """Some files stand in the archive, most do not."""

    def there() -> bool:
        assert process.poll() is None, process.communicate()
        return len(made.visible()) > 5

    wait_until(there, "that it is in the midst of it")
    assert len(made.visible()) < FILES - 5


def stall(made: Field, end: Sshd, process: subprocess.Popen[bytes]) -> None:
    """Freeze everything that runs at the other end for us, sshd's own sessions too, while an rsync is at work."""
    while True:
        in_the_midst(made, process)
        end.signal_all(signal.SIGSTOP)
        if remote(end, "rsync --server"):
            return
        end.signal_all(signal.SIGCONT)


def well(process: subprocess.Popen[bytes], made: Field, place: str) -> None:
    """It ends by itself, says that this place rested and no other, and everything is as it was registered."""
    code, said, err = ended(process)
    assert (code, said["files"], said["failed"], said["quarantined"], said["resting"]) == (0, FILES, 0, 0, []), err
    assert set(re.findall(r"event=resting place=(\S+)", err)) == {place}, err
    assert made.visible() == made.placed


def inodes(made: Field) -> dict[bytes, tuple[int, int, int]]:
    """What a write into an archived file would change."""
    looks = {name: os.stat(os.path.join(os.fsencode(made.dest), name)) for name in made.visible()}
    return {name: (found.st_ino, found.st_ctime_ns, found.st_mtime_ns) for name, found in looks.items()}


@BOTH
def test_sshd_is_killed_in_the_middle_and_started_again(tmp_path: Path, end: Sshd, make: Maker, place: str) -> None:
    made = make(tmp_path / "site", end, 10)
    with watched(made) as seen, made.started(None, *PATIENT) as process:
        in_the_midst(made, process)
        end.stop()
        wait_until(partial(blamed, made, place), "that status names the place")
        assert process.poll() is None
        end.start()
        well(process, made, place)
        swept(made)
    assert seen == []


@pytest.mark.parametrize("words", [("rsync --server",), ("python3", "exec(sys.stdin")], ids=["rsync", "helper"])
@BOTH
def test_only_what_runs_at_the_other_end_is_killed(
    tmp_path: Path, end: Sshd, make: Maker, place: str, words: tuple[str, ...]
) -> None:
    made = make(tmp_path / "site", end, 10)
    with watched(made) as seen, made.started(None, *PATIENT) as process:
        stall(made, end, process)  # so that none of them is gone before its turn
        killed = remote(end, *words)
        assert killed != []
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        end.signal_all(signal.SIGCONT)
        well(process, made, place)
        swept(made)
    assert seen == []


@BOTH
def test_the_network_stalls_and_late_writers_wake(tmp_path: Path, end: Sshd, make: Maker, place: str) -> None:
    """After the timeout what is frozen is left behind, and the rest goes by a new connection. Then the frozen wake."""
    made = make(tmp_path / "site", end, 2)
    with watched(made) as seen, made.started(None, *PATIENT) as process:
        stall(made, end, process)
        stalled = end.children()
        held = {pid: command(pid) for pid in below(process.pid) if "rsync" in command(pid) or "ssh" in command(pid)}
        assert any("rsync" in line for line in held.values())
        wait_until(lambda: [pid for pid, line in held.items() if command(pid) == line] == [], "that ours have ended")
        well(process, made, place)
        archived = inodes(made)
        assert any("rsync --server" in command(pid) for pid in stalled), "nobody is left to wake"
        for pid in stalled:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: remote(end, "rsync") + remote(end, "python3") == [], "that the late ones have ended")
        assert inodes(made) == archived
        swept(made)
    assert seen == []
    assert inodes(made) == archived
