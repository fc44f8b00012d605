"""The Archiver's conversation, by hand: states, services, one exposure's messages, what survives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from skystow.errors import BadName, Refused
from skystow.image.archiver import Archiver, Settings
from skystow.image.exposure import Exposure
from skystow.model.acts import (
    Act,
    Beat,
    Become,
    Bury,
    Do,
    Effect,
    Keep,
    Look,
    Mark,
    Milestone,
    Note,
    PopForwarder,
    Reply,
    Say,
    Tell,
)
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    EndReadout,
    FileTransferCompletedAck,
    HeaderReady,
    HeaderReadyAck,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    ReadoutEnded,
    ReadoutEndedAck,
    StartIntegration,
    XferParams,
    XferParamsAck,
)
from skystow.model.reports import CatchUp, Degraded, ForwarderFound, NoForwarder, Presence

T0 = datetime(2026, 3, 4, 2, 0, tzinfo=UTC)
DETECTORS = tuple(f"R22_S{row}{column}" for row in range(3) for column in range(3))
FIRST, SECOND = "CC_O_20260303_000001", "CC_O_20260303_000002"
DAY = "/staging/2026-03-03/"
F1 = ForwarderFound("fp01", "forwarder/fp01", "fp01_association")
F2 = ForwarderFound("fp02", "forwarder/fp02", "fp02_association")
URL = "http://header/CC_O_20260303_000001.yaml"

Kind = TypeVar("Kind")


def settings(**more: object) -> Settings:
    return Settings(detectors=DETECTORS, session_id="s1", login="arc", host="archive", **more)  # type: ignore[arg-type]


def retrieved(obsid: str, detector: str, code: int = 0, text: str = "retrieved") -> ImageRetrieval:
    return ImageRetrieval(obsid, detector[1:3], detector[-2:], f"{DAY}{obsid}-{detector}.fits", code, text)


def ingested(obsid: str, detector: str, code: int = 0, text: str = "file ingested") -> ImageInOODS:
    name = f"{obsid}-{detector}.fits"
    return ImageInOODS("COMCAM", "CCArchiver", obsid, detector[1:3], detector[-2:], name, code, text)


class Desk:
    """An Archiver, a clock, and what the ledger would hold."""

    def __init__(self, config: Settings | None = None) -> None:
        self.now = T0
        self.steps: list[tuple[datetime, Message]] = []
        self.kept: dict[str, str] = {}
        self.log: list[Effect] = []
        self.begin(config or settings())

    def begin(self, config: Settings) -> None:
        """A new process."""
        self.archiver = Archiver(config)
        self.restore()

    def restore(self) -> None:
        self.archiver.restore(self.steps, self.kept)
        self.did(self.archiver.due(self.now))

    def did(self, effects: Sequence[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case Note(message, closes):
                    self.steps.append((self.now, message))
                    if closes:
                        self.steps = [(at, step) for at, step in self.steps if step.key != message.key]
                case Keep(field, value):
                    self.kept[field] = value
                case Become(state):
                    self.kept["state"] = state.name
                case _:
                    pass
        self.log += effects
        return list(effects)

    def hear(self, *messages: Message) -> list[Effect]:
        return [effect for message in messages for effect in self.did(self.archiver.hear(message, self.now))]

    def command(self, verb: Verb) -> list[Effect]:
        return self.did(self.archiver.command(verb, self.now))

    def wait(self, seconds: float, *, answering: bool = True) -> list[Effect]:
        """Let time pass, waking whenever something is due; the Controller answers and the forwarder lives."""
        until, effects = self.now + timedelta(seconds=seconds), list[Effect]()
        while (due := self.archiver.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            effects += self.round(answering=answering)
            following = self.archiver.next_due()
            assert following is None or following > self.now, "it would spin"
        self.now = until
        return effects

    def round(self, *, answering: bool = True) -> list[Effect]:
        effects = self.did(self.archiver.due(self.now))
        queue = list(effects) if answering else []
        while queue:
            more: list[Effect] = []
            match queue.pop(0):
                case Say(message=HealthCheck(ack_id, session_id)):
                    more = self.hear(HealthCheckAck(ack_id, session_id, "ARCHIVE_CTRL"))
                case Do(Look(key)):
                    more = self.hear(Presence(key, True))
                case _:
                    pass
            effects += more
            queue += more
        return effects

    def up(self, forwarder: ForwarderFound = F1) -> None:
        """Start and enable."""
        self.start(forwarder)
        self.command(Verb.ENABLE)

    def start(self, forwarder: ForwarderFound = F1) -> None:
        check = one(said(self.command(Verb.START), HealthCheck))
        self.hear(HealthCheckAck(check.ack_id, check.session_id, "ARCHIVE_CTRL"))
        asked = said(self.pair(forwarder), Associated)
        self.hear(AssociatedAck(one(asked).ack_id, forwarder.presence_key, forwarder.name))
        assert self.archiver.state is Summary.DISABLED

    def pair(self, forwarder: ForwarderFound) -> list[Effect]:
        self.hear(forwarder)
        self.did(self.archiver.due(self.now))
        return self.hear(Presence(forwarder.presence_key, True))

    def locate(self, obsid: str = FIRST) -> list[Effect]:
        item = [m for m in said(self.log, NewArchiveItem) if m.image_id == obsid][-1]
        return self.hear(NewArchiveItemAck(item.ack_id, item.job_num, item.session_id, obsid, DAY, "ARCHIVE_CTRL"))

    def take(self, obsid: str = FIRST) -> list[Effect]:
        """From the camera to the forwarder, all acknowledged."""
        effects = self.hear(StartIntegration(obsid, image_date="20260303"))
        effects += self.locate(obsid)
        effects += self.hear(EndReadout(obsid), LargeFileObjectAvailable(obsid, URL, 12, "ab"))
        self.acknowledge(effects)
        return effects

    def acknowledge(self, effects: Sequence[Effect], by: str = "fp01") -> list[Effect]:
        acks: list[Message] = []
        acks += [XferParamsAck(m.ack_id, m.image_id, by) for m in said(effects, XferParams)]
        acks += [ReadoutEndedAck(m.ack_id, m.image_id, by) for m in said(effects, ReadoutEnded)]
        acks += [HeaderReadyAck(m.ack_id, m.image_id, by) for m in said(effects, HeaderReady)]
        return self.hear(*acks)

    def finish(self, obsid: str = FIRST) -> list[Effect]:
        return self.hear(*[f(obsid, d) for f in (retrieved, ingested) for d in DETECTORS])


def said(effects: Sequence[Effect], kind: type[Kind]) -> list[Kind]:
    return [effect.message for effect in effects if isinstance(effect, Say) and isinstance(effect.message, kind)]


def done(effects: Sequence[Effect]) -> list[Act]:
    return [effect.act for effect in effects if isinstance(effect, Do)]


def of(effects: Sequence[Effect], kind: type[Kind]) -> list[Kind]:
    return [effect for effect in effects if isinstance(effect, kind)]


def marked(effects: Sequence[Effect], what: Milestone) -> list[Mark]:
    return [mark for mark in of(effects, Mark) if mark.what is what]


def one(things: Sequence[Kind]) -> Kind:
    assert len(things) == 1, things
    return things[0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def up() -> Desk:
    desk = Desk()
    desk.up()
    return desk


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


class TestExposure:
    def test_from_the_camera_to_the_forwarder(self, up: Desk) -> None:
        effects = up.hear(StartIntegration(FIRST, image_index=2, images_in_sequence=3, exposure_time=15.0))
        item = one(said(effects, NewArchiveItem))
        assert (item.job_num, item.image_index, item.exposure_time, item.reply_to) == (1, 2, 15.0, "archiver")
        assert of(effects, Say)[0].to == "controller"
        assert one(marked(effects, Milestone.STARTED)).text == " ".join(DETECTORS)
        params = of(up.locate(), Say)
        assert [each.to for each in params] == ["forwarder/fp01"]
        message = params[0].message
        assert isinstance(message, XferParams)
        assert message.target_location == f"arc@archive:{DAY}"
        assert message.locations == ("22/0", "22/1", "22/2")
        assert (message.job_num, message.forwarder, message.device) == (1, "fp01", "CC")
        assert one(said(up.hear(EndReadout(FIRST, image_index=2)), ReadoutEnded)).image_index == 2
        header = one(said(up.hear(LargeFileObjectAvailable(FIRST, URL, 12, "ab")), HeaderReady))
        assert (header.url, header.size, header.checksum) == (URL, 12, "ab")

    def test_what_comes_before_the_place_is_known_is_kept(self, up: Desk) -> None:
        effects = up.hear(LargeFileObjectAvailable(FIRST, URL), StartIntegration(FIRST), EndReadout(FIRST))
        assert [type(each.message) for each in of(effects, Say)] == [NewArchiveItem]
        kinds = [type(each.message) for each in of(up.locate(), Say)]
        assert kinds == [XferParams, ReadoutEnded, HeaderReady]

    def test_each_exposure_keeps_its_job_number(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST), StartIntegration(SECOND))
        first, second = one(said(up.locate(FIRST), XferParams)), one(said(up.locate(SECOND), XferParams))
        ended = one(said(up.hear(EndReadout(FIRST)), ReadoutEnded))
        assert (first.job_num, second.job_num, ended.job_num) == (1, 2, 1)
        assert up.kept["jobnum"] == "2"

    def test_some_detectors_only(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST, detectors=("R22_S11", "R22_S11")))
        assert one(said(up.locate(), XferParams)).locations == ("22/1",)
        effects = up.hear(retrieved(FIRST, "R22_S11"), ingested(FIRST, "R22_S11"))
        assert one(marked(effects, Milestone.COMPLETE)).text.startswith("1 of 1")

    def test_complete(self, up: Desk) -> None:
        up.take()
        up.now += timedelta(seconds=6.1)
        effects = up.finish()
        assert len(of(effects, Tell)) == 18
        assert len(marked(effects, Milestone.SENT)) == len(marked(effects, Milestone.INGESTED)) == 9
        assert one(marked(effects, Milestone.COMPLETE)).text == "9 of 9 at 6.1 s"
        assert [note.closes for note in of(effects, Note)].count(True) == 1
        assert not up.steps
        assert not of(up.wait(300), Mark), "nothing is waited for any more"

    def test_it_stays_open_until_the_last_retrieval_is_heard(self, up: Desk) -> None:
        up.take()
        effects = up.hear(*[ingested(FIRST, each) for each in DETECTORS])
        assert marked(effects, Milestone.COMPLETE)
        assert not any(note.closes for note in of(effects, Note))
        effects = up.hear(*[retrieved(FIRST, each) for each in DETECTORS])
        assert len(of(effects, Tell)) == 9
        assert of(effects, Note)[-1].closes
        assert not marked(effects, Milestone.COMPLETE)

    def test_repeats_are_told_once_and_change_nothing(self, up: Desk) -> None:
        up.take()
        up.finish()
        assert up.finish() == []
        assert up.take() == []
        assert up.archiver.exposures.ignored["StartIntegration"] == 1

    def test_another_outcome_is_told(self, up: Desk) -> None:
        up.take()
        failed = retrieved(FIRST, "R22_S00", 5611, "no pixels")
        effects = up.hear(failed, failed)
        assert of(effects, Tell) == [Tell(failed)]
        assert one(marked(effects, Milestone.FAULT)).number == 5611
        effects = up.finish()
        assert len(of(effects, Tell)) == 18
        assert marked(effects, Milestone.COMPLETE)

    def test_originals_say_raft_and_sensor_with_their_letters(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST, detectors=("R22_S00",)))
        old = ImageInOODS("LSSTComCam", "CCArchiver", FIRST, "R22", "S00", "x.fits", 0, "file ingested")
        assert one(marked(up.hear(old), Milestone.INGESTED)).detector == "R22_S00"
        wave = ImageInOODS("LSSTCam", "CCArchiver", FIRST, "R41", "SW0", "x.fits", 0, "file ingested")
        assert one(marked(up.hear(wave), Milestone.INGESTED)).detector == "R41_SW0"

    def test_late(self, up: Desk) -> None:
        up.take()
        up.now += timedelta(seconds=6.1)
        up.hear(*[ingested(FIRST, each) for each in DETECTORS if each not in ("R22_S11", "R22_S20")])
        late = marked(up.wait(10), Milestone.LATE)
        assert one(late).text == "7 of 9 at 6.1 s, missing R22_S11, R22_S20"

    def test_the_clocks_differ(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST, at=up.now - timedelta(seconds=30)))
        up.locate()
        up.hear(EndReadout(FIRST, at=up.now - timedelta(seconds=30)))
        assert not marked(up.wait(6.9), Milestone.LATE)
        assert marked(up.wait(0.2), Milestone.LATE)

    def test_of_an_exposure_that_nobody_knows(self, up: Desk) -> None:
        stray = ingested(SECOND, "R22_S00")
        assert of(up.hear(stray, stray), Tell) == [Tell(stray)]

    def test_a_header_that_is_made_anew_is_said_anew(self, up: Desk) -> None:
        up.take()
        effects = up.hear(LargeFileObjectAvailable(FIRST, URL + "2", 13, "cd"))
        assert one(said(effects, HeaderReady)).url == URL + "2"


class TestAcknowledgements:
    @pytest.mark.parametrize(
        ("until", "number"), [(NewArchiveItem, 5752), (XferParams, 5752), (ReadoutEnded, 5753), (HeaderReady, 5754)]
    )
    def test_without_one_it_is_reported_once_and_said_again(self, up: Desk, until: type[Message], number: int) -> None:
        effects = up.hear(StartIntegration(FIRST))
        if until is not NewArchiveItem:
            effects = up.locate()
            if until is not XferParams:
                up.acknowledge(effects)
                event = EndReadout(FIRST) if until is ReadoutEnded else LargeFileObjectAvailable(FIRST, URL)
                effects = up.hear(event)
        first = one(said(effects, until))
        before = up.now
        times: list[float] = []
        marks: list[Mark] = []
        while up.now < before + timedelta(seconds=200):
            effects = up.wait(1)
            marks += marked(effects, Milestone.FAULT)
            for again in said(effects, until):
                assert again == first
                times.append((up.now - before).total_seconds())
        assert times == [5, 15, 35, 75, 135, 195]
        assert [mark.number for mark in marks] == [number]
        assert up.archiver.state is Summary.ENABLED

    def test_acknowledged_it_is_not_said_again(self, up: Desk) -> None:
        up.take()
        assert not of(up.wait(50), Mark)[1:], "only that it is late"
        assert not [s for s in of(up.wait(1), Say) if not isinstance(s.message, HealthCheck)]

    def test_late_doubled_and_for_nothing(self, up: Desk) -> None:
        effects = up.take()
        again = up.acknowledge(effects)
        nothing = up.hear(
            NewArchiveItemAck("x", 9, "s1", SECOND, DAY, "ARCHIVE_CTRL"),
            XferParamsAck("x", SECOND, "fp01"),
            AssociatedAck("x", "f99_association"),
            HealthCheckAck("x", "s0", "ARCHIVE_CTRL"),
        )
        assert again + nothing + up.locate() == []
        assert sum(up.archiver.exposures.ignored.values()) == 8

    def test_whoever_missed_the_parameters_hears_the_rest_again(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST))
        up.locate()
        ended = one(said(up.hear(EndReadout(FIRST)), ReadoutEnded))
        up.hear(ReadoutEndedAck(ended.ack_id, FIRST, "fp01"))
        kinds = [type(s.message) for s in of(up.wait(5), Say) if s.to == "forwarder/fp01"]
        assert kinds == [XferParams, ReadoutEnded]

    @pytest.mark.parametrize("place", ["", "staging/", "/staging/../etc/", "/staging/\n"])
    def test_a_refusal_is_not_a_place(self, up: Desk, place: str) -> None:
        item = one(said(up.hear(StartIntegration(FIRST)), NewArchiveItem))
        effects = up.hear(NewArchiveItemAck(item.ack_id, 1, "s1", FIRST, place, "ARCHIVE_CTRL"))
        assert one(of(effects, Mark)).number == 5752
        assert said(up.wait(5), NewArchiveItem) == [item]

    def test_nothing_comes_though_all_is_acknowledged(self, up: Desk) -> None:
        up.take()
        assert not said(up.wait(59), XferParams)
        effects = up.wait(2)
        assert len(said(effects, XferParams)) == len(said(effects, HeaderReady)) == 1
        up.acknowledge(effects)
        assert not said(up.wait(119), XferParams)
        assert said(up.wait(2), XferParams)

    def test_what_is_retrieved_is_not_said_again_though_an_acknowledgement_is_lost(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST))
        up.locate()
        up.hear(*[retrieved(FIRST, each) for each in DETECTORS])
        assert not said(up.wait(100), XferParams)


class TestUnlawful:
    @pytest.mark.parametrize("obsid", ["../etc", "a/b", "", "x;rm -rf", "$(x)", "a" * 65, "\ud800"])
    def test_it_is_buried_and_nothing_else_happens(self, up: Desk, obsid: str) -> None:
        for message in (
            StartIntegration(obsid),
            EndReadout(obsid),
            LargeFileObjectAvailable(obsid, URL),
            retrieved(obsid, "R22_S00"),
            ingested(obsid, "R22_S00"),
        ):
            effects = up.hear(message)
            assert [type(each) for each in effects] == [Bury]
        assert not up.archiver.exposures.ours

    def test_detectors_and_strangers(self, up: Desk) -> None:
        assert of(up.hear(StartIntegration(FIRST, detectors=("R22_S00; rm",))), Bury)
        stranger = FileTransferCompletedAck("/x", FIRST, "22", "00", "s1", "1", "ARCHIVE_CTRL")
        assert of(up.hear(stranger), Bury)

    def test_a_flood_of_outcomes_ends(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST, detectors=("R22_S00",)))
        effects = up.hear(*[ingested(FIRST, "R22_S00", 1, f"failed {n}") for n in range(100)])
        assert len(of(effects, Tell)) == 32


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


class TestBounds:
    def test_a_week_later_it_is_given_up(self, up: Desk) -> None:
        up.take(FIRST)
        up.hear(EndReadout(SECOND))
        up.command(Verb.DISABLE)
        up.now += timedelta(days=7, minutes=11)
        effects = up.did(up.archiver.due(up.now))
        assert [note.message.key for note in of(effects, Note) if note.closes] == [FIRST, SECOND]
        assert one(marked(effects, Milestone.FAULT)).text.startswith("given up: 0 of 9")
        assert not up.steps
        assert up.archiver.exposures.ours == up.archiver.exposures.aside == {}

    def test_complete_with_a_retrieval_that_never_came(self, up: Desk) -> None:
        up.take()
        up.hear(*[ingested(FIRST, each) for each in DETECTORS])
        up.command(Verb.DISABLE)
        up.now += timedelta(hours=1, minutes=1)
        assert of(up.did(up.archiver.due(up.now)), Note)[0].closes

    def test_many_that_are_not_ours(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("skystow.image.exposures.MOST_ASIDE", 3)
        desk.start()
        effects = desk.hear(*[StartIntegration(f"CC_O_20260303_00000{n}") for n in range(5)])
        assert [note.message.key for note in of(effects, Note) if note.closes] == [
            "CC_O_20260303_000000",
            "CC_O_20260303_000001",
        ]

    def test_summed_up_names_twenty(self) -> None:
        exposure = Exposure(FIRST, tuple(f"R{n}_S00" for n in range(10, 60)))
        assert exposure.summed_up(T0).startswith("0 of 50, missing R10_S00, ")
        assert exposure.summed_up(T0).endswith(" and 30 more")


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
