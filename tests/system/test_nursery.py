"""A fork of the nursery and the program that a person starts say and do the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.system.cli_kit import Bench

COMMANDS: list[list[str | bytes]] = [
    ["--version"],
    ["archive", "--help"],
    ["archive", "src", "dst", "--dry-run", "--json"],
    ["archive", "nowhere", "dst"],
    ["archive", "src", "--no-such-option"],
    ["status", "dst"],
    ["trace", "dst", b"odd \xff.fits"],
    ["run", "$SITE"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: os.fsdecode(b" ".join(map(os.fsencode, words))))
def test_the_same_as_the_program(tmp_path: Path, skystow_bin: Path, nursery: Nursery, words: list[str | bytes]) -> None:
    plain, forked = Bench(tmp_path, skystow_bin), Bench(tmp_path, skystow_bin, nursery)
    plain.write(b"odd \xff.fits")
    plain.write("new\r\nline")

    def shown(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
        return done.returncode, done.stdout, done.stderr

    env = {"COLUMNS": "72", "SITE": "is not looked at"}
    one = shown(plain.run(*words, env=env))
    assert shown(forked.run(*words, env=env)) == one
    assert one[1] + one[2] != ""


def test_where_it_is_and_what_its_environment_is(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> None:
    """Each is its own: neither ours nor that of the one before."""
    for name, columns in (("one", 50), ("two", 78), ("three", 50)):
        bench = Bench(tmp_path / name, skystow_bin, nursery)
        bench.write(name)
        assert bench.json("archive", "src", "dst")["archived"] == 1
        assert (bench.dst / name).read_bytes() == b"starlight"
        told = bench.run("archive", "--help", env={"COLUMNS": str(columns)}).stdout
        assert columns - 12 < max(map(len, told.splitlines())) <= columns
