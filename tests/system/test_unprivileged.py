"""The fixture that permission tests stand on: permission bits apply, whoever runs the tests."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conftest import Unprivileged


def test_permission_bits_apply(unprivileged: Unprivileged, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.write_text("secret")
    closed.chmod(0)
    ran = unprivileged(["cat", closed])
    assert ran.returncode == 1
    assert "Permission denied" in ran.stderr


def test_the_interpreter_and_what_is_open_can_be_reached(unprivileged: Unprivileged, tmp_path: Path) -> None:
    code = "import pathlib, sys, skystow; pathlib.Path(sys.argv[1]).write_text('written')"
    ran = unprivileged([sys.executable, "-c", code, tmp_path / "open"])
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "open").read_text() == "written"
