"""Rows of suprsync's database become arrivals or dead letters; timecodes and what is said of them. Pure, so every
oddity is cheap to try."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from skystow.adapters.suprsync.rows import Reader, key_of, number_of
from skystow.adapters.suprsync.timecodes import (
    GRACE,
    Summary,
    completed,
    is_data,
    subdirectories,
    timecode,
    timecode_at,
)
from skystow.model.records import Arrival, DeadLetter, Digest

ROW: dict[str, Any] = {
    "id": 7,
    "local_path": "/data/smurf/17950/crate1slot2/a.g3",
    "local_md5sum": "000102030405060708090a0b0c0d0e0f",
    "archive_name": "smurf",
    "remote_path": "17950/crate1slot2/a.g3",
    "timestamp": 1_795_000_000.25,
    "failed_copy_attempts": 0,
}
WITHIN = (PurePosixPath("/data/smurf"), PurePosixPath("/data/suprsync"))


def read(**row: Any) -> Arrival | DeadLetter:
    return Reader("sup", "main", PurePosixPath("/data"), WITHIN).read(ROW | row)


def arrival(**row: Any) -> Arrival:
    found = read(**row)
    assert isinstance(found, Arrival), found
    return found


def reason(**row: Any) -> str:
    found = read(**row)
    assert isinstance(found, DeadLetter), found
    assert (found.source, number_of(found.key)) == ("sup", 7)
    return found.reason


def test_an_arrival_says_all_that_the_row_knows() -> None:
    found = arrival(failed_copy_attempts=2)
    assert (found.source, number_of(found.key), found.archive, found.attempts) == ("sup", 7, "main", 2)
    assert (str(found.origin), str(found.path)) == ("smurf/17950/crate1slot2/a.g3", "17950/crate1slot2/a.g3")
    assert found.claimed == Digest("md5", ROW["local_md5sum"])
    assert abs(found.rank - 1_795_000_000_250_000_000) < 1_000
    assert found.fingerprint.size is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "its local_path is NULL"),
        ("", "its local_path is empty"),
        (b"/data/smurf/a", "no text"),
        (12, "no text"),
        ("smurf/a", "not absolute"),
        ("/data", "not below /data"),
        ("/etc/passwd", "not below /data"),
        ("/database/a", "not below /data"),
        ("/data/other/a", "in none of /data/smurf, /data/suprsync"),
        ("/data/smurf", "in none of"),
        ("/data/smurf2/a", "in none of"),
        ("/data/smurf/../../etc/passwd", "‘..’"),
        ("/data/smurf/a\0b", "NUL"),
        ("/data/smurf/" + "d/" * 5_000, "10,012 characters"),
        ("/data/smurf/\ud800", "UTF-16"),
    ],
)
def test_odd_local_paths(value: object, told: str) -> None:
    assert told in reason(local_path=value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "its remote_path is NULL"),
        ("", "its remote_path is empty"),
        (b"17950/a", "no text"),
        ("/etc/cron.d/a", "is absolute"),
        ("..", "‘..’"),
        ("17950/../../home/data/.ssh/authorized_keys", "‘..’"),
        ("./17950/a", "hide its timecode"),
        (".", "hide its timecode"),
        ("17950/", "names a directory"),
        ("17950/a\0b", "NUL"),
        ("17950/" + "x" * 256, "255 are the limit"),
        (".skystow/ledger.db", "is ours"),
        ("17950/" + "d/" * 5_000, "10,006 characters"),
    ],
)
def test_odd_remote_paths(value: object, told: str) -> None:
    assert told in reason(remote_path=value)


@pytest.mark.parametrize("value", ["17950//a b/'$(boom)'.g3", "17950/\udcff\udcfe", "-rf", "17950/two\nlines", "a/./b"])
def test_any_other_remote_path_goes(value: str) -> None:
    assert arrival(remote_path=value).path == PurePosixPath(value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "NULL"),
        (b"0" * 32, "no text"),
        ("", "is not 32 hexadecimal digits"),
        ("0" * 31, "is not 32"),
        ("g" * 32, "is not 32"),
        ("0" * 33, "is not 32"),
        ("٠" * 32, "is not 32"),
        ("x" * 10_000, "is not 32"),
    ],
)
def test_odd_digests(value: object, told: str) -> None:
    found = reason(local_md5sum=value)
    assert told in found
    assert len(found) < 200


def test_a_digest_in_capitals_is_one() -> None:
    assert arrival(local_md5sum="ABCDEF" + "0" * 26).claimed == Digest("md5", "abcdef" + "0" * 26)


@pytest.mark.parametrize(
    ("value", "attempts"), [(None, 0), (-3, 0), ("many", 0), (9, 9), (2**80, 10**6), (1.5, 0), (b"", 0)]
)
def test_odd_counters(value: object, attempts: int) -> None:
    assert arrival(failed_copy_attempts=value).attempts == attempts


@pytest.mark.parametrize(
    ("value", "rank"),
    [
        (None, 0),
        ("yesterday", 0),
        (float("inf"), 9 * 10**18),
        (float("nan"), 0),
        (1e300, 9 * 10**18),
        (-(2**2000), -9 * 10**18),
        (5, 5 * 10**9),
    ],
)
def test_odd_timestamps(value: object, rank: int) -> None:
    assert arrival(timestamp=value).rank == rank


ODD = st.one_of(st.none(), st.integers(), st.floats(), st.binary(max_size=50), st.text(max_size=50))


@given(st.fixed_dictionaries({name: ODD for name in ROW if name != "id"}))
def test_whatever_stands_in_a_row_it_is_held_inside_or_dead(row: dict[str, Any]) -> None:
    found = read(**row)
    if isinstance(found, Arrival):
        for path in (found.origin, found.path):
            assert not path.is_absolute()
            assert ".." not in path.parts
    else:
        assert found.reason


def test_a_row_is_known_by_what_it_says() -> None:
    """Not by its id alone; what becomes of it changes nothing, nor how its path is spelt."""
    key = arrival().key
    assert arrival(failed_copy_attempts=5, timestamp=None, remote_path="17950//crate1slot2/./a.g3").key == key
    assert key == key_of(7, ROW["local_path"], ROW["local_md5sum"], ROW["remote_path"])
    others = {"id": 8}, {"local_path": "/data/smurf/b"}, {"local_md5sum": "0" * 32}, {"remote_path": "17950/b"}
    assert len({key, *(arrival(**other).key for other in others)}) == 5


# ── timecodes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("remote", "code"),
    [
        ("17950/a/b", 17950),
        ("17950/a", 17950),
        ("17950/", None),
        ("17950", None),
        ("1795/a", None),
        ("179500/a", None),
        ("07950/a", None),
        ("+7950/a", None),
        ("1795O/a", None),
        ("١٧٩٥٠/a", None),
        ("a/17950/b", None),
        ("17950/\n", 17950),
    ],
)
def test_timecodes(remote: str, code: int | None) -> None:
    assert timecode(remote) == code


def test_the_timecode_of_a_moment() -> None:
    assert [timecode_at(at) for at in (1_795_000_000.0, 1_795_099_999.9, 1_795_100_000.0)] == [17950, 17950, 17951]


@given(st.integers(10_000, 99_999), st.integers(10_000, 99_999), st.booleans())
def test_completeness(code: int, now: int, newer: bool) -> None:
    """Never before its time is over; by time alone one later than with a newer file."""
    found = completed(code, now, newer=newer)
    assert found is (now > code and (newer or now > code + GRACE))


def test_finalization_files_are_no_data() -> None:
    assert not is_data("17950/suprsync/smurf-sync/1795000000_smurf_17948_finalized.yaml")
    assert is_data("17950/suprsync")
    assert is_data("17950/crate1slot2/a.g3")


def test_subdirectories_are_of_files_that_lie_in_one() -> None:
    assert subdirectories(["17950/b/1", "17950/a//2", "17950/a/c/3", "17950/alone"]) == ["a", "b"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20)


@given(st.lists(TEXT), TEXT, st.floats(1e9, 4e9), st.floats(-1.0, 4e9))
def test_any_yaml_reader_reads_what_we_write(subdirs: list[str], instance: str, at: float, until: float) -> None:
    """What can be printed comes back as it was."""
    summary = Summary(17950, "smurf", instance, len(subdirs), subdirs, at, until)
    found = yaml.safe_load(summary.text())
    assert set(found) == {
        *("archive_name", "finalized_at", "finalized_until", "instance_id", "num_files", "subdirs", "timecode")
    }
    assert (found["timecode"], found["archive_name"], found["num_files"]) == (17950, "smurf", len(subdirs))
    assert (found["finalized_at"], found["finalized_until"]) == (at, until)
    for said, meant in zip([*found["subdirs"], found["instance_id"]], [*subdirs, instance], strict=True):
        assert said == meant or not meant.isprintable()


def test_where_a_finalization_file_lies() -> None:
    summary = Summary(17950, "smurf", "smurf-sync", 3, [], 1_795_234_567.8, 1.0)
    name = "1795234567_smurf_17950_finalized.yaml"
    assert str(summary.local) == f"17952/smurf-sync/{name}"
    assert str(summary.remote) == f"17952/suprsync/smurf-sync/{name}"
