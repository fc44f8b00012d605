"""Fronts to SAL: in memory, and on real DDS with somebody else on the other side."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from uuid import uuid4

import pytest

from skystow.adapters.memory import MemoryFront
from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.environment import Environment
from skystow.adapters.sal.front import SalFront
from skystow.adapters.sal.node import Node
from skystow.adapters.sal.quality import Quality
from skystow.adapters.sal.remote import SalRemote
from skystow.errors import ConfigError
from skystow.ports.sal import Acknowledgement, Code, Event
from skystow.testing.front_contract import FrontContract, until

NAME = "CCArchiver"


class MemoryStage:
    def __init__(self) -> None:
        self.front = MemoryFront(NAME, lacks=("configurationApplied",))

    def command(self, name: str, **values: object) -> None:
        self.front.command(name, **values)  # type: ignore[arg-type]

    def acks(self) -> Sequence[tuple[Code, str, int]]:
        return [(code, text, self.numbers()[n]) for n, (code, text) in enumerate(self.front.acks(1))]

    def numbers(self) -> list[int]:
        return [int(str(values["number"])) for what, values in self.front.log if what.startswith("ack ")]

    def heard(self, *events: str) -> Sequence[tuple[str, Mapping[str, object]]]:
        return self.front.said(*events)


class DdsStage:
    """The component on one participant, whoever speaks with it on another one."""

    def __init__(self, stack: ExitStack, *, quality: Quality | None = None) -> None:
        self.environment = Environment(f"t{uuid4().hex[:12]}")
        self.quality, self.stack, self.logged = quality or Quality(), stack, list[str]()
        self.front = self.another()
        self._far: SalRemote | None = None
        self._acks: list[Acknowledgement] = []
        self._events: list[Event] = []
        self._names: tuple[str, ...] | None = None

    def node(self, identity: str) -> Node:
        made = Node(self.environment, self.quality, identity=identity, log=self.logged.append)
        self.stack.callback(made.close)
        return made

    def another(self) -> SalFront:
        """One more component of the same name."""
        front = SalFront(self.node(NAME), load(NAME, None))
        self.stack.callback(front.close)
        return front

    @property
    def far(self) -> SalRemote:
        if self._far is None:
            self._far = SalRemote(self.node("operator@console"), load(NAME, None))
        return self._far

    def command(self, name: str, **values: object) -> None:
        far = self.far

        def obey() -> None:
            self._acks.extend(far.command(name, values, seconds=20.0))

        thread = threading.Thread(target=obey)
        thread.start()
        self.stack.callback(thread.join)

    def acks(self) -> Sequence[tuple[Code, str, int]]:
        return [(each.code, each.text, each.number) for each in list(self._acks)]

    def heard(self, *events: str) -> Sequence[tuple[str, Mapping[str, object]]]:
        if self._names is None:
            self._names = events
            self.far.listen(events, self._events.append)
            until(lambda: all(self.front.readers(each) for each in events))
        return [(each.name, each.values) for each in list(self._events)]


class TestMemoryFront(FrontContract):
    @pytest.fixture
    def stage(self) -> MemoryStage:
        return MemoryStage()


class TestSalFront(FrontContract):
    @pytest.fixture
    def stage(self) -> Iterator[DdsStage]:
        with ExitStack() as stack:
            yield DdsStage(stack)


@pytest.fixture
def stage() -> Iterator[DdsStage]:
    with ExitStack() as stack:
        yield DdsStage(stack)


def test_a_second_one_of_its_name_refuses_to_open_and_the_first_goes_on(stage: DdsStage) -> None:
    stage.front.open(lambda _: None)
    beating = threading.Event()

    def beat() -> None:
        while not beating.wait(0.1):
            stage.front.say("heartbeat", heartbeat=True)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        second = stage.another()
        with pytest.raises(ConfigError, match="another CCArchiver is alive on DDS"):
            second.open(lambda _: None)
        stage.front.check()
    finally:
        beating.set()
        thread.join()


def test_one_that_is_there_and_silent_is_dead_and_does_not_count(stage: DdsStage) -> None:
    stage.front.open(lambda _: None)
    second = stage.another()
    second.open(lambda _: None)
    second.check()


def test_states_are_said_again_to_whoever_comes_where_nobody_keeps_them(stage: DdsStage) -> None:
    with ExitStack() as stack:
        transient = DdsStage(stack, quality=Quality(transient=True))
        transient.front.open(lambda _: None)
        transient.front.say("summaryState", summaryState=2).result(20.0)
        transient.front.say("imageInOODS", obsid="CC_O_20210304_000001").result(20.0)
        assert transient.heard("summaryState", "imageInOODS") == []

        def told() -> bool:
            transient.front.check()
            return bool(transient.heard("summaryState"))

        until(told)
        assert transient.heard() == [("summaryState", {"summaryState": 2})]
