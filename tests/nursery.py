"""Runs the program in forks of one process that has everything imported (`skystow.testing.nursery`): each saves half a
second. What a fork cannot show, how Python itself starts, is for tests that start the program."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIMIT = 60.0
"""Seconds that one run may take."""

PYTHONS = ("PYTHON", "LC_", "LANG")
"""What begins so in the environment, Python looks at when it starts."""


class Nursery:
    """One run at a time."""

    def __init__(self, root: Path) -> None:
        self.out, self.err = root / "out", root / "err"
        self.home = os.getcwd()
        command = [sys.executable, "-m", "skystow.testing.nursery"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(self, plan: dict[str, Any] | None, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """With a saboteur, whose plan may be empty; None: without."""
        status = self._ended(plan, arguments, self.home, os.environ)
        return subprocess.CompletedProcess(arguments, status, self.out.read_bytes(), self.err.read_bytes())

    def ask(
        self, arguments: Sequence[str | bytes | Path], *, cwd: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` does it, with text."""
        assert not [key for key in env if key.startswith(PYTHONS) and env[key] != os.environ.get(key)]
        words = [os.fsdecode(word) for word in arguments]
        status = self._ended(None, words, str(cwd), env)
        return subprocess.CompletedProcess(words, status, self.out.read_text(), self.err.read_text())

    def _ended(self, plan: dict[str, Any] | None, arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> int:
        assert self.process.stdin is not None
        job = {"plan": plan, "arguments": [*arguments], "cwd": cwd, "env": dict(env)}
        job |= {"out": str(self.out), "err": str(self.err)}
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        child = int(self._answer(arguments))
        try:
            _, status = map(int, self._answer(arguments).split())
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            raise
        return status

    def _answer(self, arguments: Sequence[str]) -> bytes:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], LIMIT)[0]:
            raise subprocess.TimeoutExpired(arguments, LIMIT)
        return self.process.stdout.readline()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
