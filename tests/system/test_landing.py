"""The Archive Controller's hands on a real disk: the day's directory, adoption."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from skystow.adapters import landing
from skystow.adapters.syscalls import syncfs
from skystow.engine.retire import release
from skystow.errors import Unreachable
from skystow.model.acts import Adopt
from skystow.model.messages import FileTransferCompleted
from skystow.model.reports import Adopted, AdoptionRefused, DayMade, DayRefused, HandedOff
from tests.conftest import Unprivileged
from tests.system.landing_kit import DAY, FRAME, NAME, NEVER, OBSID, OTHER, Staging, frame, sha256


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path)


def refused(staging: Staging, said: FileTransferCompleted) -> AdoptionRefused:
    (report,) = staging.adopt(said)
    assert isinstance(report, AdoptionRefused), report
    assert (report.obsid, report.filename) == (said.obsid, said.filename)
    return report


class TestDay:
    def test_it_is_made_with_its_mode_whatever_the_umask(self, staging: Staging) -> None:
        before = os.umask(0o077)
        try:
            made = staging.make_day("2021-03-05")
        finally:
            os.umask(before)
        assert made == [DayMade(OBSID, f"{staging.root}/2021-03-05/")]
        assert stat.S_IMODE((staging.root / "2021-03-05").stat().st_mode) == 0o2775

    def test_it_is_durable_before_anybody_is_told(self, staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[int] = []
        fsync = os.fsync

        def watched(fd: int) -> None:
            synced.append(os.fstat(fd).st_ino)
            fsync(fd)

        monkeypatch.setattr(os, "fsync", watched)
        for _ in range(2):  # also where an earlier run made it, and was killed
            synced.clear()
            staging.make_day("2021-03-05")
            assert synced == [(staging.root / "2021-03-05").stat().st_ino, staging.root.stat().st_ino]

    def test_one_that_a_killed_run_left_without_its_mode(self, staging: Staging) -> None:
        (staging.root / "2021-03-05").mkdir(mode=0o700)
        staging.make_day("2021-03-05")
        assert stat.S_IMODE((staging.root / "2021-03-05").stat().st_mode) == 0o2775

    def test_one_that_is_there_with_more_rights_keeps_them(self, staging: Staging) -> None:
        staging.day.chmod(0o2777)
        assert staging.make_day() == [DayMade(OBSID, f"{staging.day}/")]
        assert stat.S_IMODE(staging.day.stat().st_mode) == 0o2777

    @pytest.mark.parametrize("day", ["..", ".skystow", "2021-03-04/x", "", "٢٠٢١-٠٣-٠٤"])
    def test_no_day(self, staging: Staging, day: str) -> None:
        before = sorted(staging.root.iterdir())
        (report,) = staging.make_day(day)
        assert isinstance(report, DayRefused)
        assert "is no day" in report.reason
        assert sorted(staging.root.iterdir()) == before

    @pytest.mark.parametrize("kind", ["file", "symlink"])
    def test_something_else_stands_there(self, staging: Staging, tmp_path: Path, kind: str) -> None:
        place = staging.root / "2021-03-05"
        place.touch() if kind == "file" else place.symlink_to(tmp_path)
        mode = tmp_path.stat().st_mode
        (report,) = staging.make_day("2021-03-05")
        assert isinstance(report, DayRefused)
        assert report.reason == f"{place} is no directory"
        assert tmp_path.stat().st_mode == mode

    def test_staging_that_is_gone_is_a_places_fault(self, staging: Staging, tmp_path: Path) -> None:
        staging.root.rename(tmp_path / "elsewhere")
        with pytest.raises(Unreachable, match="staging"):
            staging.make_day()


class TestAdoption:
    def test_a_file_is_digested_read_only_and_still_there(self, staging: Staging) -> None:
        path = staging.put()
        found = path.stat()
        said = staging.said(size=len(FRAME), checksum=sha256(FRAME).upper(), checksum_type="SHA256")
        assert staging.adopted(said) == Adopted(
            *(OBSID, said.filename, f"{DAY}/{NAME}", "22", "00", len(FRAME), f"sha256:{sha256(FRAME)}"),
            *(found.st_mtime_ns, found.st_ino, 0),
        )
        after = path.stat()
        assert (stat.S_IMODE(after.st_mode), after.st_nlink) == (0o444, 1)
        assert path.read_bytes() == FRAME

    def test_file_and_directory_are_durable(self, staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
        path, synced, fsync = staging.put(), list[int](), os.fsync

        def watched(fd: int) -> None:
            synced.append(os.fstat(fd).st_ino)
            fsync(fd)

        monkeypatch.setattr(os, "fsync", watched)
        staging.adopted()
        assert synced == [path.stat().st_ino, staging.day.stat().st_ino]

    def test_again_is_the_same(self, staging: Staging) -> None:
        staging.put()
        assert staging.adopted() == staging.adopted()

    def test_the_double_slash_of_forwarders_and_a_checksum_of_another_kind(self, staging: Staging) -> None:
        staging.put()
        md5 = hashlib.md5(FRAME, usedforsecurity=False).hexdigest()
        said = staging.said(f"{staging.root}/{DAY}//{NAME}", checksum=md5, checksum_type="MD5", raft="", sensor="")
        adopted = staging.adopted(said)
        assert (adopted.path, adopted.raft, adopted.sensor) == (f"{DAY}/{NAME}", "22", "00")
        assert adopted.digest == f"sha256:{sha256(FRAME)}"

    def test_the_name_that_older_forwarders_give(self, staging: Staging) -> None:
        path = staging.put(f"{OBSID}--R22S00.fits")
        assert staging.adopted(staging.said(path)).path == f"{DAY}/{OBSID}--R22S00.fits"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("", "not in staging"),
            ("/", "not in staging"),
            (f"{DAY}/{NAME}", "not in staging"),
            (f"/etc/{NAME}", "not in staging"),
            (f"{{root}}beside/{DAY}/{NAME}", "not in staging"),
            ("{root}", "directory of a day"),
            (f"{{root}}/{NAME}", "directory of a day"),
            (f"{{root}}/.skystow/{NAME}", "directory of a day"),
            (f"{{root}}/{DAY}/x/{NAME}", "directory of a day"),
            (f"{{root}}/{DAY}/../../{NAME}", "no name of a file in staging"),
            (f"{{root}}/{DAY}/{NAME}\0", "no name of a file in staging"),
            (f"{{root}}/{DAY}/\ud800{NAME}", "no name that a file can have"),
            (f"{{root}}/{DAY}/\udcff{NAME}", "is no name of an image"),
            (f"{{root}}/{DAY}/{'x' * 10_000}-R22S00.fits", "is no name of an image"),
            (f"{{root}}/{'x' * 10_000}", "directory of a day"),
            (f"{{root}}/{DAY}/{OTHER}-R22S00.fits", "whose name it does not bear"),
            (f"{{root}}/{DAY}/{OBSID}-x-R22S00.fits", "whose name it does not bear"),
            (f"{{root}}/{DAY}/{OBSID}-R22S01.fits", "is announced as raft 22, sensor 00"),
            (f"{{root}}/{DAY}/{OBSID}.txt", "not named as a forwarder names files"),
        ],
    )
    def test_a_name_that_cannot_be(self, staging: Staging, name: str, reason: str) -> None:
        staging.put()
        said = FileTransferCompleted(name.replace("{root}", str(staging.root)), OBSID, "22", "00", "s", "1", "f")
        report = refused(staging, said)
        assert report.final
        assert reason in report.reason
        staging.adopted()

    @pytest.mark.parametrize("kind", ["symlink", "directory", "fifo", "socket", "link on the way"])
    def test_what_is_no_file(
        self, staging: Staging, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, secret = staging.day / NAME, tmp_path / "secret"
        secret.mkdir()
        (secret / NAME).write_bytes(FRAME)
        match kind:
            case "symlink":
                path.symlink_to(secret / NAME)
            case "directory":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "socket":
                monkeypatch.chdir(staging.day)  # such a name is short
                with socket.socket(socket.AF_UNIX) as one:
                    one.bind(NAME)
            case _:
                staging.day.rmdir()
                staging.day.symlink_to(secret)
        report = refused(staging, staging.said())
        assert report.final
        assert not report.gone
        assert stat.S_IMODE((secret / NAME).stat().st_mode) != 0o444

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"size": 5}, "has {size} bytes, 5 were announced"),
            ({"checksum": "ab" * 32, "checksum_type": "sha256"}, "were announced|was announced"),
            ({"checksum": "ab" * 16, "checksum_type": "md5"}, "was announced"),
            ({"checksum": "ab" * 16, "checksum_type": "crc"}, "no checksum that can be compared"),
            ({"checksum": "'; rm -rf /", "checksum_type": "md5"}, "no checksum that can be compared"),
        ],
    )
    def test_not_what_was_announced(self, staging: Staging, more: dict[str, Any], reason: str) -> None:
        path = staging.put()
        mode = path.stat().st_mode
        report = refused(staging, staging.said(**more))
        assert report.final
        assert any(each.format(size=len(FRAME)) in report.reason for each in reason.split("|"))
        assert path.stat().st_mode == mode

    def test_nothing_stands_there(self, staging: Staging) -> None:
        report = refused(staging, staging.said())
        assert (report.gone, report.final) == (True, False)

    @pytest.mark.parametrize("many", [3, 40])
    def test_a_crew_does_each_for_itself_and_syncs_the_day_once(
        self, staging: Staging, monkeypatch: pytest.MonkeyPatch, many: int
    ) -> None:
        """Whichever is bad, the others are adopted; of many files, one sync is of the whole file system."""
        names = [f"{OBSID}-R22S{n:02d}.fits" for n in range(many)]
        for n, name in enumerate(names):
            if n != 1:
                staging.put(name, b"%d" % n)
        sizes = [{"size": 99} if n == 2 else {} for n in range(many)]
        said = [
            staging.said(staging.day / name, sensor=f"{n:02d}", **more)
            for n, (name, more) in enumerate(zip(names, sizes, strict=True))
        ]
        synced, fsync = list[int](), os.fsync

        def watched(fd: int) -> None:
            synced.append(os.fstat(fd).st_ino)
            fsync(fd)

        def watched_whole(fd: int) -> None:
            synced.append(os.fstat(fd).st_dev)
            syncfs(fd)

        monkeypatch.setattr(os, "fsync", watched)
        monkeypatch.setattr(landing, "syncfs", watched_whole)
        reports = staging.landing.adopt([Adopt(each) for each in said], stop=NEVER)
        assert [type(each).__name__ for each in reports] == [
            "AdoptionRefused" if n in (1, 2) else "Adopted" for n in range(many)
        ]
        assert [each.gone for each in reports if isinstance(each, AdoptionRefused)] == [True, False]
        good = [each for each in reports if isinstance(each, Adopted)]
        assert [each.digest for each in good] == [f"sha256:{sha256(b'%d' % n)}" for n in range(many) if n not in (1, 2)]
        day = staging.day.stat()
        assert synced == ([day.st_dev] if many > 16 else [good[0].inode, day.st_ino])

    def test_two_threads_on_one_file_do_not_disturb_each_other(self, staging: Staging) -> None:
        staging.put()
        with ThreadPoolExecutor(4) as threads:
            several = list(threads.map(lambda _: staging.adopted(), range(40)))
        assert len(set(several)) == 1

    def test_a_trial_that_a_killed_run_left_is_no_second_name_for_ever(self, staging: Staging) -> None:
        path = staging.put()
        staging.adopted()
        os.link(path, staging.root / ".skystow" / "trial" / "link")
        staging.adopted()
        assert path.stat().st_nlink == 1


HELD = """
import sys
from pathlib import Path
from tests.system.landing_kit import OBSID, Staging
staging = Staging(Path(sys.argv[1]))
(report,) = staging.adopt()
print(report.final, report.gone, report.reason)
print(*(type(each).__name__ for each in staging.adopt(staging.said(staging.day / f"{OBSID}-R22S01.fits", sensor="01"))))
print(*(each.reason for each in staging.sweep() if getattr(each, "reason", "")))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_file_of_another_user_is_held_and_the_others_go_on(
    staging: Staging, tmp_path: Path, unprivileged: Unprivileged, repository: Path
) -> None:
    assert Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    os.chown(staging.put(), 4321, 4321)
    staging.put(f"{OBSID}-R22S01.fits", frame("R22_S01"))
    program = f"import sys; sys.path.insert(0, {str(repository)!r})\n{HELD}"
    done = unprivileged([sys.executable, "-c", program, tmp_path])
    assert done.returncode == 0, done.stderr
    held, other, swept = done.stdout.splitlines()
    said = f"{DAY}/{NAME} belongs to user 4321 and cannot be linked by user 0; let forwarders write as"
    assert held.startswith(f"False False {said}")
    assert other == "Adopted"
    assert said in swept


