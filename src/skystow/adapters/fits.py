"""FITS as the forwarder writes it and the OODS reads it: an empty primary HDU and one int32 image per amplifier.

The bytes of a file follow from its pixels and its header alone: no date of writing, no version of ours. Every HDU has
its CHECKSUM and DATASUM. The reader trusts nothing: it walks the file to the last byte of the last HDU.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.io import fits  # type: ignore[import-untyped]

from skystow.adapters.header_yaml import Card, Value
from skystow.errors import Unreadable
from skystow.model.messages import day_and_number
from skystow.model.records import shown
from skystow.ports.image import Amplifier, segments

BLOCK = 2880
MOST_HEADER = 1000 * BLOCK
"""A header that is longer is none."""

_STRUCTURE = re.compile(r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|XTENSION|PCOUNT|GCOUNT|CHECKSUM|DATASUM|END|CONTINUE")
"""Keywords that are ours to say, whatever the header says."""
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_HIERARCH = re.compile(r"[!-<>-~]+(?: [!-<>-~]+)*")
_TEXTS = ("COMMENT", "HISTORY", "")


# ── cards ───────────────────────────────────────────────────────────────────────────────────────────────────────


def card_image(keyword: str, value: Value, comment: str = "") -> bytes:
    """One or more lines of 80 bytes. A float that is not finite, like None, is written as undefined.
    Raises `Unreadable` for what FITS cannot hold."""
    keyword, comment = keyword.strip().upper(), _ascii(comment)
    if keyword in _TEXTS:
        text = _ascii(comment if value is None else str(value))
        return b"".join(f"{keyword:<8}{text[at : at + 72]:<72}".encode() for at in range(0, max(1, len(text)), 72))
    if len(keyword) <= 8 and not _KEYWORD.fullmatch(keyword):
        raise Unreadable(f"‘{shown(keyword)}’ is no keyword of a FITS file")
    if len(keyword) > 8 or " " in keyword:
        return _hierarch(keyword.removeprefix("HIERARCH "), _value(value), comment)
    shape = _value(value)
    if isinstance(value, str) and len(shape) > 70:
        return str(fits.Card(keyword, _ascii(value), comment or None).image).encode()
    return _line(f"{keyword:<8}= {shape:<20}", comment)


_kept_image = lru_cache(maxsize=16_384, typed=True)(card_image)
"""Most cards are those of every CCD of an exposure."""


def _hierarch(keyword: str, shape: str, comment: str) -> bytes:
    start = f"HIERARCH {keyword} = {shape.strip()}"
    if not _HIERARCH.fullmatch(keyword) or len(start) > 80:
        raise Unreadable(f"‘{shown(keyword)}’ and its value do not fit into a card")
    return _line(start, comment)


def _line(start: str, comment: str) -> bytes:
    return f"{f'{start} / {comment}' if comment else start:<80}"[:80].encode()


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, int):
        return f"{value:>20}"
    if isinstance(value, float):
        return f"{_float(value):>20}" if math.isfinite(value) else ""
    return "" if value is None else "'{:<8}'".format(_ascii(value).replace("'", "''"))


def _float(value: float) -> str:
    """Every digit that it takes to be read back as the same number."""
    text = repr(value).upper()
    mantissa, exponent, power = text.partition("E")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"


def _ascii(text: str) -> str:
    """FITS knows printable ASCII only."""
    return "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in text)


def _merged(*sections: Iterable[Card]) -> Iterator[Card]:
    """Later ones win, in the place of the first; what is ours to say is left out."""
    values: dict[str, Card] = {}
    for at, card in enumerate(card for section in sections for card in section):
        keyword = card.keyword.strip().upper()
        if not _STRUCTURE.fullmatch(keyword):
            values[f"{at} {keyword}" if keyword in _TEXTS else keyword] = card
    return iter(values.values())


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Contents:
    """Header of one CCD: cards of the primary HDU, and of each amplifier by its name."""

    primary: Sequence[Card]
    amplifiers: Mapping[str, Sequence[Card]]


_buffers = threading.local()


def build(amplifiers: Sequence[Amplifier], contents: Contents) -> memoryview:
    """The whole file. The buffer is this thread's: it is used again by the next call. Raises `Unreadable`."""
    primary = [
        _kept_image("SIMPLE", True, "conforms to FITS standard"),
        _kept_image("BITPIX", 8, "array data type"),
        _kept_image("NAXIS", 0, "number of array dimensions"),
        _kept_image("EXTEND", True, "there are extensions"),
    ]
    parts = [(_header(primary, contents.primary, 0), b"", 0)]
    for each in amplifiers:
        if len(each.pixels) != 4 * each.width * each.height:
            raise Unreadable(f"{each.name} has {len(each.pixels)} bytes for {each.width} × {each.height} pixels")
        datasum = _sum(np.frombuffer(each.pixels, "<u4"))
        parts.append((_header(_image(each), contents.amplifiers.get(each.name, ()), datasum), each.pixels, datasum))
    size = sum(len(header) + _padded(len(pixels)) for header, pixels, _ in parts)
    whole = _buffer(size)
    at = 0
    for header, pixels, _ in parts:
        whole[at : at + len(header)] = header
        at += len(header)
        count = len(pixels) // 4
        np.frombuffer(whole, ">i4", count, at)[:] = np.frombuffer(pixels, "<i4")  # writes through to the buffer
        end = at + _padded(len(pixels))
        whole[at + len(pixels) : end] = bytes(end - at - len(pixels))
        at = end
    return whole


