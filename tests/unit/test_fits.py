"""FITS files of the forwarder: what they hold, that the same gives the same, and what is refused when it is read."""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from astropy.io import fits  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st

from skystow.adapters import header_yaml
from skystow.adapters.assembly import FITS, Assembler, LocalDropper, contents_of
from skystow.adapters.camera import RawFrames
from skystow.adapters.fits import Contents, build, card_image, read_frame
from skystow.adapters.header_yaml import Card, Header
from skystow.adapters.work import WorkDirectory
from skystow.errors import BadName, FileFault, NameTaken, PlaceFault, Stopped, UnfitPlace, Unreadable
from skystow.model.acts import Assemble, DropLocal
from skystow.model.reports import Assembled, AssemblyFailed, Dropped, HandoffFailed
from skystow.ports import Stop
from skystow.ports.image import SEGMENTS, Amplifier, segments
from skystow.simulate.comcam import COMCAM, ComCam, expected_header, expected_pixels
from skystow.simulate.comcam import main as write_frames

OBSID, OTHER, DAY = "CC_O_20210304_000001", "CC_O_20210304_000002", "2021-03-04"
STOP = threading.Event()
HEADER = header_yaml.parse(expected_header(OBSID, (*COMCAM, "R00_SW0", "R04_SG1")))


def whole(detector: str = "R22_S00", header: Header = HEADER, obsid: str = OBSID) -> bytes:
    camera = ComCam(names=(*COMCAM, "R00_SW0", "R04_SG1"))
    return bytes(build(camera.read(obsid, detector, stop=STOP), contents_of(header, obsid, detector)))


def opened(content: bytes) -> fits.HDUList:
    """As anybody with astropy sees it; every checksum is verified, and a warning is an error."""
    return fits.open(io.BytesIO(content), checksum=True)


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("detector", ["R22_S00", "R22_S21", "R04_SG1", "R00_SW0"])
def test_pixels_keywords_and_checksums(detector: str) -> None:
    raft, _, sensor = detector.partition("_")
    with opened(whole(detector)) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == list(segments(detector))
        assert len(hdus) == (9 if "SW" in detector else 17)
        for hdu, pixels in zip(hdus[1:], expected_pixels(OBSID, detector), strict=True):
            assert hdu.data.dtype == np.dtype(">i4")
            assert np.array_equal(hdu.data, pixels)
        primary = hdus[0].header
        wanted = {"OBSID": OBSID, "RAFTBAY": raft, "CCDSLOT": sensor, "EXPTIME": 1.0, "DAYOBS": "20210304", "SEQNUM": 1}
        assert {keyword: primary[keyword] for keyword in wanted} == wanted
        assert primary["FILTER"] in ("g_01", "r_03", "i_06")
        assert primary["RA"] == "12:34:56.7"
        assert primary["AIRMASS"] is None
        assert primary.comments["AIRMASS"] == "not known to a simulator"
        assert primary["NAXIS"] == 0
        channels = [hdu.header["CHANNEL"] for hdu in hdus[1:]]
        assert channels == list(range(1, len(hdus)))
        for hdu in hdus:
            hdu.verify("exception")
            assert {"CHECKSUM", "DATASUM"} <= set(hdu.header)


def test_the_same_gives_the_same() -> None:
    first = whole()
    whole("R22_S11")  # the buffer is used by another in between
    assert whole() == first
    assert hashlib.sha256(first).hexdigest() == "7884182574461a507785e8d7a72661d5093631228df9aaa604acceb127d80ce8", (
        "another byte is another format: say so in the changes"
    )


def test_threads_do_not_share_a_buffer() -> None:
    wanted = {detector: whole(detector) for detector in COMCAM}
    with ThreadPoolExecutor(4) as pool:
        for detector, made in zip(COMCAM * 5, pool.map(whole, COMCAM * 5), strict=True):
            assert made == wanted[detector]


def test_what_is_ours_to_say_and_what_comes_twice() -> None:
    cards = [
        Card("simple", False),
        Card("NAXIS3", 7),
        Card("CHECKSUM", "x"),
        Card("END", None),
        Card("OBJECT", "first", "of two"),
        Card("object", "second", "of two"),
        Card("COMMENT", "one"),
        Card("COMMENT", "two " * 40),
        Card("HISTORY", None, "three"),
        Card("LONG", "it's " * 40, "and a comment"),
        Card("ESO TEL ALT", 45.5, "degrees"),
        Card("LONGKEYWORD", "x"),
        Card("TEMP", 1.5, "in °C\nor so"),
        Card("INF", -math.inf),
    ]
    amplifiers = [Amplifier(name, 3, 5, bytes(60)) for name in SEGMENTS]
    content = bytes(build(amplifiers, Contents(cards, {"Segment10": [Card("EXTNAME", "other"), Card("EXTVER", 2)]})))
    with opened(content) as hdus:
        header = hdus[0].header
        assert header["OBJECT"] == "second"
        assert list(header["COMMENT"]) == ["one", *[("two " * count).rstrip() for count in (18, 18, 4)]]
        assert list(header["HISTORY"]) == ["three"]
        assert header["LONG"] == ("it's " * 40).rstrip()
        assert header["ESO TEL ALT"] == 45.5
        assert header["LONGKEYWORD"] == "x"
        assert header.comments["TEMP"] == "in ?C or so"
        assert header["INF"] is None
        assert "NAXIS3" not in header
        assert header["SIMPLE"] is True
        assert hdus[1].header["EXTNAME"] == "Segment10"
        assert hdus[1].header["EXTVER"] == 2


Values = st.one_of(
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
)


