"""What the crash tests share: a tree with a truth, the real program with a plan, and the comparison afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger
from skystow.adapters.process import this_worker
from skystow.model.records import path_text
from skystow.model.transfer import State, Step
from skystow.ports import Dossier

LIMIT = 60.0
"""Seconds that one run of the program, or anything else that is waited for, may take."""

ONE_STREAM = ("--streams", "1")
"""So that the acts of `archive` come in one order."""

Plan = dict[str, Any]
Runner = Callable[[Plan, list[str]], subprocess.CompletedProcess[bytes]]


@dataclass
class Field:
    """A source, a destination, and what the source held when it was made: relative path → content."""

    root: Path
    truth: dict[bytes, bytes] = field(default_factory=dict)
    ledger: Path | str | None = None
    """Where it is not below the destination: a file, or the URL of a database."""
    runner: Runner | None = None
    """Runs the program (plan, arguments) from a process that has it imported already."""

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def dest(self) -> Path:
        return self.root / "dest"

    @property
    def trees(self) -> dict[str, Path]:
        """The destinations by name."""
        return {"archive": self.dest}

    @property
    def place(self) -> Path:
        """What `status` and the like are given."""
        return self.dest

    @property
    def ledger_url(self) -> str:
        where = self.ledger or self.dest / ".skystow" / "ledger.db"
        return f"sqlite:///{where}" if isinstance(where, Path) else where

    @property
    def placed(self) -> dict[bytes, bytes]:
        """What each destination is to hold in the end: relative path → content."""
        return self.truth

    def write(self, name: bytes, content: bytes) -> None:
        path = self.at_source(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(content)
        self.truth[name] = content

    def at_source(self, name: bytes) -> bytes:
        return os.path.join(os.fsencode(self.source), name)

    # ── the program ─────────────────────────────────────────────────────────────────────────────────────────────

    def verb(self) -> list[str]:
        elsewhere = ["--ledger", self.ledger_url] if self.ledger else []
        return ["archive", str(self.source), str(self.dest), *elsewhere]

    def command(self, plan: Plan | None, *options: str, json_out: bool = True) -> list[str]:
        program = ["skystow"] if plan is None else ["skystow.testing.saboteur", json.dumps(plan)]
        return [sys.executable, "-m", *program, *self.verb(), *(["--json"] if json_out else []), *options]

    def run(self, plan: Plan | None = None, *options: str) -> subprocess.CompletedProcess[bytes]:
        if self.runner is not None:
            return self.runner(plan or {}, [*self.verb(), "--json", *options])
        return subprocess.run(self.command(plan, *options), capture_output=True, timeout=LIMIT, check=False)

    def finish(self, *options: str) -> dict[str, Any]:
        """Run it undisturbed; everything must be well. Returns what it said."""
        done = self.run(None, *options)
        assert done.returncode == 0, (done.returncode, done.stdout.decode(), done.stderr.decode())
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    @contextmanager
    def started(
        self, plan: Plan | None = None, *options: str, json_out: bool = True, stderr: IO[bytes] | int = subprocess.PIPE
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The program, running; killed if it still does at the end of the block."""
        command = self.command(plan, *options, json_out=json_out)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def status(self) -> dict[str, Any]:
        elsewhere = ["--ledger", self.ledger_url] if self.ledger else []
        ask = [sys.executable, "-m", "skystow", "status", str(self.place), "--json", *elsewhere]
        done = subprocess.run(ask, capture_output=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr.decode()
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    # ── what is left ────────────────────────────────────────────────────────────────────────────────────────────

    def visible(self, tree: str = "archive") -> dict[bytes, bytes]:
        """All that a reader can see: relative path → content."""
        root = os.fsencode(self.trees[tree])
        return {os.path.relpath(path, root): content_of(path) for path in walk(root)}

    def wrong(self) -> list[str]:
        """Whatever is visible under a final name and is not, whole, what the source held."""
        return Watch(self).look()

    def dossiers(self) -> list[Dossier]:
        ledger = open_ledger(self.ledger_url, worker=this_worker(), clock=SystemClock())
        try:
            ids = {i for name in self.truth for i in ledger.find(path_text(name))}
            return [dossier for i in sorted(ids) if (dossier := ledger.dossier(i)) is not None]
        finally:
            ledger.close()

    def dossier(self, name: bytes) -> Dossier:
        (found,) = [dossier for dossier in self.dossiers() if os.fsencode(str(dossier.origin)) == name]
        return found

    def assert_whole(self, *, attempts: int = 0) -> None:
        """Every file archived exactly once with the right bytes; the ledger says so; nothing is left in staging."""
        for name, tree in self.trees.items():
            assert self.visible(name) == self.placed
            assert staged(tree) == []
        dossiers = self.dossiers()
        assert len(dossiers) == len(self.truth)
        for dossier in dossiers:
            assert {copy.route.destination for copy in dossier.copies} == set(self.trees)
            for copy in dossier.copies:
                assert copy.state is State.DONE, (dossier.origin, copy)
                assert copy.attempts <= attempts, (dossier.origin, copy, [event.text for event in dossier.events])
                assert copy.digest is not None
                assert copy.size == len(self.truth[os.fsencode(str(dossier.origin))])
            delivered = [event.destination for event in dossier.events if event.step is Step.DELIVERED]
            assert sorted(map(str, delivered)) == sorted(self.trees)


@dataclass
class Site(Field):
    """The same for `skystow run SITE --once`: a posix archive and, with `handoff`, a directory that it links to."""

    handoff: bool = True
    sync: str = "auto"
    batch: int = 1000
    streams: int = 1
    bwlimit: str | None = None
    marker: str | None = None
    retry: dict[str, Any] | None = None

    @property
    def trees(self) -> dict[str, Path]:
        return {"archive": self.dest} | ({"oods": self.root / "oods"} if self.handoff else {})

    @property
    def place(self) -> Path:
        return self.root / "site.yaml"

    def source_section(self) -> dict[str, Any]:
        source = {"name": "camera", "kind": "directory", "root": str(self.source), "quiet_for": 0.05}
        return source | ({"marker": self.marker} if self.marker else {})

    def archive_section(self) -> dict[str, Any]:
        archive = {"name": "archive", "kind": "posix", "root": str(self.dest)}
        return archive | ({"bwlimit": self.bwlimit} if self.bwlimit else {})

    def verb(self) -> list[str]:
        common = {"sync": self.sync, "batch": {"files": self.batch}, "streams": self.streams}
        archive = self.archive_section() | common
        oods = {"name": "oods", "kind": "hardlink", "root": str(self.root / "oods"), "of": "archive", **common}
        site: dict[str, Any] = {
            "sources": [self.source_section()],
            "destinations": [archive, oods] if self.handoff else [archive],
        }
        site |= {"ledger": self.ledger_url} if self.ledger else {}
        site |= {"retry": self.retry} if self.retry else {}
        self.place.write_text(json.dumps(site))
        for tree in self.trees.values():
            tree.mkdir(exist_ok=True)
        return ["run", str(self.place), "--once"]

    def assert_whole(self, *, attempts: int = 0) -> None:
        super().assert_whole(attempts=attempts)
        if self.handoff:
            for name in map(os.fsdecode, self.placed):
                assert os.path.samefile(self.dest / name, self.root / "oods" / name)


class Watch:
    """Looks at what readers see. A file that was found right is read again only when its inode says that it changed."""

    def __init__(self, made: Field) -> None:
        self.made = made
        self.known: dict[bytes, tuple[int, int, int]] = {}

    def look(self) -> list[str]:
        wrong = []
        for tree in map(os.fsencode, self.made.trees.values()):
            for path in walk(tree):
                found = os.stat(path)
                look = (found.st_ino, found.st_size, found.st_ctime_ns)
                if self.known.get(path) == look:
                    continue
                got = content_of(path)
                if self.made.placed.get(os.path.relpath(path, tree)) != got:
                    wrong.append(f"{path!r}: {len(got)} bytes")
                self.known[path] = look
        return wrong


@contextmanager
def watched(made: Field) -> Iterator[list[str]]:
    """Looks at the archive all the time; the list has whatever was visible and wrong."""
    seen: list[str] = []
    over = threading.Event()
    watch = Watch(made)

    def look() -> None:
        while not over.is_set():
            began = time.monotonic()
            seen.extend(watch.look())
            over.wait(max(0.003, time.monotonic() - began))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def walk(root: bytes) -> Iterator[bytes]:
    """Every regular file below `root` but `.skystow`."""
    for directory, names, files in os.walk(root):
        if directory == root and b".skystow" in names:
            names.remove(b".skystow")
        for name in files:
            yield os.path.join(directory, name)


def content_of(path: bytes) -> bytes:
    with open(path, "rb") as found:
        return found.read()


def staged(dest: Path) -> list[Path]:
    return sorted(path for path in (dest / ".skystow" / "staging").rglob("*"))


def staged_files(dest: Path) -> list[Path]:
    return [path for path in staged(dest) if path.is_file()]


def fill(made: Field, files: int, *, seed: int = 1, largest: int = 40_000) -> None:
    """`files` files of 0 … `largest` bytes in a few directories."""
    dice = random.Random(seed)
    made.source.mkdir(parents=True, exist_ok=True)
    for n in range(files):
        directory = [b"", b"night/", b"night/raft 22/"][n % 3]
        made.write(directory + b"image_%06d.fits" % n, dice.randbytes(0 if n == 7 else dice.randint(1, largest)))


def make_field(root: Path, files: int, *, seed: int = 1, largest: int = 40_000) -> Field:
    made = Field(root)
    fill(made, files, seed=seed, largest=largest)
    return made


def make_site(root: Path, files: int, *, seed: int = 1, largest: int = 40_000, **options: Any) -> Site:
    made = Site(root, **options)
    fill(made, files, seed=seed, largest=largest)
    return made


# ── waiting, always for something and never for ever ────────────────────────────────────────────────────────────


def wait_until(condition: Callable[[], object], what: str) -> None:
    due = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < due, f"waited in vain: {what}"
        time.sleep(0.02)


def wait_for_stop(process: subprocess.Popen[bytes]) -> None:
    """Until the process has stopped itself (SIGSTOP)."""

    def stopped() -> bool:
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert found is None or found.si_code == os.CLD_STOPPED, f"it ended instead: {process.communicate()}"
        return found is not None

    wait_until(stopped, "that it stops itself")


def resume(process: subprocess.Popen[bytes]) -> tuple[int, dict[str, Any], str]:
    """SIGCONT, and wait for the end: the exit code, what it said on stdout, and on stderr."""
    os.kill(process.pid, signal.SIGCONT)
    return ended(process)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, dict[str, Any], str]:
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, json.loads(out) if out.startswith(b"{") else {}, (err or b"").decode()
