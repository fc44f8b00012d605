"""What the tests of suprsync's database share: a site over one, its files, and where they go."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from skystow.adapters.suprsync.database import SuprSyncDatabase
from tests.suprsync import Database, files_below, md5
from tests.system.cli_kit import Bench

SITE = """\
ledger: sqlite:///ledger.db
sources:
  - name: suprsync
    kind: suprsync
    database: suprsync.db
    archives: [{archives}]
    root: data
    within: [data/smurf]
    poll: 100ms
    finalize: {{instance_id: suprsync-smurf, file_root: data/suprsync, settle: 0s}}
    {more}
destinations:
  - {destination}
  {destinations}
retry: {{first: 20ms, factor: 1, max_attempts: {attempts}}}
"""
LOCAL = "{name: remote, kind: posix, root: dst, min_free: 0}"


@dataclass
class Desk:
    """`data/smurf` is where publishers write, `data/suprsync` suprsync's file root, `dst` the remote base directory."""

    bench: Bench
    destination: str = LOCAL
    written: dict[str, bytes] = field(default_factory=dict)
    """By remote path."""

    def __post_init__(self) -> None:
        for name in ("data/smurf", "data/suprsync", "dst", "oods"):
            (self.here / name).mkdir(parents=True, exist_ok=True)
        (self.data / "README").write_text("files lie here")
        self.database = Database(self.here / "suprsync.db")
        self.write_site()

    @property
    def here(self) -> Path:
        return self.bench.here

    @property
    def data(self) -> Path:
        return self.here / "data" / "smurf"

    @property
    def site(self) -> Path:
        return self.here / "site.yaml"

    def write_site(self, more: str = "", destinations: str = "", attempts: int = 2, archives: str = "smurf") -> None:
        said = {"more": more, "destinations": destinations, "attempts": attempts, "archives": archives}
        self.site.write_text(SITE.format(destination=self.destination, **said))

    # ── files and rows ──────────────────────────────────────────────────────────────────────────────────────────

    def row_of(self, remote: str, content: bytes = b"starlight", **row: Any) -> dict[str, Any]:
        """A file, and the row that is to register it."""
        local = self.data / remote
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(content)
        usual = {"local_path": str(local), "local_md5sum": md5(content), "remote_path": remote}
        return usual | {"archive_name": "smurf"} | row

    def write(self, remote: str, content: bytes = b"starlight", **row: Any) -> int:
        [number] = self.database.register(self.row_of(remote, content, **row))
        return number

    def archived(self) -> dict[str, bytes]:
        return files_below(self.here / "dst")

    def finals(self, code: int | None = None) -> list[dict[str, Any]]:
        """What finalization files at the remote say, of one timecode or of all."""
        found = [yaml.safe_load(text) for name, text in self.archived().items() if name.endswith("_finalized.yaml")]
        return [each for each in found if code in (None, each["timecode"])]

    # ── the program ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        return self.bench.run(*args)

    def json(self, *args: str | Path, code: int = 0) -> dict[str, Any]:
        done = self.run(*args, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def once(self, code: int = 0, *options: str) -> dict[str, Any]:
        return self.json("run", self.site, "--once", *options, code=code)

    def standing(self, code: int) -> dict[str, Any]:
        """What `timecodes` says of one directory; empty: nothing."""
        found = self.json("suprsync", "timecodes", self.site)["timecodes"]
        return next((each for each in found if each["timecode"] == code), {})

    def dead(self) -> dict[str, str]:
        """Reasons by the row's id."""
        letters = self.json("dead-letters", "list", self.site)["dead_letters"]
        return {each["key"].partition(".")[0]: each["reason"] for each in letters}

    def opened(self) -> SuprSyncDatabase:
        return SuprSyncDatabase(str(self.database.path), place="the database")


def make_desk(bench: Bench, destination: str = LOCAL) -> Desk:
    desk = Desk(bench, destination)
    desk.database.make()
    return desk
