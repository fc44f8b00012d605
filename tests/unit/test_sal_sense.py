"""What events of a camera and a header service mean, by every version of their definitions, and what we have to say."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sal_kit import INTERFACES

from skystow.adapters.sal import sense, types
from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.tai import TAI_MINUS_UTC, tai, utc
from skystow.adapters.sal.topic import Definitions, Field, Topic, Unfit
from skystow.errors import BadName
from skystow.model.messages import EndReadout, ImageInOODS, ImageRetrieval, LargeFileObjectAvailable, StartIntegration

NAME = "CC_O_20210304_000001"
AT = datetime(2021, 3, 4, 23, 59, 59, 500_000, UTC)
START = {
    "additionalKeys": "imageType:groupId",
    "additionalValues": "OBJECT:R22_S00",
    "imagesInSequence": 2,
    "imageName": NAME,
    "imageIndex": 1,
    "imageSource": "CC",
    "imageController": "O",
    "imageDate": "20210304",
    "imageNumber": 1,
    "timestampAcquisitionStart": AT.timestamp() + 37,
    "exposureTime": 15.0,
    "priority": 0,
}
STARTED = StartIntegration(NAME, AT, 1, 2, "20210304", 1, 15.0, "CC", "O")
END = {
    "imagesInSequence": 2,
    "imageName": NAME,
    "imageIndex": 1,
    "timestampAcquisitionStart": 1.0,
    "timestampEndOfReadout": AT.timestamp() + 37,
}
URL, MD5 = f"http://10.0.0.1:8000/{NAME}.yaml", "d41d8cd98f00b204e9800998ecf8427e"
HEADER = {
    "url": URL,
    "generator": "CCHeaderService",
    "version": 1.0,
    "byteSize": 4711,
    "checkSum": MD5.upper(),
    "mimeType": "YAML",
    "id": NAME,
}


# ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_version_10() -> None:
    assert sense.heard("startIntegration", START) == STARTED
    assert sense.heard("endReadout", END) == EndReadout(NAME, AT, 1, 2)
    header = LargeFileObjectAvailable(NAME, URL, 4711, MD5, "CCHeaderService")
    assert sense.heard("largeFileObjectAvailable", HEADER) == header


def test_version_11_counts_from_one() -> None:
    assert sense.heard("startIntegration", START | {"imageIndex": 2}, first=1) == STARTED
    assert sense.heard("endReadout", END | {"imageIndex": 1}, first=1) == EndReadout(NAME, AT, 0, 2)
    at_0: Any = sense.heard("endReadout", END | {"imageIndex": 0}, first=1)
    assert at_0.image_index == 0, "a camera that counts from 0 all the same"


def test_version_5_writes_time_stamps_otherwise_and_lacks_fields() -> None:
    old = {("timeStampAcquisitionStart" if k.startswith("timestamp") else k): v for k, v in START.items()}
    assert sense.heard("startIntegration", old | {"imageType": "BIAS", "groupId": "1"}) == STARTED
    end = {"imageName": NAME, "timeStampEndOfReadout": AT.timestamp() + 37, "exposureTime": 1.0}
    assert sense.heard("endReadout", end) == EndReadout(NAME, AT)
    assert sense.heard("startIntegration", {"imageName": NAME}) == StartIntegration(NAME)


def test_what_is_not_said() -> None:
    """Zero and the empty text are what a field has that nobody set."""
    topic = load("CCCamera", None).topic("logevent_startIntegration")
    blank = types.blank(topic) | {"imageName": NAME}
    assert sense.heard("startIntegration", blank) == StartIntegration(NAME)
    bare = sense.heard("largeFileObjectAvailable", {"id": NAME, "url": "u", "checkSum": "", "byteSize": -1})
    assert bare == LargeFileObjectAvailable(NAME, "u")
    assert sense.heard("largeFileObjectAvailable", {"id": NAME, "url": "u", "checkSum": "sha256:00"}) == bare
    assert sense.heard("startIntegration", {"imageName": NAME, "imageDate": "2021-3-4"}) == StartIntegration(NAME)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a/b", "CC O", "x\n", "é", "-x"])
def test_an_unlawful_name_of_an_image(name: str) -> None:
    for event, values, field in (
        ("startIntegration", START, "imageName"),
        ("endReadout", END, "imageName"),
        ("largeFileObjectAvailable", HEADER, "id"),
    ):
        with pytest.raises(BadName):
            sense.heard(event, values | {field: name})


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        ("startIntegration", "exposureTime", math.nan),
        ("startIntegration", "exposureTime", math.inf),
        ("startIntegration", "exposureTime", -1.0),
        ("startIntegration", "timestampAcquisitionStart", math.nan),
        ("startIntegration", "timestampAcquisitionStart", -1.0),
        ("startIntegration", "timestampAcquisitionStart", 1e300),
        ("endReadout", "timestampEndOfReadout", math.inf),
        ("endReadout", "timestampEndOfReadout", 1e12),
        ("largeFileObjectAvailable", "url", ""),
    ],
)
def test_what_is_of_no_use_is_named(event: str, field: str, value: Any) -> None:
    good = {"startIntegration": START, "endReadout": END, "largeFileObjectAvailable": HEADER}[event]
    with pytest.raises(Unfit, match=f"^{field}"):
        sense.heard(event, good | {field: value})


def definitions(xml: str, *fields: str, events: tuple[str, ...] = ()) -> Definitions:
    start = Topic("CCCamera", "command_start", "0" * 8, tuple(Field(each, "string") for each in fields))
    others = {f"logevent_{each}": Topic("CCCamera", f"logevent_{each}", "0" * 8, ()) for each in events}
    return Definitions("CCCamera", {"command_start": start} | others, xml_version=xml)


@pytest.mark.parametrize(
    ("camera", "said", "first"),
    [
        (definitions("5.0.0"), None, 0),
        (definitions("10.2.0"), None, 0),
        (definitions("10.2.0"), 1, 1),
        (definitions("11.0.0"), None, 1),
        (definitions("11.0.0"), 0, 0),
        (definitions("15.0.0", "settingsToApply"), None, 1),
        (definitions("", "settingsToApply"), None, 0),
        (definitions("", "configurationOverride"), None, 1),
        (definitions("", events=("configurationApplied",)), None, 1),
        (definitions("develop", "configurationOverride"), None, 1),
        (Definitions("CCCamera", {}), None, 0),
    ],
)
def test_the_number_of_the_first_image(camera: Definitions, said: int | None, first: int) -> None:
    assert sense.first_index(camera, said) == first


def test_the_observatory_counts_from_zero() -> None:
    for directory in (None, str(INTERFACES / "idl"), str(INTERFACES / "xml")):
        assert sense.first_index(load("CCCamera", directory)) == 0


# ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────


def told(message: ImageRetrieval | ImageInOODS) -> dict[str, Any]:
    event, values = sense.told(message, camera="COMCAM", archiver="CCArchiver")
    for directory in (None, str(INTERFACES)):
        topic = load("CCArchiver", directory).topic(f"logevent_{event}")
        assert set(values) == {each.name for each in topic.public}
        fitted, remarks = types.fitted(topic, values)
        assert len(remarks) == (fitted["description"] != values["description"])
    return {each.name: fitted[each.name] for each in topic.public} | {"event": event}


def test_what_became_of_a_ccd() -> None:
    assert told(ImageRetrieval(NAME, "22", "00", "x.fits", 5611, "é" * 200)) == {
        "event": "imageRetrievalForArchiving",
        "camera": "COMCAM",
        "obsid": NAME,
        "raft": "22",
        "sensor": "00",
        "archiverName": "CCArchiver",
        "statusCode": 5611,
        "description": "é" * 128,
    }
    assert told(ImageInOODS("LSSTComCam", "CCArchiver2", NAME, "", "", "x.fits", 0, "ingested")) == {
        "event": "imageInOODS",
        "camera": "LSSTComCam",
        "obsid": NAME,
        "raft": "undef",
        "sensor": "undef",
        "archiverName": "CCArchiver2",
        "statusCode": 0,
        "description": "ingested",
    }
    nameless = told(ImageInOODS("", "", NAME, "22", "W0", "x.fits", 1, "no"))
    assert (nameless["camera"], nameless["archiverName"]) == ("COMCAM", "CCArchiver")


# ── saying ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_simulated_camera_says() -> None:
    event, values = sense.said(STARTED, first=1)
    assert event == "startIntegration"
    unsaid = {"additionalKeys", "additionalValues", "priority"}
    assert values == {k: v for k, v in START.items() if k not in unsaid} | {"imageIndex": 2}
    event, values = sense.said(EndReadout(NAME, AT, 1, 2))
    assert event == "endReadout"
    parts = {"imageSource": "CC", "imageController": "O", "imageDate": "20210304", "imageNumber": 1}
    assert values == {k: v for k, v in END.items() if k != "timestampAcquisitionStart"} | parts
    event, values = sense.said(LargeFileObjectAvailable(NAME, URL, 4711, MD5, "CCHeaderService"))
    assert (event, values) == ("largeFileObjectAvailable", HEADER | {"checkSum": MD5})


_WHEN = st.datetimes(datetime(2017, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
_NAMES = st.from_regex(r"[A-Z]{2}_[A-Z]_\d{8}_\d{1,9}", fullmatch=True, alphabet=st.characters(codec="ascii"))
_SMALL = st.integers(0, 2**30)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
_EVENTS = st.one_of(
    st.builds(
        StartIntegration,
        _NAMES,
        st.none() | _WHEN,
        _SMALL,
        st.integers(1, 2**30),
        st.dates(datetime(2000, 1, 1).date()).map(lambda day: f"{day:%Y%m%d}"),
        st.integers(1, 2**30),
        st.floats(0, 1e6),
        st.sampled_from(["AT", "CC", "MC"]),
        st.sampled_from(["O", "C"]),
    ),
    st.builds(EndReadout, _NAMES, st.none() | _WHEN, _SMALL, st.integers(1, 2**30)),
    st.builds(
        LargeFileObjectAvailable,
        _NAMES,
        _TEXT,
        _SMALL,
        st.just("") | st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
        _TEXT,
    ),
)


@given(_EVENTS, st.sampled_from([0, 1]), st.sampled_from([None, "idl"]))
def test_what_is_said_is_heard(message: sense.Event, first: int, directory: str | None) -> None:
    """Through the samples of our definitions and of the observatory's; stamps are doubles, within a microsecond."""
    event, said = sense.said(message, first=first)
    component = "CCHeaderService" if event == sense.HEADER else "CCCamera"
    topic = load(component, str(INTERFACES / directory) if directory else None).topic(f"logevent_{event}")
    values, remarks = types.fitted(topic, said)
    assert not remarks
    sample = types.make(topic).deserialize(types.sample(topic, values).serialize())
    heard = sense.heard(event, types.read(topic, sample), first=first)
    if isinstance(message, LargeFileObjectAvailable) or isinstance(heard, LargeFileObjectAvailable):
        assert heard == message
        return
    assert (heard.at is None) == (message.at is None)
    assert heard.at is None or message.at is None or abs(heard.at - message.at) <= timedelta(microseconds=1)
    assert replace(heard, at=message.at) == message


def test_times() -> None:
    assert tai(datetime(1970, 1, 1, tzinfo=UTC)) == TAI_MINUS_UTC
    assert utc(tai(AT)) == AT
    for stamp in (math.nan, math.inf, -1.0, 36.9, 1e12, 1e300):
        with pytest.raises(ValueError, match="is no time"):
            utc(stamp)
