"""How demonstrations use skystow: as anybody would, by its command line and as a child process."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SKYSTOW = Path(sys.executable).with_name("skystow")

READY = 30.0
"""Seconds that the archiver has until it obeys."""

_TOWARDS = {"STANDBY": "start", "DISABLED": "enable", "FAULT": "standby"}
"""The next command on the way to ENABLED."""

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """Something did not go as it must, in a sentence."""


def skystow(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SKYSTOW), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def asked(*arguments: str | Path, lawful: Sequence[int] = (0,)) -> dict[str, Any]:
    """The one JSON object that a command answers. Raises `Trouble` where it ends otherwise than is `lawful`."""
    answer = skystow(*arguments, "--json")
    if answer.returncode not in lawful:
        raise Trouble(f"skystow {arguments[0]} ended with exit {answer.returncode}: {answer.stderr.strip()}")
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; none where the file is not there yet, and without those that a kill cut off or that are being
    written."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
        try:
            found.append(json.loads(line) if line[-1] == "\n" else None)
        except ValueError:
            continue
    return [line for line in found if line is not None]


def _mortal() -> Callable[[], None]:
    """For a child: to be killed when its parent is."""
    parent = os.getpid()

    def begin() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return begin


def started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A child that does not outlive us, not even where we are killed."""
    return subprocess.Popen(command, preexec_fn=_mortal())


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask it to end, and see that it does; its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = started(command)
    try:
        yield process
    finally:
        end(process)


class Archiver:
    """A site at work with its simulated camera, commanded until it is ENABLED. Where it is killed (SIGKILL) it is
    started again, as a service manager does; any other end before its time is trouble."""

    def __init__(self, site: Path, *options: str) -> None:
        self.site, self.restarts = site, 0
        self._command = [sys.executable, "-m", "skystow.wiring.rehearsal", str(site), *options]
        self._process = started(self._command)

    @property
    def pid(self) -> int:
        return self._process.pid

    def enable(self) -> None:
        """Raises `Trouble`."""
        deadline, verb = time.monotonic() + READY, "state"
        while True:
            answer = skystow("control", self.site, "archiver", verb, "--json")
            state = json.loads(answer.stdout).get("state", "") if answer.stdout else ""
            if state == "ENABLED":
                return
            if answer.returncode:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.look()
                    raise Trouble(f"the Archiver did not obey {verb}: {(answer.stderr or answer.stdout).strip()}")
                time.sleep(0.2)
            verb = _TOWARDS.get(state, "state")

    def look(self) -> None:
        """Raises `Trouble` where it has ended, and not by being killed."""
        code = self._process.poll()
        if code == -signal.SIGKILL:
            self.restarts += 1
            print("  the archiver was killed; it is started again", flush=True)
            self._process = started(self._command)
            self.enable()
        elif code is not None:
            raise Trouble(f"the archiver ended before its time, with exit {code}")

    def end(self) -> None:
        """Raises `Trouble` unless it ends well."""
        if self._process.poll() is None and (code := end(self._process)):
            raise Trouble(f"the archiver ended with exit {code} after SIGTERM")

    def __enter__(self) -> Archiver:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)
