"""What a component says where a broker carries it: in the ledger until the broker has it, and in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.sqlite_kit import opened
from tests.unit.test_talk import Echo, House, until

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger
from skystow.adapters.memory import MemoryLedger
from skystow.adapters.memory.mail import MemoryBus
from skystow.errors import PlaceFault, Unreachable
from skystow.model.acts import Say
from skystow.model.messages import EndReadout, Message
from skystow.model.packing import spoken
from skystow.model.records import Worker
from skystow.model.reports import Degraded
from skystow.model.transfer import RetryPolicy
from skystow.ports.talk import Delivery, outbox
from skystow.service import post as posting
from skystow.service.halt import Halt
from skystow.service.post import Post, Relay
from skystow.service.status import Progress
from skystow.wiring.wires import Wires


class Broker(MemoryBus):
    """One that may be away, and whose deliveries have negative ids."""

    fault: PlaceFault | None = None

    def __init__(self) -> None:
        self.letters = MemoryLedger(Worker("host", "boot", "ns", 1, 1), SystemClock(), RetryPolicy())
        super().__init__(self.letters.bury)

    @property
    def away(self) -> PlaceFault | None:  # type: ignore[override]
        return self.fault

    def publish(self, says: Sequence[Say]) -> None:
        if self.fault is not None:
            raise self.fault
        super().publish(says)

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        return [Delivery(-each.id, each.message, each.to) for each in super().receive(address, limit=limit)]

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        super().accept([Delivery(-each.id, each.message) for each in deliveries])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    with closing(opened(tmp_path / "ledger.db")) as made:
        yield made


@pytest.fixture
def broker() -> Broker:
    return Broker()


def says(*names: str, to: str = "controller") -> list[Say]:
    return [Say(to, EndReadout(name)) for name in names]


def postman(ledger: SqlLedger, broker: Broker) -> Post:
    return Post("us", ledger.mail("us", spoken), broker, ledger, SystemClock(), Progress())


def healthy(progress: Progress) -> bool:
    return progress.healths["bus"].well


def names(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.message.key for each in deliveries]


def test_it_lies_in_the_outbox_and_nobody_hears_it_there(ledger: SqlLedger) -> None:
    ledger.posted().converse("us", says=says("a"))
    ledger.posted().converse("them", says=says("b"))
    assert ledger.bus.receive("controller", limit=10) == []
    assert [(each.message.key, each.to) for each in ledger.bus.receive(outbox("us"), limit=10)] == [("a", "controller")]


def test_it_goes_when_the_broker_has_it_and_not_before(ledger: SqlLedger, broker: Broker) -> None:
    ledger.posted().converse("us", says=says("a", "b"))
    ledger.posted().converse("them", says=says("c"))
    post, broker.fault = postman(ledger, broker), Unreachable("refused", place="bus")
    with pytest.raises(PlaceFault, match="refused"):
        post.carry()
    assert names(ledger.bus.receive(outbox("us"), limit=10)) == ["a", "b"]
    broker.fault = None
    assert [post.carry() for _ in range(3)] == [1, 1, 0]
    assert names(broker.receive("controller", limit=10)) == ["a", "b"]
    assert names(ledger.bus.receive(outbox("them"), limit=10)) == ["c"]


def test_more_than_a_batch_keeps_its_order(ledger: SqlLedger, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "BATCH", 3)
    said = [f"{n:03}" for n in range(10)]
    ledger.posted().converse("us", says=says(*said))
    post = postman(ledger, broker)
    assert [post.carry() for _ in range(5)] == [3, 3, 3, 1, 0]
    assert names(broker.receive("controller", limit=100)) == said


def test_a_broker_that_comes_back_is_given_what_waited(
    ledger: SqlLedger, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "FIRST_REST", 0.01)
    post, halt = postman(ledger, broker), Halt()
    broker.fault = Unreachable("refused", place="bus")
    ledger.posted().converse("us", says=says("a"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, post.run(halt))
        until(lambda: "bus" in post.progress.healths)
        assert not healthy(post.progress)
        broker.fault = None
        until(lambda: healthy(post.progress))
        halt.set()
        running.result(10)
    assert names(broker.receive("controller", limit=10)) == ["a"]
    assert {each.place: each.well for each in ledger.healths()}["bus"] is True


class Breaking(Broker):
    """Its line breaks at every third message."""

    left = 2

    def publish(self, says: Sequence[Say]) -> None:
        some, self.left = says[: self.left], self.left - len(says)
        super().publish(some)
        if self.left < 0:
            self.left = 2
            raise Unreachable("broken", place="bus")


def test_a_line_that_breaks_again_and_again_carries_all_at_last(ledger: SqlLedger) -> None:
    said = [f"{n:02}" for n in range(20)]
    ledger.posted().converse("us", says=says(*said))
    broker = Breaking()
    post, broken = postman(ledger, broker), 0
    while ledger.bus.receive(post.tray, limit=1):
        assert broken < 30, "it carries the same ones for ever"
        try:
            post.carry()
        except PlaceFault:
            broken += 1
    assert broken > 4
    assert list(dict.fromkeys(names(broker.receive("controller", limit=1000)))) == said


def test_a_broker_that_is_back_is_not_kept_waiting(
    ledger: SqlLedger, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was away."""
    monkeypatch.setattr(posting, "FIRST_REST", 0.01)
    post, halt = postman(ledger, broker), Halt()
    with ThreadPoolExecutor(1) as pool:
        resting = pool.submit(asyncio.run, post._rest(halt, 3600.0, "bus"))
        resting.result(10)  # it is there
        broker.fault = Unreachable("refused", place="bus")
        resting = pool.submit(asyncio.run, post._rest(halt, 3600.0, "bus"))
        with pytest.raises(TimeoutError):
            resting.result(0.05)
        broker.fault = None
        resting.result(10)
        assert not halt.is_set()


