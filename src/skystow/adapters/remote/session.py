"""One conversation with the helper at a remote end: requests out, answers in, and a limit to every wait."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from skystow.errors import Stopped
from skystow.ports import Stop

BOOTSTRAP = "exec python3 -c 'import sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))'"
"""The command that the remote shell sees; never anything else, so that a forced command can compare it."""
GREETING = b"skystow-helper\n"
LOOK = 0.2
"""Seconds between two looks at `stop`."""


class Broken(Exception):
    """The conversation is over; `code` is ssh's exit code, None where we ended it, `said` what it wrote to stderr."""

    def __init__(self, why: str, *, code: int | None = None, said: str = "", heard: bytes = b"") -> None:
        super().__init__(why)
        self.code, self.said, self.heard = code, said, heard


@lru_cache(maxsize=1)
def program() -> bytes:
    return importlib.resources.files("skystow.adapters.remote").joinpath("helper.py").read_bytes()


class Session:
    """`argv` is the ssh command without the remote one. One thread at a time. Raises `Broken`.

    `patience`: seconds of silence after which the other end is held to be gone.
    """

    def __init__(self, argv: Sequence[str], patience: float) -> None:
        self.patience = patience
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        self._process = subprocess.Popen(
            [*argv, BOOTSTRAP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for us; we end it ourselves
            env={**os.environ, "LC_ALL": "C"},
            bufsize=0,
        )
        self._in, self._out = (pipe.fileno() if pipe else -1 for pipe in (self._process.stdin, self._process.stdout))
        os.set_blocking(self._in, False)
        self._buffer = bytearray()
        self.facts: dict[str, Any] = {}

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def greet(self, stop: Stop | None) -> None:
        text = program()
        self._write(b"%d\n" % len(text) + text, stop)
        while len(self._buffer) < len(GREETING) and self._buffer[: len(GREETING)] == GREETING[: len(self._buffer)]:
            self._fill(stop)
        if not self._buffer.startswith(GREETING):
            with contextlib.suppress(Broken):  # what else it says may tell why
                while len(self._buffer) < 400:
                    self._fill(stop, patience=1.0)
            raise Broken("something else than our helper answered", **self._last_words())
        del self._buffer[: len(GREETING)]
        self.facts = self._answer(stop)["ok"]

    def call(self, request: dict[str, Any], stop: Stop | None) -> dict[str, Any]:
        """The answer, {"ok": …} or {"errno": …, "text": …}."""
        self._ask(request, stop)
        return self._answer(stop)

    def stream(self, request: dict[str, Any], stop: Stop | None) -> Iterator[Any]:
        """The parts of an answer; the last thing yielded is the answer itself. Not to be left in the middle."""
        self._ask(request, stop)
        while True:
            answer = self._frame(stop)
            if "part" in answer:
                yield answer["part"]
            elif "raw" in answer:
                yield self._read(answer["raw"], stop)
            elif "beat" not in answer:
                yield answer
                return

    def end(self) -> None:
        """Close the conversation; the helper ends by itself, and whatever does not is killed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._errors.close()

    # frames

    def _ask(self, request: dict[str, Any], stop: Stop | None) -> None:
        text = json.dumps(request).encode()
        self._write(b"%d\n" % len(text) + text, stop)

    def _answer(self, stop: Stop | None) -> dict[str, Any]:
        while "beat" in (answer := self._frame(stop)):
            pass
        return answer

    def _frame(self, stop: Stop | None) -> dict[str, Any]:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(stop)
        length = int(self._buffer[:end])
        del self._buffer[: end + 1]
        answer = json.loads(self._read(length, stop))
        if not isinstance(answer, dict):
            raise Broken("an answer is not ours")
        return answer

    def _read(self, length: int, stop: Stop | None) -> bytes:
        while len(self._buffer) < length:
            self._fill(stop)
        found = bytes(self._buffer[:length])
        del self._buffer[:length]
        return found

    def _fill(self, stop: Stop | None, patience: float | None = None) -> None:
        self._await(self._out, select.POLLIN, stop, patience or self.patience)
        block = os.read(self._out, 1 << 20)
        if not block:
            code = self._code()
            raise Broken("the connection ended", code=code, **self._last_words())
        self._buffer += block

    def _write(self, data: bytes, stop: Stop | None) -> None:
        view = memoryview(data)
        while view:
            self._await(self._in, select.POLLOUT, stop, self.patience)
            try:
                view = view[os.write(self._in, view) :]
            except BrokenPipeError:
                code = self._code()
                heard = b"" if self._out < 0 else self._drain()
                raise Broken("the connection ended", code=code, **{**self._last_words(), "heard": heard}) from None

    def _drain(self) -> bytes:
        os.set_blocking(self._out, False)
        try:
            return bytes(self._buffer) + (os.read(self._out, 4096) or b"")
        except BlockingIOError:
            return bytes(self._buffer)

    def _await(self, fd: int, event: int, stop: Stop | None, patience: float) -> None:
        poll, due = select.poll(), time.monotonic() + patience
        poll.register(fd, event)
        while not poll.poll(min(LOOK, patience) * 1000):
            if stop is not None and stop.is_set():
                raise Stopped("stopped while a remote end was at work")
            if time.monotonic() > due:
                raise Broken(f"nothing was heard for {patience:g} s", **self._last_words())

    def _code(self) -> int | None:
        try:
            return self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            return None

    def _last_words(self) -> dict[str, Any]:
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), 4096, max(0, size - 4096))
        return {"said": said.decode("utf-8", "backslashreplace").strip(), "heard": bytes(self._buffer[:400])}
