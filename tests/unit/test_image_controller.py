"""The Archive Controller's and the OODS's conversations, without I/O: what they answer, owe, and remember."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from skystow.errors import BadName, Refused
from skystow.image.controller import Controller
from skystow.image.controller import Settings as ControllerSettings
from skystow.image.oods import Oods
from skystow.image.oods import Settings as OodsSettings
from skystow.model.acts import (
    Admit,
    Adopt,
    Become,
    Bury,
    Do,
    DropStaged,
    Effect,
    Ingest,
    MakeDay,
    Mark,
    Milestone,
    Note,
    Reply,
    Say,
    SweepStaging,
    WriteManifest,
)
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    FileIngestRequest,
    FileTransferCompleted,
    FileTransferCompletedAck,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
)
from skystow.model.reports import (
    Adopted,
    AdoptionRefused,
    DayMade,
    DayRefused,
    Dropped,
    HandedOff,
    HandoffFailed,
    Ingested,
    IngestFailed,
    ManifestWritten,
    PassEnded,
)

NOW = datetime(2021, 3, 5, 3, 0, tzinfo=UTC)
OBSID = "CC_O_20210304_000001"
DAY = "2021-03-04"
STAGED = f"/staging/{DAY}//{OBSID}-R22S00.fits"
PATH = f"{DAY}/{OBSID}-R22S00.fits"
HEX = "ab" * 32
SETTINGS = ControllerSettings(links={"backbone": "/backbone", "oods": "/oods"}, detectors=("R22_S00",))

ITEM = NewArchiveItem("a_1", 3, "session", OBSID, "archiver", image_date="20210304")
COMPLETED = FileTransferCompleted(STAGED, OBSID, "22", "00", "session", "3", "forwarder/f99", 8, HEX, "sha256")
ADOPTED = Adopted(OBSID, STAGED, PATH, "22", "00", 8, f"sha256:{HEX}", 10, 11, 0)
BACKBONE = HandedOff(OBSID, PATH, "backbone", f"sha256:{HEX}", 8)
OODS = HandedOff(OBSID, PATH, "oods", f"sha256:{HEX}", 8)
ACK = FileTransferCompletedAck(STAGED, OBSID, "22", "00", "session", "3", "ARCHIVE_CTRL")
INGEST = FileIngestRequest("COMCAM", "CCArchiver", OBSID, "22", "00", f"/oods/{PATH}", "archiver")
NIGHT: list[Message] = [ITEM, DayMade(OBSID, f"/staging/{DAY}/"), COMPLETED, ADOPTED, BACKBONE, OODS]
AFTER: list[Message] = [Dropped(OBSID, PATH), ManifestWritten(OBSID, f"{DAY}/{OBSID}.sha256")]


def said(effects: Sequence[Effect]) -> list[tuple[str, Message]]:
    return [(each.to, each.message) for each in effects if isinstance(each, Say)]


def done(effects: Sequence[Effect]) -> list[object]:
    return [each.act for each in effects if isinstance(each, Do)]


def noted(effects: Sequence[Effect]) -> list[Message]:
    return [each.message for each in effects if isinstance(each, Note)]


def closes(effects: Sequence[Effect]) -> bool:
    return any(isinstance(each, Note) and each.closes for each in effects)


class TestStorageLocation:
    def test_a_directory_is_made_before_it_is_told(self) -> None:
        controller = Controller(SETTINGS)
        asked = controller.hear(ITEM, NOW)
        assert said(asked) == []
        assert done(asked) == [MakeDay(OBSID, DAY)]
        told = controller.hear(DayMade(OBSID, f"/staging/{DAY}/"), NOW)
        assert said(told) == [
            ("archiver", NewArchiveItemAck("a_1", 3, "session", OBSID, f"/staging/{DAY}/", "ARCHIVE_CTRL"))
        ]

    @pytest.mark.parametrize(
        ("image_date", "obsid", "day"),
        [
            ("20210304", "CC_O_20210303_000001", "2021-03-04"),
            ("", "CC_O_20210303_000001", "2021-03-03"),
            ("gestern", "CC_O_20210303_000001", "2021-03-03"),
            ("20211399", "picture", "2021-03-04"),  # 03:00 UTC is still the night before
        ],
    )
    def test_the_day_is_the_cameras_else_the_names_else_half_a_day_ago(
        self, image_date: str, obsid: str, day: str
    ) -> None:
        item = NewArchiveItem("a_1", 1, "session", obsid, "archiver", image_date=image_date)
        assert done(Controller(SETTINGS).hear(item, NOW)) == [MakeDay(obsid, day)]

    def test_a_repeat_is_answered_with_its_own_number_and_changes_nothing(self) -> None:
        controller = Controller(SETTINGS)
        for message in NIGHT[:2]:
            controller.hear(message, NOW)
        again = controller.hear(NewArchiveItem("a_9", 3, "session", OBSID, "elsewhere"), NOW)
        ((to, ack),) = said(again)
        assert to == "elsewhere"
        assert isinstance(ack, NewArchiveItemAck)
        assert ack.ack_id == "a_9"
        assert noted(again) == []

    def test_silence_where_it_cannot_be_made_and_another_try(self) -> None:
        controller = Controller(SETTINGS)
        controller.hear(ITEM, NOW)
        refused = controller.hear(DayRefused(OBSID, "a file stands there"), NOW)
        assert said(refused) == []
        assert [each.text for each in refused if isinstance(each, Mark)] == ["no storage location: a file stands there"]
        due = controller.next_due()
        assert due is not None
        assert due > NOW
        assert MakeDay(OBSID, DAY) in done(controller.due(due))

    @pytest.mark.parametrize("obsid", ["../etc", "a/b", "", "x;rm -rf", "a\0b", "é" * 3, "a..b", "a-"])
    def test_an_image_without_a_lawful_name_is_refused(self, obsid: str) -> None:
        item = NewArchiveItem("a_1", 1, "session", obsid, "archiver")
        if obsid:
            with pytest.raises(BadName, match="is no name of an image"):
                Controller(SETTINGS).hear(item, NOW)
        else:
            assert Controller(SETTINGS).hear(item, NOW) == []


class TestFile:
    def test_the_way_of_a_file(self) -> None:
        controller = Controller(SETTINGS)
        for message in NIGHT[:2]:
            controller.hear(message, NOW)
        assert done(controller.hear(COMPLETED, NOW)) == [Adopt(COMPLETED)]
        adopted = controller.hear(ADOPTED, NOW)
        (admit,) = [each.arrival for each in adopted if isinstance(each, Admit)]
        assert (admit.source, str(admit.path), str(admit.claimed)) == ("staging", PATH, f"sha256:{HEX}")
        assert said(adopted) == []
        assert said(controller.hear(BACKBONE, NOW)) == []
        linked = controller.hear(OODS, NOW)
        assert said(linked) == [("oods", INGEST), ("forwarder/f99", ACK)]  # asked to ingest, then acknowledged
        assert done(linked) == [DropStaged(OBSID, PATH), WriteManifest(OBSID, DAY, {PATH: HEX})]
        assert not closes(controller.hear(Dropped(OBSID, PATH), NOW))
        assert closes(controller.hear(ManifestWritten(OBSID, f"{DAY}/{OBSID}.sha256"), NOW))

    def test_one_directory_may_be_left_out(self) -> None:
        controller = Controller(ControllerSettings(links={"backbone": "/backbone"}, oods=None))
        for message in [COMPLETED, ADOPTED]:
            controller.hear(message, NOW)
        linked = controller.hear(BACKBONE, NOW)
        assert said(linked) == [("forwarder/f99", ACK)]
        assert done(linked) == [DropStaged(OBSID, PATH)]

    def test_a_repeat_while_it_is_under_way_changes_nothing_and_afterwards_is_acknowledged_again(self) -> None:
        controller = Controller(SETTINGS)
        for message in [COMPLETED, ADOPTED, BACKBONE]:
            controller.hear(message, NOW)
            assert controller.hear(message, NOW) == []
        controller.hear(OODS, NOW)
        assert controller.hear(OODS, NOW) == []
        assert said(controller.hear(COMPLETED, NOW)) == [("forwarder/f99", ACK)]

    def test_a_repeat_after_all_is_over_is_answered_from_what_the_ledger_knows(self) -> None:
        controller = Controller(SETTINGS)
        for message in [*NIGHT, *AFTER]:
            controller.hear(message, NOW)
        assert done(controller.hear(COMPLETED, NOW)) == [Adopt(COMPLETED)]
        controller.hear(BACKBONE, NOW)  # the hand found it linked before
        assert ("forwarder/f99", ACK) in said(controller.hear(OODS, NOW))

    def test_what_another_forwarder_sends_after_all_is_over_is_over_again(self) -> None:
        """One that was frozen wakes late: its files are other ones, with the same bytes."""
        controller = Controller(SETTINGS)
        for message in [*NIGHT, *AFTER]:
            controller.hear(message, NOW)
        again = [replace(COMPLETED, reply_to="forwarder/f98"), replace(ADOPTED, inode=12), BACKBONE]
        assert not any(closes(controller.hear(message, NOW)) for message in again)
        assert done(controller.hear(OODS, NOW)) == [DropStaged(OBSID, PATH), WriteManifest(OBSID, DAY, {PATH: HEX})]
        assert [closes(controller.hear(message, NOW)) for message in AFTER] == [False, True]

    @pytest.mark.parametrize("stands", [True, False])
    def test_what_another_forwarder_sends_before_all_is_over_goes_too(self, stands: bool) -> None:
        """It may have been put there just when the first one's had gone."""
        controller = Controller(SETTINGS)
        for message in NIGHT:
            controller.hear(message, NOW)
        other = replace(COMPLETED, reply_to="forwarder/f98")
        assert said(controller.hear(other, NOW)) == [("forwarder/f98", ACK)]
        controller.hear(AFTER[1], NOW)
        dropped = controller.hear(AFTER[0], NOW)
        assert (done(dropped), closes(dropped)) == ([Adopt(other)], False)
        if not stands:  # the hand finds that all links were made, and nothing else
            assert closes(controller.hear(BACKBONE, NOW))
            return
        adopted = controller.hear(replace(ADOPTED, inode=12), NOW)
        assert any(isinstance(each, Admit) for each in adopted)
        assert done(adopted) == [DropStaged(OBSID, PATH)]
        assert closes(controller.hear(AFTER[0], NOW))

    def test_a_final_refusal_is_buried_and_told_and_never_acknowledged(self) -> None:
        controller = Controller(SETTINGS)
        controller.hear(COMPLETED, NOW)
        refused = controller.hear(AdoptionRefused(OBSID, STAGED, "not in staging", final=True), NOW)
        ((to, told),) = said(refused)
        assert to == "archiver"
        assert isinstance(told, ImageInOODS)
        assert (told.status_code, told.description, told.raft, told.sensor) == (1, "not in staging", "22", "00")
        assert [each.letter.reason for each in refused if isinstance(each, Bury)] == ["not in staging"]

    def test_what_may_pass_is_tried_again_at_growing_intervals(self) -> None:
        controller, now, waits = Controller(SETTINGS), NOW, []
        controller.hear(COMPLETED, now)
        controller.due(now)
        for _ in range(8):
            controller.hear(AdoptionRefused(OBSID, STAGED, "of another user", final=False), now)
            due = controller.next_due()
            assert due is not None
            waits.append((due - now).total_seconds())
            now = due
            assert Adopt(COMPLETED) in done(controller.due(now))
        assert waits == [2, 4, 8, 16, 32, 64, 120, 120]

    def test_what_is_gone_waits_for_the_forwarder(self) -> None:
        controller = Controller(SETTINGS)
        controller.hear(COMPLETED, NOW)
        gone = controller.hear(AdoptionRefused(OBSID, STAGED, "no such file", final=False, gone=True), NOW)
        assert said(gone) == []
        assert done(controller.hear(COMPLETED, NOW)) == [Adopt(COMPLETED)]

    def test_a_link_that_cannot_be_made_is_told_as_the_original_told_it(self) -> None:
        controller = Controller(SETTINGS)
        for message in [COMPLETED, ADOPTED]:
            controller.hear(message, NOW)
        ((_, told),) = said(controller.hear(HandoffFailed(OBSID, PATH, "oods", "another file is there"), NOW))
        assert isinstance(told, ImageInOODS)
        assert told.status_code == 1
        assert "another file is there" in told.description

    def test_a_file_whose_message_was_lost(self) -> None:
        controller = Controller(SETTINGS)
        swept = Adopted(OBSID, STAGED, PATH, "22", "00", 8, f"sha256:{HEX}", 10, 11, 0, swept=True)
        assert any(isinstance(each, Admit) for each in controller.hear(swept, NOW))
        controller.hear(BACKBONE, NOW)
        linked = controller.hear(OODS, NOW)
        assert said(linked) == [("oods", INGEST)]  # nobody waits for an acknowledgement
        assert DropStaged(OBSID, PATH) in done(linked)

    def test_messages_that_say_nothing_to_it(self) -> None:
        controller = Controller(SETTINGS)
        assert said(controller.hear(HealthCheck("a_1", "session", "archiver"), NOW)) == [
            ("archiver", HealthCheckAck("a_1", "session", "ARCHIVE_CTRL"))
        ]
        assert controller.hear(ACK, NOW) == []

    def test_who_names_no_queue_is_the_archiver(self) -> None:
        controller = Controller(SETTINGS)
        assert [to for to, _ in said(controller.hear(HealthCheck("a_1", "session", ""), NOW))] == ["archiver"]
        controller.hear(replace(ITEM, reply_to=""), NOW)
        (answer,) = said(controller.hear(DayMade(OBSID, f"/staging/{DAY}/"), NOW))
        assert answer[0] == "archiver"
        assert isinstance(answer[1], NewArchiveItemAck)


