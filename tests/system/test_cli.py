"""What holds for every command: help, start time, versions, our own faults."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMANDS = [
    "archive", "run", "status", "trace", "retry", "ignore", "resolve", "retire", "verify", "check", "ledger",
]  # fmt: skip


def ask(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=60, check=False)


def test_help_tells_every_command_and_exit_code(skystow_bin: Path) -> None:
    told = ask(skystow_bin, "--help")
    assert told.returncode == 0
    assert told.stderr == ""
    for word in (*COMMANDS, "  3    ", "  4    ", "  5    ", "  130  ", "  143  "):
        assert word in told.stdout


@pytest.mark.parametrize("command", [*COMMANDS, "ledger upgrade"])
def test_every_command_has_help(skystow_bin: Path, command: str) -> None:
    told = ask(skystow_bin, *command.split(), "--help")
    assert told.returncode == 0
    assert f"Usage: skystow {command}" in told.stdout
    if command != "ledger":
        assert "--json" in told.stdout


def test_help_comes_quickly(skystow_bin: Path, record_property: Callable[[str, object], None]) -> None:
    """Processor time, because the machine may be busy with other tests; on an idle one it is the time that passes."""
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ask(skystow_bin, "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    record_property("help_seconds", min(took))
    assert min(took) < 0.3


def test_help_imports_nothing_that_a_command_alone_needs() -> None:
    code = "import sys, skystow.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert loaded.isdisjoint({"sqlalchemy", "alembic", "pydantic", "yaml", "structlog", "blake3", "asyncio"})


def test_the_module_is_the_program(skystow_bin: Path) -> None:
    module = subprocess.run(
        [sys.executable, "-m", "skystow", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert module.stdout == ask(skystow_bin, "--version").stdout
    assert module.stdout.startswith("skystow ")


def test_without_a_command_there_is_help_and_an_unknown_one_is_an_error(skystow_bin: Path) -> None:
    assert "Usage: skystow" in (told := ask(skystow_bin)).stdout + told.stderr
    assert ask(skystow_bin, "archve").returncode == 2


FAULTY = """
import sys
from skystow.cli import _unexpected
from skystow.cli.exits import conduct
sys.excepthook = _unexpected
def body(halt):
    raise ZeroDivisionError("a bug")
conduct(body)
"""


def test_our_own_fault_is_one_line_and_the_traceback_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAULTY]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "our own fault: ZeroDivisionError: a bug" in done.stderr
    (kept,) = tmp_path.glob("skystow-*.traceback")
    assert "ZeroDivisionError: a bug" in kept.read_text()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"SKYSTOW_TRACEBACK": "1"}
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
