"""The directory source that follows: what is finished when, what wakes it, what it costs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.inotify import Watcher
from skystow.errors import Stopped
from tests.system.directory_kit import NEVER, QUIET, MakeLab


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
        gc.collect()  # what other tests left is not of this sweep
        tracemalloc.start()
        try:
            assert count() == self.FILES
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # A batch of 1,000 is about 1 MB, and two may be there until cycles are looked for; following adds 8 bytes for
        # each file, and some more while they are sorted. All files at once would be 20 MB.
        assert peak < (8e6 if follow else 5e6), f"{peak:,} bytes"
        assert rate > 2_000, "an order of magnitude below what a busy machine does"