def _image(each: Amplifier) -> list[bytes]:
    return [
        _kept_image("XTENSION", "IMAGE", "image extension"),
        _kept_image("BITPIX", 32, "array data type"),
        _kept_image("NAXIS", 2, "number of array dimensions"),
        _kept_image("NAXIS1", each.width),
        _kept_image("NAXIS2", each.height),
        _kept_image("PCOUNT", 0, "number of parameters"),
        _kept_image("GCOUNT", 1, "number of groups"),
        _kept_image("EXTNAME", each.name),
    ]


def _header(structure: list[bytes], cards: Iterable[Card], datasum: int) -> bytes:
    extension = len(structure) > 4
    said = [card for card in _merged(cards) if not extension or card.keyword.strip().upper() != "EXTNAME"]
    lines = [*structure, *(_kept_image(card.keyword, card.value, card.comment) for card in said)]
    lines.append(card_image("DATASUM", str(datasum), "data unit checksum"))
    start = b"".join(lines)
    end = b"%-80s" % b"END"
    blank = start + card_image("CHECKSUM", "0" * 16, "HDU checksum") + end
    total = _sum(np.frombuffer(blank.ljust(_padded(len(blank))), ">u4").astype(np.uint32), datasum)
    return (start + card_image("CHECKSUM", _encoded(total), "HDU checksum") + end).ljust(_padded(len(blank)))


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _buffer(size: int) -> memoryview:
    if len(getattr(_buffers, "bytes", b"")) < size:
        _buffers.bytes = bytearray(size)
    return memoryview(_buffers.bytes)[:size]


