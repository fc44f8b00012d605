"""Samples of SAL topics: whatever is to be said fits, whatever comes is looked at. On real DDS."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sal_kit import INTERFACES, LOOPBACK, RELIABLE, WITHIN

from skystow.adapters.sal import types
from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.topic import FLOATS, INTEGERS, Field, Topic, Unfit

EVERY = Topic(
    "Test",
    "logevent_every",
    "0123abcd",
    (
        Field("TestID", "long", key=True),
        Field("private_revCode", "string", 8),
        Field("private_sndStamp", "double"),
        Field("boolean0", "boolean"),
        Field("char0", "char"),
        *(Field(kind.replace(" ", "_") + "0", kind) for kind in (*INTEGERS, *FLOATS)),
        Field("short_", "string", 5),
        Field("long_", "string"),
        Field("from", "long"),  # names that Python or the binding would rather have for themselves
        Field("serialize", "string", 3),
        Field("sample_info", "double"),
        Field("longs", "long", count=3),
        Field("octets", "octet", count=2),
        Field("doubles", "double", array=True),
        Field("strings", "string", 4, count=2),
        Field("priority", "long"),
    ),
)


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    """A DDS domain of this process's own, on the loopback."""
    before = os.environ.get("CYCLONEDDS_URI")
    os.environ["CYCLONEDDS_URI"] = LOOPBACK
    yield 20 + os.getpid() % 200
    if before is None:
        del os.environ["CYCLONEDDS_URI"]
    else:
        os.environ["CYCLONEDDS_URI"] = before


class Line:
    """A writer and a reader of one topic, as the component has them."""

    def __init__(self, domain: int, topic: Topic) -> None:
        self.topic, self.participant = topic, DomainParticipant(domain)
        loose: Any = types.make(topic, bounds=False)
        tight: Any = types.make(topic)
        far = DdsTopic(self.participant, topic.dds_name, loose, qos=RELIABLE)
        near = DdsTopic(self.participant, topic.dds_name, tight, qos=RELIABLE)
        self.reader: Any = DataReader(self.participant, far, qos=RELIABLE)
        self.writer: Any = DataWriter(self.participant, near, qos=RELIABLE)

    def said(self, values: dict[str, Any]) -> dict[str, Any]:
        """What arrives of it."""
        self.writer.write(types.sample(self.topic, values))
        (received,) = until(lambda: self.reader.take(N=8))
        return types.read(self.topic, received)


@pytest.fixture(scope="module")
def line(domain: int) -> Line:
    return Line(domain, EVERY)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.002)
    return found


# ── to write ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_blank_values_arrive(line: Line) -> None:
    blank = types.blank(EVERY)
    assert list(blank) == [each.name for each in EVERY.fields]
    assert blank["private_revCode"] == "0123abcd"
    assert (blank["boolean0"], blank["char0"], blank["longs"], blank["strings"]) == (False, "\0", [0, 0, 0], ["", ""])
    assert line.said(blank) == blank


@pytest.mark.parametrize(
    ("name", "value", "fit", "remark"),
    [
        ("short_", "abcdef", "abcde", "short_ was cut from 6 bytes to 5"),
        ("short_", "ééé", "éé", "short_ was cut from 6 bytes to 5"),
        ("short_", "a€€", "a€", "short_ was cut from 7 bytes to 5"),
        ("short_", "a\U0001f52d", "a\U0001f52d", ""),
        ("short_", "ab\U0001f52d", "ab", "short_ was cut from 6 bytes to 5"),
        ("short_", "a\0b", "a?b", "short_ has characters that SAL cannot say"),
        ("long_", "a\udcffb", "a?b", "long_ has characters that SAL cannot say"),
        ("strings", ["abcdef", "é"], ["abcd", "é"], "strings was cut from 6 bytes to 4"),
        ("long0", 2**31, 2**31 - 1, "long0: 2147483648 is out of range and became 2147483647"),
        ("octet0", -1, 0, "octet0: -1 is out of range and became 0"),
        ("longs", (1, 2, -(2**40)), [1, 2, -(2**31)], f"longs: {-(2**40)} is out of range and became {-(2**31)}"),
        ("octets", b"\x01\xff", [1, 255], ""),
        ("float0", 1e39, types.LARGEST_FLOAT, f"float0: 1e+39 is out of range and became {types.LARGEST_FLOAT}"),
        ("double0", 10**400, sys.float_info.max, "out of range"),
        ("double0", 3, 3.0, ""),
        ("double0", math.inf, math.inf, ""),
        ("char0", "", "\0", ""),
        ("char0", "xy", "x", "char0: ‘xy’ became ‘x’"),
        ("char0", "é", "?", "char0: ‘é’ became ‘?’"),
        ("nonsense\n", 1, None, "logevent_every has no field nonsense\\n"),
    ],
)
def test_what_does_not_fit_is_made_to(line: Line, name: str, value: Any, fit: Any, remark: str) -> None:
    values, remarks = types.fitted(EVERY, {name: value})
    assert values == types.blank(EVERY) | ({name: fit} if fit is not None else {})
    assert remark in "".join(remarks)
    assert len(remarks) == bool(remark)
    assert line.said(values) == values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("boolean0", 1),
        ("boolean0", "yes"),
        ("boolean0", None),
        ("long0", 1.0),
        ("long0", True),
        ("long0", "1"),
        ("long0", None),
        ("long0", [1]),
        ("double0", "1"),
        ("double0", True),
        ("short_", b"abc"),
        ("short_", None),
        ("char0", 65),
        ("longs", [1, 2]),
        ("longs", [1, 2, 3, 4]),
        ("longs", 1),
        ("longs", [1, 2, "3"]),
        ("strings", "ab"),
    ],
)
def test_a_value_of_another_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(Unfit, match=rf"^{name} is "):
        types.fitted(EVERY, {name: value})


