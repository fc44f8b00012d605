"""Two archivers with a ledger each bring files into one DEST: neither takes away what the other has in its hands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.sshd import Sshd, sshd
from tests.system.cli_kit import LIMIT, Bench, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.mark.parametrize("far", [False, True], ids=["local", "push"])
def test_a_slow_copy_outlives_the_start_of_another_archiver(
    tmp_path: Path, skystow_bin: Path, nursery: Nursery, server: Sshd, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    monkeypatch.setenv("SKYSTOW_SSH_CONFIG", str(server.here / "ssh_config"))
    bench = Bench(tmp_path, skystow_bin, nursery)
    slow = os.urandom(4_000_000)
    bench.write("slow.fits", slow)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/quick.fits").write_bytes(b"light")
    bench.dst.mkdir()
    dest = f"{server.name}:{bench.dst}" if far else str(bench.dst)
    first, second = (f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second"))
    staging = bench.dst / ".skystow/staging"

    process = bench.start("archive", bench.src, dest, "--bwlimit", "700kB/s", "--ledger", first, "--quiet")
    until(lambda: staging.is_dir() and any(staging.iterdir()), process)
    [area] = staging.iterdir()
    assert bench.json("archive", tmp_path / "other", dest, "--ledger", second)["archived"] == 1
    assert process.poll() is None, "the slow copy was over too soon to tell"
    assert area.is_dir()
    _, said = process.communicate(timeout=LIMIT)
    assert (process.returncode, said) == (0, "")
    assert (bench.dst / "slow.fits").read_bytes() == slow
    assert (bench.dst / "quick.fits").read_bytes() == b"light"
    steps = [event["step"] for event in bench.json("trace", dest, "slow.fits", "--ledger", first)["events"]]
    assert steps.count("claimed") == 1
