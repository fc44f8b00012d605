"""What every `skystow.ports.talk.Bus` must do. A subclass supplies the fixtures `bus`; `beside`, the same bus as
another process has it, maybe one after the other; `spoil(address)`, which has something arrive there that is no
message; and `dead()`, the reasons of what was buried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skystow.model.acts import Say
from skystow.model.messages import HealthCheck, Message, NewArchiveItem
from skystow.ports.talk import Bus

Spoil = Callable[[str], None]
Dead = Callable[[], Sequence[str]]


def exposure(n: int) -> Message:
    return NewArchiveItem(f"ack_{n}", n, "session", f"CC_O_20210304_{n:06}", "archiver", exposure_time=15.0)


def heard(bus: Bus, address: str = "controller", limit: int = 1_000) -> list[Message]:
    return [delivery.message for delivery in bus.receive(address, limit=limit)]


def drained(bus: Bus, address: str = "controller") -> list[Message]:
    """Page by page, as a bus may hold back what comes after too much that is not accepted."""
    every: list[Message] = []
    while deliveries := bus.receive(address, limit=200):
        every += [delivery.message for delivery in deliveries]
        bus.accept(deliveries)
    return every


class BusContract:
    third = "f" * 5_000
    """One more address; of any length where the bus takes it."""

    def test_messages_come_as_they_were_in_the_order_in_which_they_were_said(self, bus: Bus, beside: Bus) -> None:
        bus.publish([Say("controller", exposure(n)) for n in range(3)])
        bus.publish([Say("controller", exposure(n)) for n in range(3, 700)])
        assert drained(beside) == [exposure(n) for n in range(700)]

    def test_each_address_has_its_own(self, bus: Bus) -> None:
        bus.publish([Say("forwarder/f1", exposure(1)), Say("forwarder/F1", exposure(2)), Say(self.third, exposure(3))])
        assert heard(bus, "forwarder/f1") == [exposure(1)]
        assert heard(bus, "forwarder/F1") == [exposure(2)]
        assert heard(bus, self.third) == [exposure(3)]
        assert heard(bus, "forwarder") == []

    def test_it_comes_again_until_it_is_accepted(self, bus: Bus, beside: Bus) -> None:
        bus.publish([Say("controller", exposure(n)) for n in range(4)])
        first, second, *_ = bus.receive("controller", limit=2)
        assert heard(bus) == [exposure(n) for n in range(4)]
        bus.accept([second])
        assert heard(bus) == [exposure(n) for n in (0, 2, 3)]
        bus.accept([first])
        assert heard(bus) == [exposure(n) for n in (2, 3)]
        assert heard(beside) == [exposure(n) for n in (2, 3)]

    def test_no_more_than_is_asked_for(self, bus: Bus) -> None:
        bus.publish([Say("controller", exposure(n)) for n in range(5)])
        assert heard(bus, limit=2) == [exposure(0), exposure(1)]

    def test_to_accept_twice_takes_nothing_else(self, bus: Bus) -> None:
        """The number of what is gone is not given to what comes."""
        bus.publish([Say("controller", exposure(1))])
        deliveries = bus.receive("controller", limit=9)
        bus.accept(deliveries)
        bus.publish([Say("controller", exposure(2))])
        bus.accept(deliveries)
        assert heard(bus) == [exposure(2)]

    def test_the_same_message_twice_is_two(self, bus: Bus) -> None:
        """The bus drops nothing: whoever hears a repeat knows that it is one."""
        beat = HealthCheck("ack_1", "session", "archiver")
        bus.publish([Say("controller", beat), Say("controller", beat)])
        assert heard(bus) == [beat] * 2

    def test_what_is_no_message_is_buried_and_never_given_out(
        self, bus: Bus, beside: Bus, spoil: Spoil, dead: Dead
    ) -> None:
        bus.publish([Say("controller", exposure(1))])
        spoil("controller")
        bus.publish([Say("controller", exposure(2))])
        assert heard(bus) == [exposure(1), exposure(2)]
        (reason,) = dead()
        assert "to controller" in reason
        assert heard(beside) == [exposure(1), exposure(2)]
        bus.accept(bus.receive("controller", limit=9))
        assert heard(bus) == []
        assert dead() == [reason]

    def test_what_is_no_message_never_fills_the_page(self, bus: Bus, spoil: Spoil, dead: Dead) -> None:
        for _ in range(3):
            spoil("controller")
        bus.publish([Say("controller", exposure(1))])
        assert heard(bus, limit=2) in ([], [exposure(1)])
        assert heard(bus, limit=2) == [exposure(1)]
        assert len(dead()) == 3

    def test_nothing_is_nothing(self, bus: Bus) -> None:
        bus.publish([])
        bus.accept([])
        assert heard(bus) == []
