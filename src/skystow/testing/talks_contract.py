"""What every `skystow.ports.talk.Talks` must do. A subclass supplies the fixtures `door`, the ledger under test;
`beside`, the same one as another process has it; and `clock`, its time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from skystow.adapters.memory import ManualClock
from skystow.model.acts import Bury, Mark, Milestone, Note, Say
from skystow.model.messages import EndReadout, Message, StartIntegration, XferParams
from skystow.model.records import DeadLetter
from skystow.model.reports import CatchUp, Degraded
from skystow.ports.image import Catalogue
from skystow.ports.talk import Bus, Scoreboard, Talks

FIRST, SECOND = "CC_O_20210304_000001", "CC_O_20210304_000002"
START = StartIntegration(FIRST, datetime(2021, 3, 5, 1, 2, 3, 456789, UTC), exposure_time=1.5, detectors=("R22_S00",))
END = EndReadout(FIRST)
OTHER = StartIntegration(SECOND)
STARTED = Mark(FIRST, Milestone.STARTED, text="R22_S00 R22_S01")
ODD = "NUL \0, half of a pair \ud800, 望远镜 🔭, ‘quoted’ and\nlines " + "x" * 100_000


class Door(Protocol):
    """A ledger's side of the image door."""

    @property
    def talks(self) -> Talks: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def board(self) -> Scoreboard: ...
    @property
    def catalogue(self) -> Catalogue: ...
    def dead_letters(self, *, after: int, limit: int, source: str | None = None) -> Sequence[DeadLetter]: ...
    def exhume(self, letters: Sequence[DeadLetter]) -> int: ...


def said(door: Door, component: str = "archiver") -> list[Message]:
    return [message for _, message in door.talks.steps(component)]


class Steps:
    """What a conversation is rebuilt from."""

    def test_they_come_back_as_they_were_in_order(self, door: Door, beside: Door, clock: ManualClock) -> None:
        locations = tuple(f"{raft:02}/{board}" for raft in range(25) for board in range(9))
        long = XferParams("a_1", 3, "s", FIRST, "CC", "x:/staging/2021-03-04/", locations, "fp01", "archiver")
        door.talks.converse("archiver", notes=[Note(START), Note(OTHER)])
        began = clock.now()
        clock.advance(5)
        door.talks.converse("archiver", notes=[Note(END), Note(long)])
        assert beside.talks.steps("archiver") == [
            (began, START),
            (began, OTHER),
            (began + timedelta(seconds=5), END),
            (began + timedelta(seconds=5), long),
        ]

    def test_the_same_one_twice_is_one(self, door: Door, beside: Door, clock: ManualClock) -> None:
        at = clock.now()
        door.talks.converse("archiver", notes=[Note(START), Note(START)])
        clock.advance(1)
        beside.talks.converse("archiver", notes=[Note(END), Note(START)])
        assert said(door) == [START, END]
        assert door.talks.steps("archiver")[0] == (at, START)

    def test_each_component_has_its_own(self, door: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START)])
        door.talks.converse("controller", notes=[Note(START), Note(END)])
        assert said(door) == [START]
        assert said(door, "controller") == [START, END]
        assert said(door, "nobody") == []

    def test_a_closed_one_is_not_replayed(self, door: Door, beside: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START), Note(OTHER)])
        door.talks.converse("archiver", notes=[Note(END, closes=True)])
        assert said(beside) == [OTHER]

    def test_a_known_step_can_close(self, door: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START)])
        door.talks.converse("archiver", notes=[Note(START, closes=True)])
        assert said(door) == []

    def test_a_new_step_opens_a_closed_one_again_with_all_of_it(self, door: Door) -> None:
        again = CatchUp(FIRST)
        door.talks.converse("archiver", notes=[Note(START), Note(END, closes=True)])
        door.talks.converse("archiver", notes=[Note(again)])
        assert said(door) == [START, END, again]
        door.talks.converse("archiver", notes=[Note(again, closes=True)])
        assert said(door) == []

    def test_a_repeat_opens_nothing(self, door: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START), Note(END, closes=True)])
        door.talks.converse("archiver", notes=[Note(START), Note(END)])
        assert said(door) == []

    def test_within_one_transaction_the_last_word_counts(self, door: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START, closes=True), Note(END)])
        assert said(door) == [START, END]

    def test_about_no_exposure_and_of_any_text(self, door: Door, beside: Door) -> None:
        away, odd = Degraded("bus", True, ODD), StartIntegration(ODD)
        door.talks.converse("archiver", notes=[Note(away), Note(odd), Note(StartIntegration(ODD.upper()))])
        assert said(beside) == [away, odd, StartIntegration(ODD.upper())]

    def test_hundreds_at_once(self, door: Door) -> None:
        many: list[Message] = [StartIntegration(f"CC_O_20210304_{n:06}") for n in range(1_200)]
        door.talks.converse("archiver", notes=[Note(each) for each in many])
        door.talks.converse("archiver", notes=[Note(each, closes=True) for each in many[5:]])
        assert said(door) == many[:5]


