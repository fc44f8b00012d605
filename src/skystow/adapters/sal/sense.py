"""What samples mean to the image door, and what it has to say as samples. Pure: dicts of fields, no DDS.

Versions of the interfaces differ (XML 5 to 15): a field that one lacks is not said and has its default; `timeStamp…`
was written so up to version 6; `imageIndex` counts from 1 since version 11 (`first_index`), ours from 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from skystow.adapters.sal.tai import tai, utc
from skystow.adapters.sal.topic import EVENT, Definitions, Unfit
from skystow.model.messages import (
    EndReadout,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    StartIntegration,
    day_and_number,
    lawful_obsid,
)

Event = StartIntegration | EndReadout | LargeFileObjectAvailable
Values = Mapping[str, Any]

START, END, HEADER = "startIntegration", "endReadout", "largeFileObjectAvailable"
RETRIEVED, INGESTED = "imageRetrievalForArchiving", "imageInOODS"
UNDEFINED = "undef"
"""What the originals say for a raft or sensor that they do not know."""

_FROM_ONE = 11
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_DATE = re.compile(r"[0-9]{8}")
_ACQUIRED = ("timestampAcquisitionStart", "timeStampAcquisitionStart")
_READ_OUT = ("timestampEndOfReadout", "timeStampEndOfReadout")


def first_index(camera: Definitions, said: int | None = None) -> int:
    """The `imageIndex` of the first image of a sequence, 0 or 1: what the site said, else by the version of the
    camera's definitions, else by what version 11 brought (`start` with a configurationOverride, the event
    configurationApplied)."""
    if said is not None:
        return said
    major = camera.xml_version.partition(".")[0]
    if major.isdecimal():
        return int(int(major) >= _FROM_ONE)
    start = camera.topics.get("command_start")
    marked = start is not None and start.has("configurationOverride")
    return int(marked or f"{EVENT}configurationApplied" in camera.topics)


# ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def heard(event: str, values: Values, *, first: int = 0) -> Event:
    """The message of a sample of one of the events above, `values` as `types.read` gives them; `first`: as
    `first_index` gives it. Raises `BadName` where the image's name is unlawful, and `Unfit`, which names the field,
    where something else is of no use. No sample names detectors: an exposure is of all that the camera has."""
    return _HEARD[event](values, first)


def _start(values: Values, first: int) -> StartIntegration:
    return StartIntegration(
        lawful_obsid(_text(values, "imageName")),
        at=_time(values, *_ACQUIRED),
        image_index=_index(values, first),
        images_in_sequence=_sequence(values),
        image_date=_date(values),
        image_number=max(_whole(values, "imageNumber"), 0),
        exposure_time=_seconds(values, "exposureTime"),
        image_source=_text(values, "imageSource"),
        image_controller=_text(values, "imageController"),
    )


def _end(values: Values, first: int) -> EndReadout:
    return EndReadout(
        lawful_obsid(_text(values, "imageName")),
        at=_time(values, *_READ_OUT),
        image_index=_index(values, first),
        images_in_sequence=_sequence(values),
    )


def _header(values: Values, _first: int) -> LargeFileObjectAvailable:
    """A checksum that is no md5 is not said: it could not be compared."""
    url, checksum = _text(values, "url"), _text(values, "checkSum")
    if not url:
        raise Unfit("url is empty")
    return LargeFileObjectAvailable(
        lawful_obsid(_text(values, "id")),
        url,
        size=max(_whole(values, "byteSize"), 0),
        checksum=checksum.lower() if _MD5.fullmatch(checksum) else "",
        generator=_text(values, "generator"),
    )


_HEARD: Mapping[str, Callable[[Values, int], Event]] = {START: _start, END: _end, HEADER: _header}


def _text(values: Values, name: str) -> str:
    return str(values.get(name, ""))


def _whole(values: Values, name: str) -> int:
    return int(values.get(name, 0))


def _index(values: Values, first: int) -> int:
    """From 0; never less, whatever the camera counts from."""
    return max(_whole(values, "imageIndex") - first, 0)


def _sequence(values: Values) -> int:
    return max(_whole(values, "imagesInSequence"), 1)


def _date(values: Values) -> str:
    text = _text(values, "imageDate")
    return text if _DATE.fullmatch(text) else ""


def _number(values: Values, name: str) -> float:
    value = float(values.get(name, 0.0))
    if not math.isfinite(value):
        raise Unfit(f"{name} is {value} where a number is due")
    return value


def _seconds(values: Values, name: str) -> float:
    if (value := _number(values, name)) < 0:
        raise Unfit(f"{name} is {value} seconds")
    return value


def _time(values: Values, *names: str) -> datetime | None:
    """None where it is not said, or 0."""
    name = next((each for each in names if each in values), names[0])
    if not (stamp := _number(values, name)):
        return None
    try:
        return utc(stamp)
    except ValueError as error:
        raise Unfit(f"{name}: {error}") from error


# ── telling: the Archiver ───────────────────────────────────────────────────────────────────────────────────────


def told(message: ImageRetrieval | ImageInOODS, *, camera: str, archiver: str) -> tuple[str, dict[str, Any]]:
    """The event and its fields for what became of a CCD. `camera`, `archiver`: their names, where the message says
    none. Whatever is too long is cut by `types.fitted`, to the bounds of the site's definitions (5 for raft and sensor,
    256 for the others)."""
    oods = message if isinstance(message, ImageInOODS) else None
    return (
        INGESTED if oods else RETRIEVED,
        {
            "camera": (oods.camera if oods else "") or camera,
            "obsid": message.obsid,
            "raft": message.raft or UNDEFINED,
            "sensor": message.sensor or UNDEFINED,
            "archiverName": (oods.archiver if oods else "") or archiver,
            "statusCode": message.status_code,
            "description": message.description,
        },
    )


# ── saying: a simulated camera and header service ───────────────────────────────────────────────────────────────


def said(message: Event, *, first: int = 0) -> tuple[str, dict[str, Any]]:
    """The event and its fields, by the names of versions 7 and later: the reverse of `heard`. What definitions lack of
    it, `types.fitted` leaves out."""
    match message:
        case StartIntegration():
            given = {
                "imageSource": message.image_source,
                "imageController": message.image_controller,
                "imageDate": message.image_date,
                "imageNumber": message.image_number,
            }
            values = _image(message, first) | {name: value for name, value in given.items() if value}
            return START, values | {"exposureTime": message.exposure_time} | _stamp(_ACQUIRED[0], message)
        case EndReadout():
            return END, _image(message, first) | _stamp(_READ_OUT[0], message)
        case LargeFileObjectAvailable():
            return HEADER, {
                "url": message.url,
                "generator": message.generator,
                "version": 1.0,
                "byteSize": message.size,
                "checkSum": message.checksum,
                "mimeType": "YAML",
                "id": message.image_id,
            }


def _image(message: StartIntegration | EndReadout, first: int) -> dict[str, Any]:
    """What both events say of an image; the parts of its name where it has them: `CC_O_20210304_000001`."""
    values: dict[str, Any] = {
        "imageName": message.image_id,
        "imageIndex": message.image_index + first,
        "imagesInSequence": message.images_in_sequence,
    }
    if day_and_number(message.image_id) is not None:
        source, controller, date, number = message.image_id.split("_")
        values |= {"imageSource": source, "imageController": controller, "imageDate": date, "imageNumber": int(number)}
    return values


def _stamp(name: str, message: StartIntegration | EndReadout) -> dict[str, Any]:
    return {name: tai(message.at)} if message.at is not None else {}
