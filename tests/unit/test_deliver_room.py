"""A batch at a place that has room for some of it."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from tests.unit.test_deliver import A, B, House
from tests.unit.test_deliver import house as house

from skystow.errors import NoSpace
from skystow.model.transfer import ROOM_AGAIN, State, Step
from skystow.ports import Room


def test_a_file_that_finds_no_room_costs_nothing_and_the_others_go_on(house: House) -> None:
    big = PurePosixPath("big")
    house.tree.write(big, bytes(3 << 20))
    house.sweep()
    house.store.room_now = Room(total=10 << 20, free=2 << 20, spare=2 << 20)
    house.carry()
    assert (house.state(A), house.state(B)) == (State.DONE, State.DONE)
    copy = house.dossier(big).copies[0]
    assert (copy.state, copy.attempts, copy.fault) == (State.WAITING, 0, "no-room")
    house.carry()
    assert house.dossier(big).events[-1].step is Step.HELD, "it was claimed again at once"
    house.store.room_now = Room(total=10 << 20, free=4 << 20, spare=4 << 20)
    house.clock.advance(ROOM_AGAIN + 1)
    house.carry()
    assert house.state(big) is State.DONE


def test_where_nothing_of_a_batch_finds_room_the_place_is_full(house: House) -> None:
    for name in ("big", "huge"):
        house.tree.write(PurePosixPath(name), bytes(3 << 20), mtime_ns=-1)
    house.sweep()
    house.store.room_now = Room(total=10 << 20, free=2 << 20, spare=2 << 20)
    with pytest.raises(NoSpace) as full:
        house.carry(files=2)
    assert full.value.place == "archive"
    assert {house.dossier(PurePosixPath(name)).copies[0].attempts for name in ("big", "huge")} == {0}
    house.carry()
    assert (house.state(A), house.state(B)) == (State.DONE, State.DONE)


def test_what_the_place_could_never_hold_is_for_a_person(house: House) -> None:
    big = PurePosixPath("big")
    house.tree.write(big, bytes(3 << 20))
    house.sweep()
    house.store.room_now = Room(total=3 << 20, free=2 << 20, spare=1 << 20)
    house.carry()
    assert (house.state(A), house.state(B)) == (State.DONE, State.DONE)
    copy = house.dossier(big).copies[0]
    assert (copy.state, copy.fault) == (State.QUARANTINED, "too-large")
