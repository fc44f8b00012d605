"""Which of two components of one name gives way, and what is not believed."""

from __future__ import annotations

from typing import Any

import pytest

from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.node import Sample
from skystow.adapters.sal.twin import AT_FIRST, LATER, MANY, Twin

TOPIC = load("CCArchiver", None).topic("logevent_heartbeat")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Said:
    """Stands for the node: what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say_once(self, text: str, *, of: str = "", more: str = "") -> None:
        self.lines.append(text)


class Ours:
    """Stands for our writer."""

    def __init__(self, written: int, stamp: float = 0.0) -> None:
        self.written, self.stamp = written, stamp


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("skystow.adapters.sal.twin.monotonic", made.monotonic)
    return made


def beat(twin: Twin, number: int, *, stamp: float = 0.0, who: str = "CCArchiver", pid: int = 7) -> None:
    values = {"private_identity": who, "private_origin": pid, "private_seqNum": number, "private_sndStamp": stamp}
    twin._beat(Sample(TOPIC, values, 0))


def made(ours: Ours | None = None) -> tuple[Twin, Said]:
    said: Any = Said()
    twin = Twin(said, TOPIC)
    if ours is not None:
        writer: Any = ours
        twin.begin(writer)
    return twin, said


def test_before_we_begin_two_beats_are_believed(clock: Clock) -> None:
    twin, _ = made()
    beat(twin, 41)
    assert twin.alive == ""
    clock.now += 1
    beat(twin, 42)
    assert twin.alive == "another CCArchiver is alive on DDS (CCArchiver, process 7)"
    assert AT_FIRST == 2


def test_once_at_work_one_sample_of_anybody_ends_nobody(clock: Clock) -> None:
    twin, said = made(Ours(100))
    beat(twin, 2**31 - 1)
    for _ in range(LATER + 2):
        clock.now += 1
        beat(twin, 2**31 - 1)
    assert (twin.alive, said.lines) == ("", []), "a heart that does not count is none"
    for number in range(LATER):
        beat(twin, 2_000 + number)
    assert twin.alive == "", "three in one moment are no heart either"


def test_who_has_beaten_more_often_was_here_first(clock: Clock) -> None:
    elder, younger = made(Ours(500)), made(Ours(3))
    for number in range(LATER):
        clock.now += 1
        beat(elder[0], 4 + number)
        beat(younger[0], 500 + number)
    assert elder[0].alive == ""
    assert "it should end, we were here first" in elder[1].lines[0]
    assert younger[0].alive


@pytest.mark.parametrize(("stamp", "gives_way"), [(10.0, True), (30.0, False)])
def test_of_two_that_have_beaten_as_often_the_earlier_one_stays(clock: Clock, stamp: float, gives_way: bool) -> None:
    ours = Ours(0, 20.0)
    twin, _ = made(ours)
    for number in range(1, LATER + 1):
        clock.now += 1
        ours.written = number
        beat(twin, number, stamp=stamp)
    assert bool(twin.alive) is gives_way


def test_a_crowd_of_invented_ones_is_forgotten(clock: Clock) -> None:
    twin, _ = made(Ours(5))
    for number in range(3 * MANY):
        beat(twin, 1, pid=number)
    assert len(twin._heard) <= MANY
    assert twin.alive == ""
