"""What `strace` saw: of one run, or of a run and of what it started at a remote end, in one order.

The traces of both ends are merged by their stamps, which are one machine's wall clock. A line bears the moment at which
its call began (or, where it was interrupted, went on): so a call of one end is before a call of the other if it is
known to have begun before, and what must have *ended* is told by what the same thread began afterwards.
"""

from __future__ import annotations

import ast
import heapq
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TRACED = (
    "fsync,fdatasync,syncfs,linkat,link,rename,renameat,renameat2,mkdirat,mkdir,openat,write,pwrite64,ftruncate,"
    "fchmod,fchown,utimensat,unlinkat,unlink,close,clone,clone3,fork,vfork"
)


def strace(text: int = 24, more: str = "") -> list[str]:
    """The command, but for `-o FILE` and what is to be traced. `text`: bytes of a string that are shown; `more`: calls
    besides `TRACED`, each with a comma before it."""
    quick = ["--seccomp-bpf", "-f", "-y", "-qq", "-ttt"]
    return ["strace", *quick, "-s", str(text), "-e", f"trace={TRACED}{more}", "-e", "signal=none"]


STEP = 1000
"""Between the numbers of two lines, so that a test can put calls between them."""

_LINE = re.compile(r"(\d+) +([\d.]+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?.*")
_FD = re.compile(r"(AT_FDCWD|\d+)<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Call:
    """`start` and `end` are numbers of lines of the trace; `process` is whose descriptors its thread has."""

    thread: str
    process: str
    name: str
    start: int
    end: int
    args: str
    result: int
    opened: str

    @cached_property
    def fd(self) -> str:
        """The number of its first descriptor."""
        found = _FD.search(self.args)
        return found[1] if found else ""

    @cached_property
    def fds(self) -> list[str]:
        """The paths of its descriptors."""
        return [path for _, path in _FD.findall(self.args)]

    @cached_property
    def texts(self) -> list[bytes]:
        return [ast.literal_eval(f'b"{text}"') for text in _TEXT.findall(self.args)]

    def paths(self, where: str = "") -> list[str]:
        """Absolute paths of what its arguments name; an old call says no directory, then it is `where`."""
        found = []
        for match in re.finditer(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', self.args):
            found.append(match[2] if match[2].startswith("/") else f"{match[1] or where}/{match[2]}")
        return found


def merged(traces: Iterable[Path]) -> str:
    """One trace of several, which were made at the same time on one machine."""
    return "\n".join(heapq.merge(*(path.read_text().splitlines() for path in traces), key=_stamp)) + "\n"


def _stamp(line: str) -> float:
    found = _LINE.fullmatch(line)
    assert found is not None, line
    return float(found[2])


def parse(trace: str) -> list[Call]:
    calls, begun = [], dict[str, tuple[int, str]]()
    for number, line in enumerate(trace.splitlines()):
        found = _LINE.fullmatch(line)
        assert found is not None, line
        thread, _, text = found.groups()
        start = number
        if text.endswith("<unfinished ...>"):
            begun[thread] = (number, text.removesuffix("<unfinished ...>").rstrip())
            continue
        if rest := _RESUMED.fullmatch(text):
            start, head = begun.pop(thread)
            text = head + rest[1]
        if call := _CALL.fullmatch(text):
            calls.append(Call(thread, "", call[1], start * STEP, number * STEP, call[2], int(call[3]), call[4] or ""))
    return _in_processes(calls)


def _in_processes(calls: list[Call]) -> list[Call]:
    above = {str(c.result): c.thread for c in calls if c.name.startswith("clone") and "CLONE_THREAD" in c.args}

    def process(thread: str) -> str:
        while thread in above:
            thread = above[thread]
        return thread

    return [Call(c.thread, process(c.thread), c.name, c.start, c.end, c.args, c.result, c.opened) for c in calls]