def test_what_is_heard_comes_from_both_and_each_is_told(ledger: SqlLedger, broker: Broker) -> None:
    relay = Relay(ledger.bus, broker)
    ledger.bus.publish(says("own"))
    broker.publish(says("theirs", "more"))
    heard = relay.receive("controller", limit=2)
    assert names(heard) == ["own", "theirs"]
    relay.accept(heard)
    assert names(relay.receive("controller", limit=10)) == ["more"]
    assert (names(ledger.bus.receive("controller", limit=9)), names(broker.receive("controller", limit=9))) == (
        [],
        ["more"],
    )


def test_what_is_set_aside_is_a_dead_letter_and_is_given_out_again(ledger: SqlLedger) -> None:
    mail = ledger.mail("us", lambda kind, body: EndReadout(f"{kind} {body}"))
    for _ in range(3):  # the same, however often the broker gives it
        mail.set_aside("controller", "controller", "wire", "what?", "no YAML")
    (letter,) = ledger.dead_letters(after=0, limit=10)
    assert (letter.reason, mail.receive("controller", limit=10)) == ("no YAML", [])
    ledger.exhume([letter])
    assert names(mail.receive("controller", limit=10)) == ["wire what?"]


def test_what_did_not_leave_goes_by_the_ledger_when_the_broker_is_given_up(ledger: SqlLedger) -> None:
    echo = Echo()
    ledger.posted().converse(echo.name, says=[*says("a", "b"), *says("c", to="oods")])
    Wires(None, ledger, SystemClock(), Progress(), lambda: None).wire(echo)
    assert names(ledger.bus.receive("controller", limit=9)) == ["a", "b"]
    assert names(ledger.bus.receive("oods", limit=9)) == ["c"]
    assert ledger.bus.receive(outbox(echo.name), limit=9) == []


def test_bad_bodies_by_the_hundred_are_each_one_letter(ledger: SqlLedger) -> None:
    mail = ledger.mail("us", spoken)
    for n in (*range(150), 149, 120):
        mail.set_aside("controller", "controller", "wire", f"body {n}", "no YAML")
    assert len(ledger.dead_letters(after=0, limit=1000)) == 150


def test_both_places_that_were_away_are_well_again(
    ledger: SqlLedger, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "FIRST_REST", 0.01)
    post, halt = postman(ledger, broker), Halt()
    receive, faults = post.own.receive, iter([Unreachable("gone", place="ledger")])

    def away(address: str, *, limit: int) -> Sequence[Delivery]:
        for fault in faults:
            broker.fault = Unreachable("refused", place="bus")
            raise fault
        return receive(address, limit=limit)

    monkeypatch.setattr(post.own, "receive", away)
    ledger.posted().converse("us", says=says("a"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, post.run(halt))
        until(lambda: {"bus", "ledger"} <= post.progress.healths.keys())
        broker.fault = None
        until(lambda: healthy(post.progress) and post.progress.healths["ledger"].well)
        halt.set()
        running.result(10)


def test_the_conversation_goes_on_while_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    fault: list[PlaceFault | None] = [Unreachable("refused", place="bus")]
    monkeypatch.setattr(type(house.ledger.bus), "away", property(lambda _: fault[0]))
    with house.running():
        house.say("a")
        until(lambda: house.echo.seen == ["a"])
        assert degraded(house.echo.reports) == [(True, "refused")]
        assert not house.progress.healths["bus"].well
        fault[0] = None
        until(lambda: len(degraded(house.echo.reports)) == 2)
        until(lambda: house.progress.healths["bus"].well)
    assert degraded(house.echo.reports) == [(True, "refused"), (False, "")]


def degraded(reports: Sequence[Message]) -> list[tuple[bool, str]]:
    return [(each.away, each.reason) for each in reports if isinstance(each, Degraded) and each.place == "bus"]
