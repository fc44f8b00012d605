"""Stories that need disks of their own. Each runs in a mount namespace (`unshare -rm`), where it may mount anything:

python -m tests.crash.stories STORY DIRECTORY
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.crash.kit import Field, ended, fill, make_site, resume, wait_for_stop, wait_until, watched

MIB = 2**20
DISK = 8 * MIB
MIDWAY = {"freeze": {"act": "write", "at": 3, "when": "after"}}


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def tmpfs(where: Path, size: int = DISK) -> None:
    where.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "none", str(where))


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────────────────────


def small(root: Path) -> Field:
    """A destination that all files fit on, as long as nobody else fills it."""
    made = Field(root)
    fill(made, 10, largest=600_000)
    tmpfs(made.dest)
    return made


def fill_up(disk: Path) -> Path:
    """To the last byte."""
    filler = disk / ".skystow" / "filler"
    with filler.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return filler


def full_then_freed(made: Field) -> None:
    """Somebody fills the disk in the midst of a file; the program rests, is seen to rest, and goes on by itself."""
    told = made.root / "told"
    with (
        watched(made) as seen,
        told.open("wb") as err,
        made.started(MIDWAY, "--streams", "1", json_out=False, stderr=err) as process,
    ):
        wait_for_stop(process)
        filler = fill_up(made.dest)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: b" rests: " in told.read_bytes() or b"resting: " in told.read_bytes(), "that it says so")
        assert "No space left" in told.read_text() or "min_free" in told.read_text()
        if made.ledger is not None:
            wait_until(lambda: not made.status()["places"]["archive"]["well"], "that status shows it")
        assert made.status()["waiting"] > 0
        assert process.poll() is None
        filler.unlink()
        code, _, _ = ended(process)
        assert code == 0, told.read_text()
    assert seen == []
    made.assert_whole()


def full_for_good(made: Field) -> None:
    """It gives up after a while, says which place is to blame, and the next run finishes."""
    with watched(made) as seen:
        with made.started(MIDWAY, "--streams", "1", "--give-up-after", "5") as process:
            wait_for_stop(process)
            filler = fill_up(made.dest)
            code, said, err = resume(process)
        assert code == 5, err
        assert said["failed"] > 0
        assert said["quarantined"] == 0
        blamed = {rest["place"] for rest in said["resting"]}
        assert blamed, said
        assert blamed <= ({"archive"} if made.ledger else {"archive", "ledger"}), said
        filler.unlink()
        made.finish()
    assert seen == []
    made.assert_whole()


def full_before_it_starts(made: Field) -> None:
    """A ledger that was begun on a disk that is full now: nothing is spoilt, and it says what is wrong."""
    made.finish()
    made.write(b"later.fits", bytes(300_000))
    filler = fill_up(made.dest)
    with watched(made) as seen:
        done = made.run(None, "--give-up-after", "2")
        assert done.returncode == 5, done.stderr.decode()
        assert b"space" in done.stdout + done.stderr or b"min_free" in done.stdout
        filler.unlink()
        made.finish()
    assert seen == []
    made.assert_whole()


def full_between_publication_and_verdict(made: Field, *, killed: bool) -> None:
    """Everything stands under its final name and the ledger cannot say so: it must not be forgotten."""
    told = made.root / "told"
    plan = {"lease": 2.0, "freeze": {"act": "link", "at": 0, "when": "before"}}
    with (
        watched(made) as seen,
        told.open("wb") as err,
        made.started(plan, "--streams", "1", json_out=False, stderr=err) as process,
    ):
        wait_for_stop(process)
        filler = fill_up(made.dest)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: made.visible() == made.truth, "that all is published")
        wait_until(lambda: b"no space left for the ledger" in told.read_bytes(), "that it says so")
        assert made.status()["waiting"] == len(made.truth)
        assert process.poll() is None
        if killed:
            process.kill()
            process.wait()
        filler.unlink()
        if killed:
            assert made.finish()["archived"] == len(made.truth)
        else:
            code, _, _ = ended(process)
            assert code == 0, told.read_text()
    assert seen == []
    made.assert_whole()


def with_ledger_elsewhere(made: Field) -> Field:
    made.ledger = made.root / "ledger.db"
    return made


# ── a source that is unmounted ──────────────────────────────────────────────────────────────────────────────────


def unmounted(root: Path, *, marker: str | None) -> None:
    """The source's disk goes while a batch is on its way, and comes back: nobody's fault but the place's.

    Without a marker the same file system must come back; with one it may be another, of the same content.
    """
    made = make_site(root, 0, handoff=False, batch=4, marker=marker)
    disk = root / "disk"
    tmpfs(disk)
    mount("--bind", str(disk), str(made.source))
    fill(made, 30, largest=20_000)
    if marker:
        made.write(marker.encode(), b"this is the right disk")
    made.verb()
    freeze = {"freeze": {"act": "write", "at": 9, "when": "after"}}
    with watched(made) as seen, made.started(freeze, "--give-up-after", "60") as process:
        wait_for_stop(process)
        subprocess.run(["umount", "-l", str(made.source)], check=True)
        assert list(made.source.iterdir()) == []
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: not made.status()["places"]["camera"].get("well", True), "that status shows it")
        assert 0 < len(made.visible()) < len(made.truth)
        if marker:
            tmpfs(root / "another")
            shutil.copytree(disk, root / "another", dirs_exist_ok=True)
            disk = root / "another"
        mount("--bind", str(disk), str(made.source))
        code, said, err = ended(process)
    assert (code, seen) == (0, []), err
    assert (said["archived"], said["failed"]) == (len(made.truth), 0)
    assert said["resting"] == []
    made.assert_whole()


STORIES: dict[str, Callable[[Path], None]] = {
    "full, then freed": lambda root: full_then_freed(small(root)),
    "full, then freed, ledger elsewhere": lambda root: full_then_freed(with_ledger_elsewhere(small(root))),
    "full for good": lambda root: full_for_good(small(root)),
    "full for good, ledger elsewhere": lambda root: full_for_good(with_ledger_elsewhere(small(root))),
    "full before it starts": lambda root: full_before_it_starts(small(root)),
    "full before it starts, ledger elsewhere": lambda root: full_before_it_starts(with_ledger_elsewhere(small(root))),
    "full before the verdict": lambda root: full_between_publication_and_verdict(small(root), killed=False),
    "full before the verdict, killed": lambda root: full_between_publication_and_verdict(small(root), killed=True),
    "source unmounted": lambda root: unmounted(root, marker=None),
    "source unmounted, marked": lambda root: unmounted(root, marker=".this-disk"),
}

if __name__ == "__main__":
    STORIES[sys.argv[1]](Path(sys.argv[2]))
    print("well")
