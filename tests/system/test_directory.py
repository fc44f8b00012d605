"""The directory source on real files: what is finished when, what is skipped, what it costs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import EMPTY, DirectoryOptions, DirectorySource
from skystow.adapters.inotify import Watcher
from skystow.adapters.memory import ManualClock
from skystow.adapters.tree import LocalTree
from skystow.errors import ConfigError, Stopped, Unreachable
from skystow.model.layout import Layout
from skystow.model.records import Arrival, Skipped
from skystow.ports import Clock

NEVER = threading.Event()
QUIET = 10.0


class Lab:
    """A directory, its source, a clock in our hand. `taken` and `skipped` are of the last sweep."""

    def __init__(
        self, root: Path, *, clock: Clock | None = None, layout: str = "{relative_path}", **options: Any
    ) -> None:
        self.root = root
        self.root.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.source = DirectorySource(
            "camera",
            LocalTree(os.fsencode(root), place="camera"),
            archive="archive",
            layout=Layout(layout),
            options=DirectoryOptions(**options),
            clock=clock or self.clock,
        )
        self.arrivals: list[Arrival] = []
        self.skipped: dict[str, str] = {}

    def write(self, name: str, content: str = "content") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def sweep(self) -> set[str]:
        self.arrivals, self.skipped = [], {}
        for batch in self.source.sweep(stop=NEVER):
            for found in batch:
                if isinstance(found, Skipped):
                    assert found.source == "camera"
                    assert str(found.origin) not in self.skipped
                    self.skipped[str(found.origin)] = found.reason
                else:
                    self.arrivals.append(found)
        assert len({a.key for a in self.arrivals}) == len(self.arrivals)
        return {str(a.origin) for a in self.arrivals}

    def waited(self, seconds: float) -> float:
        """How long `wait` really took."""
        began = time.monotonic()
        self.source.wait(seconds, stop=NEVER)
        return time.monotonic() - began


MakeLab = Callable[..., Lab]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MakeLab]:
    made: list[Lab] = []

    def make(**options: Any) -> Lab:
        made.append(Lab(tmp_path / "camera", **options))
        return made[-1]

    yield make
    for each in made:
        each.source.close()


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


class TestFollow:
    def test_a_file_is_taken_when_it_was_quiet_for_long_enough(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        path = it.write("a.fits")
        os.utime(path, ns=(1, 1))  # old, as after a restart or `cp -p`: still, nobody saw it quiet
        assert it.sweep() == set()
        assert it.source.settling() == 1
        it.clock.advance(QUIET - 0.1)
        assert it.sweep() == set()
        it.clock.advance(0.1)
        assert it.sweep() == {"a.fits"}
        assert it.source.settling() == 0
        assert it.sweep() == {"a.fits"}, "it does not settle again"

    @pytest.mark.parametrize("change", ["grows", "same size", "touched", "chmod", "replaced"])
    def test_any_change_starts_the_quiet_time_anew(self, lab: MakeLab, change: str) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        path = it.write("a", "12345")
        os.utime(path, ns=(1, 1))
        it.sweep()
        it.clock.advance(QUIET)
        if change == "grows":
            with path.open("a") as file:
                file.write("more")
        elif change == "same size":
            path.write_text("54321")
            os.utime(path, ns=(1, 1))
        elif change == "touched":
            path.touch()
        elif change == "chmod":
            path.chmod(0o640)
        else:
            path.unlink()
            path.write_text("54321")
            os.utime(path, ns=(1, 1))
        assert it.sweep() == set()
        it.clock.advance(QUIET - 0.1)
        assert it.sweep() == set()
        it.clock.advance(0.1)
        assert it.sweep() == {"a"}

    def test_a_file_that_is_written_for_long_is_taken_once_it_is_done(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        with (it.root / "a").open("w") as file:
            for _ in range(10):
                file.write("frame")
                file.flush()
                assert it.sweep() == set()
                assert it.source.settling() == 1
                it.clock.advance(QUIET)
        it.clock.advance(QUIET)
        assert it.sweep() == {"a"}
        assert it.arrivals[0].fingerprint.size == 50

    def test_a_finished_file_that_changes_must_be_quiet_again(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        it.write("a", "one")
        it.sweep()
        it.clock.advance(QUIET)
        assert it.sweep() == {"a"}
        it.write("a", "another")
        assert it.sweep() == set()
        it.clock.advance(QUIET)
        assert it.sweep() == {"a"}

    def test_the_wall_clock_does_not_matter(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        it.write("a")
        it.sweep()
        it.clock.jump(3600)
        assert it.sweep() == set()
        it.clock.jump(-7200)
        it.clock.advance(QUIET)
        assert it.sweep() == {"a"}

    def test_a_file_that_vanishes_is_not_waited_for(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        path = it.write("a")
        it.write("b")
        it.sweep()
        assert it.source.settling() == 2
        path.unlink()
        it.sweep()
        assert it.source.settling() == 1

    def test_moved_in_is_finished(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        it.write("d/other")
        it.sweep()
        for target in ("a", "d/b"):
            (tmp_path / "new").write_text("whole")
            (tmp_path / "new").rename(it.root / target)
        assert it.sweep() == {"a", "d/b"}
        assert it.sweep() == {"a", "d/b"}, "it stays so"
        assert it.source.settling() == 1

    def test_renamed_from_a_temporary_name_is_moved_in(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        part = it.write(".a.fits.Xy12zA")
        assert it.sweep() == set()
        assert it.skipped[".a.fits.Xy12zA"].startswith("temporary name")
        part.rename(it.root / "a.fits")
        assert it.sweep() == {"a.fits"}
        assert it.skipped == {}

    def test_moved_in_and_changed_later_must_be_quiet(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        it.sweep()
        (tmp_path / "new").write_text("whole")
        (tmp_path / "new").rename(it.root / "a")
        assert it.sweep() == {"a"}
        it.write("a", "more than that")
        assert it.sweep() == set()

    def test_a_directory_moved_in_says_nothing_of_its_files(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        it.sweep()
        (tmp_path / "night").mkdir()
        (tmp_path / "night" / "a").write_text("half")
        (tmp_path / "night").rename(it.root / "night")
        assert it.sweep() == set()
        it.clock.advance(QUIET)
        assert it.sweep() == {"night/a"}

    def test_word_of_a_renamed_directory_is_not_taken_for_its_old_name(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        it.write("old/sub/x")
        it.sweep()
        (it.root / "old").rename(it.root / "new")
        (tmp_path / "whole").write_text("whole")
        (tmp_path / "whole").rename(it.root / "new" / "sub" / "y")
        it.write("old/sub/y", "half")  # another file, under the name that a stale watch would tell
        assert it.sweep() == set()
        (tmp_path / "whole").write_text("whole")
        (tmp_path / "whole").rename(it.root / "new" / "sub" / "z")
        assert it.sweep() == {"new/sub/z"}, "it is watched again under its new name"

    def test_a_directory_made_anew_is_watched_anew(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        for _ in range(2):
            path = it.write("d/x")
            it.sweep()
            (tmp_path / "whole").write_text("whole")
            (tmp_path / "whole").rename(it.root / "d" / "y")
            assert it.sweep() == {"d/y"}
            path.unlink()
            (it.root / "d" / "y").unlink()
            (it.root / "d").rmdir()
            it.sweep()

    def test_linked_in_is_finished(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        (tmp_path / "elsewhere").write_text("whole")
        os.link(tmp_path / "elsewhere", it.root / "a")
        assert it.sweep() == {"a"}

    def test_temporary_names_are_skipped_and_named(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=0.0)
        for name in (".a.fits.Xy12zA", "b.part", "c.partial", "d.tmp", "dir.part/e", ".profile", "f.fits"):
            it.write(name)
        assert it.sweep() == {".profile", "f.fits"}
        assert set(it.skipped) == {".a.fits.Xy12zA", "b.part", "c.partial", "d.tmp", "dir.part"}
        assert it.skipped["b.part"] == "temporary name (‘*.part’)"
        assert it.skipped[".a.fits.Xy12zA"] == "temporary name (rsync's .NAME.XXXXXX)"

    def test_rsync_into_it(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        sent = tmp_path / "sent"
        sent.mkdir()
        for i in range(20):
            (sent / f"{i}.fits").write_text("whole")
        it.sweep()
        subprocess.run(["rsync", "-a", f"{sent}/", f"{it.root}/"], check=True)
        assert it.sweep() == {f"{i}.fits" for i in range(20)}, "it renames, and that is word enough"

    def test_temporary_patterns_of_ones_own(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=0.0, temporary=("*.writing",))
        it.write("a.writing")
        it.write("b.part")
        assert it.sweep() == {"b.part"}
        assert set(it.skipped) == {"a.writing"}

    @pytest.mark.parametrize(("finished_on", "taken"), [("quiet", set()), ("close", {"a"})])
    def test_closing_counts_only_where_it_was_asked_for(self, lab: MakeLab, finished_on: str, taken: set[str]) -> None:
        it = lab(follow=True, quiet_for=QUIET, finished_on=finished_on)
        it.sweep()
        with (it.root / "a").open("w") as file:
            file.write("half")
            file.flush()
            assert it.sweep() == set()
        assert it.sweep() == taken

    def test_what_was_not_told_of_is_taken_by_quiet_with_close_too(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=QUIET, finished_on="close")
        it.write("a")  # before anybody watched
        it.sweep()
        it.clock.advance(QUIET)
        assert it.sweep() == {"a"}

    def test_an_interrupted_sweep_forgets_nothing(self, lab: MakeLab, tmp_path: Path) -> None:
        it = lab(follow=True, quiet_for=QUIET)
        for i in range(50):
            it.write(f"f{i}")
        it.sweep()
        (tmp_path / "new").write_text("whole")
        (tmp_path / "new").rename(it.root / "moved")
        it.clock.advance(QUIET)
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            list(it.source.sweep(stop=stop))
        assert it.source.settling() == 50
        assert it.sweep() == {f"f{i}" for i in range(50)} | {"moved"}


class TestWaiting:
    def test_a_new_file_ends_it(self, lab: MakeLab) -> None:
        it = lab(follow=True, clock=SystemClock())
        it.write("d/x")
        it.sweep()
        timer = threading.Timer(0.2, it.write, ["d/new"])
        timer.start()
        assert it.waited(60) < 8  # before the quiet time of `x` is over
        timer.join()
        it.sweep()
        assert it.source.settling() == 2

    def test_the_end_of_a_quiet_time_ends_it(self, lab: MakeLab) -> None:
        it = lab(follow=True, quiet_for=0.3, clock=SystemClock())
        it.write("a")
        it.sweep()
        assert it.waited(60) < 30
        assert it.sweep() == {"a"}

    def test_what_came_before_it_ends_it_at_once(self, lab: MakeLab) -> None:
        it = lab(follow=True, clock=SystemClock())
        it.sweep()
        it.write("a")
        assert it.waited(60) < 30

    def test_nothing_happens(self, lab: MakeLab) -> None:
        it = lab(follow=True, clock=SystemClock())
        it.sweep()
        assert 0.2 <= it.waited(0.2) < 30


class TestLimitsOfInotify:
    """Each in a process and a user namespace of its own, where the limits can be set."""

    PROGRAM = """
