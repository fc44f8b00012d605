"""A camera that is a directory of raw frames."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.unit.fits_kit import OBSID, STOP

from skystow.adapters.camera import RawFrames
from skystow.errors import BadName, FileFault, Stopped, Unreadable
from skystow.ports.image import SEGMENTS
from skystow.simulate.comcam import COMCAM, ComCam, expected_pixels
from skystow.simulate.comcam import main as write_frames


@pytest.fixture
def frames(tmp_path: Path) -> RawFrames:
    assert write_frames([str(tmp_path), "--exposures", "1"]) == 0
    return RawFrames(str(tmp_path), name="frames", names=COMCAM)


def test_raw_frames_are_the_simulators(frames: RawFrames) -> None:
    assert list(frames.detectors()) == list(COMCAM)
    for detector in COMCAM:
        assert frames.read(OBSID, detector, stop=STOP) == ComCam().read(OBSID, detector, stop=STOP)


def test_frames_of_big_endian_and_of_wavefront_sensors(frames: RawFrames, tmp_path: Path) -> None:
    pixels = expected_pixels(OBSID, "R00_SW0")
    np.save(tmp_path / OBSID / "R00_SW0.npy", pixels.astype(">i4"))
    read = frames.read(OBSID, "R00_SW0", stop=STOP)
    assert [each.name for each in read] == list(SEGMENTS[:8])
    assert b"".join(each.pixels for each in read) == pixels.astype("<i4").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        b"x" * 1000,
        np.zeros((15, 4, 4), "<i4"),
        np.zeros((16, 4), "<i4"),
        np.zeros((16, 4, 4), "<f4"),
        np.zeros((16, 0, 4), "<i4"),
        np.asfortranarray(np.zeros((16, 4, 4), "<i4")),
        np.array([{"a": 1}], dtype=object),
    ],
)
def test_odd_frames(frames: RawFrames, tmp_path: Path, content: bytes | np.ndarray) -> None:
    path = tmp_path / OBSID / "R22_S00.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(Unreadable):
        frames.read(OBSID, "R22_S00", stop=STOP)


@pytest.mark.parametrize("cut", [-1, -4, 1])
def test_a_frame_that_is_cut_off_or_too_long(frames: RawFrames, tmp_path: Path, cut: int) -> None:
    path = tmp_path / OBSID / "R22_S00.npy"
    content = path.read_bytes()
    path.write_bytes(content[:cut] if cut < 0 else content + b"x")
    with pytest.raises(Unreadable):
        frames.read(OBSID, "R22_S00", stop=STOP)


def test_frames_outside_are_not_read(frames: RawFrames, tmp_path: Path) -> None:
    for obsid, detector in (("..", "R22_S00"), ("../x", "R22_S00"), (OBSID, "../../x"), ("", "R22_S00")):
        with pytest.raises(BadName):
            frames.read(obsid, detector, stop=STOP)
    path = tmp_path / OBSID / "R22_S00.npy"
    path.unlink()
    path.symlink_to(tmp_path / OBSID / "R22_S01.npy")
    with pytest.raises(FileFault):
        frames.read(OBSID, "R22_S00", stop=STOP)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileFault):
        frames.read(OBSID, "R22_S00", stop=STOP)


def test_a_camera_that_is_asked_to_stop(frames: RawFrames) -> None:
    stop = threading.Event()
    stop.set()
    for camera in (frames, ComCam()):
        with pytest.raises(Stopped):
            camera.read(OBSID, "R22_S00", stop=stop)
