"""The bus on a real RabbitMQ: the contract of every bus, and what is RabbitMQ's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.brokers import Vhost
from tests.rabbit_kit import DIALECT, INBOX, QUEUES, Desk, arrived, item, items, numbers, until
from tests.rabbit_kit import desk as desk

from skystow.adapters.rabbitmq.bodies import as_bytes, as_text
from skystow.adapters.rabbitmq.broker import PREFETCH, WIRE, RabbitBus, read
from skystow.errors import BadName, PlaceFault
from skystow.model.acts import Say
from skystow.model.messages import EndReadout, FileTransferCompletedAck, HealthCheckAck, ImageInOODS, Message
from skystow.model.packing import written
from skystow.ports.talk import Bus, Delivery, outbox
from skystow.testing.bus_contract import BusContract, Dead, Spoil

ADDRESSES = ("controller", "oods", "forwarder/f1", "forwarder/F1")


class Patient:
    """Waits in `receive` until all has come that is on its way. Two of them take turns, for each hears alone."""

    away = None

    def __init__(self, vhost: Vhost, bus: RabbitBus, turn: list[RabbitBus]) -> None:
        self._vhost, self._bus, self._turn = vhost, bus, turn

    def publish(self, says: Sequence[Say]) -> None:
        self._mine().publish(says)

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        self._mine().accept(deliveries)

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        until(lambda: self._settled(address), "what is said does not come")
        return self._bus.receive(address, limit=limit)

    def _settled(self, address: str) -> bool:
        seen, queues = len(self._mine().receive(address, limit=10_000)), self._vhost.queues()
        ours = [queues[name] for name in QUEUES.consumed(address)]
        held = sum(each["messages_unacknowledged"] for each in ours)
        full = all(each["messages_ready"] == 0 or each["messages_unacknowledged"] == PREFETCH for each in ours)
        return full and seen == held

    def _mine(self) -> RabbitBus:
        if self._turn != [self._bus]:
            for other in self._turn:
                other.close()
            self._turn[:] = [self._bus]
            self._bus.open()
        return self._bus


class TestContract(BusContract):
    third = "oods"

    @pytest.fixture
    def turn(self) -> list[RabbitBus]:
        return []

    @pytest.fixture
    def bus(self, desk: Desk, turn: list[RabbitBus]) -> Bus:
        return Patient(desk.vhost, desk.bus("controller", *ADDRESSES), turn)

    @pytest.fixture
    def beside(self, desk: Desk, turn: list[RabbitBus]) -> Bus:
        return Patient(desk.vhost, desk.bus("controller", *ADDRESSES), turn)

    @pytest.fixture
    def spoil(self, desk: Desk, bus: Patient) -> Spoil:
        spoiled = iter([b"{", b"[]", b"MSG_TYPE: FROM_THE_FUTURE", b"\xff\0"])

        def spoil(address: str) -> None:
            bus.publish([])  # which declares the queues
            desk.vhost.put(QUEUES.consumed(address)[0], next(spoiled))

        return spoil

    @pytest.fixture
    def dead(self, desk: Desk) -> Dead:
        return lambda: [letter.reason for letter in desk.letters]


class TestWhatIsThere:
    """PROTOCOLS 1.1, as an original declares it: it must find nothing unlike."""

    def test_queues_exchange_and_bindings(self, desk: Desk) -> None:
        bus = desk.opened()
        assert bus.away is None
        queues = desk.vhost.queues()
        assert set(queues) == {
            *("archive_ctrl_consume", "archive_ctrl_publish", "cc_foreman_ack_publish", "cc_publish_to_oods"),
            *("oods_publish_to_cc", "telemetry_queue", "f1_consume", "F1_consume"),
        }
        asked = ("type", "durable", "auto_delete", "exclusive", "arguments")
        for name, queue in queues.items():
            assert [queue[each] for each in asked] == ["classic", True, False, False, []], name
            assert queue["consumers"] == (name == INBOX)
        exchange = {"type": "direct", "durable": True, "auto_delete": False, "internal": False}
        assert desk.vhost.exchanges()["message"] == exchange
        ours = {("message", name, name) for name in queues}
        assert desk.vhost.bindings() == ours | {("", name, name) for name in queues}

    def test_quorum_queues_by_option(self, desk: Desk) -> None:
        bus = desk.opened(quorum=True)
        queues = desk.vhost.queues()
        assert [queue["type"] for queue in queues.values()] == ["quorum"] * 8
        assert queues[INBOX]["arguments"] == [["x-queue-type", "quorum"]]
        bus.publish(items(1, 2))
        assert numbers(arrived(bus, 2)) == [1, 2]

    def test_an_archiver_hears_four_queues(self, desk: Desk) -> None:
        archiver, controller = desk.opened("archiver"), desk.opened()
        failed = ImageInOODS("COMCAM", "CCArchiver", "CC_O_20210304_000001", "22", "00", "/a", 1, "no link")
        controller.publish([Say("archiver", failed), Say("archiver", HealthCheckAck("a", "s", "ARCHIVE_CTRL"))])
        said = {delivery.message for delivery in arrived(archiver, 2, "archiver")}
        assert said == {failed, HealthCheckAck("a", "s", "ARCHIVE_CTRL")}

    def test_persistent_and_labelled(self, desk: Desk, vhost: Vhost) -> None:
        desk.opened().publish([Say("oods", item(1))])
        body, properties = vhost.get("cc_publish_to_oods")
        assert DIALECT.decode(body) == item(1)
        assert (properties.delivery_mode, properties.content_type) == (2, "application/x-yaml")
        assert len(properties.message_id or "") == 32


class TestDeliveries:
    def test_the_bell_rings_for_what_comes(self, desk: Desk) -> None:
        bus = desk.opened()
        while desk.rings.acquire(blocking=False):
            continue
        bus.publish(items(1))
        assert desk.rings.acquire(timeout=10)
        assert numbers(arrived(bus, 1)) == [1]

    def test_numbers_are_negative_and_never_used_again(self, desk: Desk) -> None:
        bus = desk.opened()
        bus.publish(items(1, 2))
        before = arrived(bus, 2)
        bus.close()
        bus.open()
        after = arrived(bus, 2)
        assert numbers(after) == [1, 2]
        assert max(each.id for each in after) < min(each.id for each in before) < 0
        bus.accept(before)  # of a connection that is gone
        assert numbers(arrived(bus, 2)) == [1, 2]
        bus.accept(after)
        until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 0)

    def test_what_is_accepted_before_the_end_is_not_given_again(self, desk: Desk) -> None:
        bus = desk.opened()
        bus.publish(items(*range(50)))
        deliveries = arrived(bus, 50)
        bus.accept(deliveries[10:20])
        bus.accept(deliveries[:10] + deliveries[30:31])
        bus.close()
        until(lambda: desk.vhost.queues()[INBOX]["messages_ready"] == 29)
        bus.open()
        assert numbers(arrived(bus, 29)) == [*range(20, 30), *range(31, 50)]

    def test_what_is_not_accepted_holds_back_the_rest_and_nothing_else(self, desk: Desk) -> None:
        bus = desk.opened("controller", "controller", "oods")
        bus.publish(items(*range(PREFETCH + 5)))
        bus.publish([Say("oods", item(1))])
        assert len(arrived(bus, PREFETCH)) == PREFETCH
        assert numbers(arrived(bus, 1, "oods")) == [1]
        bus.accept(bus.receive("controller", limit=100))
        assert len(arrived(bus, PREFETCH - 95)) == PREFETCH - 95


POISON: dict[str, bytes] = {
    "no YAML": b"{",
    "no mapping": b"- a\n",
    "no type": b"A: 1\n",
    "unknown type": b"MSG_TYPE: FROM_THE_FUTURE\n",
    "missing keys": b"MSG_TYPE: NEW_CC_ARCHIVE_ITEM\n",
    "a tag": b"!!python/object/apply:os.system ['true']\n",
    "no text": bytes(range(256)),
    "nothing": b"",
    "a bomb": b"a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
}


class TestPoison:
    @pytest.mark.parametrize("name", POISON)
    def test_it_is_set_aside_and_the_next_is_heard(self, desk: Desk, name: str) -> None:
        bus, body = desk.opened(), POISON[name]
        desk.vhost.put(INBOX, body)
        bus.publish(items(1))
        assert numbers(arrived(bus, 1)) == [1]
        (letter,) = desk.letters
        assert letter[:3] == ("controller", "controller", WIRE)
        assert letter.reason.startswith("to controller by queue archive_ctrl_consume: ")
        assert as_bytes(letter.body) == body
        with pytest.raises(BadName):
            read(DIALECT, WIRE, letter.body)
        until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 1)

    def test_ten_megabytes(self, desk: Desk) -> None:
        bus = desk.opened()
        desk.vhost.put(INBOX, b"MSG_TYPE: " + b"x" * 10_000_000)
        bus.publish(items(1))
        assert numbers(arrived(bus, 1)) == [1]
        (letter,) = desk.letters
        assert letter.body == "MSG_TYPE: " + "x" * ((1 << 20) - 10)
        assert "10000010 bytes" in letter.reason

    def test_it_waits_while_the_ledger_is_away(self, desk: Desk) -> None:
        bus = desk.opened()
        desk.broken = True
        desk.vhost.put(INBOX, b"{")
        until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 1)

        def fails() -> bool:
            try:
                bus.receive("controller", limit=9)  # nothing, before it has come
            except PlaceFault as fault:
                return fault.place == "ledger"
            return False

        until(fails)
        assert desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 1
        desk.broken = False
        assert bus.receive("controller", limit=9) == []
        assert len(desk.letters) == 1
        until(lambda: desk.vhost.queues()[INBOX]["messages_unacknowledged"] == 0)

    def test_what_was_set_aside_can_be_read_again_by_a_later_skystow(self) -> None:
        body = DIALECT.encode(item(1))
        assert read(DIALECT, WIRE, as_text(body)) == item(1)
        assert read(DIALECT, *written(item(1))) == item(1)
        for strange in (b"base64:x", "MSG_TYPE: é".encode(), b"\0", b""):
            assert as_bytes(as_text(strange)) == strange
        with pytest.raises(BadName, match="base64"):
            read(DIALECT, WIRE, "base64:%")


class TestWhatCannotLeave:
    @pytest.mark.parametrize(
        ("address", "message", "reason"),
        [
            ("queue/nobody's", item(1), "queue nobody's is not there"),
            ("forwarder/f9", item(1), "nobody has this address"),
            ("archiver/events", item(1), "nobody has this address"),
            ("queue/" + "q" * 256, item(1), "is no name of a queue"),
            ("queue/", item(1), "is no name of a queue"),
            ("queue/\udc80", item(1), "is no name of a queue"),
            ("oods", EndReadout("CC_O_20210304_000001"), "no form on the wire"),
        ],
    )
    def test_it_is_set_aside_and_the_others_go(self, desk: Desk, address: str, message: Message, reason: str) -> None:
        bus = desk.opened()
        bus.publish([*items(1), Say(address, message), *items(2)])
        (letter,) = desk.letters
        assert letter[:4] == (outbox("controller"), address, *written(message))
        assert reason in letter.reason
        assert numbers(arrived(bus, 2)) == [1, 2]

    def test_to_a_stranger_by_the_default_exchange(self, desk: Desk) -> None:
        desk.opened()
        stranger: Any = desk.opened("oods")
        ack = FileTransferCompletedAck("/a.fits", "CC_O_20210304_000001", "22", "00", "s", "3", "ARCHIVE_CTRL")
        stranger.publish([Say("queue/f1_consume", ack)])
        assert desk.letters == []
        assert desk.vhost.queues()["f1_consume"]["messages_ready"] == 1

    def test_nothing_is_published_where_it_cannot_be_set_aside(self, desk: Desk) -> None:
        bus = desk.opened()
        desk.broken = True
        with pytest.raises(PlaceFault) as caught:
            bus.publish([*items(1), Say("forwarder/f9", item(2))])
        assert caught.value.place == "ledger"
        assert desk.vhost.queues()[INBOX]["messages_ready"] == 0
        desk.broken = False
        bus.publish(items(2))
        assert numbers(arrived(bus, 1)) == [2]
