"""FITS files of the forwarder: what they hold, that the same gives the same, and what is refused when it is read."""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.fits_kit import OBSID, WHOLE, whole

from skystow.adapters.fits import Contents, build, card_image, read_frame
from skystow.adapters.header_yaml import Card
from skystow.errors import Unreadable
from skystow.ports.image import SEGMENTS, Amplifier, segments
from skystow.simulate.comcam import COMCAM, expected_pixels


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
