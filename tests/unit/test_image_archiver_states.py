"""The Archiver's states: start, enabled, disabled, standby; what survives a restart."""

from __future__ import annotations

import pytest
from tests.unit.archiver_kit import (
    DETECTORS,
    F1,
    F2,
    FIRST,
    SECOND,
    URL,
    Desk,
    done,
    ingested,
    marked,
    of,
    one,
    retrieved,
    said,
    settings,
)
from tests.unit.archiver_kit import desk as desk
from tests.unit.archiver_kit import up as up

from skystow.errors import BadName, Refused
from skystow.image.archiver import Archiver, Settings
from skystow.model.acts import Beat, Become, Bury, Look, Milestone, Note, PopForwarder, Reply, Say, Tell
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    EndReadout,
    HeaderReady,
    HealthCheck,
    HealthCheckAck,
    LargeFileObjectAvailable,
    NewArchiveItem,
    ReadoutEnded,
    StartIntegration,
    XferParams,
)
from skystow.model.reports import CatchUp, Degraded, ForwarderFound, NoForwarder, Presence


class TestStart:
    def test_it_is_done_when_both_services_are_up_and_not_before(self, desk: Desk) -> None:
        effects = desk.command(Verb.START)
        check = one(said(effects, HealthCheck))
        assert PopForwarder() in done(effects)
        assert not of(effects, Reply)
        assert not of(desk.hear(HealthCheckAck(check.ack_id, "s1", "ARCHIVE_CTRL")), Reply)
        asked = desk.pair(F1)
        assert Beat("ccarchiver_association", "fp01", 10.0) in done(asked)
        effects = desk.hear(AssociatedAck(one(said(asked, Associated)).ack_id, F1.presence_key))
        assert of(effects, Become) == [Become(Summary.DISABLED)]
        assert of(effects, Reply) == [Reply()]
        assert desk.kept["paired_forwarder"] == "fp01"

    def test_no_forwarder(self, desk: Desk) -> None:
        desk.command(Verb.START)
        desk.hear(NoForwarder("the list is empty"))
        effects = desk.wait(5)
        refused = one(of(effects, Reply))
        assert (refused.number, "no forwarder" in refused.refused) == (5701, True)
        assert not of(effects, Become)
        assert desk.archiver.state is Summary.STANDBY

    def test_no_acknowledgement_and_the_forwarder_is_not_lost(self, desk: Desk) -> None:
        desk.command(Verb.START)
        desk.pair(F1)
        refused = one(of(desk.wait(5), Reply))
        assert "fp01 did not acknowledge" in refused.refused
        desk.begin(settings(initial_state="standby"))
        assert Look(F1.presence_key) in done(desk.command(Verb.START)), "the next process knows it, too"

    def test_a_silent_controller(self, desk: Desk) -> None:
        desk.command(Verb.START)
        desk.hear(HealthCheckAck("s0_1", "s0", "ARCHIVE_CTRL"))
        asked = desk.pair(F1)
        desk.hear(AssociatedAck(one(said(asked, Associated)).ack_id, F1.presence_key))
        effects = desk.wait(5, answering=False)
        assert "Controller does not answer" in one(of(effects, Reply)).refused
        assert Beat("ccarchiver_association", "", 0.0) in done(effects), "the forwarder may go"

    def test_the_scoreboard_is_away(self, desk: Desk) -> None:
        desk.hear(Degraded("redis", True, "connection refused"))
        effects = desk.command(Verb.START) + desk.wait(5)
        assert one(of(effects, Reply)).refused.startswith("redis is away: connection refused")
        assert not done(effects)[:-1], "nobody asks a scoreboard that is away"

    def test_a_dead_forwarder_on_the_list_is_passed_over(self, desk: Desk) -> None:
        desk.command(Verb.START)
        desk.hear(F1)
        assert done(desk.did(desk.archiver.due(desk.now))) == [Look(F1.presence_key)]
        desk.hear(Presence(F1.presence_key, False))
        assert PopForwarder() in done(desk.did(desk.archiver.due(desk.now)))
        assert one(said(desk.pair(F2), Associated))

    def test_an_original_says_its_key_when_it_is_asked(self, desk: Desk) -> None:
        desk.command(Verb.START)
        desk.hear(ForwarderFound("f99", "f99_consume"))
        asked = one(said(desk.did(desk.archiver.due(desk.now)), Associated))
        desk.hear(AssociatedAck(asked.ack_id, "f99_association"))
        assert Look("f99_association") in done(desk.wait(4))

    def test_only_lawful_commands(self, desk: Desk) -> None:
        with pytest.raises(Refused):
            desk.command(Verb.ENABLE)
        desk.command(Verb.START)
        for verb in Verb:
            with pytest.raises(Refused):
                desk.command(verb)

    def test_exit_ends_it_and_only_from_standby(self, up: Desk) -> None:
        with pytest.raises(Refused):
            up.command(Verb.EXIT)
        up.command(Verb.DISABLE)
        assert Beat("ccarchiver_association", "", 0.0) in done(up.command(Verb.STANDBY))
        assert of(up.command(Verb.EXIT), Become) == [Become(Summary.OFFLINE)]
        assert not up.archiver.hears("archiver/events")

    def test_a_detector_that_cannot_be(self) -> None:
        with pytest.raises(BadName):
            Archiver(Settings(detectors=("R22;S00",), session_id="s1"))