def _sum(words: np.ndarray[tuple[int], np.dtype[np.uint32]], start: int = 0) -> int:
    """FITS 4.0, appendix J: the ones'-complement sum of 32-bit words."""
    total = start + int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(total: int) -> str:
    """FITS 4.0, appendix J: the complement in 16 letters and digits, which make the sum of the HDU all ones."""
    result = [0] * 16
    for index, byte in enumerate((~total & 0xFFFFFFFF).to_bytes(4, "big")):
        four = [byte // 4 + ord("0")] * 4
        four[0] += byte % 4
        while any(_is_sign(each) for each in four):
            for one, other in ((0, 1), (2, 3)):
                if _is_sign(four[one]) or _is_sign(four[other]):
                    four[one] += 1
                    four[other] -= 1
        result[index::4] = four
    text = "".join(map(chr, result))
    return text[-1] + text[:-1]


def _is_sign(code: int) -> bool:
    return 0x3A <= code <= 0x40 or 0x5B <= code <= 0x60


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Reading:
    """What a whole file says of itself. `raft` `22`, `sensor` `00`; `filter` "" and `exposure_time` 0 where it does
    not say; `day_obs` YYYYMMDD; `extensions` are the amplifiers' names."""

    obsid: str
    day_obs: int
    seq_num: int
    raft: str
    sensor: str
    filter: str
    exposure_time: float
    extensions: tuple[str, ...]

    @property
    def detector(self) -> str:
        return f"R{self.raft}_S{self.sensor}"


def read_frame(file: int | str | os.PathLike[str]) -> Reading:
    """A file (a descriptor stays open and where it is) that is whole to the last HDU, has every amplifier of its
    detector, and says what it is. Raises `Unreadable` with a sentence; `OSError` from opening it."""
    if not isinstance(file, int):
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return read_frame(fd)
        finally:
            os.close(fd)
    size, at = os.fstat(file).st_size, 0
    primary: _Cards | None = None
    names: list[str] = []
    while at < size:
        cards, length = _read_header(file, at)
        data = _data_size(cards, first=primary is None)
        at += length + _padded(data)
        if at > size:
            raise Unreadable(f"it is cut off: {size} bytes, {at} are promised so far")
        if primary is None:
            primary = cards
        else:
            names.append(_text(cards, "EXTNAME"))
    if primary is None:
        raise Unreadable("it is empty")
    return _said(primary, tuple(names))


_Cards = Mapping[str, str]
"""What stands behind `=`, by keyword; the first of a keyword counts."""

_TEXT = re.compile(r" *'((?:[^']|'')*)'")
_NUMBER = re.compile(r" *([-+]?(?:\d+\.?\d*|\.\d+)(?:[ED][-+]?\d+)?) *(?:/|$)")


def _read_header(fd: int, start: int) -> tuple[_Cards, int]:
    """By ourselves: astropy warns of oddities, or raises what it likes, and we want a sentence."""
    cards: dict[str, str] = {}
    for at in range(start, start + MOST_HEADER, BLOCK):
        try:
            block = os.pread(fd, BLOCK, at)
        except OSError as error:
            raise Unreadable(f"it cannot be read: {error.strerror}") from error
        if at == 0 and not block.startswith(b"SIMPLE  ="):
            raise Unreadable("it does not begin as a FITS file does")
        if len(block) < BLOCK:
            raise Unreadable("it is cut off in a header")
        if not block.isascii():
            raise Unreadable(f"the header at byte {start} is no text")
        text = block.decode("ascii")
        for card in (text[index : index + 80] for index in range(0, BLOCK, 80)):
            if card.rstrip() == "END":
                return cards, at + BLOCK - start
            if card[8:10] == "= ":
                cards.setdefault(card[:8].rstrip(), card[10:])
    raise Unreadable(f"the header at byte {start} has no end")


def _text(cards: _Cards, keyword: str) -> str:
    """ "" where it is missing or no text."""
    found = _TEXT.match(cards.get(keyword, ""))
    return found[1].replace("''", "'").rstrip() if found else ""


def _number(cards: _Cards, keyword: str) -> float:
    """Some instruments quote their numbers. Raises `Unreadable`."""
    said = _text(cards, keyword) or cards.get(keyword, "")
    if (found := _NUMBER.match(said)) is None:
        raise Unreadable(f"{keyword} is missing or no number")
    return float(found[1].replace("D", "E"))


def _integer(cards: _Cards, keyword: str) -> int:
    value = _number(cards, keyword)
    if not value.is_integer():
        raise Unreadable(f"{keyword} is missing or no number")
    return int(value)


def _data_size(cards: _Cards, *, first: bool) -> int:
    axes = _integer(cards, "NAXIS")
    if not first and (_text(cards, "XTENSION"), axes) != ("IMAGE", 2):
        raise Unreadable("an extension is no image of two dimensions")
    if not 0 <= axes <= 999:
        raise Unreadable(f"{axes} axes")
    sizes = [_integer(cards, f"NAXIS{index}") for index in range(1, axes + 1)]
    if min(sizes, default=0) < 0:
        raise Unreadable("an image has a negative size")
    return abs(_integer(cards, "BITPIX")) // 8 * math.prod(sizes) if sizes else 0


def _said(primary: _Cards, names: tuple[str, ...]) -> Reading:
    raft, sensor, obsid = _text(primary, "RAFTBAY"), _text(primary, "CCDSLOT"), _text(primary, "OBSID")
    if not re.fullmatch(r"R\d\d", raft) or not re.fullmatch(r"S[0-9GW]\d", sensor):
        raise Unreadable(f"RAFTBAY and CCDSLOT name no detector: ‘{shown(raft)}’, ‘{shown(sensor)}’")
    if lacking := [name for name in segments(f"{raft}_{sensor}") if name not in names]:
        raise Unreadable(f"{len(lacking)} amplifiers are missing: {' '.join(lacking)}")
    if not obsid:
        raise Unreadable("OBSID is missing")
    day, number = day_and_number(obsid) or (None, None)
    return Reading(
        obsid,
        _integer(primary, "DAYOBS") if "DAYOBS" in primary or day is None else day,
        _integer(primary, "SEQNUM") if "SEQNUM" in primary or number is None else number,
        raft[1:],
        sensor[1:],
        _text(primary, "FILTER"),
        _number(primary, "EXPTIME") if primary.get("EXPTIME", "").strip(" ").partition("/")[0] else 0.0,
        names,
    )
