"""The host of a conversation on memory adapters: what is durable when, what comes again, and who is told."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.memory import MemoryLedger
from skystow.errors import BadName, ConfigError, PlaceFault, Refused, Unreachable
from skystow.image.standing import Standing
from skystow.model.acts import Act, Admit, Beat, Do, Effect, Note, Say
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import EndReadout, HealthCheckAck, Message, StartIntegration
from skystow.model.records import Arrival, Fingerprint, Health, Notice, Worker
from skystow.model.reports import Degraded, Dropped
from skystow.model.transfer import Destination, RetryPolicy, State
from skystow.ports import Stop
from skystow.service import hands
from skystow.service import talk as hosting
from skystow.service.control import ask, listening
from skystow.service.halt import Bells, Halt
from skystow.service.hands import Joint, Skill
from skystow.service.status import Progress
from skystow.service.talk import Talk

LIMIT = 10.0
NOW = datetime(2021, 3, 5, tzinfo=UTC)


class Echo(Standing):
    """Notes each image once, says it on, has it done, and admits a file of its name."""

    def __init__(self) -> None:
        super().__init__("echo", "echo")
        self.seen: list[str] = []
        self.reports: list[Message] = []
        self.owed: set[str] = set()

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        super().restore(steps, kept)
        self.seen = [message.key for _, message in steps if isinstance(message, StartIntegration)]
        self.owed = set()

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        match message:
            case StartIntegration(image_id) if image_id == "bad":
                raise BadName("bad is no name")
            case StartIntegration(image_id) if image_id not in self.seen:
                self.seen.append(image_id)
                path = PurePosixPath(image_id)
                file = Arrival("camera", image_id.encode(), path, "archive", path, Fingerprint(1, 1))
                said = Say("elsewhere", EndReadout(image_id))
                return [Note(message), said, Admit(file), Do(Beat(image_id, "", 1.0))]
            case Dropped() | Degraded():
                self.reports.append(message)
        return []


class House:
    def __init__(self) -> None:
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), SystemClock(), RetryPolicy())
        self.echo = Echo()
        self.done: list[str] = []
        self.hand: Callable[[Act], Sequence[Message]] = self._beat
        self.progress, self.halt = Progress(), Halt()
        self.talk = self.host(self.echo)

    def host(self, conversation: Echo, skill: Skill | Joint | None = None) -> Talk:
        def hand(act: Act, *, stop: Stop) -> Sequence[Message]:
            return self.hand(act)

        return Talk(
            conversation,
            bus=self.ledger.bus,
            talks=self.ledger.talks,
            ledger=self.ledger,
            clock=SystemClock(),
            progress=self.progress,
            bells=Bells(),
            skills={Beat: skill or Skill(hand)},
            destinations={"camera": (Destination("archive"),)},
            translate=lambda notice: Dropped("x", str(notice.path)) if notice.kind == "delivered" else None,
            tell=lambda _: None,
            poll=0.01,
        )

    def _beat(self, act: Act) -> Sequence[Message]:
        assert isinstance(act, Beat)
        self.done.append(act.key)
        return [Dropped("x", act.key)]

    def say(self, *images: str) -> None:
        self.ledger.bus.publish([Say("echo", StartIntegration(image)) for image in images])

    def waiting(self) -> int:
        return len(self.ledger.bus.receive("echo", limit=100))

    def said(self) -> list[str]:
        return [each.message.key for each in self.ledger.bus.receive("elsewhere", limit=100)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """The talk in a thread of its own; its errors are raised here."""
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(lambda: asyncio.run(self.talk.run(self.halt)))
            try:
                yield
            finally:
                self.halt.set()
                future.result(LIMIT)


def until(condition: Callable[[], object]) -> None:
    over = threading.Event()
    for _ in range(int(LIMIT / 0.01)):
        if condition():
            return
        over.wait(0.01)
    raise AssertionError("waited in vain")


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    for module in (hosting, hands):
        monkeypatch.setattr(module, "FIRST_REST", 0.01)
    return House()


def test_a_message_is_written_down_said_on_admitted_and_done(house: House) -> None:
    house.say("a", "b")
    with house.running():
        until(lambda: len(house.echo.reports) == 2)
    assert house.waiting() == 0
    assert house.said() == ["a", "b"]
    assert [message.key for _, message in house.ledger.talks.steps("echo")] == ["a", "b"]
    assert house.done == ["a", "b"]
    assert [copy.state for copy in house.ledger.copies(after=0, limit=9, state=State.WAITING)] == [State.WAITING] * 2


def test_what_was_not_accepted_comes_again_and_changes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, failures = house.ledger.bus, iter([Unreachable("gone", place="bus")])
    accept = bus.accept

    def failing(deliveries: Sequence[object]) -> None:
        if (fault := next(failures, None)) is not None:
            raise fault
        accept(deliveries)  # type: ignore[arg-type]

    monkeypatch.setattr(type(bus), "accept", lambda _, deliveries: failing(deliveries))
    house.say("a")
    with house.running():
        until(lambda: house.waiting() == 0)
    assert house.said() == ["a"]
    assert len(house.ledger.talks.steps("echo")) == 1


def test_it_never_knows_more_than_the_ledger(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    talks, failures = house.ledger.talks, iter([Unreachable("the ledger is away", place="ledger")] * 2)
    converse = type(talks).converse

    def failing(self: object, *args: object, **more: object) -> None:
        if (fault := next(failures, None)) is not None:
            raise fault
        converse(talks, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(talks), "converse", failing)
    house.say("a")
    with house.running():
        until(lambda: house.said() == ["a"])
        until(lambda: house.progress.healths["ledger"].well)
    assert [message.key for _, message in talks.steps("echo")] == ["a"]


def test_a_place_that_is_away_has_the_act_done_later_and_the_conversation_hears_of_it(house: House) -> None:
    tries = iter([Unreachable("no scoreboard", place="scoreboard"), None])

    def hand(act: Act) -> Sequence[Message]:
        if (fault := next(tries)) is not None:
            raise fault
        return house._beat(act)

    house.hand = hand
    house.say("a")
    with house.running():
        until(lambda: house.done == ["a"])
        until(lambda: len(house.echo.reports) == 3)
    assert house.echo.reports[:2] == [
        Degraded("scoreboard", away=True, reason="no scoreboard"),
        Degraded("scoreboard", away=False),
    ]
    assert house.progress.healths["scoreboard"].well


def test_what_cannot_be_used_is_buried_and_nothing_else_is_disturbed(house: House) -> None:
    house.say("bad", "a")
    with house.running():
        until(lambda: house.waiting() == 0)
    assert house.said() == ["a"]
    (letter,) = house.ledger.dead_letters(after=0, limit=9)
    assert (letter.source, letter.reason) == ("echo", "StartIntegration: bad is no name")


def test_a_restart_carries_on(house: House) -> None:
    house.say("a")
    with house.running():
        until(lambda: house.waiting() == 0)
    again = House()
    again.ledger = house.ledger
    again.talk = again.host(again.echo)
    again.say("a", "b")
    with again.running():
        until(lambda: again.waiting() == 0)
    assert again.echo.seen == ["a", "b"]
    assert again.said() == ["a", "b"]


def test_a_crew_is_given_what_has_gathered_and_each_alone_after_a_fault(house: House) -> None:
    asked: list[list[str]] = []
    go = threading.Event()

    def crew(acts: Sequence[Act], *, stop: Stop) -> Sequence[Message]:
        keys = [act.key for act in acts if isinstance(act, Beat)]
        asked.append(keys)
        assert go.wait(LIMIT)
        if len(asked) == 2:
            raise Unreachable("no scoreboard", place="scoreboard")
        return [Dropped("x", key) for key in keys]

    house.talk = house.host(house.echo, Joint(crew))
    house.say("a")
    with house.running():
        until(lambda: asked == [["a"]])
        house.say("b", "c")
        until(lambda: house.waiting() == 0)
        go.set()
        until(lambda: [each for each in house.echo.reports if isinstance(each, Dropped)][2:])
    assert asked[:2] == [["a"], ["b", "c"]]
    assert sorted(asked[2:]) == [["b"], ["c"]]
    assert sorted(each.path for each in house.echo.reports if isinstance(each, Dropped)) == ["a", "b", "c"]
    assert [each.away for each in house.echo.reports if isinstance(each, Degraded)] == [True, False, False]
    assert house.progress.healths["scoreboard"].well


class TestBell:
    def test_a_ring_while_we_looked_is_not_slept_through(self) -> None:
        async def look() -> float:
            halt, loop = Halt(), asyncio.get_running_loop()
            before = halt.rung
            halt.ring()
            began = loop.time()
            await halt.nap(LIMIT, since=before)
            return loop.time() - began

        assert asyncio.run(look()) < 1.0

    def test_a_sleep_hears_no_bell_and_ends_with_the_stop(self) -> None:
        async def sleep() -> tuple[float, bool]:
            halt, loop = Halt(), asyncio.get_running_loop()
            began = loop.time()
            loop.call_later(0.01, halt.ring)
            loop.call_later(0.1, halt.set)
            stopped = await halt.sleep(LIMIT)
            return loop.time() - began, stopped

        took, stopped = asyncio.run(sleep())
        assert stopped
        assert 0.1 <= took < LIMIT


class TestNotices:
    @staticmethod
    def notice(kind: str) -> Notice:
        return Notice(1, NOW, kind, {}, b"", PurePosixPath("a"))

    def test_telling_returns_when_it_was_heard(self, house: House) -> None:
        with house.running():
            until(lambda: house.talk.state is Summary.ENABLED)
            house.talk.announce([self.notice("delivered"), self.notice("retry")])
            assert house.echo.reports == [Dropped("x", "a")]

    def test_nobody_listens(self, house: House) -> None:
        with pytest.raises(PlaceFault, match="echo does not run"):
            house.talk.announce([self.notice("delivered")])
        house.talk.announce([self.notice("retry")])  # means nothing to it


class TestCommands:
    def test_they_are_obeyed_or_refused(self, house: House) -> None:
        with house.running():
            until(lambda: house.talk.state is Summary.ENABLED)
            assert house.talk.command(Verb.DISABLE) is Summary.DISABLED
            house.say("a")
            with pytest.raises(Refused, match="disable is not lawful in DISABLED"):
                house.talk.command(Verb.DISABLE)
            assert house.waiting() == 1
            assert house.talk.command(Verb.ENABLE) is Summary.ENABLED
            until(lambda: house.waiting() == 0)
        assert house.ledger.talks.kept("echo")["state"] == "ENABLED"

    def test_exit_ends_it(self, house: House) -> None:
        with house.running():
            until(lambda: house.talk.state is Summary.ENABLED)
            for verb in (Verb.DISABLE, Verb.STANDBY, Verb.EXIT):
                house.talk.command(verb)
            until(lambda: house.talk.state is Summary.OFFLINE)
            until(lambda: not house.talk._open)
        with pytest.raises(Refused, match="echo does not run"):
            house.talk.command(Verb.START)


class TestControl:
    def run(self, house: House, directory: Path, body: Callable[[], None]) -> None:
        async def both() -> None:
            async with listening("echo", house.talk, str(directory)):
                job = asyncio.create_task(house.talk.run(house.halt))
                try:
                    await asyncio.to_thread(until, lambda: house.talk._open)
                    await asyncio.to_thread(body)
                finally:
                    house.halt.set()
                    await job

        self.bounded(both())

    @staticmethod
    def bounded(job: Coroutine[None, None, None]) -> None:
        asyncio.run(asyncio.wait_for(job, LIMIT))

    def test_a_word_and_its_answer(self, house: House, tmp_path: Path) -> None:
        place = tmp_path / "control"

        def talk() -> None:
            socket = os.lstat(place / "echo.sock")
            assert stat.S_IMODE(socket.st_mode) == 0o600
            assert ask(str(place), "echo", {"verb": "state"})["state"] == "ENABLED"
            assert ask(str(place), "echo", {"verb": "disable"}) == {
                "component": "echo",
                "state": "DISABLED",
                "number": 0,
                "report": "",
            }
            house.progress.report(Health("ledger", False, NOW, "the ledger is away"))
            assert ask(str(place), "echo", {"verb": "state"})["degraded"] == ["the ledger is away"]
            house.progress.report(Health("ledger", True, NOW))
            refused = ask(str(place), "echo", {"verb": "exit"})
            assert "exit is not lawful in DISABLED" in refused["refused"]
            assert "not a command" in ask(str(place), "echo", {"verb": "explode"})["refused"]
            assert "not a command" in ask(str(place), "echo", {})["refused"]
            assert "no name" in ask(str(place), "echo", {"verb": "catch-up", "obsids": ["../x"]})["refused"]

        self.run(house, place, talk)
        assert not (place / "echo.sock").exists()
        with pytest.raises(Unreachable, match="does it run"):
            ask(str(place), "echo", {"verb": "state"})

    def test_a_second_one_is_refused(self, house: House, tmp_path: Path) -> None:
        other = House()

        async def second() -> None:
            async with listening("echo", house.talk, str(tmp_path)), listening("echo", other.talk, str(tmp_path)):
                raise AssertionError("two of them listen")

        tmp_path.chmod(0o700)
        with pytest.raises(ConfigError, match="runs already"):
            self.bounded(second())

    def test_what_a_dead_process_left_is_replaced(self, house: House, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        (tmp_path / "echo.sock").touch()
        self.run(house, tmp_path, lambda: None)

    def test_others_may_not_write_to_its_directory(self, house: House, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with pytest.raises(ConfigError, match="no place for control sockets"):
            self.run(house, tmp_path, lambda: None)

    def test_an_unfit_message_is_no_report(self) -> None:
        assert HealthCheckAck("a", "b", "c").key == ""