@pytest.mark.parametrize("cut", range(len(NIGHT) + 1))
def test_killed_anywhere_it_owes_what_it_owed(cut: int) -> None:
    """Whatever was noted is replayed; acts under way are asked for again, and the end is the same."""
    before, steps = Controller(SETTINGS), []
    for message in NIGHT[:cut]:
        steps += [(NOW, each) for each in noted(before.hear(message, NOW))]
    after = Controller(SETTINGS)
    after.restore(steps, {})
    owed = [act for act in done(after.due(NOW)) if not isinstance(act, SweepStaging)]
    expected = [[], [MakeDay(OBSID, DAY)], [], [Adopt(COMPLETED)], [], [], None][cut]
    if expected is None:
        expected = [DropStaged(OBSID, PATH), WriteManifest(OBSID, DAY, {PATH: HEX})]
    assert owed == expected
    for message in [*NIGHT[cut:], *AFTER]:
        last = after.hear(message, NOW)
    assert closes(last)
    assert [act for act in done(after.due(NOW)) if not isinstance(act, SweepStaging)] == []


def test_commands_are_obeyed_by_the_law_alone() -> None:
    controller = Controller(SETTINGS)
    assert controller.hears("controller")
    with pytest.raises(Refused, match="start is not lawful in ENABLED; it is in STANDBY"):
        controller.command(Verb.START, NOW)
    assert controller.command(Verb.DISABLE, NOW) == [Become(Summary.DISABLED), Reply()]
    assert not controller.hears("controller")
    controller.command(Verb.STANDBY, NOW)
    assert controller.command(Verb.EXIT, NOW)[0] == Become(Summary.OFFLINE)


