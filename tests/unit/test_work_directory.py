"""The forwarder's work directory: nothing overwritten, nothing outside, nothing of the dead left."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from tests.unit.fits_kit import STOP, Bench
from tests.unit.fits_kit import bench as bench

from skystow.adapters.assembly import FITS
from skystow.adapters.work import WorkDirectory
from skystow.errors import BadName, NameTaken, PlaceFault, UnfitPlace


def test_a_name_that_is_taken_stays_as_it_is(bench: Bench) -> None:
    path = PurePosixPath("fits/a/b")
    bench.work.write(path, b"one")
    with pytest.raises(NameTaken):
        bench.work.write(path, b"two")
    assert (bench.root / path).read_bytes() == b"one"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_nothing_is_written_outside(bench: Bench, path: str) -> None:
    with pytest.raises(BadName):
        bench.work.write(PurePosixPath(path), b"")


def test_a_symlink_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bench.root / "fits").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnfitPlace):
        bench.work.write(FITS / "x", b"")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_the_dead_leave_is_swept_and_the_living_are_left_alone(bench: Bench) -> None:
    making = bench.root / ".skystow" / "making"
    [living] = making.iterdir()
    (making / "dead").mkdir()
    (making / "dead" / "7").write_bytes(b"half")
    WorkDirectory(str(bench.root), place="f99").write(PurePosixPath("x"), b"")
    assert living.exists()
    assert not (making / "dead").exists()
    bench.work.write(PurePosixPath("y"), b"")


def test_a_private_directory_that_was_removed_is_made_again(bench: Bench) -> None:
    [area] = (bench.root / ".skystow" / "making").iterdir()
    area.rmdir()
    bench.work.write(PurePosixPath("y"), b"why")
    assert (bench.root / "y").read_bytes() == b"why"


def test_a_full_disk_is_the_places_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    real = os.open

    def opens(path: bytes, flags: int, *rest: object, **more: object) -> int:
        if flags & os.O_CREAT:
            real(path, flags, *rest, **more)  # type: ignore[arg-type]
            return real("/dev/full", os.O_WRONLY)
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", opens)
    with pytest.raises(PlaceFault):
        bench.hand(bench.act(), stop=STOP)
    monkeypatch.undo()
    bench.made()
