"""What a forwarder has given up is not asked of it again and again: the whole exposure would be retrieved each time."""

from __future__ import annotations

from tests.unit.archiver_kit import DETECTORS, F1, F2, FIRST, URL, Desk, ingested, one, retrieved, said, settings

from skystow.model.messages import Associated, AssociatedAck, LargeFileObjectAvailable, XferParams
from skystow.model.reports import CatchUp, ForwarderFound, Presence

HOURS = 4 * 3600.0


def given_up(code: int = 5611) -> Desk:
    """All but one CCD are archived; the pixels of that one cannot be had."""
    desk = Desk(settings(initial_state="last"))
    desk.up()
    desk.take()
    desk.hear(*[kind(FIRST, each) for kind in (retrieved, ingested) for each in DETECTORS[1:]])
    desk.hear(retrieved(FIRST, DETECTORS[0], code, "no pixels"))
    return desk


def paired(desk: Desk, forwarder: ForwarderFound) -> list[XferParams]:
    """What that forwarder is told, now that it is the one."""
    asked = one(said(desk.pair(forwarder), Associated))
    return said(desk.hear(AssociatedAck(asked.ack_id, forwarder.presence_key)), XferParams)


def test_nobody_is_told_anew() -> None:
    assert said(given_up().wait(HOURS), XferParams) == []


def test_nor_after_a_restart_of_the_archiver() -> None:
    desk = given_up()
    desk.begin(settings(initial_state="last"))
    assert paired(desk, F1) == []
    assert said(desk.wait(HOURS), XferParams) == []


def test_what_was_not_sent_is_told_anew() -> None:
    assert said(given_up(5612).wait(600), XferParams)


def test_another_forwarder_may_have_it() -> None:
    desk = given_up()
    desk.wait(4, answering=False)
    desk.hear(Presence(F1.presence_key, False))
    assert paired(desk, F2)


def test_a_person_may_want_it_again() -> None:
    assert said(given_up().hear(CatchUp(FIRST)), XferParams)


def test_with_another_header_it_may_be_had() -> None:
    assert said(given_up(5610).hear(LargeFileObjectAvailable(FIRST, URL, 13, "cd")), XferParams)
