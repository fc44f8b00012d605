"""The directory source on real files: what it takes, what it skips, whether its place is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import EMPTY, DirectoryOptions, DirectorySource
from skystow.adapters.tree import LocalTree
from skystow.errors import ConfigError, Unreachable
from skystow.model.layout import Layout
from skystow.model.records import Arrival, Skipped
from tests.system.directory_kit import NEVER, MakeLab


class TestAsItIs:
    def test_every_regular_file_at_once(self, lab: MakeLab) -> None:
        it = lab()
        names = {"a.fits", ".b.fits.Xy12zA", "c.part", "d/e/f.tmp", ".hidden/g", "new\nline", "-rf", "ü"}
        for name in names:
            it.write(name)
        with (it.root / "open").open("w") as still_open:
            still_open.write("half")
            assert it.sweep() == names | {"open"}
        assert it.skipped == {}
        assert it.source.settling() == 0

    def test_what_is_no_file_is_skipped_and_named(self, lab: MakeLab, tmp_path: Path, monkeypatch: Any) -> None:
        it = lab()
        it.write("d/file")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret").write_text("secret")
        (it.root / "out").symlink_to(tmp_path / "outside")
        (it.root / "d" / "up").symlink_to("..")
        (it.root / "loop").symlink_to("loop")
        (it.root / "dangling").symlink_to("nothing")
        os.mkfifo(it.root / "pipe")
        (it.root / "empty" / "inner").mkdir(parents=True)
        monkeypatch.chdir(it.root)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
        assert it.sweep() == {"d/file"}
        assert it.skipped == {
            "out": "symbolic link",
            "d/up": "symbolic link",
            "loop": "symbolic link",
            "dangling": "symbolic link",
            "pipe": "FIFO",
            "socket": "socket",
            "empty/inner": "empty directory",
        }

    def test_devices_are_skipped(self) -> None:
        source = DirectorySource(
            "dev",
            LocalTree(b"/dev", place="dev"),
            archive="a",
            layout=Layout("{relative_path}"),
            options=DirectoryOptions(),
            clock=SystemClock(),
        )
        found = {str(f.origin): f for batch in source.sweep(stop=NEVER) for f in batch}
        null = found["null"]
        assert isinstance(null, Skipped)
        assert null.reason == "character device"

    def test_our_own_directory_is_not_looked_at(self, lab: MakeLab) -> None:
        it = lab()
        it.write(".skystow/ledger.db")
        it.write("d/.skystow/staged")
        it.write("d/x")
        assert it.sweep() == {"d/x"}
        assert it.skipped == {}

    def test_exclude(self, lab: MakeLab) -> None:
        it = lab(exclude=("*.log", "/raw/**", "lost+found"))
        for name in ("a.log", "d/b.log", "d/c.fits", "raw/x", "raw/y/z", "d/raw/kept", "lost+found/1", "lost+found/2"):
            it.write(name)
        assert it.sweep() == {"d/c.fits", "d/raw/kept"}
        assert it.skipped == {
            "a.log": "excluded by ‘*.log’",
            "d/b.log": "excluded by ‘*.log’",
            "raw": "excluded by ‘/raw/**’",
            "lost+found": "excluded by ‘lost+found’",
        }

    def test_a_malformed_pattern_is_refused(self, lab: MakeLab) -> None:
        with pytest.raises(ConfigError, match="without its"):
            lab(exclude=("[ab",))

    def test_names_that_the_layout_refuses_are_skipped_with_its_reason(self, lab: MakeLab) -> None:
        it = lab(layout="raw-{file_name}")
        it.write("n" * 252)
        it.write("d/m")
        assert it.sweep() == {"d/m"}
        assert [str(a.path) for a in it.arrivals] == ["raw-m"]
        assert "256 bytes" in it.skipped["n" * 252]

    def test_what_is_known_of_a_file(self, lab: MakeLab) -> None:
        it = lab(layout="{ctime5}/{file_type}/{file_name}", priority=7, order="newest")
        path = it.write("d/1564799250_b1.txt", "12345")
        os.utime(path, ns=(1, 1_564_799_250_000_000_001))
        it.sweep()
        [arrival] = it.arrivals
        found = path.stat()
        assert str(arrival.path) == "15647/txt/1564799250_b1.txt"
        assert arrival.fingerprint.size == 5
        assert arrival.fingerprint.mtime_ns == 1_564_799_250_000_000_001
        assert (arrival.fingerprint.inode, arrival.fingerprint.ctime_ns) == (found.st_ino, found.st_ctime_ns)
        assert (arrival.rank, arrival.priority) == (-1_564_799_250_000_000_001, 7)

    def test_names_are_bytes_in_any_locale(self, tmp_path: Path) -> None:
        (tmp_path / "ü").mkdir()
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xc3\xbc/\xff\xe4.fits")).touch()
        program = """