@given(Values, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
@example("'" * 34, "x")
@example("'" * 35, "x")
@example("", "")
@example(1e300, "x" * 60)
@example(-1.2345678901234567e-300, "x" * 60)
def test_a_card_is_read_back_as_it_was(value: str | float, comment: str) -> None:
    image = card_image("KEY", value, comment)
    assert len(image) % 80 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = fits.Header.fromstring(image)
    assert read["KEY"] == (value.rstrip() if isinstance(value, str) else value)
    assert comment.strip().startswith(read.comments["KEY"]) or len(image) > 80


@pytest.mark.parametrize("keyword", ["K=Y", "KÄY", "K\nY", "K.Y", "A LONG = KEYWORD"])
def test_a_keyword_that_fits_cannot_have(keyword: str) -> None:
    with pytest.raises(Unreadable):
        card_image(keyword, 1)


def test_a_long_keyword_with_a_long_value() -> None:
    with pytest.raises(Unreadable):
        card_image("LONGKEYWORD", "x" * 70)


def test_pixels_that_do_not_match_their_shape() -> None:
    with pytest.raises(Unreadable, match="59 bytes for 3 × 5"):
        build([Amplifier("Segment10", 3, 5, bytes(59))], Contents((), {}))


# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────────────


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "frame.fits"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("detector", ["R22_S12", "R04_SG1", "R00_SW0"])
def test_a_whole_frame_says_what_it_is(tmp_path: Path, detector: str) -> None:
    read = read_frame(written(tmp_path, whole(detector)))
    assert (read.obsid, read.detector, read.day_obs, read.seq_num) == (OBSID, detector, 20210304, 1)
    assert (read.exposure_time, read.extensions) == (1.0, segments(detector))
    assert read.filter in ("g_01", "r_03", "i_06")


def test_a_descriptor_is_left_as_it_is(tmp_path: Path) -> None:
    fd = os.open(written(tmp_path, whole()), os.O_RDONLY)
    try:
        os.lseek(fd, 7, os.SEEK_SET)
        assert read_frame(fd).obsid == OBSID
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7
    finally:
        os.close(fd)


SIZE = len(whole())


@pytest.mark.parametrize("size", [*range(0, 2880 * 3, 997), 2880, *range(2880, SIZE, 2880), SIZE - 2880, SIZE - 1])
def test_cut_off_anywhere(tmp_path: Path, size: int) -> None:
    with pytest.raises(Unreadable):
        read_frame(written(tmp_path, whole()[:size]))


def edit(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert len(old) == len(new)
        assert old in content
        return content.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content + b"x", "cut off in a header"),
        (lambda content: content + bytes(2880), "no end|cut off"),
        (lambda content: b"\x89PNG" + content[4:], "does not begin"),
        (lambda content: os.urandom(0) + b"x" * 10_000, "does not begin"),
        (edit(b"NAXIS1  =                   64", b"NAXIS1  =                  -64"), "negative"),
        (edit(b"NAXIS1  =                   64", b"NAXIS1  =                  6.4"), "NAXIS1 is missing or no number"),
        (edit(b"NAXIS1  =                   64", b"NAXIS1  =           9999999999"), "cut off"),
        (edit(b"'Segment05'", b"'Segment55'"), "1 amplifiers are missing: Segment05"),
        (edit(b"'IMAGE   '", b"'TABLE   '"), "no image"),
        (edit(b"OBSID   =", b"OBSIX   ="), "OBSID is missing"),
        (edit(b"RAFTBAY =", b"RAFTBAX ="), "name no detector"),
        (edit(b"'S00     '", b"'../x    '"), "name no detector"),
        (edit(b"EXPTIME =                  1.0", b"EXPTIME =                  'x'"), "EXPTIME is missing or no number"),
        (edit(b"DAYOBS  = '20210304'", b"DAYOBS  = 'tonight '"), "DAYOBS is missing or no number"),
        (edit(b"FILTER  =", b"FILTER\xff ="), "is no text"),
    ],
)
def test_odd_files(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_frame(written(tmp_path, change(whole())))


@given(st.lists(st.tuples(st.integers(0, 2880 * 2 - 1), st.integers(0, 255)), min_size=1, max_size=20))
def test_whatever_is_there_is_read_or_unreadable(changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for at, byte in changes:
        content[at] = byte
    fd = os.memfd_create("frame")
    os.write(fd, content)
    try:
        said = repr(read_frame(fd))
    except Unreadable as fault:
        said = str(fault)
    finally:
        os.close(fd)
    assert said.isprintable()


WHOLE = whole()


# ── the hand that assembles ─────────────────────────────────────────────────────────────────────────────────────────


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root / "work"
        self.root.mkdir()
        self.work = WorkDirectory(str(self.root), place="f99")
        self.camera = ComCam()
        self.hand = Assembler(self.work, self.camera)
        self.work.write(PurePosixPath("header/one.yaml"), expected_header(OBSID))

    def act(self, detector: str = "R22_S00", header: str = "one.yaml") -> Assemble:
        return Assemble(OBSID, detector, str(self.work.absolute(PurePosixPath("header") / header)), DAY)

    def made(self, act: Assemble | None = None) -> Assembled:
        [report] = self.hand(act or self.act(), stop=STOP)
        assert isinstance(report, Assembled), report
        return report

    def failed(self, act: Assemble | None = None) -> AssemblyFailed:
        [report] = self.hand(act or self.act(), stop=STOP)
        assert isinstance(report, AssemblyFailed), report
        return report

    def path(self, report: Assembled) -> Path:
        return self.root / "fits" / report.path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


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


# ── the work directory ──────────────────────────────────────────────────────────────────────────────────────────────


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


# ── a directory of raw frames ───────────────────────────────────────────────────────────────────────────────────────


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
