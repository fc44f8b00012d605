"""A component while its Redis is away, flushed, or holds what it should not: nothing is lost, nothing heaps up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.presence import Presences
from skystow.adapters.redis.board import BoardOptions, RedisView
from skystow.errors import PlaceFault
from skystow.model.acts import Act, Beat, Look, Register
from skystow.model.messages import Message
from skystow.model.reports import Degraded, Presence
from skystow.service import hands, view
from skystow.service.halt import Halt
from skystow.service.hands import Hands, Skill
from skystow.service.status import Progress
from skystow.service.view import View
from tests.redis_server import RedisServer
from tests.system.redis_kit import LIMIT, board, queue_of, until


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """One that may be killed."""
    with contextlib.closing(RedisServer()) as server:
        yield server


@contextlib.contextmanager
def on_a_loop(work: Callable[[Halt], Coroutine[None, None, None]]) -> Iterator[None]:
    """In a thread of its own, until the block ends; its errors are raised here."""
    halt = Halt()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(lambda: asyncio.run(work(halt)))
        try:
            yield
        finally:
            halt.set()
            future.result(LIMIT)


FACTS = {"state": "ENABLED", "jobnum": "7", "closed": "ours alone"}
SHOWN = {b"state": b"ENABLED", b"session": b"S", b"jobnum": b"7", b"paired_forwarder": b""}


class TestView:
    """The job that keeps the Archiver's hash as the ledger has it."""

    @pytest.fixture
    def shown(self, own: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[View]:
        monkeypatch.setattr(view, "LOOK", 0.02)
        panel = RedisView(BoardOptions(port=own.port, limit=0.2), "CCArchiver", queue_of=queue_of)
        with contextlib.closing(panel):
            yield View(panel, SystemClock(), Progress(), session="S")

    def has(self, server: RedisServer, expected: dict[bytes, bytes]) -> bool:
        words = server.ask("HGETALL", "CCArchiver")
        return (words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))) == expected

    def test_nothing_is_shown_before_anything_is_known(self, own: RedisServer, shown: View) -> None:
        with on_a_loop(shown.run):
            time.sleep(0.1)
            assert own.ask("DBSIZE") == 0
            shown.keep(FACTS)
            until(lambda: self.has(own, SHOWN))

    def test_a_change_is_written_at_once(self, own: RedisServer, shown: View, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(view, "LOOK", 10 * LIMIT)
        shown.keep(FACTS)
        with on_a_loop(shown.run):
            until(lambda: self.has(own, SHOWN))
            shown.keep({"jobnum": "8"})
            until(lambda: self.has(own, SHOWN | {b"jobnum": b"8"}))

    def test_after_a_flush_and_a_restart(self, own: RedisServer, shown: View) -> None:
        shown.keep(FACTS)
        with on_a_loop(shown.run):
            until(lambda: self.has(own, SHOWN))
            own.flush()
            until(lambda: self.has(own, SHOWN))
            own.kill()
            until(lambda: shown.progress.resting)
            shown.keep({"state": "FAULT"})
            own.start()
            until(lambda: self.has(own, SHOWN | {b"state": b"FAULT"}))
            until(lambda: not shown.progress.resting)
        assert shown.progress.healths["scoreboard"].well

    def test_what_stands_in_its_way_is_named_until_it_is_gone(self, own: RedisServer, shown: View) -> None:
        own.ask("SET", "CCArchiver", "garbage")
        shown.keep(FACTS)
        with on_a_loop(shown.run):
            until(lambda: shown.progress.resting)
            assert "something else in the key CCArchiver" in shown.progress.resting[0].reason
            own.ask("DEL", "CCArchiver")
            until(lambda: self.has(own, SHOWN))

    def test_nobody_waits_for_it(self, own: RedisServer, shown: View) -> None:
        with on_a_loop(shown.run), own.frozen():
            began = time.monotonic()
            for n in range(1_000):
                shown.keep({"jobnum": str(n)})
            assert time.monotonic() - began < 1.0


ON_THE_LIST = {"hostname": "h", "ip_address": "i", "consume_queue": "f1_consume"}


class TestAbsence:
    def test_an_hour_without_it(self, own: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a conversation asks for again and again does not heap up, and all of it is done when Redis is back."""
        monkeypatch.setattr(hands, "FIRST_REST", 0.001)
        monkeypatch.setattr(hands, "LONGEST_REST", 0.001)
        wanted: list[Act] = [Register(), Beat("f1_association", "pong", 10.0), Look("ccarchiver_association")]
        reports: list[Message] = []
        places: list[str] = []

        async def away(fault: PlaceFault, rest: float) -> None:
            places.append(fault.place)

        async def well(place: str) -> None: ...

        async def work(halt: Halt) -> None:
            with board(own, hostname="h", ip_address="i") as here:
                skill = Skill(Presences(here, "f1", "forwarder/f1", "f1_association"))
                those = Hands(
                    "f1", dict.fromkeys(map(type, wanted), skill), report=reports.extend, away=away, well=well
                )
                those.open()
                async with asyncio.TaskGroup() as group:
                    while not halt.is_set():
                        for act in wanted:
                            those.take(act, group, halt)
                        await halt.nap(0.001)
                        assert len(those._tasks) <= len(wanted)
                    those.drop()
                those.close()

        own.kill()
        with on_a_loop(work):
            until(lambda: len(places) > 300)
            assert set(places) == {"scoreboard"}
            own.start()
            until(lambda: Presence("ccarchiver_association", alive=False) in reports)
            until(lambda: own.ask("EXISTS", "f1_association"))
            until(lambda: own.ask("LLEN", "forwarder_list"))
        assert [json.loads(each)["consume_queue"] for each in own.ask("LRANGE", "forwarder_list", 0, -1)] == [
            "f1_consume"
        ]
        assert sum(isinstance(each, Degraded) and each.away for each in reports) == len(wanted)