class TestOods:
    def test_a_request_is_answered_with_what_it_said(self) -> None:
        oods = Oods(OodsSettings())
        assert done(oods.hear(INGEST, NOW)) == [Ingest(INGEST)]
        assert oods.hear(INGEST, NOW) == []
        answer = oods.hear(Ingested(OBSID, INGEST.filename, "22", "00"), NOW)
        ((to, told),) = said(answer)
        assert to == "archiver"
        assert isinstance(told, ImageInOODS)
        assert (told.status_code, told.obsid, told.raft) == (0, OBSID, "22")
        assert told.filename in told.description
        assert closes(answer)

    def test_a_failure_can_be_tied_to_its_file(self) -> None:
        oods = Oods(OodsSettings())
        oods.hear(INGEST, NOW)
        failed = IngestFailed(OBSID, INGEST.filename, "22", "00", 2, "truncated" * 50, "/bad/x.fits")
        ((_, told),) = said(oods.hear(failed, NOW))
        assert isinstance(told, ImageInOODS)
        assert (told.status_code, told.obsid, told.raft, told.sensor) == (2, OBSID, "22", "00")
        assert len(told.description) <= 250

    def test_an_answer_to_nothing_changes_nothing(self) -> None:
        assert Oods(OodsSettings()).hear(Ingested(OBSID, INGEST.filename, "22", "00"), NOW) == []

    def test_after_a_restart_it_asks_again(self) -> None:
        oods = Oods(OodsSettings())
        oods.restore([(NOW, INGEST)], {})
        assert done(oods.due(NOW)) == [Ingest(INGEST)]
        assert oods.due(NOW) == []

    def test_expiry_comes_round(self) -> None:
        oods = Oods(OodsSettings(expire_every=timedelta(minutes=1)))
        assert len(done(oods.due(NOW))) == 1
        assert done(oods.due(NOW)) == []
        assert done(oods.due(NOW + timedelta(minutes=1))) == []  # the first pass is not over
        oods.hear(PassEnded(), NOW)
        assert len(done(oods.due(NOW + timedelta(minutes=2)))) == 1

    def test_nothing_expires_while_it_is_told_to_rest(self) -> None:
        oods = Oods(OodsSettings(expire_every=timedelta(minutes=1)))
        oods.command(Verb.DISABLE, NOW)
        assert done(oods.due(NOW)) == []
        assert oods.next_due() is None
        oods.command(Verb.ENABLE, NOW)
        assert len(done(oods.due(NOW))) == 1


def test_the_milestones_of_a_file() -> None:
    controller = Controller(SETTINGS)
    marks = [each for message in NIGHT for each in controller.hear(message, NOW) if isinstance(each, Mark)]
    assert [(each.what, each.detector) for each in marks] == [
        (Milestone.LOCATED, ""),
        (Milestone.ADOPTED, "R22_S00"),
        (Milestone.LINKED, "R22_S00"),
    ]
