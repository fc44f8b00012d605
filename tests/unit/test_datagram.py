"""What a datagram of pysmurf's publisher says, and what is refused; numbers of senders."""

from __future__ import annotations

import json
import string
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skystow.model.datagram import (
    BEYOND,
    Ignored,
    Malformed,
    Reading,
    Registration,
    Session,
    candidates,
    deletable,
    lawful,
    parse,
    rooted,
    spare,
)
from skystow.model.sequence import MOST, Sequence

FILE: dict[str, Any] = {
    "path": "/data/smurf_data/1564799250/outputs/1564799250_b1.txt",
    "type": "tuning",
    "format": "txt",
    "timestamp": 1564799250.5,
    "action": "tune_band",
    "action_ts": "1564799249",
    "plot": False,
    "pysmurf_version": "7.1",
}


def datagram(kind: str = "data_file", payload: Any = FILE, **more: Any) -> bytes:
    envelope = {"host": "smurf-srv", "id": "crate1slot2", "script": "tune.py", "time": 1564799251.0, "seq_no": 7}
    return json.dumps(envelope | {"type": kind, "payload": payload} | more).encode()


def said(raw: bytes) -> Any:
    return parse(raw)[1]


def test_a_data_file() -> None:
    envelope, found = parse(datagram())
    assert (envelope.sender, envelope.number) == ("smurf-srv/crate1slot2/tune.py", 7)
    assert found == Registration(
        path=FILE["path"],
        archive="smurf",
        timestamp=1564799250.5,
        action="tune_band",
        action_timestamp=1564799249,
        format="txt",
        plot=False,
        pub_id="crate1slot2",
        script_id="tune.py",
        pysmurf_version="7.1",
    )


def test_a_g3_file() -> None:
    payload = {"path": "/data/timestreams/15647/ufm/1_000.g3", "archive_name": "timestreams"}
    found = said(datagram("g3_file", payload, id="STREAMER:ufm"))
    assert (found.action, found.format, found.archive) == ("timestreams", "g3", "timestreams")
    assert (found.timestamp, found.pub_id) == (1564799251.0, "STREAMER:ufm")
    older = said(datagram("g3_file", {"path": payload["path"], "type": "timestreams"}))
    assert older.action == "timestreams"


