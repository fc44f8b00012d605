"""Exposures through the Forwarder's conversation, from the orders to the end: any order, repeats, restarts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest
from tests.unit.forwarder_kit import DETECTORS, DIGEST, FIRST, SECOND, WELL, Night, header, orders, readout, transfer

from skystow.model.acts import Admit, Assemble, DropLocal, FetchHeader, Milestone, Say
from skystow.model.messages import FileTransferCompleted, HeaderReadyAck, Message, XferParamsAck
from skystow.model.reports import AssemblyFailed, HeaderFailed


def test_an_exposure_from_the_orders_to_the_end() -> None:
    night = Night()
    night.hear(*orders(FIRST))
    night.go()
    acks = [type(say.message).__name__ for say in night.says if say.to == "archiver"][:3]
    assert acks == ["XferParamsAck", "ReadoutEndedAck", "HeaderReadyAck"]
    assert night.retrieved() == WELL
    [said, *_] = night.said(FileTransferCompleted)
    assert said == FileTransferCompleted(
        f"/data/staging/2021-03-04/{FIRST}-R22S00.fits",
        FIRST,
        "22",
        "00",
        "s",
        "3",
        "forwarder/f99",
        8,
        "ab" * 32,
        "sha256",
    )
    assert night.admitted == {f"2021-03-04/{FIRST}-R22S0{ccd}.fits".encode() for ccd in range(3)}
    assert [(mark.what, mark.detector) for mark in night.marks if mark.what is not Milestone.SENT] == [
        (Milestone.ASSEMBLED, detector) for detector in DETECTORS
    ]
    assert len(night.did(DropLocal)) == 4, "three files and the header"
    assert night.closed == [FIRST]
    assert night.steps == []


def test_what_is_carried_is_what_was_assembled() -> None:
    night = Night()
    admits: list[Admit] = []

    def note(asked: object) -> None:
        if isinstance(asked, Admit):
            admits.append(asked)

    night.fail = note
    night.hear(*orders(FIRST))
    night.go()
    arrival = admits[0].arrival
    assert (arrival.source, arrival.archive, str(arrival.claimed)) == ("f99", "staging", DIGEST)
    assert (arrival.fingerprint.size, arrival.fingerprint.mtime_ns) == (8, 1_700_000_000)
    assert arrival.origin == arrival.path
    assert str(arrival.path) == f"2021-03-04/{FIRST}-R22S00.fits"


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_orders_come_in_any_order_and_twice(order: tuple[int, ...]) -> None:
    night = Night()
    for index in order:
        night.hear(orders(FIRST)[index], orders(FIRST)[index])
        night.go()
    assert night.retrieved() == WELL
    assert len(night.did(Assemble)) == 3
    assert len(night.did(FetchHeader)) == 1
    assert len(night.said(XferParamsAck)) == 2, "a repeat is acknowledged again"
    night.hear(*orders(FIRST))
    night.go()
    assert len(night.did(Assemble)) == 3, "and after the end too, without any work"
    assert len(night.said(HeaderReadyAck)) == 3
    night.died()
    night.hear(*orders(FIRST))
    night.go()
    assert len(night.did(Assemble)) == 3, "nor after a restart"
    assert night.steps == []


def test_an_exposure_that_is_asked_for_anew_is_retrieved_anew() -> None:
    """A person had the Archiver catch up: other orders, by their `ack_id`s."""
    night = Night()
    night.hear(*orders(FIRST))
    night.go()
    night.hear(transfer(FIRST), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == WELL + WELL
    night.died()
    night.hear(*orders(FIRST), transfer(FIRST), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == WELL + WELL


def count_of_steps() -> int:
    night = Night()
    night.hear(*orders(FIRST), *orders(SECOND))
    night.go()
    return night.heard


TWO = WELL + Counter({(SECOND, detector, 0): 1 for detector in DETECTORS})


@pytest.mark.parametrize("cut", range(count_of_steps() + 1))
def test_a_restart_after_any_step_gives_the_same_end(cut: int) -> None:
    night = Night()
    night.hear(*orders(FIRST), *orders(SECOND))
    night.go(limit=cut)
    assert night.heard == cut
    night.died()
    night.go()
    night.later(11)  # announcements whose answer was lost
    assert night.retrieved() == TWO
    assert sorted(night.closed) == [FIRST, SECOND]
    assert night.steps == []
    assert len(night.admitted) == 6


@pytest.mark.parametrize("seed", range(40))
def test_random_nights_end_well(seed: int) -> None:
    """Doubled, reordered, delayed; acts that fail in passing; restarts. Nothing is doubled and nothing left over."""
    dice = random.Random(seed)
    night = Night()

    def sometimes(asked: object) -> Sequence[Message] | None:
        match asked:
            case FetchHeader(obsid) if dice.random() < 0.3:
                return [HeaderFailed(obsid, "404", final=False)]
            case Assemble(obsid, detector) if dice.random() < 0.3:
                return [AssemblyFailed(obsid, detector, "not there yet", final=False)]
            case Say("controller", FileTransferCompleted()) if dice.random() < 0.3:
                return []  # the announcement, or its acknowledgement, is lost
            case _:
                return None

    night.fail = sometimes
    messages = [*orders(FIRST), *orders(SECOND)] * 2
    dice.shuffle(messages)
    for message in messages:
        night.hear(message)
        dice.shuffle(night.inbox)
        night.go(limit=night.heard + dice.randrange(6))
        if dice.random() < 0.2:
            night.died()
        night.now += timedelta(seconds=dice.random() * 5)
    for _ in range(200):  # an announcement that is lost time and again waits for 5 min between two
        night.later(15)
        if night.closed and len(night.closed) == 2:
            break
    assert night.retrieved() == TWO
    assert sorted(night.closed) == [FIRST, SECOND]


def test_an_exposure_to_which_nothing_happens_is_not_waited_for() -> None:
    night = Night()
    night.hear(transfer(FIRST), header(FIRST))
    night.go()
    night.later(timedelta(days=6).total_seconds())
    assert night.closed == []
    night.later(timedelta(days=1.1).total_seconds())
    assert night.closed == [FIRST]
    [fault] = night.marks
    assert "R22_S00 R22_S01 R22_S02" in fault.text


def test_late_repeats_of_what_was_done_are_forgotten_without_a_word() -> None:
    night = Night()
    night.hear(*orders(FIRST))
    night.go()
    night.hear(transfer(FIRST, "anew"))
    night.go()
    night.later(timedelta(days=8).total_seconds())
    assert night.closed == [FIRST, FIRST]
    assert [mark for mark in night.marks if mark.what is Milestone.FAULT] == []
