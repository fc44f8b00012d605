"""A night of the simulated ComCam, killed in the middle and started again; and the comparison that judges it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skystow.adapters.assembly import contents_of
from skystow.adapters.fits import build
from skystow.adapters.header_yaml import parse
from skystow.service.halt import Halt
from skystow.simulate.comcam import COMCAM, ComCam, expected_header
from skystow.simulate.night import alone
from skystow.simulate.program import Trouble, lines
from skystow.simulate.proof import Truth, files

DAY_OBS, DAY = 20210304, "2021-03-04"
CCD = "CC_O_20210304_000003-R22S11.fits"
MADE = 9


def obsids(count: int) -> list[str]:
    return [f"CC_O_{DAY_OBS}_{number:06d}" for number in range(1, count + 1)]


def _command(here: Path, exposures: int, cadence: float) -> list[str]:
    command = [sys.executable, "-m", "skystow.simulate.night", "--exposures", str(exposures)]
    return [*command, "--cadence", str(cadence), "--directory", str(here)]


@contextmanager
def _night(here: Path, exposures: int, cadence: float) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(_command(here, exposures, cadence), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _archiver(process: subprocess.Popen[str]) -> int:
    """The process that the demonstration says the archiver is; it is ENABLED."""
    assert process.stdout is not None
    for line in process.stdout:
        if "are process" in line:
            return int(line.rstrip(".\n").rpartition(" ")[2])
    raise AssertionError("it never said which process the archiver is")


def _until(what: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.02)


def _said(here: Path, what: str) -> list[str]:
    return [line["obsid"] for line in lines(here / "camera.jsonl") if line["what"] == what]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _asked(skystow_bin: Path, *arguments: str | Path) -> dict[str, Any]:
    ran = subprocess.run([skystow_bin, *arguments, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _compare(here: Path, skystow_bin: Path, exposures: int) -> None:
    """By the files themselves, and by what the command line says."""
    site, truth = here / "site.yaml", Truth(obsids(exposures))
    count = MADE * exposures
    assert truth.differences(here / "oods") == []
    assert truth.differences(here / "vault") == []
    assert len(files(here / "oods")) == count + exposures
    for place in ("backbone", "staging", "work", "bad"):
        assert files(here / place) == set(), f"left in {place}"
    manifests = [f"{obsid}.sha256" for obsid in obsids(exposures)]
    subprocess.run(["sha256sum", "--quiet", "-c", *manifests], cwd=here / "oods" / DAY, check=True, timeout=60)

    known = _asked(skystow_bin, "exposures", site)["exposures"]
    assert [each["obsid"] for each in known] == obsids(exposures)
    for each in known:
        assert each["state"].startswith("complete"), each
        assert [each[stage] for stage in ("expected", "assembled", "sent", "linked", "ingested")] == [MADE] * 5
        assert each["missing"] == []

    night = _asked(skystow_bin, "night", site, str(DAY_OBS))
    assert (night["exposures"], night["complete"], night["ignored"]) == (exposures, exposures, 0)
    assert (night["gaps"], night["owed"]) == ([], [])
    assert set(night["files"].values()) == {count}
    assert night["seconds_to_ingested"]["p50"] >= night["seconds_to_published"]["p50"] > 0

    frames = _asked(skystow_bin, "oods", "find", site, "--day-obs", str(DAY_OBS))["frames"]
    assert {each["path"] for each in frames} == {str((here / "oods" / path).resolve()) for path in truth.images()}
    assert len(frames) == count
    for each in frames[:MADE]:
        assert each["digest"] == f"sha256:{hashlib.sha256(Path(each['path']).read_bytes()).hexdigest()}"

    _trace(here, skystow_bin)


def _trace(here: Path, skystow_bin: Path) -> None:
    """One CCD from the camera's event to the OODS, and on into the vault."""
    site, oods = here / "site.yaml", (here / "oods" / DAY / CCD).resolve()
    told = _asked(skystow_bin, "trace", site, oods)
    assert {copy["destination"]: copy["state"] for copy in told["copies"]} == {"backbone": "done", "oods": "done"}
    assert told["digest"] == f"sha256:{hashlib.sha256(oods.read_bytes()).hexdigest()}"
    assert told["retired_at"], "the staged name is not gone"
    way = [each["what"] for each in told["exposure"]]
    # The OODS takes it from its own link, which need not be the last of those that are required.
    for middle in ("linked", "ingested"):
        order = ["started", "read out", "assembled", "sent", "adopted", middle, "complete"]
        assert [what for what in way if what in order] == order
    assert {each["detector"] for each in told["exposure"]} == {"", "R22_S11"}
    onward = _asked(skystow_bin, "trace", site, here / "vault" / DAY / CCD)
    assert (onward["source"], onward["digest"]) == ("data-backbone", told["digest"])
    assert onward["retired_at"], "the link in the Data Backbone is not gone"


def _stamps(here: Path) -> dict[str, tuple[int, int]]:
    found = {path: os.stat(here / "oods" / path) for path in files(here / "oods")}
    return {path: (each.st_ino, each.st_mtime_ns) for path, each in found.items()}


