"""The host of a conversation in trouble: whatever fails, one message, one act or one command suffers, and only once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import pytest
from tests.unit.test_talk import House, until

from skystow.errors import BadName, PlaceFault, Refused, UnfitPlace, Unreachable
from skystow.model.acts import Act, Beat
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import Message, StartIntegration
from skystow.model.reports import Dropped
from skystow.service import hands, talk


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    for module in (talk, hands):
        monkeypatch.setattr(module, "FIRST_REST", 0.01)
    return House()


def failing(house: House, fails: Callable[[dict[str, object]], bool]) -> None:
    """The ledger is away for each commit that `fails` says."""
    converse = house.ledger.talks.converse

    def away(component: str, **what: object) -> None:
        if fails(what):
            raise Unreachable("gone", place="ledger")
        converse(component, **what)  # type: ignore[arg-type]

    house.ledger.talks.converse = away  # type: ignore[method-assign]


def test_a_command_that_cannot_be_written_down_did_not_happen(house: House) -> None:
    once = iter([True])
    failing(house, lambda what: bool(what["keep"]) and next(once, False))
    with house.running():
        until(lambda: house.talk._open)
        with pytest.raises(PlaceFault, match="gone"):
            house.talk.command(Verb.DISABLE)
        until(lambda: house.talk._open)
        assert (house.talk.state, house.echo.state) == (Summary.ENABLED, Summary.ENABLED)
        assert house.talk.command(Verb.DISABLE) is Summary.DISABLED


def test_a_command_is_obeyed_though_the_bus_cannot_be_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, failures = house.ledger.bus, iter([Unreachable("gone", place="bus")])
    accept = bus.accept

    def away(deliveries: Sequence[object]) -> None:
        if (fault := next(failures, None)) is not None:
            raise fault
        accept(deliveries)  # type: ignore[arg-type]

    monkeypatch.setattr(bus, "accept", away)
    with house.running():
        until(lambda: house.talk._open)
        with house.talk._lock:  # so that both are taken in one round
            house.say("a")
            house.talk._inbox.append(command := talk._Command(Verb.DISABLE, Future()))
        assert command.done.result(5) is Summary.DISABLED
        until(lambda: house.talk._open)
        assert house.talk.state is Summary.DISABLED


@pytest.mark.parametrize("fault", [BadName("x"), UnfitPlace("another device"), OSError(28, "full")])
def test_what_a_hand_ought_to_have_reported_is_tried_again(house: House, fault: Exception) -> None:
    tries: list[Act] = []

    def hand(act: Act) -> Sequence[Message]:
        tries.append(act)
        if len(tries) == 1:
            raise fault
        return [Dropped("x", "done")]

    house.hand = hand
    house.say("a")
    with house.running():
        until(lambda: Dropped("x", "done") in house.echo.reports)
    assert "echo" in house.progress.healths


def test_what_a_person_says_and_cannot_be_used_is_buried(house: House) -> None:
    with house.running():
        until(lambda: house.talk._open)
        house.talk.hear([StartIntegration("bad")])
        assert house.talk._open
    assert [letter.reason for letter in house.ledger.dead_letters(after=0, limit=9)] == [
        "StartIntegration: bad is no name"
    ]


def test_nobody_waits_for_one_that_has_ended(house: House) -> None:
    with house.running():
        until(lambda: house.talk._open)
    assert not house.talk._put(talk._Heard([], Future()), waits=True)
    with pytest.raises(Refused, match="does not run"):
        house.talk.command(Verb.DISABLE)


def test_what_a_hand_says_of_a_place_while_the_ledger_is_away_too_does_not_outlast_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "FIRST_REST", 0.3)
    house.talk = house.host(house.echo)
    at_work, go_on, tried = threading.Event(), threading.Event(), threading.Event()

    def hand(act: Act) -> Sequence[Message]:
        if act != Beat("a", "", 1.0):
            return []
        at_work.set()
        go_on.wait(5)
        tried.set()
        raise Unreachable("gone", place="ledger")

    house.hand = hand
    house.say("a")
    with house.running():
        assert at_work.wait(5)
        once = iter([True])
        failing(house, lambda _: next(once, False))
        house.say("b")
        until(lambda: not house.talk._open)
        go_on.set()
        assert tried.wait(5)
        until(lambda: "b" in house.echo.seen and house.talk._open)
        house.talk.hear([])
    # The act was let go of: nobody would ever take back what it had said.
    assert house.echo.reports == []


def test_a_command_that_nobody_waits_for_any_more_is_not_obeyed_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "OBEYED", 0.05)
    held = threading.Event()
    monkeypatch.setattr(house.ledger.bus, "receive", lambda address, *, limit: (held.wait(10) and []) or [])
    with house.running():
        until(lambda: house.talk._open)
        with pytest.raises(Refused, match="did not answer"):
            house.talk.command(Verb.DISABLE)
        held.set()
        monkeypatch.setattr(talk, "OBEYED", 10.0)
        with pytest.raises(Refused, match="standby"):  # unlawful while ENABLED: it was never disabled
            house.talk.command(Verb.STANDBY)
        assert house.talk.state is Summary.ENABLED