class TestDisabled:
    def test_begun_while_disabled_it_is_noted_and_never_acted_upon(self, desk: Desk) -> None:
        desk.start()
        effects = desk.hear(StartIntegration(FIRST), EndReadout(FIRST), LargeFileObjectAvailable(FIRST, URL))
        assert len(of(effects, Note)) == 3
        assert marked(effects, Milestone.IGNORED)
        effects = desk.command(Verb.ENABLE) + desk.hear(StartIntegration(FIRST)) + desk.wait(100)
        assert not said(effects, NewArchiveItem)

    def test_begun_while_enabled_it_is_finished_after_the_next_enable(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST))
        up.command(Verb.DISABLE)
        assert one(said(up.locate(), XferParams)), "an answer to what was begun"
        effects = up.hear(EndReadout(FIRST), LargeFileObjectAvailable(FIRST, URL))
        assert len(of(effects, Note)) == 2
        assert not of(effects + up.wait(2), Say)[1:], "only the look at the Controller"
        effects = up.command(Verb.ENABLE)
        assert [type(each.message) for each in of(effects, Say)] == [ReadoutEnded, HeaderReady]

    def test_outcomes_are_passed_on(self, up: Desk) -> None:
        up.take()
        up.command(Verb.DISABLE)
        assert up.archiver.hears("archiver")
        effects = up.finish()
        assert len(of(effects, Tell)) == 18
        assert marked(effects, Milestone.COMPLETE)

    def test_catch_up_by_configuration(self) -> None:
        desk = Desk(settings(catch_up=True))
        desk.start()
        desk.hear(StartIntegration(FIRST), EndReadout(FIRST))
        assert one(said(desk.command(Verb.ENABLE), NewArchiveItem)).image_id == FIRST
        assert [type(s.message) for s in of(desk.locate(), Say)] == [XferParams, ReadoutEnded]

    @pytest.mark.parametrize("while_disabled", [False, True])
    def test_catch_up_by_a_person(self, desk: Desk, while_disabled: bool) -> None:
        desk.start()
        desk.hear(StartIntegration(FIRST), StartIntegration(SECOND), LargeFileObjectAvailable(FIRST, URL))
        effects = desk.hear(CatchUp(FIRST)) if while_disabled else []
        assert not of(effects, Say)
        effects = desk.command(Verb.ENABLE)
        effects += [] if while_disabled else desk.hear(CatchUp(FIRST))
        assert one(said(effects, NewArchiveItem)).image_id == FIRST
        kinds = [type(s.message) for s in of(desk.locate(), Say)]
        assert kinds == [XferParams, ReadoutEnded, HeaderReady], "its end was missed, but the header is there"

    def test_catch_up_of_what_nobody_heard_of(self, up: Desk) -> None:
        assert one(of(up.hear(CatchUp(FIRST)), Bury)).letter.reason == "CatchUp: nothing was heard of this exposure"

    def test_without_its_start_it_is_not_ours_and_shown(self, up: Desk) -> None:
        effects = up.hear(EndReadout(FIRST), LargeFileObjectAvailable(FIRST, URL))
        assert "startIntegration was not heard" in marked(effects, Milestone.IGNORED)[0].text
        assert not of(effects, Say)
        assert one(said(up.hear(CatchUp(FIRST)), NewArchiveItem)).image_id == FIRST


