"""The contract of a source. Subclass `SourceContract` and give it a fixture `lab`: a source of an archive `archive`
named `camera`, over an empty place that the lab can write to and take away, under the layout `{relative_path}`."""

from __future__ import annotations

import threading
import time
from pathlib import PurePosixPath
from typing import Protocol

import pytest

from skystow.errors import Stopped, Unreachable
from skystow.model.records import Arrival, path_bytes, path_text
from skystow.ports import Source

NAMES = [
    pytest.param(path_text(b"caf\xe9/\xff\xfe.fits"), id="not-utf8"),
    pytest.param("two\nlines/and a blank .fits", id="newline"),
    pytest.param("-rf/'quoted\"/$(boom);*?[", id="shell"),
    pytest.param("n" * 255, id="255-bytes"),
    pytest.param("/".join(["deep" * 10] * 90), id="deep"),
    pytest.param("望遠鏡/观测.fits", id="cjk"),
    pytest.param(".hidden/.profile", id="hidden"),
]


class SourceLab(Protocol):
    @property
    def source(self) -> Source: ...

    def write(self, path: str, content: bytes, *, mtime_ns: int) -> None:
        """A whole, finished file appears; content, mtime and inode replace those of a former one."""
        ...

    def take_away(self) -> None:
        """The place is gone."""
        ...


def swept(source: Source) -> list[Arrival]:
    """One whole sweep; nothing is skipped in it."""
    arrivals = []
    for batch in source.sweep(stop=threading.Event()):
        assert 1 <= len(batch) <= 1000
        for found in batch:
            assert isinstance(found, Arrival), found
            arrivals.append(found)
    return arrivals


class SourceContract:
    def test_nothing_is_said_of_an_empty_place(self, lab: SourceLab) -> None:
        assert swept(lab.source) == []
        assert lab.source.settling() == 0

    def test_a_file_is_said_with_all_that_is_known_of_it(self, lab: SourceLab) -> None:
        lab.write("night/a.fits", b"12345", mtime_ns=1_700_000_000_123_456_789)
        [arrival] = swept(lab.source)
        assert (arrival.source, arrival.archive, arrival.key) == ("camera", "archive", b"night/a.fits")
        assert arrival.origin == arrival.path == PurePosixPath("night/a.fits")
        assert arrival.fingerprint.size == 5
        assert arrival.fingerprint.mtime_ns == 1_700_000_000_123_456_789
        assert (arrival.claimed, arrival.priority, arrival.attempts) == (None, 0, 0)
        assert lab.source.tree.stat(arrival.origin) == arrival.fingerprint

    def test_every_file_is_said_once_in_each_sweep(self, lab: SourceLab) -> None:
        wanted = {f"d{i % 7}/f{i}" for i in range(2_345)}
        for name in wanted:
            lab.write(name, b"", mtime_ns=1)
        first = swept(lab.source)
        assert sorted(str(a.origin) for a in first) == sorted(wanted)
        assert sorted(swept(lab.source), key=lambda a: a.key) == sorted(first, key=lambda a: a.key)

    def test_the_oldest_has_the_lowest_rank(self, lab: SourceLab) -> None:
        for name, mtime in (("new", 3_000_000_000), ("old", 1_000_000_000), ("middle", 2_000_000_000)):
            lab.write(name, b"", mtime_ns=mtime)
        assert [str(a.path) for a in sorted(swept(lab.source), key=lambda a: a.rank)] == ["old", "middle", "new"]

    def test_a_rewritten_file_has_the_same_key_and_another_fingerprint(self, lab: SourceLab) -> None:
        lab.write("a", b"one", mtime_ns=1_000_000_000)
        [before] = swept(lab.source)
        lab.write("a", b"two", mtime_ns=2_000_000_000)
        [after] = swept(lab.source)
        assert before.key == after.key
        assert not before.fingerprint.same_content(after.fingerprint)

    @pytest.mark.parametrize("name", NAMES)
    def test_any_name(self, lab: SourceLab, name: str) -> None:
        lab.write(name, b"x", mtime_ns=1)
        [arrival] = swept(lab.source)
        assert arrival.key == path_bytes(name)
        assert arrival.origin == PurePosixPath(name)
        assert lab.source.tree.stat(arrival.origin) == arrival.fingerprint

    def test_a_place_that_is_gone_is_unreachable(self, lab: SourceLab) -> None:
        lab.write("a", b"", mtime_ns=1)
        swept(lab.source)
        lab.take_away()
        with pytest.raises(Unreachable) as caught:
            swept(lab.source)
        assert caught.value.place == "camera"

    def test_an_interrupted_sweep_says_so(self, lab: SourceLab) -> None:
        for i in range(1_500):
            lab.write(f"f{i}", b"", mtime_ns=1)
        stop = threading.Event()
        sweep = lab.source.sweep(stop=stop)
        assert len(next(sweep)) == 1000
        stop.set()
        with pytest.raises(Stopped):
            list(sweep)
        assert len(swept(lab.source)) == 1_500

    def test_waiting_ends(self, lab: SourceLab) -> None:
        lab.write("a", b"", mtime_ns=1)
        swept(lab.source)
        began = time.monotonic()
        lab.source.wait(0.05, stop=threading.Event())
        assert time.monotonic() - began < 5

    def test_waiting_heeds_stop_within_a_fifth_of_a_second(self, lab: SourceLab) -> None:
        swept(lab.source)
        stop = threading.Event()
        asked: list[float] = []

        def ask() -> None:
            asked.append(time.monotonic())
            stop.set()

        timer = threading.Timer(0.1, ask)
        timer.start()
        lab.source.wait(60, stop=stop)
        ended = time.monotonic()
        timer.join()
        assert ended - asked[0] < 0.2