def test_news_and_what_is_nothing_to_us() -> None:
    assert said(datagram("session_data", {"a": 1})) == Session(json.loads(datagram("session_data", {"a": 1})))
    assert isinstance(said(datagram("session_log", "a line")), Session)
    reading = said(datagram("metadata", {"path": "AMCc.x", "value": 1.5, "type": "float"}, id="STREAMER:ufm"))
    assert reading == Reading("ufm", "AMCc.x", 1.5, 1564799251.0)
    assert said(datagram("session_data", {"a": "\N{MUSHROOM}"})).body["payload"] == {"a": "\N{MUSHROOM}"}
    for kind in ("start", "stop", "log", "general", "backend_error"):
        assert said(datagram(kind, {})) == Ignored(kind)
    assert said(datagram("sing", {})) == Ignored("unknown")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (datagram()[:-9], "not JSON"),
        (b"[" * 60_000, "nested too deeply"),
        (b"7", "no JSON object"),
        (b'{"type": "data_file", "time": NaN}', "holds NaN"),
        (b'{"seq_no": ' + b"9" * 5_000 + b"}", "more than 64 bits"),
        (datagram("metadata", {"path": "x", "value": 2**63}), "more than 64 bits"),
        (datagram("metadata", {"path": "x", "value": -(2**63) - 1}), "more than 64 bits"),
        (b'{"type": "session_data", "payload": [1e999]}', "too large"),
        (datagram("metadata", {"path": "x", "value": "\ud800"}), "UTF-16"),
        (datagram("session_data", {"v": ["\udfff"]}), "UTF-16"),
        (datagram("session_data", {"\ud800": 1}), "UTF-16"),
        (datagram(type=None), "no type"),
        (datagram(type=7), "no type"),
        (datagram(payload=None), "no object"),
        (datagram(payload=FILE | {"path": None}), "no path"),
        (datagram(payload=FILE | {"path": 7}), "path is no text"),
        (datagram(payload=FILE | {"path": "/a\0b"}), "path is none"),
        (datagram(payload=FILE | {"path": "/" + "x" * 5_000}), "path is none"),
        (datagram(payload=FILE | {"path": "/\ud800"}), "UTF-16"),
        (datagram(payload=FILE | {"timestamp": "now"}), "timestamp is no number"),
        (datagram(payload=FILE | {"timestamp": True}), "timestamp is no number"),
        (datagram(payload=FILE | {"timestamp": 1e300}), "between 1970 and 2038"),
        (datagram(payload=FILE | {"timestamp": 10**400}), "more than 64 bits"),
        (datagram(payload=FILE | {"timestamp": None}, time=None), "timestamp is missing"),
        (datagram(payload=FILE | {"action_ts": "soon"}), "action_ts"),
        (datagram(payload=FILE | {"plot": "yes"}), "plot"),
        (datagram(payload=FILE | {"action": ["tune"]}), "action is no text"),
        (datagram(seq_no="7"), "seq_no"),
        (datagram(seq_no=-1), "seq_no"),
        (datagram(seq_no=2**53), "seq_no"),
        (datagram(seq_no=2**63 - 1), "seq_no"),
        (datagram(seq_no=2**70), "more than 64 bits"),
        (datagram(host="h" * 300), "host has 300 characters"),
        (datagram("metadata", {"path": "x", "value": [1]}), "no value"),
        (datagram("metadata", {"value": 1}), "no path"),
    ],
)
def test_what_is_refused_and_why(raw: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse(raw)


def test_what_is_missing_or_too_long_for_its_column_keeps_no_file_out() -> None:
    bare = said(datagram(payload={"path": "/data/a", "timestamp": None}, host=None, id=None, script=None, seq_no=None))
    assert (bare.path, bare.timestamp, bare.action, bare.pub_id, bare.plot) == (
        "/data/a",
        1564799251.0,
        None,
        None,
        None,
    )
    long = said(datagram(payload=FILE | {"action": "a" * 33, "format": "f" * 33, "action_ts": "9" * 10}, id="i" * 33))
    assert (long.action, long.format, long.action_timestamp, long.pub_id) == (None, None, None, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
payloads = st.dictionaries(st.sampled_from([*FILE, "value", "archive_name"]), json_values, max_size=6)
envelopes = st.fixed_dictionaries(
    {"type": st.sampled_from(["data_file", "g3_file", "metadata", "session_data", "log"]) | json_values},
    optional={
        **dict.fromkeys(("host", "id", "script", "time", "seq_no"), json_values),
        "payload": payloads | json_values,
    },
)


@given(st.binary(max_size=200) | envelopes.map(lambda body: json.dumps(body).encode()))
def test_whatever_comes_is_understood_or_malformed(raw: bytes) -> None:
    try:
        envelope, found = parse(raw)
    except Malformed:
        return
    assert envelope.sender.isprintable()
    if isinstance(found, Registration):
        found.path.encode()
        assert 1 <= found.timestamp <= 2**31 - 1
        assert all(len(text or "") <= 64 for text in (found.action, found.format, found.pub_id, found.script_id))
        assert candidates(found)
        json.dumps(deletable(found.archive, PurePosixPath("a/b")))


@given(st.binary(max_size=300), st.integers(0, 300))
def test_what_was_cut_on_the_way(more: bytes, cut: int) -> None:
    raw = datagram()
    for each in (raw[:cut], raw[:cut] + more, raw + more):
        try:
            parse(each)
        except Malformed:
            continue


@given(st.text(max_size=300))
def test_feeds_and_fields_are_lawful(name: str) -> None:
    ours = lawful(name)
    assert 1 <= len(ours) <= 255
    assert set(ours) <= set(string.ascii_letters + string.digits + "_")
    assert ours.lstrip("_")[0].isalpha()
    from ocs.ocs_feed import Feed

    assert Feed.verify_data_field_string(ours)


ROOTS = (PurePosixPath("/data/smurf_data"), PurePosixPath("/data/timestreams"))


def test_only_below_a_root() -> None:
    assert rooted("/data/timestreams/15647/a.g3", ROOTS) == (ROOTS[1], PurePosixPath("15647/a.g3"))
    for path in ("/data/smurf_data", "/data/smurf_database/a", "/etc/passwd", "a/b", "/data/smurf_data/../x", "/"):
        with pytest.raises(Malformed):
            rooted(path, ROOTS)


def test_numpys_suffix() -> None:
    def of(path: str, kind: str) -> tuple[str, ...]:
        return candidates(said(datagram(payload=FILE | {"path": path, "format": kind})))

    assert of("/d/a", "npy") == ("/d/a.npy",)
    assert of("/d/a.npy", "npy") == ("/d/a.npy",)
    assert of("/d/a.txt", "txt") == ("/d/a.txt", "/d/a.txt.npy")
    assert of("/d/a", "nyp") == ("/d/a", "/d/a.npy")


@pytest.mark.parametrize(
    ("relative", "may_go"),
    [
        ("1564799250/outputs/1564799250_noise.npy", True),
        ("1564799250/drive/active_archive.npy", True),
        ("1564799250/outputs/1564799250_iv.npy", False),
        ("1564799250/outputs/1564799250_iv_raw_data.npy", False),
        ("1564799250/tune/a.npy", False),
        ("1564799250/outputs/channel_assignment_b0.txt", False),
        ("status/1564799250_noise.npy", False),
    ],
)
def test_what_the_server_may_remove_some_day(relative: str, may_go: bool) -> None:
    assert deletable("smurf", PurePosixPath(relative)) is may_go
    assert deletable("timestreams", PurePosixPath(relative))


def test_gaps_are_counted_and_closed_by_what_comes_late() -> None:
    numbers = Sequence()
    assert numbers.hear(5, 1.0, 0) == 0, "who began before us has lost nothing that we know of"
    assert [numbers.hear(n, 1.0, 0) for n in (6, 9, 7)] == [0, 2, 0]
    assert (numbers.lost, numbers.received, numbers.repeated) == (1, 4, 0)
    numbers.hear(9, 1.0, 0)
    assert numbers.repeated == 1


def test_a_sender_that_begins_anew() -> None:
    numbers = Sequence()
    for n in range(10):
        numbers.hear(n, float(n), 0)
    assert numbers.hear(0, 20.0, 0) == 0
    assert (numbers.restarts, numbers.lost, numbers.expected) == (1, 0, 1)
    numbers.hear(5, 21.0, 0)
    assert numbers.hear(3, 30.0, 0) == 0, "late, and one of the gap"
    assert numbers.lost == 3
    assert numbers.hear(2, 40.0, 0) == 0
    assert numbers.hear(None, None, 0) == 0


def test_gaps_that_somebody_invents_are_counted_up_to_an_end() -> None:
    numbers = Sequence()
    for n in range(1, 2_000):
        numbers.hear(0, 2.0 * n, 0)
        numbers.hear(BEYOND - 1, 2.0 * n + 1, 0)
    assert numbers.lost == MOST


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100)), max_size=60))
def test_numbers_never_go_below_nothing(heard: list[tuple[int, float]]) -> None:
    numbers = Sequence()
    for number, then in heard:
        assert numbers.hear(number, then, 0) >= 0
        assert numbers.lost >= 0
    assert numbers.received == len(heard)