class TestStandby:
    def test_nothing_is_heard(self, up: Desk) -> None:
        up.take()
        up.command(Verb.DISABLE)
        up.command(Verb.STANDBY)
        assert not up.archiver.hears("archiver")
        assert up.archiver.hears("archiver/events"), "taken, and dropped"
        assert up.hear(StartIntegration(SECOND)) == []
        assert not of(up.wait(700), Say)
        up.up()
        assert SECOND not in up.archiver.exposures.ours

    def test_what_was_under_way_goes_on_after_start_and_enable(self, up: Desk) -> None:
        up.take()
        up.command(Verb.DISABLE)
        up.command(Verb.STANDBY)
        up.start()
        assert not said(up.wait(2), XferParams)
        kinds = [type(s.message) for s in of(up.command(Verb.ENABLE), Say)]
        assert kinds == [XferParams, ReadoutEnded, HeaderReady]


class TestRestart:
    def test_in_standby_and_everything_owed_is_said_again(self, up: Desk) -> None:
        up.take()
        up.hear(retrieved(FIRST, "R22_S00"))
        up.begin(settings())
        assert up.archiver.state is Summary.STANDBY
        assert up.kept["state"] == "STANDBY"
        up.start()
        effects = up.command(Verb.ENABLE)
        assert [type(s.message) for s in of(effects, Say)] == [XferParams, ReadoutEnded, HeaderReady]
        assert one(said(effects, XferParams)).job_num == 1
        assert one(said(up.hear(StartIntegration(SECOND)), NewArchiveItem)).job_num == 2
        assert not of(up.hear(retrieved(FIRST, "R22_S00")), Tell)

    def test_job_numbers_go_on_though_all_is_closed(self, up: Desk) -> None:
        up.take()
        up.finish()
        up.begin(settings())
        up.up()
        assert up.hear(StartIntegration(FIRST)) == [], "that was complete"
        assert up.hear(ingested(FIRST, "R22_S00")) == []
        assert one(said(up.hear(StartIntegration(SECOND)), NewArchiveItem)).job_num == 2

    def test_an_item_that_was_not_answered_is_said_word_by_word(self, up: Desk) -> None:
        item = one(said(up.hear(StartIntegration(FIRST)), NewArchiveItem))
        up.begin(Settings(detectors=DETECTORS, session_id="s2"))
        up.up()
        assert said(up.log, NewArchiveItem) == [item, item]

    def test_in_the_last_state(self, up: Desk) -> None:
        up.take()
        up.begin(settings(initial_state="last"))
        assert up.archiver.state is Summary.ENABLED
        assert Look(F1.presence_key) in done(up.log[-3:])
        asked = one(said(up.hear(Presence(F1.presence_key, True)), Associated))
        assert said(up.hear(AssociatedAck(asked.ack_id, F1.presence_key)), HeaderReady)

    def test_a_commit_that_failed(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST))
        steps, kept = list(up.steps), dict(up.kept)
        up.archiver.hear(StartIntegration(SECOND), up.now)
        up.archiver.restore(steps, kept)
        assert up.archiver.state is Summary.ENABLED
        up.wait(0)
        assert one(said(up.hear(StartIntegration(SECOND)), NewArchiveItem)).job_num > 1
        assert [step.key for _, step in up.steps].count(SECOND) == 2

    def test_what_was_ignored_and_wanted_survives(self, desk: Desk) -> None:
        desk.start()
        desk.hear(StartIntegration(FIRST), StartIntegration(SECOND), CatchUp(FIRST))
        desk.begin(settings())
        desk.start()
        assert one(said(desk.command(Verb.ENABLE), NewArchiveItem)).image_id == FIRST
