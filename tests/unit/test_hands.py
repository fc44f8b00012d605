"""Hands: an act that is under way already is not taken twice, so that nothing heaps up while a place is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import pytest

from skystow.errors import PlaceFault, Unreachable
from skystow.model.acts import Act, Look
from skystow.model.messages import Message
from skystow.model.reports import Degraded, Presence
from skystow.ports import Stop
from skystow.service import hands
from skystow.service.halt import Halt
from skystow.service.hands import Hands, Joint, Skill

A, B, C = Look("a"), Look("b"), Look("c")
HERE = {each: Presence(each.key, True) for each in (A, B, C)}
LIMIT = 10.0


class Bench:
    """Hands with one kind of act. `tried`: what the hand was given, in turn; it waits until it may `go`, and fails
    while something is `away`."""

    def __init__(self, *, joint: bool) -> None:
        self.tried: list[Act] = []
        self.reports: list[Message] = []
        self.away = False
        self.go, self.halt = threading.Event(), Halt()
        self.go.set()
        skill = Joint(self._crew) if joint else Skill(self._hand)
        self.hands = Hands("archiver", {Look: skill}, report=self.reports.extend, away=self._is_away, well=self._well)

    def take(self, *acts: Act) -> None:
        for act in acts:
            self.hands.take(act, self.group, self.halt)

    def run(self, body: Callable[[], Coroutine[None, None, None]]) -> None:
        async def whole() -> None:
            self.hands.open()
            async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as self.group:
                await body()
                self.hands.drop()
            self.hands.close()

        asyncio.run(whole())

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.halt.nap(0.001)

    def tried_more_than(self, tries: int) -> bool:
        return len(self.tried) > tries

    async def heard(self, *acts: Look) -> None:
        """Just these were answered, in any order, and nothing is under way any more."""
        expected = {HERE[act] for act in acts}
        await self.until(lambda: expected <= set(self.reports))
        await self.until(lambda: not self.hands._tasks)
        assert sorted(each.scoreboard_key for each in self.reports if isinstance(each, Presence)) == [
            each.key for each in acts
        ]

    def _hand(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        return self._crew([act], stop=stop)

    def _crew(self, acts: Sequence[Act], *, stop: Stop) -> Sequence[Message]:
        self.tried += acts
        assert self.go.wait(LIMIT)
        if self.away:
            raise Unreachable("gone", place="scoreboard")
        return [HERE[act] for act in acts if isinstance(act, Look)]

    async def _is_away(self, fault: PlaceFault, rest: float) -> None: ...

    async def _well(self, place: str) -> None: ...


@pytest.fixture(params=[False, True], ids=["hand", "crew"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(joint=request.param)


def test_what_waits_or_is_at_work_is_not_taken_again(bench: Bench) -> None:
    async def body() -> None:
        bench.go.clear()
        bench.take(A, A)
        await bench.until(lambda: bench.tried == [A])
        bench.take(B, A, B, C, C)
        bench.go.set()
        await bench.heard(A, B, C)
        assert bench.tried == [A, B, C]

    bench.run(body)


def test_what_is_done_can_be_asked_for_again(bench: Bench) -> None:
    async def body() -> None:
        bench.take(A)
        await bench.heard(A)
        bench.reports.clear()
        bench.take(A)
        await bench.heard(A)

    bench.run(body)


def test_nothing_heaps_up_while_a_place_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "FIRST_REST", 0.001)
    monkeypatch.setattr(hands, "LONGEST_REST", 0.001)

    async def body() -> None:
        bench.away = True
        for tries in range(50):
            bench.take(A, B)
            await bench.until(partial(bench.tried_more_than, tries))
        assert len(bench.hands._tasks) <= 3
        bench.away = False
        await bench.heard(A, B)

    bench.run(body)
    assert [each.away for each in bench.reports if isinstance(each, Degraded)].count(True) <= 2


def test_what_rests_is_tried_at_once_when_it_is_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a scoreboard which is back has our signs of life as soon as it would have had them anyway."""

    async def body() -> None:
        bench.away = True
        bench.take(A)
        await bench.until(lambda: bench.reports == [Degraded("scoreboard", away=True, reason="gone")])
        bench.away = False
        bench.take(A)
        await bench.heard(A)
        assert bench.tried == [A, A]

    monkeypatch.setattr(hands, "FIRST_REST", 10 * LIMIT)
    bench.run(body)


def test_what_was_dropped_can_be_asked_for_at_once(bench: Bench) -> None:
    async def body() -> None:
        bench.go.clear()
        bench.take(A)
        await bench.until(lambda: bench.tried == [A])
        bench.take(B)
        bench.hands.drop()
        bench.take(B, C, B)
        bench.go.set()
        await bench.heard(B, C)  # nobody waits for the first any more

    bench.run(body)
