"""Places that rest, and what they hold up: nobody else. As `test_component`, on memory adapters."""

from __future__ import annotations

import threading
import time
from pathlib import PurePosixPath

from tests.unit.test_component import A, B, House
from tests.unit.test_component import short_rests as short_rests

from skystow.adapters.memory.places import no_fault
from skystow.errors import UnfitHost
from skystow.model.transfer import State, mark_of
from skystow.ports import Room
from skystow.service import component
from skystow.service.component import Ending
from skystow.service.halt import Halt


def test_files_for_which_there_is_no_room_hold_up_nobody_and_end_a_single_pass() -> None:
    house = House()
    for i in range(3):
        house.tree.write(PurePosixPath(f"big{i}"), bytes(3 << 20), mtime_ns=0)  # the oldest: first in the queue
    house.archive.room_now = Room(total=10 << 20, free=2 << 20, spare=2 << 20)
    began = time.monotonic()
    assert house.run(give_up_after=60) is Ending.UNFINISHED
    assert time.monotonic() - began < 10
    assert house.oods.files.files.keys() == {A, B}
    waiting = [c for c in house.ledger.copies(after=0, limit=99, state=State.WAITING) if c.fault]
    assert [(copy.fault, copy.attempts) for copy in waiting] == [("no-room", 0)] * 3


def test_a_host_that_is_unfit_stops_nobody_else_and_ends_a_single_pass() -> None:
    house = House()

    def unfit(verb: str, path: PurePosixPath) -> None:
        raise UnfitHost("its host key is not known here", place="oods", remedy="add it")

    house.oods.fault = unfit
    began = time.monotonic()
    assert house.run(give_up_after=60) is Ending.UNFINISHED
    assert time.monotonic() - began < 10
    assert house.archive.files.files.keys() == {A, B}
    assert house.oods.files.files == {}
    (health,) = house.progress.resting
    assert (health.place, health.reason) == ("oods", "its host key is not known here; add it")
    house.oods.fault = no_fault
    house.halt = Halt()
    assert house.run() is Ending.FINISHED
    assert house.oods.files.files.keys() == {A, B}


def test_a_source_whose_host_is_unfit_is_looked_for_again_while_a_service_runs() -> None:
    house, refusals = House(), iter(range(3))

    def unfit(path: PurePosixPath) -> None:
        if next(refusals, None) is not None:
            raise UnfitHost("its host key is not known here", place="instrument")

    house.acts["present"] = unfit
    assert house.run() is Ending.UNFINISHED  # a single pass asks once
    house.halt = Halt()

    def stop_when_done() -> None:
        for _ in range(500):
            if house.oods.files.files.keys() == {A, B}:
                break
            time.sleep(0.01)
        house.halt.set()

    threading.Thread(target=stop_when_done).start()
    assert house.run(once=False) is Ending.STOPPED
    assert house.oods.files.files.keys() == {A, B}
    assert next(refusals, None) is None


def test_the_staging_areas_of_another_ledger_are_let_be_until_nobody_cares_for_them() -> None:
    house, other = House(), House()
    house.run()
    mark, theirs = mark_of(house.ledger.identity()), mark_of(other.ledger.identity())
    assert mark != theirs
    for token in (f"{mark}01", f"{theirs}02", f"{theirs}03"):
        house.archive.staged[token] = {}
    house.archive.idle = {f"{theirs}02": component.FORSAKEN - 60, f"{theirs}03": component.FORSAKEN + 60}
    house.halt = Halt()
    house.run()
    assert house.archive.tokens() == [f"{theirs}02"]