@given(st.permutations(range(30)), st.sets(st.integers(0, 29)))
def test_of_a_stream_out_of_order_just_what_is_missing_is_lost(order: list[int], lost: set[int]) -> None:
    """At one time: nothing looks like a new start. What comes before the first that we heard, we cannot miss."""
    came = [number for number in order if number not in lost]
    numbers = Sequence()
    for number in came:
        numbers.hear(number, 1.0, 0)
    first, last = (came[0], max(came)) if came else (0, -1)
    assert numbers.lost == sum(1 for number in range(first, last + 1) if number in lost)


@pytest.mark.parametrize(
    "raw",
    [
        datagram(),
        datagram(payload=FILE | {"plot": 1, "path": "/data/\N{MUSHROOM}", "filler": "x" * 9_000}),
        datagram(payload={"path": "/data/a", "timestamp": None}, id=None, script="s" * 99),
        datagram("g3_file", {"path": "/data/1.g3", "archive_name": "timestreams"}, id="STREAMER:ufm"),
        datagram("g3_file", {"path": "/data/1.g3", "archive_name": "a" * 40}),
    ],
)
def test_what_is_kept_says_the_same_in_few_bytes(raw: bytes) -> None:
    assert said(spare(said(raw))) == said(raw)
    assert len(spare(said(raw))) < 500
