"""A site whose disk has room for some files only: they go on, the others wait or are for a person, and it is said."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.nursery import Nursery
from tests.system.cli_kit import LIMIT, Bench
from tests.system.test_remote_faults import small_disk

SITE = """\
ledger: sqlite:///ledger.db
sources:
  - {name: instrument, kind: directory, root: src, quiet_for: 0}
destinations:
  - {name: archive, kind: posix, root: small, min_free: 0}
"""


def test_files_that_find_no_room_wait_and_the_others_go_on(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> None:
    bench = Bench(tmp_path, skystow_bin, nursery)
    for name, size in (("1-huge", 20_000_000), ("2-large", 10_000_000), ("3-small", 100)):
        bench.write(name, bytes(size))
        time.sleep(0.02)  # the oldest goes first
    (tmp_path / "site.yaml").write_text(SITE)
    filled = ["sh", "-c", f'head -c 8000000 /dev/zero > {tmp_path}/small/filler && exec "$@"', "sh"]
    command = [
        *small_disk(tmp_path / "small", "16m"),
        *filled,
        str(skystow_bin),
        "run",
        "site.yaml",
        "--once",
        "--json",
    ]
    began = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert time.monotonic() - began < 30
    assert done.returncode == 5, done.stderr
    said = json.loads(done.stdout)
    assert (said["archived"], said["quarantined"], said["failed"]) == (1, 1, 1)
    assert {each["path"]: each["fault"] for each in said["problems"]} == {"1-huge": "too-large", "2-large": "no-room"}
    assert "make some" in bench.run("trace", "site.yaml", "2-large").stdout
    assert "A person must act" in bench.run("trace", "site.yaml", "1-huge").stdout