def test_nan_is_said_where_it_is_lawful(line: Line) -> None:
    values, remarks = types.fitted(EVERY, {"double0": math.nan, "float0": math.nan})
    assert not remarks
    read = line.said(values)
    assert math.isnan(read["double0"])
    assert math.isnan(read["float0"])


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "char": st.text(max_size=2),
    "string": st.text(st.characters(codec=None), max_size=9),
    **dict.fromkeys(INTEGERS, st.integers(-(2**65), 2**65)),
    **dict.fromkeys(FLOATS, st.floats(allow_nan=False)),
}
_ANY = st.fixed_dictionaries(
    {},
    optional={
        each.name: st.lists(_VALUES[each.kind], min_size=each.count, max_size=each.count)
        if each.many
        else _VALUES[each.kind]
        for each in EVERY.fields
        if each.name != "private_sndStamp"
    },
)


def narrow(field: Field, value: Any) -> Any:
    return struct.unpack("<f", struct.pack("<f", value))[0] if field.kind == "float" else value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(_ANY)
def test_whatever_is_fitted_is_written_and_read(line: Line, said: dict[str, Any]) -> None:
    values, _ = types.fitted(EVERY, said)
    assert line.said(values) == {name: narrow(EVERY.field(name), value) for name, value in values.items()}
    assert types.fitted(EVERY, values) == (values, [])


# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("short_", "ééé", "short_ has 6 bytes, more than 5"),
        ("strings", ["a", "abcde"], "strings has 5 bytes, more than 4"),
        ("long_", "a\0", "long_ has a NUL"),
        ("long_", 1, "long_ is ‘1’ where text is due"),
        ("char0", "é", "char0 has 2 bytes"),
        ("boolean0", 1, "boolean0 is ‘1’"),
        ("octet0", 256, "octet0 is 256, not 0 to 255"),
        ("long0", True, "long0 is ‘True’"),
        ("long0", 1.5, "long0 is ‘1.5’"),
        ("double0", "1", "double0 is ‘1’"),
        ("private_sndStamp", math.nan, "private_sndStamp is nan"),
        ("longs", [1], "longs has not 3 values"),
    ],
)
def test_what_does_not_belong_is_named(name: str, value: Any, wrong: str) -> None:
    sample = types.make(EVERY, bounds=False)(**{types.attribute(k): v for k, v in types.blank(EVERY).items()})
    setattr(sample, types.attribute(name), value)
    with pytest.raises(Unfit, match=wrong):
        types.read(EVERY, sample)


def test_what_is_no_sample() -> None:
    with pytest.raises(Unfit, match="logevent_every came without TestID"):
        types.read(EVERY, object())


@pytest.mark.parametrize("component", ["CCArchiver", "CCCamera", "CCHeaderService"])
def test_every_topic_of_the_observatory_has_a_type(component: str) -> None:
    for topic in load(component, str(INTERFACES)).topics.values():
        blank = types.blank(topic)
        made = types.make(topic)
        assert made is types.make(topic, bounds=True)
        assert types.sample(topic, blank).serialize()[:2] == b"\0\1"  # XCDR1, little endian
        assert types.read(topic, made.deserialize(types.sample(topic, blank).serialize())) == blank
        assert types.fitted(topic, blank) == (blank, [])


def test_names_on_the_wire(domain: int) -> None:
    """What a peer sees of us: the topic's name and its type's, with its revision."""
    participant = DomainParticipant(domain)
    seen = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
    topic = load("CCArchiver", str(INTERFACES)).topic("logevent_summaryState")
    made: Any = types.make(topic)
    writer: Any = DataWriter(participant, DdsTopic(participant, topic.dds_name, made, qos=RELIABLE), qos=RELIABLE)
    names: set[tuple[str, str]] = set()

    def found() -> bool:
        names.update((each.topic_name, each.type_name) for each in seen.take(N=100))
        return ("CCArchiver_logevent_summaryState_60149849", "CCArchiver::logevent_summaryState_60149849") in names

    until(found)
    assert writer


def test_a_camera_that_says_bad_things(domain: int, repository: Path) -> None:
    """Between two processes: each bad sample is named, none takes a good one with it, none is lost unseen."""
    topic = load("CCCamera", str(INTERFACES)).topic("logevent_startIntegration")
    participant = DomainParticipant(domain)
    made: Any = types.make(topic, bounds=False)
    reader: Any = DataReader(participant, DdsTopic(participant, topic.dds_name, made, qos=RELIABLE), qos=RELIABLE)
    command = [sys.executable, "-m", "tests.sal_peer", str(domain), str(INTERFACES)]
    heard: dict[int, str] = {}
    faults: list[str] = []
    with subprocess.Popen(command, cwd=repository) as peer:

        def ended() -> bool:
            for received in reader.take(N=100):
                try:
                    values = types.read(topic, received)
                except Unfit as fault:
                    faults.append(str(fault))
                else:
                    heard[values["imageNumber"]] = values["imageName"]
            return "end" in heard.values() or peer.poll() not in (None, 0)

        until(ended)
        assert peer.wait(WITHIN) == 0
    assert heard == {
        1: "é" * 16,
        6: "CC_O_20210304_000001",
        8: "CC_O_20210304_000001",
        9: "CC_O_20210304_000001",
        10: "end",
    }
    assert faults == [
        "imageName has 34 bytes, more than 32",
        "imageName has 33 bytes, more than 32",
        "logevent_startIntegration has a string that is no UTF-8: ‘2021030\\xe9’",
        "imageDate has a NUL in it",
        "private_sndStamp is nan where a number is due",
    ]
