"""What the tests of the command line share: trees, and the program as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nursery import PYTHONS, Nursery

LIMIT = 60.0
"""Seconds that a command may take."""


@dataclass
class Bench:
    """A directory with `src`, `dst` and whatever a test adds; commands run in it."""

    here: Path
    program: Path
    nursery: Nursery | None = None
    """Runs the commands that end by themselves."""

    @property
    def src(self) -> Path:
        return self.here / "src"

    @property
    def dst(self) -> Path:
        return self.here / "dst"

    def write(self, name: str | bytes, content: bytes = b"starlight") -> None:
        path = os.path.join(os.fsencode(self.src), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def run(self, *args: str | bytes | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        whole = {**os.environ, **(env or {})}
        if self.nursery is not None and not any(key.startswith(PYTHONS) for key in env or ()):
            return self.nursery.ask(args, cwd=self.here, env=whole)
        return subprocess.run(
            [self.program, *args],
            cwd=self.here,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env=whole,
        )

    def json(self, *args: str | bytes | Path, code: int = 0) -> dict[str, Any]:
        """The one JSON object that a command prints; the exit code is compared."""
        done = self.run(*args, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        (line,) = done.stdout.splitlines()
        document = json.loads(line)
        assert isinstance(document, dict)
        return document

    def archive(self, *options: str, code: int = 0) -> dict[str, Any]:
        return self.json("archive", self.src, self.dst, *options, code=code)

    @contextmanager
    def start_env(self, env: dict[str, str], *args: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Until the block is left; then it is asked to end."""
        with subprocess.Popen(
            [self.program, *args],
            cwd=self.here,
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, *args], cwd=self.here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Poll until `true()`; fails after `LIMIT` seconds, or when the process ends before."""
    due = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < due, "it never came true"
        assert process is None or process.poll() is None, f"the program ended before, with {process.returncode}"
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, float, str, str]:
    """Send a signal; returns the exit code, the seconds that the end took, stdout and stderr."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, time.monotonic() - began, out, err


SITE = """\
ledger: sqlite:///ledger.db
sources:
  - name: instrument
    kind: directory
    root: src
    quiet_for: 0
destinations:
  - {name: archive, kind: posix, root: dst, min_free: 0}
  - {name: oods, kind: hardlink, of: archive, root: oods, owned: false}
retry: {first: 50ms, max_attempts: 2}
"""


def make_site(bench: Bench, text: str = SITE) -> Path:
    """A site file, and the directories that the places need."""
    for name in ("src", "dst", "oods"):
        (bench.here / name).mkdir(exist_ok=True)
    site = bench.here / "site.yaml"
    site.write_text(text)
    return site
