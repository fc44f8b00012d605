"""The example site as its tutorial builds it, with files as a SMuRF server has them: real MariaDB, real sshd, the gate.

300 files of each kind in CI; 5,000 with `pytest -s -m long tests/system/test_smurf_site.py`, which says how long each
part took.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.servers import Server
from tests.system.cli_kit import until
from tests.system.observatory_kit import Observatory, observatory, on_host, product

FILES = pytest.mark.parametrize(
    "files", [300, pytest.param(5_000, marks=[pytest.mark.long, pytest.mark.timeout(1_200)])]
)


@pytest.fixture
def site(tmp_path: Path, mariadb: Server, skystow_bin: Path, nursery: Nursery) -> Iterator[Observatory]:
    with observatory(tmp_path / "o", mariadb, skystow_bin, nursery) as made:
        made.set_up()
        yield made


@contextmanager
def told(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:7.1f} s  {what}")


def in_parts(site: Observatory, files: int) -> None:
    """Batches so small that there is work for two, and a middle to be met in; slow enough where there is little."""
    text = site.site.read_text()
    pace = f"batch: {{files: {files // 20}, size: 256MiB}}" + ("\n    bwlimit: 6MB/s" if files < 1_000 else "")
    assert "batch: {files: 5000, size: 256MiB}" in text
    site.site.write_text(text.replace("batch: {files: 5000, size: 256MiB}", pace))


@FILES
def test_every_registered_file_comes_home(site: Observatory, files: int) -> None:
    print()
    with told(f"{files:,} files written and registered"):
        site.observe(range(files))
    with told("check"):
        assert all(finding["ok"] for finding in site.run("check")["findings"])
    with told("run --once"):
        done = site.run("run", "--once")
    print(f"           {done['archived']:,} archived, {done['bytes'] / 1e6:,.0f} MB in {done['seconds']} s")
    assert (done["archived"], done["quarantined"], done["conflicts"], done["dead_letters"]) == (files, 0, 0, 0)
    assert done["bytes"] == sum(len(product(n).content) for n in range(files))
    with told("table, tree and ledger compared with what was registered: all there, no byte differs"):
        site.compare(range(files))
    assert site.events("claimed") == {1: files}

    one = product(files // 2)
    traced = site.run("trace", one.archived_as)
    assert (traced["state"], traced["size"]) == ("done", len(one.content))
    assert traced["origin"].endswith(f"@127.0.0.1:{site.data / one.path}")
    assert [event["step"] for event in traced["events"]] == ["admitted", "claimed", "delivered"]
    print(f"           trace {one.archived_as}: {traced['state']}, {traced['digest']}")

    in_parts(site, files)
    with told(f"{files:,} more files written and registered"):
        site.observe(range(files, 2 * files))
    with told("run --once on two hosts at once"):
        for archiver in [site.start(*on_host(f"archive{n}")) for n in (1, 2)]:
            site.ended(archiver)
    with told("compared"):
        site.compare(range(2 * files))
    assert site.events("claimed") == {1: 2 * files}, "a file was carried twice"
    shares = {host: n for host, n in site.carriers().items() if host in ("archive1", "archive2")}
    print(f"           {shares}")
    assert sum(shares.values()) == files
    assert len(shares) == 2


@FILES
def test_the_database_is_restarted_in_the_middle(site: Observatory, files: int) -> None:
    """Table and ledger are away at once, and come back."""
    print()
    in_parts(site, files)
    site.observe(range(files))
    with told("run --once, and the database killed and started again at a third and at two thirds"):
        archiver = site.start()
        for part in (files // 3, 2 * files // 3):
            until(lambda: len(site.archived()) >= part, archiver)  # noqa: B023 - called at once
            site.server.kill()
            site.server.start()
            assert archiver.poll() is None
            print(f"           restarted when {len(site.archived()):,} files were there")
        done = site.ended(archiver)
    assert (done["archived"], done["quarantined"], done["conflicts"]) == (files, 0, 0)
    with told("compared"):
        site.compare(range(files))
    assert site.run("run", "--once")["archived"] == 0
