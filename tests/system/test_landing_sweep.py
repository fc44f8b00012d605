"""The Archive Controller's sweep of a real disk: whole files whose message was lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skystow.errors import Unreachable
from skystow.model.reports import Adopted, AdoptionRefused, HandedOff
from tests.system.landing_kit import DAY, FRAME, NAME, OBSID, OTHER, Staging, frame


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path)


class TestSweep:
    def test_a_whole_file_is_adopted_once(self, staging: Staging) -> None:
        staging.put()
        (found,) = staging.sweep()
        assert isinstance(found, Adopted)
        assert found.swept
        assert (found.path, found.raft, found.sensor) == (f"{DAY}/{NAME}", "22", "00")
        staging.linked(found)
        assert staging.sweep() == []

    def test_only_what_is_quiet(self, staging: Staging) -> None:
        staging.landing.sweep_after = 60.0
        path = staging.put()
        assert staging.sweep() == []
        staging.landing.sweep_after = -60.0
        later = path.stat().st_mtime_ns + 3600 * 10**9
        os.utime(path, ns=(later, later))
        assert staging.sweep() == []

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            (NAME, FRAME[:-1], "cut off"),
            (NAME, FRAME[: len(FRAME) // 2], "cut off"),
            (NAME, b"", "empty"),
            (NAME, FRAME.replace(b"'Segment17'", b"'Segment99'"), "1 amplifiers are missing: Segment17"),
            (NAME, frame(obsid=OTHER), f"its headers say {OTHER} R22_S00"),
            (NAME, frame("R22_S01"), f"its headers say {OBSID} R22_S01"),
            ("notes.txt", b"hello", "not named as a forwarder names files"),
            (f"{OBSID}.sha256", b"", "not named as a forwarder names files"),
            ("a..b-R22S00.fits", FRAME, "is no name of an image"),
            (f"{'x' * 100}-R22S00.fits", FRAME, "is no name of an image"),
        ],
    )
    def test_anything_less_is_reported_once_and_stays(
        self, staging: Staging, name: str, content: bytes, reason: str
    ) -> None:
        path = staging.put(name, content)
        good = staging.put(f"{OBSID}-R22S02.fits", frame("R22_S02"))
        mode = path.stat().st_mode
        bad, well = sorted(staging.sweep(), key=lambda each: isinstance(each, Adopted))
        assert isinstance(well, Adopted)
        assert well.filename == str(good)
        assert isinstance(bad, AdoptionRefused)
        assert bad.swept
        assert not bad.final
        assert bad.filename == str(path)
        assert reason in bad.reason
        assert bad.obsid == (OBSID if name == NAME else "")
        staging.linked(well)
        assert staging.sweep() == []
        assert (path.read_bytes(), path.stat().st_mode) == (content, mode)

    def test_a_day_that_cannot_be_looked_into_hides_no_other(self, staging: Staging) -> None:
        (staging.root / "2021-03-03").symlink_to(staging.day)
        staging.put()
        (staging.day / "directory").mkdir()
        (staging.root / "other").mkdir()
        (staging.root / "other" / NAME).write_bytes(FRAME)
        adopted, *left = staging.sweep()
        assert isinstance(adopted, Adopted)
        told = [(each.obsid, each.filename) for each in left if isinstance(each, AdoptionRefused)]
        assert told == [("", f"{staging.day}/directory"), ("", f"{staging.root}/2021-03-03")]

    def test_what_was_dropped_and_stands_there_again(self, staging: Staging) -> None:
        path = staging.put()
        found = path.stat()
        staging.dropped(staging.adopted())
        staging.put()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert [type(each) for each in staging.sweep()] == [Adopted, HandedOff, HandedOff]

    def test_staging_that_is_gone_is_a_places_fault(self, staging: Staging, tmp_path: Path) -> None:
        staging.root.rename(tmp_path / "elsewhere")
        with pytest.raises(Unreachable):
            staging.sweep()
