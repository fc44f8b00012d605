"""Files and URLs that are no SQL ledger of ours: refused with a remedy, and left as they are."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.sqlite_kit import ledger as ledger
from tests.contract.sqlite_kit import opened, raw, refusal
from tests.contract.sqlite_kit import path as path

from skystow.adapters.ledger import SqlLedger, open_ledger, sqlite, upgrade
from skystow.adapters.memory import ManualClock
from skystow.errors import ConfigError, LedgerUnusable, SchemaMismatch
from skystow.testing.ledger_kit import ANNA, ONE, arrival

Unprivileged = Callable[..., "subprocess.CompletedProcess[str]"]


class TestRefusals:
    def test_not_a_database(self, path: Path) -> None:
        path.write_bytes(b"SIMPLE  =                    T" * 200)
        before = path.read_bytes()
        assert "not a database" in str(refusal(path))
        assert path.read_bytes() == before

    def test_a_damaged_one(self, ledger: SqlLedger, path: Path) -> None:
        ledger.admit([arrival(f"{n}") for n in range(50)], ONE)
        ledger.close()
        raw(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * (size - 100))
        assert "damaged" in str(refusal(path))

    def test_damage_found_later_is_told_as_such(self, ledger: SqlLedger, path: Path) -> None:
        ledger.admit([arrival(f"{n}") for n in range(500)], ONE)
        ledger.close()
        with closing(sqlite3.connect(path)) as connection:
            root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='transfers'").fetchone()[0]
            page = connection.execute("PRAGMA page_size").fetchone()[0]
        with path.open("r+b") as file:
            file.seek((root - 1) * page)
            file.write(b"\xff" * page)
        with closing(opened(path)) as again, pytest.raises(LedgerUnusable, match="damaged"):
            again.counts()

    def test_one_that_was_removed_while_we_were_at_work(self, path: Path) -> None:
        with closing(opened(path)) as ledger:
            ledger.admit([arrival("a")], ONE)
            for each in path.parent.glob(f"{path.name}*"):
                each.unlink()
            ledger._database.engine.dispose()  # the next connection is a new one, as that of another thread would be
            with pytest.raises(LedgerUnusable, match="not the one that we opened"):
                ledger.counts()

    def test_a_database_of_another_program(self, path: Path) -> None:
        raw(path, "CREATE TABLE songs (title TEXT)")
        before = path.read_bytes()
        assert "another program" in str(refusal(path))
        assert path.read_bytes() == before

    def test_another_program_that_has_no_tables_yet(self, path: Path) -> None:
        raw(path, "PRAGMA application_id=42", "PRAGMA user_version=1")
        assert "another program" in str(refusal(path))

    def test_a_newer_schema(self, ledger: SqlLedger, path: Path) -> None:
        raw(path, "UPDATE alembic_version SET version_num='9999'")
        fault = refusal(path)
        assert isinstance(fault, SchemaMismatch)
        assert "9999" in str(fault)
        with pytest.raises(SchemaMismatch, match="9999"):
            upgrade(f"sqlite:///{path}", clock=ManualClock())

    def test_an_older_schema_names_the_remedy(self, ledger: SqlLedger, path: Path) -> None:
        raw(path, "UPDATE alembic_version SET version_num='0000'")
        fault = refusal(path)
        assert isinstance(fault, SchemaMismatch)
        assert "skystow ledger upgrade" in fault.remedy

    def test_one_that_lost_its_version(self, ledger: SqlLedger, path: Path) -> None:
        raw(path, "DELETE FROM alembic_version")
        assert "no ledger of skystow" in str(refusal(path))

    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "lustre", "beegfs"])
    def test_a_network_file_system(self, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        point = str(path.parent.parent.resolve()).replace(" ", "\\040")
        mounts = path.with_name("mountinfo")
        mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:42 / {point} rw shared:7 - {kind} far:/data rw\n")
        monkeypatch.setattr(sqlite, "MOUNTINFO", str(mounts))
        assert f"network file system ({kind})" in str(refusal(path))
        assert not path.exists()

    def test_the_file_system_of_a_directory(self) -> None:
        mounts = (
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
            b"2 1 0:42 / /data rw - nfs far:/data rw\n"
            b"3 2 8:2 / /data/my\\040disk rw - xfs /dev/sdb1 rw\n"
            b"4 1 0:42 / /data/twice rw - nfs far:/data rw\n"
            b"5 1 8:3 / /data/twice rw - btrfs /dev/sdc1 rw\n"
        )
        asked = (b"/", b"/database", b"/data", b"/data/x", b"/data/my disk/x", b"/data/twice")
        told = [sqlite.file_system(directory, mounts) for directory in asked]
        assert told == [b"ext4", b"ext4", b"nfs", b"nfs", b"xfs", b"btrfs"]

    def test_no_directory(self, tmp_path: Path) -> None:
        assert "no directory" in str(refusal(tmp_path / "none" / "ledger.db"))
        assert not (tmp_path / "none").exists()

    def test_a_directory_in_its_place(self, path: Path) -> None:
        path.mkdir()
        assert "not a file" in str(refusal(path))

    @pytest.mark.parametrize("made_first", [False, True])
    def test_no_right_to_write(self, path: Path, made_first: bool, unprivileged: Unprivileged) -> None:
        if made_first:
            opened(path).close()
        path.parent.chmod(0o555)
        for each in path.parent.iterdir():
            each.chmod(0o444)
        program = (
            "import sys; from skystow.adapters.ledger import open_ledger\n"
            "from skystow.adapters.clock import SystemClock\n"
            "from skystow.errors import LedgerUnusable; from skystow.testing.ledger_kit import ANNA\n"
            "try: open_ledger(sys.argv[1], worker=ANNA, clock=SystemClock())\n"
            "except LedgerUnusable as fault: print(fault)\n"
        )
        done = unprivileged([sys.executable, "-c", program, f"sqlite:///{path}"])
        path.parent.chmod(0o755)
        assert "cannot write" in done.stdout, done.stderr

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
    def test_one_that_forgets(self, url: str) -> None:
        with pytest.raises(LedgerUnusable, match="no ledger that lasts"):
            open_ledger(url, worker=ANNA, clock=ManualClock())

    @pytest.mark.parametrize("url", ["oracle://host/db", "nonsense", "no-such-thing://x"])
    def test_a_url_of_nothing_we_know(self, url: str) -> None:
        with pytest.raises(ConfigError):
            open_ledger(url, worker=ANNA, clock=ManualClock())
