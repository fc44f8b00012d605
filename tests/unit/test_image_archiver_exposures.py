"""One exposure's messages through the Archiver: in order, repeated, unanswered, unlawful; when it is given up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.archiver_kit import (
    DAY,
    DETECTORS,
    FIRST,
    SECOND,
    T0,
    URL,
    Desk,
    ingested,
    marked,
    of,
    one,
    retrieved,
    said,
)
from tests.unit.archiver_kit import desk as desk
from tests.unit.archiver_kit import up as up

from skystow.image.exposure import Exposure
from skystow.model.acts import Bury, Mark, Milestone, Note, Say, Tell
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    AssociatedAck,
    EndReadout,
    FileTransferCompletedAck,
    HeaderReady,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
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
        """Word by word: a forwarder that has done all when this comes late knows it again, and begins nothing."""
        up.hear(StartIntegration(FIRST))
        up.locate()
        ended = one(said(up.hear(EndReadout(FIRST)), ReadoutEnded))
        up.hear(ReadoutEndedAck(ended.ack_id, FIRST, "fp01"))
        effects = up.wait(5)
        kinds = [type(s.message) for s in of(effects, Say) if s.to == "forwarder/fp01"]
        assert kinds == [XferParams, ReadoutEnded]
        assert one(said(effects, ReadoutEnded)) == ended

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