@pytest.mark.timeout(450)
def test_a_night_that_is_killed_twice_loses_and_doubles_nothing(tmp_path: Path, skystow_bin: Path) -> None:
    here = tmp_path / "night"
    with _night(here, 4, 1.5) as process:
        archiver = _archiver(process)
        _until(lambda: len(_said(here, "begun")) == 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    _until(lambda: _gone(archiver))
    assert _said(here, "announced") == obsids(2)

    with _night(here, 4, 1.5) as process:  # goes on; and now the archiver is killed alone
        archiver = _archiver(process)
        _until(lambda: _said(here, "announced") == obsids(3))
        os.kill(archiver, signal.SIGKILL)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert "the archiver was killed; it is started again" in out
    assert "all there, once; no byte differs" in out
    assert "Nothing is owed." in out
    assert _said(here, "announced") == obsids(4)
    assert len(_said(here, "begun")) > 4, "an exposure that was cut off is taken again"
    _compare(here, skystow_bin, 4)

    before = _stamps(here)
    over = subprocess.run(_command(here, 4, 1.5), capture_output=True, text=True, timeout=200, check=False)
    assert over.returncode == 0, over.stdout + over.stderr
    assert _stamps(here) == before


def test_two_demonstrations_do_not_share_a_directory(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Trouble, match="a night is under way"), alone(tmp_path):
        raise AssertionError("both are at work")
    with alone(tmp_path):
        assert files(tmp_path) == {"lock"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_full_night_that_is_killed_once(tmp_path: Path, skystow_bin: Path) -> None:
    here, began = tmp_path / "night", time.monotonic()
    with _night(here, 60, 5.0) as process:
        _archiver(process)
        _until(lambda: len(_said(here, "begun")) == 30, 200)
        process.send_signal(signal.SIGKILL)
        process.wait()
    again = subprocess.run(_command(here, 60, 5.0), capture_output=True, text=True, timeout=480, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert time.monotonic() - began < 480
    _compare(here, skystow_bin, 60)


# ── what judges it ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """One exposure as it has to be, below `oods`."""
    [obsid] = obsids(1)
    root, camera, header = tmp_path / "oods", ComCam(), parse(expected_header(obsid))
    (root / DAY).mkdir(parents=True)
    manifest = ""
    for detector in COMCAM:
        name = f"{obsid}-{detector.replace('_', '')}.fits"
        content = bytes(build(camera.read(obsid, detector, stop=Halt()), contents_of(header, obsid, detector)))
        (root / DAY / name).write_bytes(content)
        manifest += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    (root / DAY / f"{obsid}.sha256").write_text(manifest)
    return root


def test_the_comparison_passes_what_is_right(shelf: Path) -> None:
    assert Truth(obsids(1)).differences(shelf) == []


def test_the_comparison_names_what_is_missing_and_what_is_too_many(shelf: Path) -> None:
    [obsid] = obsids(1)
    (shelf / DAY / f"{obsid}-R22S11.fits").rename(shelf / DAY / f"{obsid}-R22S11.fits.1")
    assert Truth(obsids(1)).differences(shelf) == [
        f"missing in oods: {DAY}/{obsid}-R22S11.fits",
        f"too many in oods: {DAY}/{obsid}-R22S11.fits.1",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"OBSID   = 'CC_O", b"OBSID   = 'CC_X", "OBSID is 'CC_X_20210304_000001'"),
        (b"/ filter in the beam", b"/ filter on the shelf", "FILTER has the comment"),
        (b"EXTNAME = 'Segment10'", b"EXTNAME = 'Segment20'", "has the extensions segment20"),
    ],
)
def test_the_comparison_reads_headers(shelf: Path, old: bytes, new: bytes, told: str) -> None:
    [obsid] = obsids(1)
    path = shelf / DAY / f"{obsid}-R22S11.fits"
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new[: len(old)]))
    wrong = Truth(obsids(1)).differences(shelf)
    assert any(told in each for each in wrong), wrong
    assert wrong[-1] == f"in oods: {DAY}/{obsid}.sha256: {DAY}/{obsid}-R22S11.fits reads otherwise"


def test_the_comparison_reads_every_pixel(shelf: Path) -> None:
    [obsid] = obsids(1)
    path = shelf / DAY / f"{obsid}-R22S22.fits"
    content = bytearray(path.read_bytes())
    last = 64 * 32 * 4 - 8192 % 2880  # any byte of the last amplifier's data will do
    content[-last] ^= 1
    path.write_bytes(content)
    wrong = Truth(obsids(1)).differences(shelf)
    assert f"in oods: {DAY}/{obsid}-R22S22.fits: Segment00: the pixels are not those that were taken" in wrong
    assert any("CHECKSUM or DATASUM" in each for each in wrong)


def test_an_image_of_another_exposure_is_found(shelf: Path) -> None:
    [obsid], other = obsids(1), obsids(2)[1]
    camera, header = ComCam(), parse(expected_header(other))
    content = build(camera.read(other, "R22_S00", stop=Halt()), contents_of(header, other, "R22_S00"))
    (shelf / DAY / f"{obsid}-R22S00.fits").write_bytes(content)
    wrong = Truth(obsids(1)).differences(shelf)
    assert f"in oods: {DAY}/{obsid}-R22S00.fits: Segment10: the pixels are not those that were taken" in wrong