import os, sys, threading
from pathlib import Path
from skystow.adapters.directory import DirectoryOptions, DirectorySource
from skystow.adapters.memory import ManualClock
from skystow.adapters.tree import LocalTree
from skystow.model.layout import Layout
name, value, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])
clock, stop = ManualClock(), threading.Event()
for i in range(8):
    (root / f"d{i}").mkdir()
    (root / f"d{i}" / "f").touch()
Path(f"/proc/sys/{name}").write_text(value)
def make():
    return DirectorySource(
        "s", LocalTree(str(root), place="s"), archive="a", layout=Layout("{relative_path}"),
        options=DirectoryOptions(follow=True, quiet_for=10), clock=clock,
    )
def sweep():
    return sum(map(len, source.sweep(stop=stop)))
source = make()
assert (sweep(), source.settling()) == (0, 8)
for i in range(64):
    (root / f"new{i}").touch()
sweep()
source.wait(0.2, stop=stop)
clock.advance(10)
assert (sweep(), source.settling()) == (8 + 64, 0)
print(*source.notes, sep="\\n")
"""

    @pytest.mark.parametrize(
        ("limit", "value", "note"),
        [
            ("user/max_inotify_instances", "0", "inotify is not to be had (Too many open files)"),
            ("user/max_inotify_watches", "3", "no more inotify watches"),
        ],
    )
    def test_sweeps_go_on_and_it_is_said_once(self, tmp_path: Path, limit: str, value: str, note: str) -> None:
        said = subprocess.run(
            ["unshare", "-r", sys.executable, "-c", self.PROGRAM, limit, value, tmp_path],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        [line] = said.stdout.splitlines()
        assert note in line

    def test_a_queue_that_runs_over(self, tmp_path: Path) -> None:
        watcher = Watcher(on_close=False)
        fd = os.open(tmp_path, os.O_RDONLY)
        watcher.watch(fd, b"")
        os.close(fd)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        names = [tmp_path / "a", tmp_path / "b"]
        names[0].touch()
        for i in range(limit):  # two events each, none like the one before
            names[i % 2].rename(names[1 - i % 2])
        assert watcher.wait(10, stop=NEVER)
        assert watcher.notes == ["the inotify queue ran over; raise fs.inotify.max_queued_events"]
        watcher.close()


class TestCost:
    FILES = 20_000

    @pytest.mark.parametrize("follow", [False, True])
    def test_memory_does_not_grow_with_the_files(
        self, lab: MakeLab, follow: bool, record_property: Callable[[str, object], None]
    ) -> None:
        it = lab(follow=follow, quiet_for=0.0)
        for i in range(40):
            (it.root / f"d{i}").mkdir()
            for j in range(self.FILES // 40):
                os.close(os.open(it.root / f"d{i}" / f"file_{j:06d}.fits", os.O_CREAT | os.O_WRONLY))

        def count() -> int:
            return sum(map(len, it.source.sweep(stop=NEVER)))

        began = time.perf_counter()
        assert count() == self.FILES
        rate = self.FILES / (time.perf_counter() - began)
        record_property("files_per_second", round(rate))
        tracemalloc.start()
        try:
            assert count() == self.FILES
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # A batch of 1,000 is about 1 MB; following adds 8 bytes for each file, and some more while they are sorted.
        assert peak < (5e6 if follow else 3e6), f"{peak:,} bytes"
        assert rate > 2_000, "an order of magnitude below what a busy machine does"