class TestOnceMore:
    def test_linked_and_dropped_before_is_told_again(self, staging: Staging) -> None:
        staging.put()
        staging.dropped(staging.adopted())
        told = staging.adopt()
        digest = f"sha256:{sha256(FRAME)}"
        assert told == [
            HandedOff(OBSID, f"{DAY}/{NAME}", "backbone", digest, len(FRAME)),
            HandedOff(OBSID, f"{DAY}/{NAME}", "oods", digest, len(FRAME)),
        ]

    @pytest.mark.parametrize("more", [{"size": 3}, {"checksum": "ab" * 32, "checksum_type": "sha256"}])
    def test_but_not_of_another_content(self, staging: Staging, more: dict[str, Any]) -> None:
        """Who announces it has something else than what was linked, and must not let go of it."""
        staging.put()
        staging.dropped(staging.adopted())
        assert refused(staging, staging.said(**more)).gone

    def test_gone_before_its_links_were_made(self, staging: Staging) -> None:
        path = staging.put()
        adopted = staging.adopted()
        path.unlink()
        assert refused(staging, staging.said()).gone
        assert adopted.path == f"{DAY}/{NAME}"

    def test_sent_once_more_as_it_was(self, staging: Staging) -> None:
        """Size and time are as before, so that the ledger has no news; the links are told, and the name goes again."""
        path = staging.put()
        adopted, found = staging.adopted(), path.stat()
        staging.dropped(adopted)
        staging.put()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        first, *links = staging.adopt()
        assert isinstance(first, Adopted)
        assert [type(each) for each in links] == [HandedOff, HandedOff]
        assert release(staging.ledger, "staging", staging.tree, PurePosixPath(adopted.path), stop=NEVER)
        assert not path.exists()

    def test_something_else_under_that_name_stays(self, staging: Staging) -> None:
        path = staging.put()
        adopted, found = staging.adopted(), path.stat()
        staging.dropped(adopted)
        changed = bytes(reversed(FRAME))
        staging.put(content=changed)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert [type(each) for each in staging.adopt()] == [Adopted]
        assert release(staging.ledger, "staging", staging.tree, PurePosixPath(adopted.path), stop=NEVER)
        assert path.read_bytes() == changed

    def test_the_name_goes_only_after_both_links(self, staging: Staging) -> None:
        path = staging.put()
        adopted = staging.adopted()
        assert not release(staging.ledger, "staging", staging.tree, PurePosixPath(adopted.path), stop=NEVER)
        assert path.exists()
        staging.linked(adopted)
        for _ in range(2):
            assert release(staging.ledger, "staging", staging.tree, PurePosixPath(adopted.path), stop=NEVER)
            assert not path.exists()
