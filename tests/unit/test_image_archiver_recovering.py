"""An Archiver that died while ENABLED and begins in STANDBY; and what is heard in STANDBY and FAULT of exposures that
were begun before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.archiver_kit import FIRST, SECOND, URL, Desk, marked, of, one, said, settings
from tests.unit.archiver_kit import desk as desk
from tests.unit.archiver_kit import up as up

from skystow.image.archiver import Archiver
from skystow.model.acts import Become, Keep, Mark, Milestone, Note, Say
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import (
    EndReadout,
    HeaderReady,
    LargeFileObjectAvailable,
    NewArchiveItem,
    ReadoutEnded,
    StartIntegration,
    XferParams,
)
from skystow.model.reports import CatchUp

END, HEADER = EndReadout(FIRST), LargeFileObjectAvailable(FIRST, URL)


def kinds(desk: Desk) -> list[type]:
    """What is said of exposures when it is enabled."""
    return [type(each.message) for each in of(desk.command(Verb.ENABLE), Say)]


class TestRecovering:
    def test_the_header_of_an_exposure_that_was_begun_before_is_not_lost(self, up: Desk) -> None:
        up.hear(StartIntegration(FIRST))
        up.locate()
        up.hear(END)
        up.begin(settings())
        effects = up.hear(HEADER)
        assert of(effects, Note) == [Note(HEADER)]
        assert [mark.what for mark in of(effects, Mark)] == [Milestone.HEADER]
        up.start()
        assert not said(up.log, HeaderReady)
        assert kinds(up) == [XferParams, ReadoutEnded, HeaderReady]

    def test_an_exposure_that_begins_is_noted_as_ours_and_begun_with_the_next_enable(self, up: Desk) -> None:
        up.take()
        up.begin(settings())
        before = len(up.log)
        effects = up.hear(StartIntegration(SECOND), EndReadout(SECOND))
        item = one([n.message for n in of(effects, Note) if isinstance(n.message, NewArchiveItem)])
        assert item.job_num == 2
        assert [mark.what for mark in of(effects, Mark)] == [Milestone.STARTED, Milestone.READ_OUT]
        up.start()
        up.wait(30)
        assert not [say for say in of(up.log[before:], Say) if say.message.key], "nothing before enable"
        assert one([i for i in said(up.command(Verb.ENABLE), NewArchiveItem) if i.image_id == SECOND]) == item
        assert [type(say.message) for say in of(up.locate(SECOND), Say)] == [XferParams, ReadoutEnded]

    def test_its_readout_may_be_heard_before_its_start(self, up: Desk) -> None:
        up.begin(settings())
        effects = up.hear(HEADER, END, StartIntegration(FIRST))
        assert [mark.what for mark in of(effects, Mark)][-3:] == [
            Milestone.STARTED,
            Milestone.READ_OUT,
            Milestone.HEADER,
        ]
        up.start()
        assert kinds(up) == [NewArchiveItem]
        assert [type(say.message) for say in of(up.locate(), Say)] == [XferParams, ReadoutEnded, HeaderReady]

    def test_a_second_crash_before_start_does_not_forget_it(self, up: Desk) -> None:
        up.begin(settings())
        assert (up.kept["state"], up.kept["recovering"]) == ("STANDBY", "1")
        up.hear(StartIntegration(FIRST))
        up.begin(settings())
        assert not of(up.log[-1:], Become), "all of that is kept"
        up.hear(END, StartIntegration(SECOND))
        up.start()
        items = said(up.command(Verb.ENABLE), NewArchiveItem)
        assert [(item.image_id, item.job_num) for item in items] == [(FIRST, 1), (SECOND, 2)]

    def test_a_first_commit_that_failed_does_not_forget_it(self, up: Desk) -> None:
        archiver = up.archiver = Archiver(settings())
        archiver.restore(up.steps, up.kept)
        lost = archiver.hear(StartIntegration(FIRST), up.now) + archiver.due(up.now)
        assert Keep("recovering", "1") in lost
        archiver.restore(up.steps, up.kept | {"state": "STANDBY"})  # what its host knows of it
        effects = up.did(archiver.hear(StartIntegration(FIRST), up.now) + archiver.due(up.now))
        assert marked(effects, Milestone.STARTED)
        assert up.kept["recovering"] == "1"
        assert up.kept["state"] == "STANDBY"

    def test_a_start_that_could_not_be_written_down_did_not_end_it(self, up: Desk) -> None:
        up.begin(settings())
        steps, kept = list(up.steps), dict(up.kept)
        up.start()
        up.archiver.restore(steps, kept)
        assert up.archiver.state is Summary.STANDBY
        assert marked(up.hear(StartIntegration(FIRST)), Milestone.STARTED)

    def test_start_ends_it_and_a_start_that_is_refused_does_not(self, up: Desk) -> None:
        up.begin(settings())
        up.command(Verb.START)
        assert marked(up.hear(StartIntegration(FIRST)), Milestone.STARTED), "start is under way"
        up.wait(6, answering=False)
        assert up.archiver.state is Summary.STANDBY
        assert up.kept["recovering"] == "1"
        assert not marked(up.hear(END), Milestone.IGNORED)
        up.start()
        assert up.kept["recovering"] == ""
        assert marked(up.hear(StartIntegration(SECOND)), Milestone.IGNORED)
        up.command(Verb.STANDBY)
        assert up.hear(StartIntegration("CC_O_20260303_000003")) == []
        up.begin(settings())
        assert up.hear(StartIntegration("CC_O_20260303_000003")) == [], "standby was a command"

    def test_who_begins_in_the_last_state_is_enabled(self, up: Desk) -> None:
        up.begin(settings(initial_state="last"))
        assert not up.kept.get("recovering")
        assert said(up.hear(StartIntegration(FIRST)), NewArchiveItem)

    def test_what_was_begun_while_disabled_stays_ignored_unless_a_person_wants_it(self, desk: Desk) -> None:
        desk.start()
        desk.hear(StartIntegration(FIRST), StartIntegration(SECOND))
        desk.command(Verb.ENABLE)
        desk.begin(settings())
        assert marked(desk.hear(END, HEADER), Milestone.IGNORED)
        effects = desk.hear(CatchUp(FIRST))
        assert of(effects, Note)
        assert not of(effects, Say)
        desk.start()
        assert one(said(desk.command(Verb.ENABLE), NewArchiveItem)).image_id == FIRST

    def test_repeats_change_nothing(self, up: Desk) -> None:
        up.begin(settings())
        up.hear(StartIntegration(FIRST), END, HEADER)
        assert up.hear(StartIntegration(FIRST), END, HEADER) == []


class TestNotRecovering:
    """What is heard in STANDBY and FAULT."""

    @pytest.mark.parametrize("restarted", [False, True])
    @pytest.mark.parametrize("how", ["disabled", "standby", "fault"])
    def test_events_of_what_is_ours_are_noted_and_others_dropped(self, up: Desk, how: str, restarted: bool) -> None:
        up.hear(StartIntegration(FIRST))
        up.locate()
        if how == "fault":
            up.now += timedelta(seconds=1)
            up.wait(60, answering=False)
            assert up.archiver.state is Summary.FAULT
        else:
            up.command(Verb.DISABLE)
            if how == "standby" or not restarted:
                up.command(Verb.STANDBY)
        if restarted:
            up.begin(settings())
            assert up.archiver.state is Summary.STANDBY
        assert not up.kept.get("recovering")
        effects = up.hear(END, HEADER, StartIntegration(SECOND), EndReadout(SECOND))
        assert of(effects, Note) == [Note(END), Note(HEADER)]
        assert [mark.what for mark in of(effects, Mark)] == [Milestone.READ_OUT, Milestone.HEADER]
        assert not of(effects, Say)
        assert up.archiver.exposures.ignored == {"StartIntegration": 1, "EndReadout": 1}
        if up.archiver.state is Summary.FAULT:
            up.command(Verb.STANDBY)
        up.start()
        assert kinds(up) == [XferParams, ReadoutEnded, HeaderReady]

    def test_who_never_was_enabled_hears_nothing(self, desk: Desk) -> None:
        assert desk.hear(StartIntegration(FIRST), END) == []
        desk.begin(settings())
        assert desk.hear(StartIntegration(FIRST), END) == []
        assert not desk.kept.get("recovering")
