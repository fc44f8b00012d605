"""The line to the broker, and the broker itself: killed, cut at every message, stalled, refused, short of memory. What
is said arrives at least once, in order but for repeats; nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from aiormq.connection import Connection

from skystow.adapters.rabbitmq import connection
from skystow.adapters.rabbitmq.broker import RabbitBus
from skystow.adapters.rabbitmq.connection import Link
from skystow.errors import PlaceFault
from skystow.model.acts import Say
from tests.brokers import Broker
from tests.cutproxy import CutProxy
from tests.rabbit_kit import INBOX, Desk, arrived, babbling, item, items, numbers, until
from tests.rabbit_kit import desk as desk


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_REST", 0.02)
    monkeypatch.setattr(connection, "LONGEST_REST", 0.2)


def delivered(bus: RabbitBus, says: list[Say]) -> None:
    """As the postman does it: again, until the bus has them."""

    def gone() -> bool:
        try:
            bus.publish(says)
        except PlaceFault as fault:
            if fault.place != "bus":
                raise
            return False
        return True

    until(gone, "it cannot be said")


def firsts(heard: list[int]) -> list[int]:
    return list(dict.fromkeys(heard))


class TestKilled:
    def test_the_broker_is_killed_and_started_again(self, desk: Desk, rabbitmq: Broker) -> None:
        bus = desk.opened()
        bus.publish(items(*range(40)))
        before = arrived(bus, 40)
        bus.accept(before[:10])
        until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 30)
        rabbitmq.kill()
        try:
            until(lambda: bus.away is not None)
            assert bus.receive("controller", limit=99) == []
            with pytest.raises(PlaceFault):
                bus.publish(items(40))
            bus.accept(before[10:20])  # of a connection that is gone
            until(lambda: "nobody listens" in str(bus.away))
        finally:
            rabbitmq.start()
        delivered(bus, items(40))
        until(lambda: bus.away is None)
        after = arrived(bus, 31)
        assert firsts(numbers(after)) in ([*range(10, 41)], [*range(41)])  # what was accepted last may come again
        assert [each.message for each in before[10:]] == [item(n) for n in range(10, 40)]


class TestUnforeseen:
    def test_it_begins_again(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        stand, errors = Link._stand, iter([KeyError("odd")])

        async def odd(link: Link) -> BaseException | None:
            for error in errors:
                raise error
            return await stand(link)

        monkeypatch.setattr(Link, "_stand", odd)
        bus = desk.opened()
        delivered(bus, items(1))
        assert numbers(arrived(bus, 1)) == [1]
        assert "an error that we did not foresee; it begins again" in caplog.text
        assert "KeyError: 'odd'" in caplog.text


class TestCut:
    def test_at_every_message_both_ways(self, desk: Desk, cut_proxy: CutProxy) -> None:
        says, hears = (desk.opened(name, port=cut_proxy.port) for name in ("controller", "oods"))
        place, cuts = 0, 0
        while True:
            place += 1
            cut_proxy.cut_at(place)
            ours = range(place * 10, place * 10 + 10)
            assert firsts(exchange(says, hears, ours)) == list(ours), place
            if cut_proxy.armed:  # there were no more messages than that
                break
            cuts += 1
        assert cuts >= 20
        assert desk.letters == []

    def test_while_connections_are_made(self, desk: Desk, cut_proxy: CutProxy) -> None:
        for place in range(1, 60, 4):
            cut_proxy.cut_at(place, lambda _name: True)
            bus = desk.opened("oods", port=cut_proxy.port)
            until(lambda bus=bus: bus.away is None, f"the bus stays away: {bus.away}")  # type: ignore[misc]
            delivered(bus, [Say("oods", item(place))])
            assert place in numbers(arrived(bus, 1, "oods"))
            bus.accept(bus.receive("oods", limit=9))
            bus.close()

    def test_what_was_received_before_the_cut_comes_again_with_other_numbers(
        self, desk: Desk, cut_proxy: CutProxy
    ) -> None:
        bus = desk.opened(port=cut_proxy.port)
        bus.publish(items(1, 2, 3))
        before = arrived(bus, 3)
        cut_proxy.cut()
        until(lambda: {each.id for each in bus.receive("controller", limit=9)}.isdisjoint(each.id for each in before))
        bus.accept(before)
        after = arrived(bus, 3)
        assert numbers(after) == [1, 2, 3]
        bus.accept(after)
        until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 0)


def exchange(says: RabbitBus, hears: RabbitBus, ours: range) -> list[int]:
    """Half as a batch, then one by one; what is heard is accepted at once. Repeats of earlier ones do not count."""
    heard: list[int] = []

    def hear() -> bool:
        deliveries = hears.receive("oods", limit=3)
        heard.extend(n for n in numbers(deliveries) if n in ours)
        hears.accept(deliveries)
        return set(heard) == set(ours)

    delivered(says, [Say("oods", item(n)) for n in ours[:5]])
    for n in ours[5:]:
        delivered(says, [Say("oods", item(n))])
        hear()
    until(hear, "not all of it arrives")
    for bus in (says, hears):
        until(lambda bus=bus: bus.away is None, "the bus stays away")  # type: ignore[misc]
    return heard


class TestRefused:
    def test_for_a_while(self, desk: Desk, cut_proxy: CutProxy) -> None:
        bus = desk.opened(port=cut_proxy.port)
        while desk.rings.acquire(blocking=False):
            continue
        with cut_proxy.refusing():
            until(lambda: "nobody listens" in str(bus.away))
            assert desk.rings.acquire(timeout=10)  # whoever waits for the bus is told
        until(lambda: bus.away is None)
        bus.publish(items(1))
        assert numbers(arrived(bus, 1)) == [1]

    def test_attempts_come_ever_more_rarely(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """After 0.64 s of waits of 20 ms, doubled each time, less up to a half, it is the seventh at most."""
        monkeypatch.setattr(connection, "LONGEST_REST", 100.0)
        with babbling(b"") as (port, greeted):
            began = time.monotonic()
            bus = desk.opened(port=port)
            until(lambda: time.monotonic() - began > 0.64)
            attempts = len(greeted)
            bus.close()
        assert 2 * 2 <= attempts <= 2 * 7  # of two connections


class TestSilent:
    def test_a_broker_that_says_nothing_is_away_in_time(
        self, desk: Desk, cut_proxy: CutProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1)  # 2 s with beats of 1 s, not 6
        bus = desk.opened(port=cut_proxy.port, heartbeat=1.0)
        with cut_proxy.stalling():
            began = time.monotonic()
            with pytest.raises(PlaceFault):
                bus.publish(items(1))
            assert time.monotonic() - began < 3
            until(lambda: bus.away is not None)
            assert time.monotonic() - began < 3
            until(lambda: bus._hearing.away is not None)
            assert time.monotonic() - began < 6
        until(lambda: bus.away is None)
        bus.publish(items(2))
        assert firsts(numbers(arrived(bus, 1)))[-1] == 2

    def test_to_close_does_not_wait_for_it(self, desk: Desk, cut_proxy: CutProxy) -> None:
        bus = desk.opened(port=cut_proxy.port)
        with cut_proxy.stalling():
            began = time.monotonic()
            bus.close()
            assert time.monotonic() - began < 8
        assert "is not open" in str(bus.away)

    def test_who_publishes_while_it_is_closed_is_told(self, desk: Desk, cut_proxy: CutProxy) -> None:
        bus = desk.opened(port=cut_proxy.port)
        outcome: list[PlaceFault] = []

        def publish() -> None:
            try:
                bus.publish(items(1))
            except PlaceFault as fault:
                outcome.append(fault)

        with cut_proxy.stalling():
            thread = threading.Thread(target=publish)
            thread.start()
            until(lambda: bus._speaking.channel is not None)
            bus.close()
            thread.join(20)
        assert [fault.place for fault in outcome] == ["bus"]
        with pytest.raises(PlaceFault, match="is not open"):
            bus.publish(items(1))


class TestShortOfMemory:
    def test_it_takes_nothing_and_still_gives(self, desk: Desk, rabbitmq: Broker) -> None:
        bus = desk.opened()
        bus.publish(items(1, 2, 3))
        with rabbitmq.out_of_memory():
            until(refuses(bus))
            assert "takes no messages at present: it is short of memory or disk" in str(bus.away)
            began = time.monotonic()
            with pytest.raises(PlaceFault, match="short of memory"):
                bus.publish(items(4))
            assert time.monotonic() - began < 0.5
            heard = arrived(bus, 3)
            bus.accept(heard)
            until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 0)
        until(lambda: bus.away is None)
        bus.publish(items(9))
        until(lambda: 9 in numbers(bus.receive("controller", limit=99)))


class TestFull:
    def test_who_cannot_speak_judges_no_silence_until_he_can(self, desk: Desk, rabbitmq: Broker) -> None:
        says, hears = desk.opened("archiver"), desk.opened("oods")
        full = f'rabbit_policy:set(<<"{desk.vhost.name}">>, <<"full">>, <<"^{INBOX}$">>, [{{<<"max-length">>, 1}},'
        rabbitmq.tell(f'{full} {{<<"overflow">>, <<"reject-publish">>}}], 0, <<"queues">>, <<"tests">>)')
        until(refuses(says))
        assert str(says.away) == "the broker would not take a message; is a queue full, by a policy? See its log"
        assert hears.away is None
        rabbitmq.tell(f'rabbit_policy:delete(<<"{desk.vhost.name}">>, <<"full">>, <<"tests">>)')
        until(lambda: not refuses(says)(), "it is still full")
        assert says.away is None


def refuses(bus: RabbitBus) -> Callable[[], bool]:
    def one() -> bool:
        try:
            bus.publish(items(0))
        except PlaceFault:
            return True
        return False

    return one


class TestTakenAway:
    """Somebody tidies up while we run."""

    def test_a_queue(self, desk: Desk) -> None:
        bus = desk.opened()
        ours = f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{desk.vhost.name}">>, queue, <<"{INBOX}">>))'
        desk.vhost.broker.tell(f'{ours}, rabbit_amqqueue:delete(Q, false, false, <<"tests">>)')
        until(lambda: INBOX in desk.vhost.queues() and bus.away is None)
        until(lambda: desk.vhost.queues()[INBOX]["consumers"] == 1)
        delivered(bus, items(1))
        assert firsts(numbers(arrived(bus, 1))) == [1]

    def test_the_exchange(self, desk: Desk) -> None:
        bus = desk.opened()
        name = f'rabbit_misc:r(<<"{desk.vhost.name}">>, exchange, <<"message">>)'
        desk.vhost.broker.tell(f'rabbit_exchange:delete({name}, false, <<"tests">>)')
        with pytest.raises(PlaceFault, match="no exchange 'message'"):
            bus.publish(items(1))
        delivered(bus, items(1))
        assert firsts(numbers(arrived(bus, 1))) == [1]
        assert desk.letters == []