class Together:
    """One call, one transaction."""

    def test_what_is_said_waits_on_the_bus(self, door: Door, beside: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START)], says=[Say("controller", START), Say("oods", END)])
        assert [each.message for each in beside.bus.receive("controller", limit=9)] == [START]
        assert [each.message for each in beside.bus.receive("oods", limit=9)] == [END]

    def test_dead_letters_are_buried(self, door: Door, beside: Door, clock: ManualClock) -> None:
        door.talks.converse("archiver", buries=[Bury(DeadLetter("archiver", b"k", "no such image"))])
        (letter,) = beside.dead_letters(after=0, limit=9)
        assert (letter.source, letter.key, letter.reason) == ("archiver", b"k", "no such image")
        assert letter.at == clock.now()

    def test_facts_are_kept(self, door: Door, beside: Door) -> None:
        door.talks.converse("archiver", notes=[Note(START)], keep={"jobnum": "41", "state": "ENABLED"})
        door.talks.converse("archiver", keep={"jobnum": "42"})
        assert beside.talks.kept("archiver") == {"jobnum": "42", "state": "ENABLED"}

    def test_nothing_is_nothing(self, door: Door) -> None:
        door.talks.converse("archiver")
        assert said(door) == []
        assert door.talks.days() == []


class Milestones:
    """An exposure's record."""

    def test_the_first_of_a_kind_counts(self, door: Door, beside: Door, clock: ManualClock) -> None:
        camera = datetime(2021, 3, 5, 1, 2, 3, 456789, UTC)
        door.talks.converse("archiver", marks=[Mark(FIRST, Milestone.STARTED, at=camera, text="R22_S00"), STARTED])
        clock.advance(9)
        beside.talks.converse("archiver", marks=[STARTED, Mark(FIRST, Milestone.SENT, "R22_S00", number=7)])
        started, sent = door.talks.lines(obsid=FIRST)
        assert (started.what, started.at, started.text) == (Milestone.STARTED, camera, "R22_S00")
        assert (sent.detector, sent.at, sent.number) == ("R22_S00", clock.now(), 7)

    def test_each_ccd_has_its_own(self, door: Door) -> None:
        marks = [Mark(FIRST, Milestone.ADOPTED, ccd) for ccd in ("R22_S00", "R22_S01", "R22_S00")]
        door.talks.converse("controller", marks=marks)
        assert [line.detector for line in door.talks.lines(obsid=FIRST)] == ["R22_S00", "R22_S01"]

    def test_a_fault_is_kept_as_often_as_it_differs(self, door: Door) -> None:
        faults = [(5752, "no ack"), (5752, "no ack"), (5753, "no ack"), (5752, "still none")]
        for number, text in faults:
            door.talks.converse("archiver", marks=[Mark(FIRST, Milestone.FAULT, number=number, text=text)])
        lines = door.talks.lines(obsid=FIRST)
        assert [(line.number, line.text) for line in lines] == [faults[0], faults[2], faults[3]]

    def test_a_day_in_order_of_exposure_and_time(self, door: Door, clock: ManualClock) -> None:
        end, now = Mark(FIRST, Milestone.READ_OUT), clock.now()
        late, early = now + timedelta(seconds=60), now - timedelta(seconds=60)
        door.talks.converse("archiver", marks=[Mark(SECOND, Milestone.STARTED, at=early), end])
        door.talks.converse("archiver", marks=[Mark(FIRST, Milestone.COMPLETE, at=late)])
        door.talks.converse("archiver", marks=[Mark(FIRST, Milestone.STARTED, at=early)])
        door.talks.converse("archiver", marks=[Mark("CC_O_20210305_000001", Milestone.STARTED)])
        found = [(line.obsid, line.what) for line in door.talks.lines(day_obs=20210304)]
        of_first = [(FIRST, what) for what in (Milestone.STARTED, Milestone.READ_OUT, Milestone.COMPLETE)]
        assert found == [*of_first, (SECOND, Milestone.STARTED)]
        assert door.talks.lines(day_obs=20210304, obsid=SECOND) == [door.talks.lines(obsid=SECOND)[0]]
        assert door.talks.lines(day_obs=20210305, obsid=SECOND) == []

    @pytest.mark.parametrize(
        ("at", "day"),
        [
            (datetime(2024, 3, 1, 11, 59, 59, 999999, UTC), 20240229),
            (datetime(2024, 3, 1, 12, 0, 0, 0, UTC), 20240301),
            (datetime(2024, 1, 1, 0, 0, 0, 0, UTC), 20231231),
        ],
    )
    def test_without_a_day_in_its_name_it_is_of_the_first_ones(self, door: Door, at: datetime, day: int) -> None:
        """UTC - 12 h; and what comes after midday stays with its exposure."""
        door.talks.converse("archiver", marks=[Mark("flat-7", Milestone.STARTED, at=at)])
        door.talks.converse("archiver", marks=[Mark("flat-7", Milestone.COMPLETE, at=at + timedelta(days=1))])
        assert door.talks.days() == [day]
        assert len(door.talks.lines(day_obs=day)) == 2

    def test_the_name_says_the_day_whatever_the_clocks(self, door: Door) -> None:
        door.talks.converse("archiver", marks=[Mark(FIRST, Milestone.STARTED, at=datetime(2030, 1, 1, tzinfo=UTC))])
        assert door.talks.days() == [20210304]

    def test_days_are_listed_newest_first(self, door: Door) -> None:
        for day in (20210304, 20231231, 20210305, 20210304):
            door.talks.converse("archiver", marks=[Mark(f"CC_O_{day}_000001", Milestone.STARTED)])
        assert door.talks.days() == [20231231, 20210305, 20210304]

    def test_one_must_say_of_what(self, door: Door) -> None:
        with pytest.raises(ValueError, match="which day"):
            door.talks.lines()

    def test_any_text_can_be_written_down(self, door: Door) -> None:
        door.talks.converse("archiver", marks=[Mark(ODD, Milestone.LATE, ODD, number=2**70, text=ODD)])
        (line,) = door.talks.lines(obsid=ODD)
        assert line.text.endswith("xxx")


class Facts:
    """`keep` and `kept`."""

    def test_they_outlive_the_process(self, door: Door, beside: Door) -> None:
        door.talks.keep("archiver", {"state": "ENABLED", "jobnum": "41"})
        door.talks.keep("archiver", {"jobnum": "42", "session": ""})
        door.talks.keep("archiver", {})
        door.talks.keep("controller", {"jobnum": "1"})
        assert beside.talks.kept("archiver") == {"state": "ENABLED", "jobnum": "42", "session": ""}
        assert beside.talks.kept("controller") == {"jobnum": "1"}
        assert beside.talks.kept("nobody") == {}


class TalksContract(Steps, Together, Milestones, Facts):
    """The whole of it."""
