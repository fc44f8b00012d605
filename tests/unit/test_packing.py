"""Messages as JSON text, and what is no message."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from skystow.errors import BadName
from skystow.model import messages, reports
from skystow.model.messages import EndReadout, FileTransferCompleted, Message, StartIntegration
from skystow.model.packing import KINDS, read, spoken, written
from skystow.model.reports import Dropped, Report

WHEN = datetime(2021, 3, 5, 1, 2, 3, 456789, UTC)


@pytest.mark.parametrize(
    "message",
    [
        StartIntegration("CC_O_20210304_000001", WHEN, exposure_time=0.1, detectors=("R22_S00", "R22_S01")),
        StartIntegration("half of a pair \ud800, NUL \0, 望"),
        FileTransferCompleted("/a//b", "o", "22", "00", "s", "3", "f", size=None),
        FileTransferCompleted("/a//b", "o", "22", "00", "s", "3", "f", size=2**63),
    ],
)
def test_there_and_back(message: Message) -> None:
    kind, text = written(message)
    assert text.isascii()
    assert "\0" not in text
    assert read(kind, text) == message
    assert written(read(kind, text)) == (kind, text)


def test_a_field_of_a_later_version_is_left_out() -> None:
    assert read("EndReadout", '{"image_id": "a", "shutter": [1]}') == EndReadout("a")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("FromTheFuture", "{}"),
        ("Message", "{}"),
        ("Report", "{}"),
        ("", ""),
        ("EndReadout", ""),
        ("EndReadout", "{"),
        ("EndReadout", "[]"),
        ("EndReadout", "null"),
        ("EndReadout", "{}"),
        ("EndReadout", "[" * 100_000),
        ("StartIntegration", '{"image_id": "a", "at": "yesterday"}'),
        ("StartIntegration", '{"image_id": "a", "at": 5}'),
    ],
)
def test_what_is_no_message_is_said_to_be_none(kind: str, text: str) -> None:
    with pytest.raises(BadName):
        read(kind, text)


def test_every_message_and_report_has_a_kind_of_its_own() -> None:
    assert {EndReadout, FileTransferCompleted} <= set(KINDS.values())
    assert any(issubclass(each, Report) for each in KINDS.values())
    assert all(getattr(reports, name, None) is each or getattr(messages, name) is each for name, each in KINDS.items())


def test_what_hands_report_is_not_taken_from_a_bus() -> None:
    kind, text = written(Dropped("a", "b"))
    assert read(kind, text) == Dropped("a", "b")
    with pytest.raises(BadName, match="Dropped is no message between components"):
        spoken(kind, text)
