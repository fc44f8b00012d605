"""The manifest of a complete exposure, on a real disk: `sha256sum` is content, and nothing is overwritten."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from skystow.adapters.manifest import Manifests
from skystow.adapters.tree import LocalTree
from skystow.errors import PlaceFault
from skystow.model.acts import WriteManifest
from skystow.model.reports import ManifestWritten
from tests.system.landing_kit import DAY, NEVER, OBSID, sha256

ACT = WriteManifest(OBSID, DAY, {f"{DAY}/{OBSID}-R22S0{n}.fits": sha256(b"%d" % n) for n in (2, 0, 1)})


@pytest.fixture
def trees(tmp_path: Path) -> list[LocalTree]:
    for name in ("backbone", "oods"):
        (tmp_path / name / DAY).mkdir(parents=True)
        for n in range(3):
            (tmp_path / name / DAY / f"{OBSID}-R22S0{n}.fits").write_bytes(b"%d" % n)
    return [LocalTree(str(tmp_path / name), place=name) for name in ("backbone", "oods")]


def written(trees: list[LocalTree]) -> ManifestWritten:
    (report,) = Manifests(trees).write(ACT, stop=NEVER)
    assert isinstance(report, ManifestWritten)
    return report


def test_sha256sum_is_content(trees: list[LocalTree], tmp_path: Path) -> None:
    for _ in range(2):  # again is the same
        assert written(trees) == ManifestWritten(OBSID, f"{DAY}/{OBSID}.sha256")
    for place in ("backbone", "oods"):
        day = tmp_path / place / DAY
        argv = ["sha256sum", "--strict", "-c", f"{OBSID}.sha256"]
        done = subprocess.run(argv, cwd=day, capture_output=True, text=True, timeout=30, check=False)
        assert done.stdout.splitlines() == [f"{OBSID}-R22S0{n}.fits: OK" for n in range(3)], done.stderr
        assert stat.S_IMODE((day / f"{OBSID}.sha256").stat().st_mode) == 0o444
        assert list((tmp_path / place / ".skystow" / "manifest").iterdir()) == []


def test_after_a_crash_at_the_link_the_published_file_is_not_written_to(trees: list[LocalTree], tmp_path: Path) -> None:
    """What a crash between link and unlink leaves under the private name is the published file itself."""
    written(trees)
    there, name = tmp_path / "backbone" / DAY / f"{OBSID}.sha256", f"{OBSID}.sha256"
    os.utime(there, ns=(1, 1))
    (tmp_path / "backbone" / ".skystow" / "manifest" / name).hardlink_to(there)
    before = there.stat()
    assert written(trees) == ManifestWritten(OBSID, f"{DAY}/{OBSID}.sha256")
    after = there.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, 1, 1)


@pytest.mark.parametrize("kind", ["file", "symlink", "directory"])
def test_what_stands_there_is_left_and_told(trees: list[LocalTree], tmp_path: Path, kind: str) -> None:
    there, secret = tmp_path / "backbone" / DAY / f"{OBSID}.sha256", tmp_path / "secret"
    secret.write_text("mine")
    match kind:
        case "file":
            there.write_text("other")
        case "symlink":
            there.symlink_to(secret)
        case _:
            there.mkdir()
    before = there.lstat()
    report = written(trees)
    assert report.problem == f"{there} says otherwise than the files; it is left as it is"
    assert (there.lstat().st_ino, secret.read_text()) == (before.st_ino, "mine")
    assert (tmp_path / "oods" / DAY / f"{OBSID}.sha256").exists()


def test_a_reader_that_took_the_directory_away(trees: list[LocalTree], tmp_path: Path) -> None:
    (tmp_path / "backbone" / DAY).rename(tmp_path / "taken")
    assert written(trees).problem == ""
    assert (tmp_path / "backbone" / DAY / f"{OBSID}.sha256").exists()


def test_what_a_person_can_mend_is_tried_again(trees: list[LocalTree], tmp_path: Path) -> None:
    (tmp_path / "backbone" / DAY).rename(tmp_path / "taken")
    (tmp_path / "backbone" / DAY).symlink_to(tmp_path / "taken")
    with pytest.raises(PlaceFault, match="Not a directory"):
        written(trees)
    assert not (tmp_path / "taken" / f"{OBSID}.sha256").exists()
