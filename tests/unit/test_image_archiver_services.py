"""The services that the Archiver watches: its forwarder, the Controller, the scoreboard and the bus."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tests.unit.archiver_kit import DETECTORS, F1, F2, FIRST, SECOND, Desk, done, marked, of, one, retrieved, said
from tests.unit.archiver_kit import up as up

from skystow.model.acts import Beat, Become, Do, Effect, Look, Milestone, PopForwarder, Say
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    HeaderReady,
    HealthCheck,
    HealthCheckAck,
    NewArchiveItem,
    ReadoutEnded,
    StartIntegration,
    XferParams,
)
from skystow.model.reports import Degraded, ForwarderFound, NoForwarder, Presence


class TestServices:
    def test_a_forwarder_that_dies_is_replaced(self, up: Desk) -> None:
        up.take(FIRST)
        up.take(SECOND)
        up.hear(*[retrieved(FIRST, each) for each in DETECTORS])
        effects = up.wait(3, answering=False)
        assert Look(F1.presence_key) in done(effects)
        up.hear(Presence(F1.presence_key, False))
        assert PopForwarder() in done(up.did(up.archiver.due(up.now)))
        asked = one(said(up.pair(F2), Associated))
        effects = up.hear(AssociatedAck(asked.ack_id, F2.presence_key))
        assert {(s.to, s.message.key) for s in of(effects, Say)} == {("forwarder/fp02", SECOND)}
        assert [type(s.message) for s in of(effects, Say)] == [XferParams, ReadoutEnded, HeaderReady]
        assert one(said(effects, XferParams)).forwarder == "fp02"
        assert up.acknowledge(said_to(up.log, "forwarder/fp01")) == [], "those of the dead one count no more"

    def test_none_is_left(self, up: Desk) -> None:
        up.take()
        since = lose(up, F1)
        effects: list[Effect] = []
        while up.archiver.state is Summary.ENABLED:
            effects += alone(up)
        assert timedelta(seconds=30) <= up.now - since < timedelta(seconds=32)
        assert one(of(effects, Become)).number == 5755
        assert not up.archiver.hears("archiver"), "outcomes wait on the bus"
        assert up.hear(StartIntegration(SECOND)) == []
        assert of(up.command(Verb.STANDBY), Become) == [Become(Summary.STANDBY)]

    def test_it_comes_back(self, up: Desk) -> None:
        up.take()
        lose(up, F1)
        for _ in range(10):
            alone(up)
        up.wait(1, answering=False)
        asked = one(said(up.hear(Presence(F1.presence_key, True)), Associated))
        assert said(up.hear(AssociatedAck(asked.ack_id, F1.presence_key)), XferParams)

    def test_one_that_does_not_answer_is_passed_over(self, up: Desk) -> None:
        up.take()
        lose(up, F1)
        up.pair(F2)
        effects = up.wait(5, answering=False)
        assert one(marked(effects, Milestone.FAULT)).number == 5752
        assert PopForwarder() in done(effects)
        assert said(up.pair(ForwarderFound("fp03", "forwarder/fp03", "fp03")), Associated)

    def test_one_that_was_popped_is_remembered_whoever_came_after_it(self, up: Desk) -> None:
        lose(up, F1)
        asked = one(said(up.pair(F2), Associated))
        up.hear(AssociatedAck(asked.ack_id, F2.presence_key))
        since = len(up.log)
        lose(up, F2)
        alone(up)
        up.wait(1, answering=False)
        assert {act for act in done(up.log[since:]) if isinstance(act, Look)} == {
            Look(F1.presence_key),
            Look(F2.presence_key),
        }
        assert said(up.hear(Presence(F1.presence_key, True)), Associated)

    def test_the_controller_is_silent(self, up: Desk) -> None:
        effects = up.wait(14, answering=False)
        assert not of(effects, Become)
        assert len(said(effects, HealthCheck)) >= 2
        assert one(of(up.wait(8, answering=False), Become)).number == 5751

    def test_an_answer_to_an_older_question_is_one(self, up: Desk) -> None:
        checks: list[HealthCheck] = []
        for _ in range(100):
            checks += said(up.wait(1, answering=False), HealthCheck)
            if len(checks) > 1:
                up.hear(HealthCheckAck(checks.pop(0).ack_id, "s1", "ARCHIVE_CTRL"))
            for look in done(up.log[-20:]):
                if isinstance(look, Look):
                    up.hear(Presence(look.key, True))
        assert up.archiver.state is Summary.ENABLED

    def test_a_process_that_was_stopped_judges_nobody(self, up: Desk) -> None:
        up.wait(4)
        up.now += timedelta(hours=1)
        assert not of(up.did(up.archiver.due(up.now)), Become)
        assert not of(up.wait(60), Become)

    def test_a_clock_that_is_set_back(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST))
        up.now -= timedelta(hours=1)
        up.did(up.archiver.due(up.now))
        assert said(up.wait(6), NewArchiveItem)

    def test_degraded_nothing_is_judged(self, up: Desk) -> None:
        up.take()
        up.hear(Degraded("redis", True, "gone"), Degraded("bus", True, "gone"))
        effects = up.wait(600, answering=False)
        assert not of(effects, Become)
        assert not of(effects, Say)
        assert not done(effects)
        up.hear(Degraded("bus", False))
        assert not of(up.wait(60, answering=False), Say)
        up.hear(Degraded("redis", False))
        assert up.archiver.state is Summary.ENABLED
        assert not of(up.wait(9.9, answering=False), Become), "clocks start anew"
        assert one(of(up.wait(30, answering=False), Become)).number == 5751

    def test_beats_do_not_heap_up_on_a_scoreboard_that_does_not_answer(self, up: Desk) -> None:
        for _ in range(60):
            for each in of(up.wait(10, answering=False), Say):
                if isinstance(each.message, HealthCheck):
                    up.hear(HealthCheckAck(each.message.ack_id, "s1", "ARCHIVE_CTRL"))
        assert len([act for act in done(up.log) if isinstance(act, Beat)]) < 10
        assert len([act for act in done(up.log) if isinstance(act, Look)]) == 2


def said_to(effects: Sequence[Effect], address: str) -> list[Effect]:
    return [each for each in effects if isinstance(each, Say) and each.to == address]


def lose(desk: Desk, forwarder: ForwarderFound) -> datetime:
    desk.wait(2.5)
    desk.wait(3, answering=False)
    desk.hear(Presence(forwarder.presence_key, False))
    return desk.now


def alone(desk: Desk) -> list[Effect]:
    """A second in which nobody is found, and the Controller answers."""
    effects = desk.wait(1, answering=False)
    for effect in list(effects):
        match effect:
            case Do(PopForwarder()):
                effects += desk.hear(NoForwarder("the list is empty"))
            case Do(Look(key)):
                effects += desk.hear(Presence(key, False))
            case Say(message=HealthCheck(ack_id, session_id)):
                effects += desk.hear(HealthCheckAck(ack_id, session_id, "ARCHIVE_CTRL"))
            case _:
                pass
    return effects
