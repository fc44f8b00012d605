"""A whole component on memory adapters: intake, pumps, rests, the end of a single pass, and a stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.memory import ManualClock, MemoryAnnouncer, MemoryLedger, MemorySource, MemoryStore, MemoryTree
from skystow.adapters.memory.places import no_fault
from skystow.engine.deliver import Rules
from skystow.errors import PlaceFault, Stopped, UnfitPlace, Unreachable, Unreadable
from skystow.model.records import Arrival, Worker
from skystow.model.transfer import Destination, RetryPolicy, Route, State, Work
from skystow.ports import Admission, Room, Staged, Stop
from skystow.service import component, intake, pump
from skystow.service.component import Component, Ending
from skystow.service.halt import Halt
from skystow.service.intake import Inlet
from skystow.service.pump import Lane
from skystow.service.status import Progress

A, B = PurePosixPath("a.fits"), PurePosixPath("b.fits")
SOON = RetryPolicy(max_attempts=3, first=0.01, factor=1)


class House:
    """An instrument, an archive, and a hand-off from it to `oods`."""

    def __init__(self) -> None:
        self.acts: dict[str, Callable[[PurePosixPath], None]] = {}
        self.tree = MemoryTree("instrument", self.cue)
        self.source = MemorySource("instrument", self.tree)
        self.archive = MemoryStore("archive", {"instrument": self.tree}, fault=self.cue)
        self.oods = MemoryStore("oods", {"archive": self.archive.files})
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), SystemClock(), SOON)
        self.announcer = MemoryAnnouncer()
        self.progress, self.halt = Progress(), Halt()
        self.tree.write(A, b"alpha", mtime_ns=1)
        self.tree.write(B, b"beta", mtime_ns=2)

    def cue(self, verb: str, path: PurePosixPath) -> None:
        if verb in self.acts:
            self.acts[verb](path)

    def run(self, *, once: bool = True, give_up_after: float = 5.0, retry: RetryPolicy = SOON) -> Ending:
        rules = Rules(retry=retry)
        component = Component(
            ledger=self.ledger,
            clock=SystemClock(),
            inlets=[Inlet(self.source, (Destination("archive"), Destination("oods", upstream="archive")), 0.05)],
            lanes=[
                Lane(Route("instrument", "archive"), self.archive, rules),
                Lane(Route("archive", "oods"), self.oods, rules),
            ],
            announcers={"journal": self.announcer},
            worker_alive=lambda _: True,
            progress=self.progress,
        )
        return asyncio.run(component.run(self.halt, once=once, give_up_after=give_up_after))

    def states(self) -> set[State]:
        return {copy.state for s in State for copy in self.ledger.copies(after=0, limit=99, state=s)}


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pump, intake):
        monkeypatch.setattr(module, "FIRST_REST", 0.01)
        monkeypatch.setattr(module, "LONGEST_REST", 0.05)
    monkeypatch.setattr(component, "GRACE", 0.3)


def test_a_single_pass_archives_hands_off_tells_and_ends() -> None:
    house = House()
    assert house.run() is Ending.FINISHED
    assert house.oods.files.files.keys() == house.archive.files.files.keys() == {A, B}
    assert house.states() == {State.DONE}
    assert len(house.announcer.announced) == 4
    assert house.ledger.notices(limit=9) == []
    assert (house.progress.seen.files, house.progress.done.delivered) == (2, 4)


def test_a_second_pass_finds_nothing_new() -> None:
    house = House()
    house.run()
    house.progress = Progress()
    assert house.run() is Ending.FINISHED
    assert house.progress.seen.known == {State.DONE: 2}
    assert house.progress.done.delivered == 0


def test_a_place_that_is_away_for_a_while_costs_no_attempt() -> None:
    house, failures = House(), iter(range(3))

    def away(path: PurePosixPath) -> None:
        if next(failures, None) is not None:
            raise Unreachable("the archive is away", place="archive")

    house.acts["prove"] = away
    assert house.run() is Ending.FINISHED
    assert house.states() == {State.DONE}
    copies = house.ledger.copies(after=0, limit=9, state=State.DONE)
    assert {copy.attempts for copy in copies} == {0}
    assert house.progress.resting == []
    (health,) = [h for h in house.ledger.healths() if h.place == "archive"]
    assert health.well


def test_a_place_that_stays_away_is_given_up_visibly() -> None:
    house = House()

    def away(path: PurePosixPath) -> None:
        raise Unreachable("the archive is away", place="archive")

    house.acts["prove"] = away
    assert house.run(give_up_after=0.3) is Ending.UNFINISHED
    (health,) = house.progress.resting
    assert health.place == "archive"
    assert "away" in health.reason
    assert house.states() == {State.WAITING}


def test_no_room_makes_the_pump_rest_before_the_disk_is_full() -> None:
    house = House()
    house.archive.room_now = Room(total=100, free=4, spare=-1)
    assert house.run(give_up_after=0.3) is Ending.UNFINISHED
    assert house.archive.files.files == {}
    house.archive.room_now = Room(total=100, free=50, spare=45)
    house.halt = Halt()
    assert house.run() is Ending.FINISHED
    assert house.states() == {State.DONE}


def test_a_full_place_with_nothing_to_bring_is_no_matter() -> None:
    house = House()
    house.run()
    house.archive.room_now = Room(total=100, free=4, spare=-1)
    assert house.run(give_up_after=0.3) is Ending.FINISHED


def test_retries_due_soon_are_waited_for_and_late_ones_not() -> None:
    house, failures = House(), iter(range(2))

    def fails(path: PurePosixPath) -> None:
        if path == A and next(failures, None) is not None:
            raise Unreadable("no")

    house.acts["stage"] = fails
    assert house.run() is Ending.FINISHED
    assert house.states() == {State.DONE}
    house = House()
    house.acts["stage"] = lambda path: fail(path)
    assert house.run(retry=RetryPolicy(max_attempts=3, first=1000)) is Ending.UNFINISHED
    assert house.states() == {State.DONE, State.WAITING}


def fail(path: PurePosixPath) -> None:
    if path == A:
        raise Unreadable("no")


def test_what_an_operator_must_change_ends_the_run_with_his_error() -> None:
    house = House()

    def unfit(path: PurePosixPath) -> None:
        raise UnfitPlace("links do not work there")

    house.acts["publish"] = unfit
    with pytest.raises(UnfitPlace, match="links do not work"):
        house.run()
    assert house.states() == {State.WAITING}
    assert house.ledger.live_tokens() == set()


def test_a_stop_puts_back_what_was_under_way() -> None:
    house, reached = House(), threading.Event()

    def wait_there(path: PurePosixPath) -> None:
        reached.set()
        assert house.halt.wait(5)
        raise Stopped("asked")

    house.acts["prove"] = wait_there

    def stop_it() -> None:
        assert reached.wait(5)
        house.halt.set()

    threading.Thread(target=stop_it).start()
    assert house.run(once=False) is Ending.STOPPED
    assert house.ledger.live_tokens() == set()
    house.acts.clear()
    house.halt = Halt()
    assert house.run() is Ending.FINISHED
    assert {c.attempts for c in house.ledger.copies(after=0, limit=9, state=State.DONE)} == {0}


def test_a_source_that_is_away_is_looked_for_again() -> None:
    house, failures = House(), iter(range(2))

    def away(path: PurePosixPath) -> None:
        if next(failures, None) is not None:
            raise Unreachable("not mounted", place="instrument")

    house.acts["present"] = away
    assert house.run() is Ending.FINISHED
    assert house.states() == {State.DONE}


def test_files_that_come_while_it_runs_are_archived() -> None:
    house = House()

    def later(path: PurePosixPath) -> None:
        if path == PurePosixPath("late.fits"):
            house.halt.set()
        elif path == B:
            house.tree.write("late.fits", b"late", mtime_ns=3)

    house.oods.fault = lambda verb, path: later(path) if verb == "drop" else None
    assert house.run(once=False) is Ending.STOPPED
    assert PurePosixPath("late.fits") in house.archive.files.files


def test_a_broken_ledger_is_an_error_not_a_silence() -> None:
    house = House()

    def gone(limit: int) -> None:
        raise RuntimeError("a bug of ours")

    house.announcer.fault = lambda verb, path: gone(1)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        house.run()


def test_notices_wait_in_the_ledger_while_the_announcer_is_away() -> None:
    house = House()

    def away(verb: str, path: PurePosixPath) -> None:
        raise PlaceFault("broker away", place="broker")

    house.announcer.fault = away  # for as long as the whole first run lasts, however often it tries
    assert house.run() is Ending.UNFINISHED
    assert house.announcer.announced == []
    house.announcer.fault = no_fault
    assert house.run() is Ending.FINISHED
    assert len({n.id for n in house.announcer.announced}) == 4


class FlickeringLedger(MemoryLedger):
    """Each call that is named in `away` fails, so many times."""

    def __init__(self, away: dict[str, int]) -> None:
        super().__init__(Worker("host", "boot", "ns", 1, 1), SystemClock(), SOON)
        self.away = away

    def _flicker(self, call: str) -> None:
        if self.away.get(call, 0) > 0:
            self.away[call] -= 1
            raise Unreachable("the ledger is locked", place="ledger")

    def admit(self, arrivals: Sequence[Arrival], destinations: Sequence[Destination]) -> Admission:
        self._flicker("admit")
        return super().admit(arrivals, destinations)

    def next_wake(self, route: Route) -> float | None:
        where = threading.current_thread().name.split()[0]
        self._flicker("next_wake of a pump" if where == "carry" else "next_wake of the component")
        return super().next_wake(route)


@pytest.mark.parametrize("call", ["admit", "next_wake of a pump", "next_wake of the component"])
def test_a_ledger_that_is_away_for_a_while_ends_nothing(call: str) -> None:
    house = House()
    house.ledger = ledger = FlickeringLedger({call: 5})
    assert house.run() is Ending.FINISHED
    assert ledger.away == {call: 0}
    assert house.states() == {State.DONE}


def test_a_rest_ends_though_nothing_is_left_to_bring() -> None:
    house = House()
    house.ledger = ledger = FlickeringLedger({})
    assert house.run() is Ending.FINISHED
    ledger.away["next_wake of a pump"] = 1

    def stop_when_well() -> None:
        until = time.monotonic() + 5
        while "ledger" not in house.progress.healths or house.progress.resting:
            assert time.monotonic() < until
            time.sleep(0.01)
        house.halt.set()

    threading.Thread(target=stop_when_well).start()
    assert house.run(once=False) is Ending.STOPPED
    assert ledger.away == {"next_wake of a pump": 0}
    assert house.progress.resting == []


def test_a_ledger_that_was_away_is_shown_well_again() -> None:
    house = House()
    house.ledger = FlickeringLedger({"admit": 1})
    assert house.run() is Ending.FINISHED
    assert house.progress.resting == []


class SlowStore(MemoryStore):
    """Copies for a second, block by block."""

    def _stage(self, work: Work, stop: Stop) -> Staged:
        for _ in range(20):
            if stop.is_set():
                raise Stopped("stopped while copying")
            time.sleep(0.05)
        return super()._stage(work, stop)


def test_a_file_that_takes_long_is_not_given_up() -> None:
    house = House()
    house.archive = SlowStore("archive", {"instrument": house.tree})
    house.oods = MemoryStore("oods", {"archive": house.archive.files})
    assert house.run(give_up_after=0.4) is Ending.FINISHED
    assert house.states() == {State.DONE}


class HungStore(MemoryStore):
    """On a mount that does not answer, until `back`."""

    def __init__(self, name: str, sources: dict[str, MemoryTree]) -> None:
        super().__init__(name, sources)
        self.back = threading.Event()

    def tokens(self, *, idle: float = 0.0) -> Sequence[str]:
        assert self.back.wait(30)
        return super().tokens(idle=idle)

    def room(self) -> Room:
        assert self.back.wait(30)
        return super().room()


def test_a_place_that_hangs_holds_up_nobody_else_and_not_the_end() -> None:
    house = House()
    house.oods = hung = HungStore("oods", {"archive": house.archive.files})
    assert house.run(give_up_after=0.5) is Ending.UNFINISHED
    assert house.archive.files.files.keys() == {A, B}
    hung.back.set()
    house.halt = Halt()
    assert house.run() is Ending.FINISHED
    assert house.states() == {State.DONE}


def test_a_failure_is_told_though_a_thread_hangs() -> None:
    house = House()
    house.oods = hung = HungStore("oods", {"archive": house.archive.files})

    def unfit(path: PurePosixPath) -> None:
        raise UnfitPlace("links do not work there")

    house.acts["publish"] = unfit
    with pytest.raises(UnfitPlace):
        house.run()
    hung.back.set()


def test_streams_that_meet_one_fault_together_do_not_lengthen_the_rest() -> None:
    clock = ManualClock()
    rest = pump.Rest(clock)
    first = [rest.begin(Unreachable("away", place=place)) for place in ("archive", "archive", "ledger")]
    assert first == [pump.FIRST_REST] * 3
    assert rest.places == {"archive", "ledger"}
    clock.advance(pump.FIRST_REST)
    assert rest.begin(Unreachable("away", place="archive")) == pytest.approx(2 * pump.FIRST_REST)


def test_lanes_are_asked_upstream_first() -> None:
    """Else a handoff that is woken between two questions would be missed, and the pass called finished."""
    house = House()
    lanes = [
        Lane(Route(source, store.name), store, Rules())
        for source, store in (("archive", house.oods), ("instrument", house.archive))
    ]
    ordered = Component(
        ledger=house.ledger,
        clock=SystemClock(),
        inlets=[],
        lanes=lanes,
        announcers={},
        worker_alive=lambda _: True,
        progress=house.progress,
    ).lanes
    assert [lane.route.destination for lane in ordered] == ["archive", "oods"]
