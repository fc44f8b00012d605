"""The host of a component that SAL commands, on a front in memory: what it obeys, and what it says, in which order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.memory import MemoryFront, MemoryLedger
from skystow.errors import ConfigError, Refused, Unreachable
from skystow.hosts.csc import STALE, Csc
from skystow.hosts.obedience import Obedience
from skystow.hosts.voice import Voice
from skystow.image.standing import Standing
from skystow.model.acts import Become, Effect, Reply, Say, Tell
from skystow.model.authority import Authority
from skystow.model.lifecycle import Summary, Verb, obey
from skystow.model.messages import ImageInOODS, Message, StartIntegration
from skystow.model.records import Worker
from skystow.model.transfer import RetryPolicy
from skystow.ports.sal import Code
from skystow.ports.talk import outside
from skystow.service.halt import Bells, Halt
from skystow.service.outside import Outside
from skystow.service.status import Progress
from skystow.service.talk import Talk

LIMIT = 20.0
NAME = "CCArchiver"
GREETING: Mapping[str, Mapping[str, object]] = {"softwareVersions": {"cscVersion": "1"}, "simulationMode": {"mode": 0}}
PROGRESS = (Code.ACK, Code.IN_PROGRESS)


def until(true: Callable[[], object], what: Callable[[], object]) -> None:
    due = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < due, what()
        time.sleep(0.01)


class Obedient(Standing):
    """Commanded as the Archiver is; START is refused with `sick`; an image called `fault` makes a fault."""

    def __init__(self) -> None:
        super().__init__(NAME, "archiver", initial_state="standby")
        self.sick = ""

    def hears(self, address: str) -> bool:
        return True

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        if isinstance(message, ImageInOODS):
            return [Say(outside(NAME), message), Tell(message)]
        if message.key == "fault":
            self.state = Summary.FAULT
            return [Become(self.state, 5755, "no forwarder")]
        return []

    def command(self, verb: Verb, now: datetime) -> list[Effect]:
        if verb is Verb.START and self.sick:
            return [Reply(self.sick, 5701)]
        self.state = obey(self.state, verb)
        return [Become(self.state), Reply()]


class House:
    def __init__(self, *, authorised: bool = False) -> None:
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), SystemClock(), RetryPolicy())
        self.front, self.archiver, self.halt, self.bells = MemoryFront(NAME), Obedient(), Halt(), Bells()
        self.talk = Talk(
            self.archiver,
            bus=self.ledger.bus,
            talks=self.ledger.talks,
            ledger=self.ledger,
            clock=SystemClock(),
            progress=Progress(),
            bells=self.bells,
            skills={},
            destinations={},
            translate=lambda _: None,
            tell=lambda _: None,
            poll=0.01,
        )
        self.levels: list[int] = []
        self.voice = Voice(self.front, GREETING, Authority(frozenset({NAME, "me@here"})))
        self.left = 0
        obedience = Obedience(self.front, self.talk, self.voice, authorised=authorised, set_level=self.levels.append)
        outcomes = Outside(NAME, self.ledger.bus, lambda message: self.front.say("imageInOODS", obsid=message.key))
        self.csc = Csc(self.talk, self.voice, obedience, outcomes, self._leave)
        self.talk.log = self.csc.heard
        self.csc.open()

    def _leave(self) -> None:
        self.left += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.csc.run(self.halt))
                await self.talk.run(self.halt)
                self.halt.set()

        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(lambda: asyncio.run(both()))
            try:
                until(lambda: self.voice.said is not None or future.done(), lambda: self.front.log)
                yield
            finally:
                self.halt.set()
                future.result(LIMIT)

    def obey(self, name: str, **values: object) -> list[tuple[Code, str]]:
        """All acknowledgements of a command."""
        number = self.front.command(name, **values)  # type: ignore[arg-type]
        until(lambda: self.ended(number), lambda: self.front.log)
        return self.front.acks(number)

    def ended(self, number: int) -> bool:
        acks = self.front.acks(number)
        return bool(acks) and acks[-1][0].final

    def states(self) -> list[object]:
        return [values["summaryState"] for _, values in self.front.said("summaryState")]

    def publish(self, to: str, *messages: Message) -> None:
        self.ledger.bus.publish([Say(to, each) for each in messages])
        self.bells.ring()


def outcome(number: int) -> ImageInOODS:
    return ImageInOODS("COMCAM", NAME, f"CC_O_20210304_{number:06d}", "22", "00", "x", 0, "file ingested")


def codes(acks: Sequence[tuple[Code, str]]) -> list[Code]:
    return [code for code, _ in acks]


def test_it_introduces_itself_once_then_beats() -> None:
    house = House()
    with house.running():
        until(lambda: len(house.front.said("heartbeat")) >= 2, lambda: house.front.log)
    names = [what for what, _ in house.front.log if what != "heartbeat"]
    assert names == [*GREETING, "logLevel", "authList", "summaryState", "errorCode"]
    assert house.front.said("summaryState") == [("summaryState", {"summaryState": 5})]
    assert house.front.said("errorCode")[0][1]["errorCode"] == 0


def test_a_whole_day_of_commands() -> None:
    house = House()
    with house.running():
        for name in ("start", "enable", "disable", "standby", "exitControl"):
            acks = house.obey(name)
            assert codes(acks) == [*PROGRESS, Code.COMPLETE], (name, acks)
        until(lambda: house.halt.is_set(), lambda: "it ends by exitControl")
    assert house.states() == [5, 1, 2, 1, 5, 4]
    assert house.left == 1, "it has left SAL, though others in the process may go on"


@pytest.mark.parametrize(("name", "state"), [("start", 1), ("exitControl", 4)])
def test_the_state_is_said_before_the_command_is_complete(name: str, state: int) -> None:
    house = House()
    with house.running():
        house.obey(name)
    said = [
        what
        for what, values in house.front.log
        if values.get("code") is Code.COMPLETE or values.get("summaryState") == state
    ]
    assert said == ["summaryState", f"ack {name}"]


def test_what_is_unlawful_fails_with_a_sentence_and_changes_nothing() -> None:
    house = House()
    with house.running():
        acks = house.obey("enable")
        assert codes(acks) == [*PROGRESS, Code.FAILED]
        assert acks[-1][1] == "enable is not lawful in STANDBY; it is in DISABLED"
        house.archiver.sick = "there is no forwarder (waited 5 s)"
        house.obey("start")
    assert house.states() == [5]
    failed = [values for what, values in house.front.log if what == "ack start" and values["code"] is Code.FAILED]
    assert [(each["number"], each["text"]) for each in failed] == [(5701, "there is no forwarder (waited 5 s)")]


@pytest.mark.parametrize("name", ["abort", "enterControl", "setValue"])
def test_a_command_that_it_does_not_do_fails_by_name(name: str) -> None:
    house = House()
    with house.running():
        assert house.obey(name) == [(Code.ACK, ""), (Code.FAILED, f"{NAME} does not do {name}")]


def test_a_command_that_could_not_be_read_is_answered_too() -> None:
    house = House()
    with house.running():
        acks = house.obey("start", wrong="settingsToApply has 300 bytes, more than 256")
    assert acks == [(Code.ACK, ""), (Code.FAILED, "settingsToApply has 300 bytes, more than 256")]
    assert house.states() == [5]


@pytest.mark.parametrize("field", ["settingsToApply", "configurationOverride"])
def test_settings_that_somebody_wants_are_said_to_be_ignored(field: str) -> None:
    house = House()
    with house.running():
        acks = house.obey("start", **{field: "default"})
    assert acks[-1] == (Code.COMPLETE, "‘default’ is not looked at: the site file is the configuration")


def test_a_fault_is_explained_before_it_is_a_state_and_the_code_goes_with_it() -> None:
    house = House()
    with house.running():
        assert codes(house.obey("resetFromFault", value=True)) == [Code.ACK, Code.FAILED]
        house.publish("archiver", StartIntegration("fault"))
        until(lambda: 3 in house.states(), lambda: house.front.log)
        assert codes(house.obey("resetFromFault", value=True)) == [*PROGRESS, Code.COMPLETE]
    order = [(what, *values.values()) for what, values in house.front.said("summaryState", "errorCode")]
    assert order == [
        ("summaryState", 5),
        ("errorCode", 0, "", ""),
        ("errorCode", 5755, "no forwarder", ""),
        ("summaryState", 3),
        ("summaryState", 5),
        ("errorCode", 0, "", ""),
    ]


def test_the_way_out_of_a_fault_is_standby_too() -> None:
    house = House()
    with house.running():
        house.publish("archiver", StartIntegration("fault"))
        until(lambda: 3 in house.states(), lambda: house.front.log)
        assert codes(house.obey("standby")) == [*PROGRESS, Code.COMPLETE]
    assert house.states() == [5, 3, 5]


def test_outcomes_are_published_once_in_order_and_wait_while_they_cannot_be() -> None:
    house = House()
    with house.running():
        house.front.fault = Unreachable("a reader takes nothing", place="sal")
        house.publish("archiver", *map(outcome, range(300)))
        until(lambda: len(house.ledger.bus.receive(outside(NAME), limit=999)) == 300, lambda: "they wait")
        assert house.front.said("imageInOODS") == []
        house.front.fault = None
        until(lambda: not house.ledger.bus.receive(outside(NAME), limit=9), lambda: "they are gone")
    assert [values["obsid"] for _, values in house.front.said("imageInOODS")] == [outcome(n).obsid for n in range(300)]


def test_what_waited_while_nobody_ran_is_published_at_first() -> None:
    house = House()
    house.publish(outside(NAME), outcome(1), outcome(2))
    with house.running():
        until(lambda: len(house.front.said("imageInOODS")) == 2, lambda: house.front.log)
    assert house.ledger.bus.receive(outside(NAME), limit=9) == []


def test_the_log_is_said_from_its_level_on() -> None:
    house = House()
    with house.running():
        house.voice.line(logging.DEBUG, "quiet")
        house.voice.line(logging.WARNING, "loud")
        assert house.obey("setLogLevel", level=logging.DEBUG)[-1] == (Code.COMPLETE, "")
        house.voice.line(logging.DEBUG, "now heard")
    assert [values["message"] for _, values in house.front.said("logMessage")] == ["loud", "now heard"]
    assert house.levels == [logging.DEBUG]
    assert [values["level"] for _, values in house.front.said("logLevel")] == [logging.INFO, logging.DEBUG]


def test_who_may_command_is_asked_only_where_authorisation_is_on() -> None:
    house = House()
    with house.running():
        said = house.obey("setAuthList", authorizedUsers="she@there", nonAuthorizedCSCs="Script")
        assert said[-1] == (Code.COMPLETE, "nobody is asked for it: LSST_DDS_ENABLE_AUTHLIST is not 1")
        assert house.obey("start", identity="he@there")[-1][0] is Code.COMPLETE
    house = House(authorised=True)
    with house.running():
        assert house.obey("start", identity="he@there") == [
            (Code.ACK, ""),
            (Code.NO_PERMISSION, "‘he@there’ is not on the list of who may command"),
        ]
        changed = house.obey("setAuthList", identity="me@here", authorizedUsers="+he@there", nonAuthorizedCSCs="Script")
        assert changed[-1] == (Code.COMPLETE, "")
        assert house.obey("start", identity="he@there")[-1][0] is Code.COMPLETE
        assert house.obey("enable", identity="Script:2")[-1][0] is Code.NO_PERMISSION
        assert house.obey("enable", identity="Watcher")[-1][0] is Code.COMPLETE
        wrong = house.obey("setAuthList", identity="me@here", authorizedUsers="nobody", nonAuthorizedCSCs="")
        assert wrong[-1] == (Code.FAILED, "‘nobody’ is not user@host; the list is unchanged")
    assert house.front.said("authList")[-1][1] == {"authorizedUsers": "he@there", "nonAuthorizedCSCs": "Script"}


def test_another_one_of_our_name_ends_us() -> None:
    house = House()
    house.front.trouble = ConfigError("another CCArchiver is alive")
    with pytest.raises(ExceptionGroup) as several, house.running():
        pass
    assert several.group_contains(ConfigError, match="another CCArchiver")


def test_a_component_that_does_not_run_yet_refuses_and_the_commander_is_told() -> None:
    house = House()

    async def alone() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(house.csc.run(house.halt))
            number = house.front.command("start")
            await asyncio.to_thread(until, lambda: house.ended(number), lambda: house.front.log)
            assert house.front.acks(number)[-1] == (Code.FAILED, f"start: {NAME} does not run")
            assert house.front.said("summaryState") == [], "it has no state yet"
            house.halt.set()

    asyncio.run(alone())


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [("a@b", "c@d, e@f", "c@d, e@f"), ("a@b", "+c@d", "a@b, c@d"), ("a@b, c@d", "-a@b", "c@d"), ("a@b", "", "")],
)
def test_lists_of_people_are_changed_as_salobj_does(before: str, text: str, after: str) -> None:
    from skystow.model.authority import listed

    authority = Authority(frozenset()).changed(before, "")
    assert listed(authority.changed(text, "").users) == after


@pytest.mark.parametrize("users", ["Script", "a b@c", "a@b\n"])
def test_a_list_that_is_none_is_refused(users: str) -> None:
    with pytest.raises(Refused, match="is not user@host"):
        Authority(frozenset()).changed(users + ",x y@z", "")


def test_a_command_that_nobody_waits_for_any_more_is_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    now = time.monotonic()
    monkeypatch.setattr("skystow.hosts.csc.monotonic", lambda: now - STALE - 1)
    number = house.front.command("start")
    monkeypatch.undo()
    with house.running():
        until(lambda: house.ended(number), lambda: house.front.log)
    assert house.front.acks(number) == [(Code.ACK, ""), (Code.FAILED, f"{NAME} was not at work when it came")]
    assert house.states() == [5]


def test_how_a_command_ends_that_the_ledger_interrupted_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()

    def lost(verb: Verb, patience: float | None) -> Summary:
        raise Unreachable("start: it may still be obeyed", place=NAME)

    monkeypatch.setattr(house.talk, "command", lost)
    with house.running():
        assert house.obey("start")[-1] == (Code.ABORTED, "start: it may still be obeyed")


def test_commands_without_number_are_refused_at_once() -> None:
    house = House()
    numbers = [house.front.command("abort") for _ in range(1001)]
    assert house.front.acks(numbers[-1]) == [(Code.FAILED, "1000 commands wait already")]
    with house.running():
        until(lambda: all(house.ended(number) for number in numbers), lambda: len(house.front.log))


def test_a_list_that_becomes_too_long_is_refused() -> None:
    many = Authority(frozenset()).changed(",".join(f"u{n}@h" for n in range(1000)), "")
    with pytest.raises(Refused, match="more than 1000 names"):
        many.changed("+one@more", "")
