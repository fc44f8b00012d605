"""How a command ends: exit codes, errors in a few lines, signals, and threads that hang in the kernel."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from enum import IntEnum
from types import FrameType, TracebackType
from typing import NoReturn

from skystow.cli.present import emit, tell
from skystow.errors import ConfigError, FileFault, OperatorFault, PlaceFault, SkystowError, Stopped, UnfitHost
from skystow.service.halt import Halt


class Exit(IntEnum):
    WELL = 0
    OURS = 1
    USAGE = 2
    PEOPLE = 3
    DAMAGE = 4
    UNFINISHED = 5


PATIENCE = 4.0
"""Seconds that threads have to end by themselves after Ctrl-C or SIGTERM."""

HEARING = 0.2
"""Seconds within which a signal is heard, at the latest."""

LINGER = 0.5
"""Seconds that threads have to end by themselves after the work is done."""


def conduct(
    body: Callable[[Halt], int], *, json: bool = False, graceful: bool = False, serves: bool = False
) -> NoReturn:
    """Run the body of a command and leave the process with its exit code.

    The body runs in a thread of its own, so that this one is always there to hear a signal. The first sets `halt` and
    gives the body `PATIENCE` seconds (none, unless it is `graceful`); a second one ends the process at once. `serves`:
    to be stopped is how this command ends well.
    """
    halt, heard = Halt(), list[int]()

    def leave_after(number: int) -> int:
        return Exit.WELL if serves else 128 + number

    def interrupted(number: int, _frame: FrameType | None) -> None:
        if heard or not graceful:
            os._exit(leave_after(number))
        heard.append(number)
        killer = threading.Timer(PATIENCE, os._exit, (leave_after(number),))
        killer.daemon = True
        killer.start()
        halt.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    thread = ThreadPoolExecutor(1, "skystow")
    try:
        future = thread.submit(body, halt)
        while not wait([future], timeout=HEARING).done:
            pass  # a signal that comes just before a wait begins is heard only after it
        code = int(future.result())
    except Stopped:
        code = Exit.OURS  # replaced below: nobody else sets `halt`
    except SkystowError as error:
        explain(error, json=json)
        code = _code(error)
    thread.shutdown(wait=False)
    leave(leave_after(heard[0]) if heard else code)


def _code(error: SkystowError) -> Exit:
    match error:
        case OperatorFault() | UnfitHost():  # the latter only where there is nothing else to go on with
            return Exit.USAGE
        case PlaceFault():
            return Exit.UNFINISHED
        case FileFault():
            return Exit.PEOPLE
    return Exit.OURS


def explain(error: SkystowError, *, json: bool) -> None:
    """What is wrong and what to do, on stderr; for programs on stdout too."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    tell(f"skystow: {error.message}")
    for problem in problems:
        tell(f"  {problem}")
    if error.remedy:
        tell(f"  → {error.remedy}")
    if json:
        emit({"error": error.message, "code": error.code, "problems": list(problems), "remedy": error.remedy})


def unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    """Our own fault (`sys.excepthook`): one line for the person, the traceback for us."""
    lines = traceback.format_exception(kind, error, trace)
    if os.environ.get("SKYSTOW_TRACEBACK"):
        tell("".join(lines).rstrip())
        where = "see above"
    else:
        with tempfile.NamedTemporaryFile(
            "w", prefix="skystow-", suffix=".traceback", delete=False, errors="backslashreplace"
        ) as file:
            file.writelines(lines)
        where = f"the details are in {file.name}"
    tell(f"skystow: our own fault: {kind.__name__}: {error}; nothing archived is lost; {where}")
    leave(Exit.OURS)


def leave(code: int) -> NoReturn:
    """End the process, even where a thread hangs in the kernel and nobody can wait for it."""
    deadline = time.monotonic() + LINGER
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if any(
        thread.is_alive() and not thread.daemon
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
    ):
        os._exit(code)
    gc.freeze()  # the interpreter's last look for cycles would take longer than many a command
    sys.exit(code)
