"""Rows become arrivals or dead letters: pure, so every oddity is cheap to try."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pytest

from skystow.adapters.pysmurf_files.rows import Reader, columns
from skystow.model.layout import ROW_FIELDS, Layout
from skystow.model.records import Arrival, DeadLetter, Digest

DOCUMENTED = "{ctime5}/{file_type}/{file_name}"
LAST = "{ctime5}/{pub_id}/{action_timestamp}_{action}/{plots_or_outputs}/{file_name}"

ROW: dict[str, Any] = {
    "id": 7,
    "path": "/data/smurf/1564799250/outputs/1564799250_tuning_b1.txt",
    "timestamp": datetime(2019, 8, 3, 2, 27, 30),
    "instance_id": "monitor",
    "copied": 0,
    "failed_copy_attempts": 0,
    "md5sum": bytes(range(16)),
    "action": "tune_band",
    "type": "tuning",
    "action_timestamp": 1564799299,
    "plot": 0,
    "pub_id": "crate1slot2",
}


def read(layout: str = DOCUMENTED, version: str = "v1", **row: Any) -> Arrival | DeadLetter:
    template = Layout(layout, ROW_FIELDS)
    return Reader("smurf", "main", PurePosixPath("/data/smurf"), template, version).read(ROW | row)


def path(layout: str = DOCUMENTED, version: str = "v1", **row: Any) -> str:
    found = read(layout, version, **row)
    assert isinstance(found, Arrival), found
    return str(found.path)


def reason(layout: str = DOCUMENTED, **row: Any) -> str:
    found = read(layout, **row)
    assert isinstance(found, DeadLetter), found
    assert (found.source, found.key) == ("smurf", b"7")
    return found.reason


def test_an_arrival_says_all_that_the_row_knows() -> None:
    found = read(failed_copy_attempts=2)
    assert isinstance(found, Arrival)
    assert (found.key, str(found.origin)) == (b"7", "1564799250/outputs/1564799250_tuning_b1.txt")
    assert found.claimed == Digest("md5", "000102030405060708090a0b0c0d0e0f")
    assert (found.attempts, found.rank, found.fingerprint.size) == (2, 1564799250 * 10**9, None)


def test_the_documented_layout() -> None:
    assert path() == "15647/tune_band/1564799250_tuning_b1.txt"
    assert path(version="v0") == "15647/tuning/1564799250_tuning_b1.txt"
    assert path(action=None) == "15647/none/1564799250_tuning_b1.txt"


def test_the_layout_of_the_last_code() -> None:
    assert path(LAST) == "15647/crate1slot2/1564799299_tune_band/outputs/1564799250_tuning_b1.txt"
    assert path(LAST, plot=1, pub_id=None, action=None) == "15647/none/1564799299_none/plots/1564799250_tuning_b1.txt"
    assert "/1564799250_tune_band/" in path(LAST, action_timestamp=None)
    assert "/1564799250_tune_band/" in path(LAST, action_timestamp=None, path="/data/smurf/x.txt")
    assert "outputs" in path(LAST, plot=None)


def test_only_the_columns_that_a_layout_needs_are_read() -> None:
    layouts = [Layout(text, ROW_FIELDS) for text in (DOCUMENTED, LAST)]
    assert set(columns("v0", layouts[0])) - set(columns("v1", layouts[0])) == {"type"}
    assert {"pub_id", "plot", "action_timestamp", "action"} <= set(columns("v1", layouts[1]))
    assert "pub_id" not in columns("v1", layouts[0])


@pytest.mark.parametrize(
    ("timestamp", "digits"),
    [
        ("1970-01-01 00:00:00", "00000"),
        ("2038-01-19 03:14:08", "21474"),
        ("2106-02-07 06:28:16", "42949"),
        ("9999-12-31 23:59:59", "2534023"),
        (datetime(2019, 8, 3, 2, 27, 30, tzinfo=UTC), "15647"),
        ("2019-08-02T23:27:30-03:00", "15647"),
        (b"2019-08-03 02:27:30.5", "15647"),
    ],
)
def test_times(timestamp: object, digits: str) -> None:
    assert path(timestamp=timestamp).split("/")[0] == digits


@pytest.mark.parametrize("value", ["0000-00-00 00:00:00", "yesterday", 1564799250, b"\xff"])
def test_what_is_no_time(value: object) -> None:
    assert "is no time" in reason(timestamp=value)


def test_no_timestamp_matters_only_where_it_is_needed() -> None:
    assert reason(timestamp=None) == "its timestamp is NULL, and the layout needs it for {ctime5}"
    assert path("{action}/{file_name}", timestamp=None) == "tune_band/1564799250_tuning_b1.txt"
    layout = "{action_timestamp}/{file_name}"
    assert path(layout, timestamp=None, action_timestamp=None).startswith("1564799250/")
    assert "does not begin with a number" in reason(
        layout, timestamp=None, action_timestamp=None, path="/data/smurf/x_1.txt"
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "its path is NULL"),
        ("", "its path is ‘’"),
        ("a/b.txt", "not absolute"),
        ("/data/smurf", "not below /data/smurf"),
        ("/data/smurf2/a", "not below /data/smurf"),
        ("/data/other/a", "not below"),
        ("/data/smurf/../secret", "‘..’"),
        ("/data/smurf/a/../b", "‘..’"),
        ("/data/smurf/a\0b", "NUL"),
        ("/data/smurf/" + "x" * 10_000, "10,012 characters"),
        ("/data/smurf/" + "d/" * 5_000, "10,012 characters"),
        ("/data/smurf/" + "x" * 256, "255 are the limit"),
        (12, "its path is ‘12’"),
        ("/data/smurf/.skystow/a", ""),
    ],
)
def test_odd_paths(value: object, told: str) -> None:
    assert told in (reason(path=value) if told else "" + path(path=value))


@pytest.mark.parametrize("value", ["a/b", "../up", "..", ".", "", "x" * 256, "nul\0"])
@pytest.mark.parametrize("field", ["pub_id", "action", "action_timestamp"])
def test_a_field_stays_one_name(field: str, value: str) -> None:
    layout = f"{{{field}}}/{{file_name}}"
    assert "cannot be a name" in reason(layout, **{field: value})


def test_our_own_directory_is_no_place_for_files() -> None:
    assert "is ours" in reason("{action}/{file_name}", action=".skystow")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "NULL"),
        (b"", "0 bytes, not 16"),
        (bytes(15), "15 bytes"),
        (bytes(17), "17 bytes"),
        ("0" * 32, "text"),
    ],
)
def test_odd_digests(value: object, told: str) -> None:
    assert told in reason(md5sum=value)


@pytest.mark.parametrize(("value", "attempts"), [(None, 0), (-3, 0), ("many", 0), (9, 9)])
def test_odd_counters(value: object, attempts: int) -> None:
    found = read(failed_copy_attempts=value)
    assert isinstance(found, Arrival)
    assert found.attempts == attempts


def test_bytes_that_are_no_text_are_a_path_all_the_same() -> None:
    found = read(path=b"/data/smurf/caf\xe9.txt")
    assert isinstance(found, Arrival)
    assert str(found.origin).encode("utf-8", "surrogateescape") == b"caf\xe9.txt"
