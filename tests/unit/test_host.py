"""Several components in one process: an error that nobody foresaw is one component's alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.test_talk import House, until

from skystow.adapters.clock import SystemClock
from skystow.errors import UnfitPlace
from skystow.model.lifecycle import Verb
from skystow.service import component as components
from skystow.service import host
from skystow.service.component import Component
from skystow.service.halt import Halt
from skystow.service.host import run_together

Job = Callable[[Halt], Coroutine[None, None, None]]


def component(house: House, *jobs: Job) -> Component:
    return Component(
        ledger=house.ledger,
        clock=SystemClock(),
        inlets=(),
        lanes=(),
        announcers={},
        worker_alive=lambda _: True,
        progress=house.progress,
        talk=house.talk,
        extras=jobs,
    )


def failing(error: Exception, times: int) -> tuple[Job, list[int]]:
    tries: list[int] = []

    async def job(halt: Halt) -> None:
        tries.append(len(tries))
        if len(tries) <= times:
            raise error
        await halt.sleep(60)

    return job, tries


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "FIRST_REST", 0.01)
    monkeypatch.setattr(components, "GRACE", 0.3)


def test_one_that_dies_begins_again_and_the_others_do_not_notice(tmp_path: Path) -> None:
    well, ill, halt = House(), House(), Halt()
    logged: list[str] = []
    ill.talk.log = lambda _, what: logged.append(str(what))
    job, tries = failing(TypeError("odd"), 2)
    several = {"well": component(well), "ill": component(ill, job)}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, run_together(several, halt, str(tmp_path / "control")))
        until(lambda: len(tries) == 3)
        until(lambda: ill.progress.healths["ill"].well)
        for each in (well, ill):
            each.say("a")
            until(lambda each=each: each.echo.seen == ["a"])  # type: ignore[misc]
        assert "ill" not in well.progress.healths
        halt.set()
        running.result(10)
    unforeseen = [line for line in logged if "TypeError: odd" in line]
    assert len(unforeseen) == 2
    assert "Traceback" in unforeseen[0]


@pytest.mark.parametrize(("error", "others"), [(TypeError("odd"), 0), (UnfitPlace("a device"), 1)])
def test_one_that_is_alone_and_what_a_person_must_mend_end_the_process(
    tmp_path: Path, error: Exception, others: int
) -> None:
    houses = [House() for _ in range(1 + others)]
    job, tries = failing(error, 1)
    several = {"ill": component(houses[0], job)} | {f"n{n}": component(house) for n, house in enumerate(houses[1:])}
    with pytest.raises(type(error), match=str(error)):
        asyncio.run(run_together(several, Halt(), str(tmp_path / "control")))
    assert len(tries) == 1


def test_one_that_was_told_to_exit_does_not_begin_again(tmp_path: Path) -> None:
    house, other = House(), House()
    with ThreadPoolExecutor(1) as pool:
        both = {"a": component(house), "b": component(other)}
        running = pool.submit(asyncio.run, run_together(both, Halt(), str(tmp_path / "control")))
        for each in (house, other):
            until(lambda each=each: each.talk._open)  # type: ignore[misc]
            for verb in (Verb.DISABLE, Verb.STANDBY, Verb.EXIT):
                each.talk.command(verb)
        running.result(10)
