"""A site over suprsync's database: what was registered, compared with the database, the remote tree and the ledger."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.crash.kit import walk
from tests.crash.smurf_kit import FarSite
from tests.suprsync import Database, md5, timecode

INSTANCE = "suprsync-smurf"


@dataclass
class SuprSite(FarSite):
    """Rows by their ids: (name at the source, remote path). `finals`: so many finalization files must be there in the
    end."""

    rows: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    old: set[int] = field(default_factory=set)
    """Rows that suprsync has done with."""
    finals: int = 0
    retire: bool = False

    @property
    def database(self) -> Database:
        return Database(self.root / "suprsync.db")

    @property
    def file_root(self) -> Path:
        return self.source / "suprsync"

    @property
    def placed(self) -> dict[bytes, bytes]:
        """Finalization files are as they lie here."""
        entered = {os.fsencode(row["remote_path"]): Path(row["local_path"]) for row in self.entered().values()}
        found = {remote: local.read_bytes() for remote, local in entered.items() if local.exists()}
        return {remote: self.truth[name] for name, remote in self.rows.values()} | found

    def entered(self) -> dict[int, dict[str, Any]]:
        """Rows of finalization files."""
        return {n: row for n, row in self.database.rows().items() if n not in self.rows and n not in self.old}

    def source_section(self) -> dict[str, Any]:
        source = {"name": "suprsync", "kind": "suprsync", "root": str(self.source), "poll": 0.1}
        source |= {"database": str(self.database.path), "archives": ["smurf"]}
        source |= {"retire": {"after": 0}} if self.retire else {}
        return source | {"finalize": {"instance_id": INSTANCE, "file_root": str(self.file_root), "settle": 0}}

    def register(self, name: bytes, remote: bytes, **more: Any) -> int:
        row = {"local_path": os.fsdecode(self.at_source(name)), "local_md5sum": md5(self.truth[name])}
        row |= {"remote_path": os.fsdecode(remote), "archive_name": "smurf"}
        [number] = self.database.register(row | more)
        self.rows[number] = (name, remote)
        return number

    def assert_table(self) -> None:
        """Each row is told that it is copied, and that nothing failed."""
        for number in self.database.rows().keys() - self.old:
            assert self.database.told(number) == (True, 0)

    def assert_finalized(self) -> None:
        """Once each: entered once, lying here once, delivered once, and said to be so only then."""
        entered = self.entered()
        assert len(entered) == self.finals, entered
        here = {os.fsdecode(path) for path in walk(os.fsencode(self.file_root)) if b"/.skystow/" not in path}
        assert here == {row["local_path"] for row in entered.values()}
        assert [path for path in (self.file_root / ".skystow").rglob("*") if path.is_file()] == []
        codes = []
        for number, row in entered.items():
            said = yaml.safe_load((self.dest / row["remote_path"]).read_bytes())
            codes.append(said["timecode"])
            line = self.database.directory(said["timecode"])
            assert (line["finalize_file_id"], line["completed"], line["synced"], line["finalized"]) == (number, 1, 1, 1)
        assert len(set(codes)) == self.finals

    def assert_whole(self, *, attempts: int = 0) -> None:
        """Database, tree and ledger are what was registered."""
        root = os.fsencode(self.source)
        for row in self.entered().values():
            local = os.fsencode(row["local_path"])
            self.truth[os.path.relpath(local, root)] = Path(row["local_path"]).read_bytes()
        super().assert_whole(attempts=attempts)
        self.assert_table()
        self.assert_finalized()


def make_supr(root: Path, files: int, *, seed: int = 1, **options: Any) -> SuprSite:
    """Files of today, each with its row."""
    made, dice = SuprSite(root, sync="fsync", **options), random.Random(seed)
    made.file_root.mkdir(parents=True)
    made.database.make()
    for n in range(files):
        name = b"smurf/%d.g3" % n
        made.write(name, dice.randbytes(dice.randint(1, 20_000)))
        made.register(name, b"%d/crate 1/%d.g3" % (timecode(), n))
    return made


def make_ripe(root: Path, finals: int, **options: Any) -> SuprSite:
    """Nothing is to be copied: suprsync has done that, and removed the files. So many directories are to be
    finalized."""
    made = make_supr(root, 0, finals=finals, **options)
    for n in range(2 * finals):
        row: dict[str, Any] = {
            "local_path": f"{made.source}/smurf/{n}",
            "remote_path": f"{timecode(2 + n % finals)}/a/{n}",
        }
        row |= {
            "archive_name": "smurf",
            "local_md5sum": md5(b""),
            "remote_md5sum": md5(b""),
            "copied": 1_700_000_000.0,
            "removed": 1.0,
        }
        made.old.update(made.database.register(row))
    return made
