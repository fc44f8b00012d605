"""What the crash tests share: a tree with a truth, the real program with a plan, and the comparison afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger
from skystow.adapters.process import this_worker
from skystow.model.records import path_text
from skystow.model.transfer import State, Step
from skystow.ports import Dossier

LIMIT = 60.0
"""Seconds that one run of the program may take."""


@dataclass
class Field:
    """A source, a destination, and what the source held when it was made: relative path → content."""

    root: Path
    truth: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def dest(self) -> Path:
        return self.root / "dest"

    def write(self, name: bytes, content: bytes) -> None:
        path = os.path.join(os.fsencode(self.source), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(content)
        self.truth[name] = content

    def command(self, plan: dict[str, Any] | None, *options: str) -> list[str]:
        plain = [sys.executable, "-m", "skystow"]
        sabotaged = [sys.executable, "-m", "skystow.testing.saboteur", json.dumps(plan)]
        archive = ["archive", str(self.source), str(self.dest), "--json", *options]
        return [*(plain if plan is None else sabotaged), *archive]

    def run(self, plan: dict[str, Any] | None = None, *options: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.command(plan, *options), capture_output=True, timeout=LIMIT, check=False)

    def start(self, plan: dict[str, Any] | None = None, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(plan, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    # ── what is left ────────────────────────────────────────────────────────────────────────────────────────────

    def visible(self) -> dict[bytes, bytes]:
        """All that a reader of the archive can see: relative path → content."""
        return dict(walk(os.fsencode(self.dest)))

    def wrong(self) -> list[str]:
        """Whatever is visible under a final name and is not, whole, what the source held."""
        return [f"{name!r}: {len(got)} bytes" for name, got in self.visible().items() if self.truth.get(name) != got]

    def dossiers(self) -> list[Dossier]:
        ledger = open_ledger(f"sqlite:///{self.dest}/.skystow/ledger.db", worker=this_worker(), clock=SystemClock())
        try:
            ids = {i for name in self.truth for i in ledger.find(path_text(name))}
            return [dossier for i in sorted(ids) if (dossier := ledger.dossier(i)) is not None]
        finally:
            ledger.close()

    def assert_whole(self, *, attempts: int = 0) -> None:
        """Every file archived exactly once with the right bytes; the ledger says so; nothing is left in staging."""
        assert self.visible() == self.truth
        assert staged(self.dest) == []
        dossiers = self.dossiers()
        assert len(dossiers) == len(self.truth)
        for dossier in dossiers:
            (copy,) = dossier.copies
            assert copy.state is State.DONE, (dossier.origin, copy)
            assert copy.attempts <= attempts, (dossier.origin, copy)
            assert copy.digest is not None
            assert copy.size == len(self.truth[os.fsencode(str(dossier.origin))])
            assert sum(event.step is Step.DELIVERED for event in dossier.events) == 1


def walk(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(relative path, content) of every regular file below `root` but `.skystow`. Files may vanish meanwhile."""
    for directory, names, files in os.walk(root):
        if directory == root and b".skystow" in names:
            names.remove(b".skystow")
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as found:
                yield os.path.relpath(path, root), found.read()


def staged(dest: Path) -> list[Path]:
    return sorted(path for path in (dest / ".skystow" / "staging").rglob("*"))


def make_field(root: Path, files: int, *, seed: int = 1, largest: int = 40_000) -> Field:
    """`files` files of 0 … `largest` bytes in a few directories."""
    dice, made = random.Random(seed), Field(root)
    made.source.mkdir(parents=True)
    for n in range(files):
        directory = [b"", b"night/", b"night/raft 22/"][n % 3]
        made.write(directory + b"image_%06d.fits" % n, dice.randbytes(0 if n == 7 else dice.randint(1, largest)))
    return made


@contextmanager
def watched(made: Field) -> Iterator[list[str]]:
    """Looks at the archive all the time; the list has whatever was visible and wrong."""
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.extend(made.wrong())
            over.wait(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def wait_for_stop(process: subprocess.Popen[bytes]) -> None:
    """Until the process has stopped itself (SIGSTOP)."""
    due = time.monotonic() + LIMIT
    while time.monotonic() < due:
        pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        if pid:
            assert os.WIFSTOPPED(status), f"it ended instead: {status}"
            return
        time.sleep(0.005)
    raise AssertionError("it did not stop")


def resume(process: subprocess.Popen[bytes]) -> int:
    """SIGCONT, and wait for the end; returns the exit code."""
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=LIMIT)
    return process.returncode


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