import sys, threading
from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import DirectoryOptions, DirectorySource
from skystow.adapters.tree import LocalTree
from skystow.model.layout import Layout
from skystow.model.records import path_bytes
tree = LocalTree(sys.argv[1], place="s")
source = DirectorySource(
    "s", tree, archive="a", layout=Layout("{relative_path}"), options=DirectoryOptions(), clock=SystemClock()
)
[[arrival]] = source.sweep(stop=threading.Event())
print(arrival.key == path_bytes(arrival.path) == path_bytes(arrival.origin) == b"\\xc3\\xbc/\\xff\\xe4.fits")
print(tree.stat(arrival.origin) == arrival.fingerprint, sys.getfilesystemencoding())
"""
        for encoding, variables in {
            "utf-8": {"LC_ALL": "C.UTF-8"},
            "ascii": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        }.items():
            said = subprocess.run(
                [sys.executable, "-c", program, tmp_path],
                env={**os.environ, **variables}, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert said.stdout.split() == ["True", "True", encoding], said.stderr


class TestPlace:
    def test_an_empty_root_is_lawful_and_noted(self, lab: MakeLab) -> None:
        it = lab()
        assert it.sweep() == set()
        assert it.sweep() == set()
        assert it.skipped == {}
        assert it.source.notes == [EMPTY]

    def test_a_root_that_was_emptied_is_lawful(self, lab: MakeLab) -> None:
        it = lab()
        path = it.write("a")
        assert it.sweep() == {"a"}
        path.unlink()
        assert it.sweep() == set()

    def test_a_root_that_is_gone(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab()
        it.write("a")
        it.sweep()
        it.root.rename(tmp_path / "elsewhere")
        with pytest.raises(Unreachable):
            it.sweep()

    def test_a_marker_that_is_not_there(self, tmp_path: Path) -> None:
        tree = LocalTree(os.fsencode(tmp_path), place="camera", marker=".mounted")
        source = DirectorySource(
            "camera",
            tree,
            archive="a",
            layout=Layout("{relative_path}"),
            options=DirectoryOptions(),
            clock=SystemClock(),
        )
        with pytest.raises(Unreachable, match="mounted"):
            list(source.sweep(stop=NEVER))
        (tmp_path / ".mounted").touch()
        [[found]] = source.sweep(stop=NEVER)
        assert str(found.origin) == ".mounted"

    def test_an_unmounted_disk(self, tmp_path: Path) -> None:
        program = """
import ctypes, os, subprocess, sys, threading
from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import DirectoryOptions, DirectorySource
from skystow.adapters.tree import LocalTree
from skystow.errors import Unreachable
from skystow.model.layout import Layout
root = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
open(root + "/a", "w").close()
source = DirectorySource(
    "s", LocalTree(root, place="s"), archive="a", layout=Layout("{relative_path}"),
    options=DirectoryOptions(), clock=SystemClock(),
)
print(len(list(source.sweep(stop=threading.Event()))))
subprocess.run(["umount", "--lazy", root], check=True)
try:
    print(list(source.sweep(stop=threading.Event())))
except Unreachable as error:
    print("unreachable")
"""
        said = subprocess.run(
            ["unshare", "-rm", sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
        )
        assert said.stdout.split() == ["1", "unreachable"]

    def test_directories_that_may_not_be_read_are_seen(self, tmp_path: Path, unprivileged: Any) -> None:
        for name in ("closed/a", "unsearchable/b", "open/c"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).touch()
        program = """
import sys, threading
from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import DirectoryOptions, DirectorySource
from skystow.adapters.tree import LocalTree
from skystow.errors import Unreachable
from skystow.model.layout import Layout
source = DirectorySource(
    "s", LocalTree(sys.argv[1], place="s"), archive="a", layout=Layout("{relative_path}"),
    options=DirectoryOptions(), clock=SystemClock(),
)
try:
    for batch in source.sweep(stop=threading.Event()):
        for found in batch:
            print(found.origin, getattr(found, "reason", "taken"), sep=": ")
except Unreachable as error:
    print(type(error).__name__, error)
"""
        (tmp_path / "closed").chmod(0o000)
        (tmp_path / "unsearchable").chmod(0o400)
        try:
            said = unprivileged([sys.executable, "-c", program, str(tmp_path)])
            tmp_path.chmod(0o000)
            root = unprivileged([sys.executable, "-c", program, str(tmp_path)])
        finally:
            tmp_path.chmod(0o700)
            (tmp_path / "closed").chmod(0o700)
            (tmp_path / "unsearchable").chmod(0o700)
        why = "cannot be read: permission denied; give the user that skystow runs as read and search permission"
        assert sorted(said.stdout.splitlines()) == [f"closed: {why}", "open/c: taken", f"unsearchable: {why}"], said
        assert "Unreachable" in root.stdout, root

    def test_what_vanishes_in_the_middle_is_no_error(self, lab: MakeLab) -> None:
        it = lab()
        for i in range(30):
            for j in range(50):
                it.write(f"d{i}/f{j}")
        sweep = it.source.sweep(stop=NEVER)
        seen = list(next(sweep))
        for directory in list(it.root.iterdir()):
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()
        for batch in sweep:
            seen += batch
        assert 1000 <= len(seen) < 1500
        assert all(isinstance(found, Arrival) for found in seen)

    def test_a_directory_that_becomes_a_symlink_is_not_followed(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab()
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").touch()
        for name in ("a", "b"):
            for j in range(1_000):
                it.write(f"{name}/f{j}")
        sweep = it.source.sweep(stop=NEVER)
        first = next(sweep)  # all of one directory; the other is still to visit
        assert len({f.origin.parent for f in first}) == 1
        other = it.root / ({"a": "b", "b": "a"}[str(first[0].origin.parent)])
        other.rename(tmp_path / "moved")
        other.symlink_to(outside)
        assert list(sweep) == []
