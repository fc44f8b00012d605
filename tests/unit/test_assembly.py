"""The hand that assembles FITS files, and the hand that removes our own copy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from tests.unit.fits_kit import DAY, OBSID, OTHER, STOP, WHOLE, Bench, whole
from tests.unit.fits_kit import bench as bench

from skystow.adapters.assembly import Assembler, LocalDropper
from skystow.adapters.fits import read_frame
from skystow.model.acts import Assemble, DropLocal
from skystow.model.reports import Assembled, AssemblyFailed, Dropped, HandoffFailed
from skystow.ports import Stop
from skystow.ports.image import Amplifier
from skystow.simulate.comcam import ComCam, expected_header


def test_a_finished_file_is_what_the_report_says(bench: Bench) -> None:
    report = bench.made()
    path = bench.path(report)
    assert report.path == f"{DAY}/{OBSID}-R22S00.fits"
    content = path.read_bytes()
    assert content == whole()
    assert report.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    found = path.stat()
    assert (report.size, report.mtime_ns) == (found.st_size, found.st_mtime_ns)
    assert found.st_mode & 0o777 == 0o444
    assert found.st_nlink == 1, "its private name is gone"


def test_again_is_the_same_file(bench: Bench) -> None:
    report = bench.made()
    before = bench.path(report).stat()
    bench.camera.expose(OBSID)  # no pixels are needed for it
    assert bench.made() == report
    assert Assembler(bench.work, bench.camera)(bench.act(), stop=STOP) == [report]
    assert bench.path(report).stat() == before


def test_a_file_in_its_place_that_is_not_whole_is_never_overwritten(bench: Bench) -> None:
    path = bench.root / "fits" / DAY / f"{OBSID}-R22S00.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(whole()[:9000])
    report = bench.failed()
    assert "not what we write" in report.reason
    assert not report.final
    assert path.stat().st_size == 9000
    path.unlink()
    bench.made()


def test_a_file_in_its_place_of_another_image(bench: Bench) -> None:
    path = bench.root / "fits" / DAY / f"{OBSID}-R22S00.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(whole("R22_S01"))
    assert "is of" in bench.failed().reason


def test_pixels_that_are_not_there_yet(bench: Bench) -> None:
    bench.camera.expose(OBSID)
    assert not bench.failed().final
    bench.camera.read_out(OBSID)
    bench.made()


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ("other.yaml", expected_header(OTHER)),
        ("raft.yaml", b"R22S00_PRIMARY:\n- {keyword: RAFTBAY, value: R01, comment: ''}\n"),
        ("none.yaml", b"[]"),
        ("odd.yaml", b"PRIMARY:\n- {keyword: 'A=B', value: 1}\n"),
        ("away.yaml", b""),
    ],
)
def test_a_header_that_is_not_this_images(bench: Bench, header: str, content: bytes) -> None:
    if content:
        bench.work.write(PurePosixPath("header") / header, content)
    report = bench.failed(bench.act(header=header))
    assert report.final or header == "odd.yaml"
    assert not (bench.root / "fits").exists()


def test_a_bare_header_still_makes_a_file_that_can_be_read(bench: Bench) -> None:
    bench.work.write(PurePosixPath("header/bare.yaml"), b"PRIMARY: []\n")
    read = read_frame(bench.path(bench.made(bench.act(header="bare.yaml"))))
    assert (read.obsid, read.detector, read.day_obs, read.seq_num) == (OBSID, "R22_S00", 20210304, 1)
    assert (read.filter, read.exposure_time) == ("", 0.0)


@pytest.mark.parametrize(
    "act",
    [
        Assemble("../x", "R22_S00", "", DAY),
        Assemble(OBSID, "../R22", "", DAY),
        Assemble(OBSID, "R22_S00", "/etc/passwd", DAY),
        Assemble(OBSID, "R22_S00", "", "../../etc"),
    ],
)
def test_names_that_lead_elsewhere(bench: Bench, act: Assemble) -> None:
    act = replace(act, header=act.header or bench.act().header)
    assert bench.failed(act).final
    assert not (bench.root / "fits").exists()


class Odd(ComCam):
    def read(self, obsid: str, detector: str, *, stop: Stop) -> Sequence[Amplifier]:
        return super().read(obsid, detector, stop=stop)[:15]


def test_a_camera_that_gives_fifteen_amplifiers(bench: Bench) -> None:
    [report] = Assembler(bench.work, Odd())(bench.act(), stop=STOP)
    assert isinstance(report, AssemblyFailed)
    assert "Segment00" not in report.reason
    assert not (bench.root / "fits").exists()


def test_many_threads_make_one_file(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: bench.made(), range(16)))
    assert len(set(reports)) == 1
    assert bench.path(reports[0]).read_bytes() == WHOLE


# ── our own copy ────────────────────────────────────────────────────────────────────────────────────────────────────


def drop(bench: Bench, made: Assembled, **other: object) -> Dropped | HandoffFailed:
    act = replace(DropLocal(OBSID, made.path, made.size, made.digest, made.mtime_ns), **other)  # type: ignore[arg-type]
    [report] = LocalDropper(bench.work, "f99")(act, stop=STOP)
    assert isinstance(report, Dropped | HandoffFailed)
    return report


def test_our_copy_is_removed_once(bench: Bench) -> None:
    made = bench.made()
    for _ in range(2):
        assert drop(bench, made) == Dropped(OBSID, made.path)
        assert not bench.path(made).exists()


@pytest.mark.parametrize(("mtime_ns", "digest", "gone"), [(0, "", True), (0, "sha256:00", False), (1, "", False)])
def test_only_what_was_sent_is_removed(bench: Bench, mtime_ns: int, digest: str, gone: bool) -> None:
    made = bench.made()
    report = drop(bench, made, mtime_ns=mtime_ns, digest=digest or made.digest)
    assert isinstance(report, Dropped) == gone
    assert bench.path(made).exists() != gone
    if isinstance(report, HandoffFailed):
        assert (report.destination, report.path) == ("f99", made.path)


def test_a_header_is_removed_and_nothing_outside(bench: Bench) -> None:
    header = bench.root / "header" / "one.yaml"
    outside = bench.root.parent / "precious"
    outside.write_text("x")
    made = bench.made()
    for path in (str(outside), f"{bench.root}/../precious", "/etc/passwd"):
        assert isinstance(drop(bench, made, path=path, digest=""), HandoffFailed)
    assert isinstance(drop(bench, made, path="../../precious"), HandoffFailed)
    assert outside.exists()
    assert isinstance(drop(bench, made, path=str(header), digest=""), Dropped)
    assert not header.exists()
