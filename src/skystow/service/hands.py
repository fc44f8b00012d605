"""Hands at work: each kind of act in threads of its own; a place's fault means: the same act, later."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from skystow.errors import FileFault, OperatorFault, PlaceFault, Stopped
from skystow.model.acts import Act
from skystow.model.messages import Message
from skystow.model.reports import Degraded
from skystow.ports import Stop
from skystow.ports.talk import Crew, Hand
from skystow.service.halt import Halt

FIRST_REST, LONGEST_REST = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Skill:
    """A hand, and how many of its kind may be at work at once."""

    hand: Hand
    threads: int = 1

    def do(self, acts: Sequence[Act], stop: Stop) -> Sequence[Message]:
        return [report for act in acts for report in self.hand(act, stop=stop)]


@dataclass(frozen=True, slots=True)
class Joint:
    """A crew, which does at once whatever has gathered while it was at work, up to `most` acts."""

    crew: Crew
    threads: int = 1
    most: int = 100

    def do(self, acts: Sequence[Act], stop: Stop) -> Sequence[Message]:
        return self.crew(acts, stop=stop)


class Hands:
    """Of one conversation. `report` is given what they report, from the loop's own thread; `away` and `well` are told
    of places."""

    def __init__(
        self,
        name: str,
        skills: Mapping[type, Skill | Joint],
        *,
        report: Callable[[Sequence[Message]], None],
        away: Callable[[PlaceFault, float], Awaitable[None]],
        well: Callable[[str], Awaitable[None]],
    ) -> None:
        self.name = name
        self.skills, self.report, self.away, self.well = skills, report, away, well
        self._tasks: set[asyncio.Task[None]] = set()
        self._pools: dict[type, ThreadPoolExecutor] = {}
        self._gathered: dict[type, deque[Act]] = {}
        self._crews: dict[type, int] = {}
        self._under_way: dict[Act, asyncio.Event] = {}
        """Each with whether it was asked for again."""

    def open(self) -> None:
        self._pools = {kind: ThreadPoolExecutor(skill.threads, kind.__name__) for kind, skill in self.skills.items()}

    def close(self) -> None:
        self.drop()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def drop(self) -> None:
        """Let go of what is under way: it is asked for again. Threads end what they are at; acts may be done twice."""
        self._gathered, self._crews, self._under_way = {}, {}, {}
        for task in self._tasks:
            task.cancel()

    def take(self, act: Act, group: asyncio.TaskGroup, halt: Halt) -> None:
        """One that is under way already is not taken twice, so that nothing heaps up while a place is away for an hour:
        its report answers both. Where it rests, it is tried at once."""
        if (again := self._under_way.get(act)) is not None:
            again.set()
            return
        self._under_way[act] = asyncio.Event()
        kind, skill = type(act), self.skills[type(act)]
        if isinstance(skill, Skill):
            self._start(self._do(kind, [act], halt, group), group)
            return
        self._gathered.setdefault(kind, deque()).append(act)
        if self._crews.get(kind, 0) < skill.threads:
            self._crews[kind] = self._crews.get(kind, 0) + 1
            self._start(self._work_off(kind, skill, halt, group), group)

    def _start(self, work: Coroutine[None, None, None], group: asyncio.TaskGroup) -> None:
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off(self, kind: type, skill: Joint, halt: Halt, group: asyncio.TaskGroup) -> None:
        gathered, crews = self._gathered[kind], self._crews  # those that `drop` has not let go of
        try:
            while gathered and not halt.is_set():
                acts = [gathered.popleft() for _ in range(min(skill.most, len(gathered)))]
                await self._do(kind, acts, halt, group)
        finally:
            crews[kind] -= 1

    async def _do(self, kind: type, acts: Sequence[Act], halt: Halt, group: asyncio.TaskGroup, place: str = "") -> None:
        """`place`: one that was away when they were tried before."""
        under_way = self._under_way  # that `drop` has not let go of
        rest, do = FIRST_REST, partial(self.skills[kind].do, acts, halt)
        while not halt.is_set():
            try:
                reports = await asyncio.get_running_loop().run_in_executor(self._pools[kind], do)
            except (PlaceFault, FileFault, OperatorFault, OSError) as error:
                # What a hand ought to have reported is seen and tried again, rather than that it ends everybody.
                fault = (
                    error if isinstance(error, PlaceFault) else PlaceFault(f"{kind.__name__}: {error}", place=self.name)
                )
                if not place:
                    self.report([Degraded(fault.place, away=True, reason=str(fault))])
                place = fault.place
                await self.away(fault, rest)
                if len(acts) > 1:  # each alone: one that stays bad does not hold the others, nor the crew
                    await halt.sleep(rest)
                    for act in acts:
                        self._start(self._do(kind, [act], halt, group, place), group)
                    return
                await _rest(under_way[acts[0]], rest)
                rest = min(LONGEST_REST, rest * 2)
                continue
            except Stopped:
                return
            if place:
                await self.well(place)
                reports = [Degraded(place, away=False), *reports]
            for act in acts:
                del under_way[act]
            if reports:
                self.report(reports)
            return


async def _rest(again: asyncio.Event, seconds: float) -> None:
    """Shorter, where somebody asks meanwhile; `drop` ends it at once."""
    again.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await again.wait()
