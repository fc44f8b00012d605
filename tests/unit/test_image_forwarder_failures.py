"""What fails around the Forwarder: headers, pixels, announcements, transfers; tried again, and said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from tests.unit.forwarder_kit import (
    DETECTORS,
    DIGEST,
    FIRST,
    NOW,
    SECOND,
    WELL,
    Night,
    _retrieval,
    during,
    header,
    orders,
    readout,
    transfer,
)

from skystow.model.acts import Admit, Assemble, DropLocal, FetchHeader, Milestone, Say
from skystow.model.messages import FileTransferCompleted, FileTransferCompletedAck, Message
from skystow.model.reports import AssemblyFailed, HandedOff, HandoffFailed, HeaderFailed


def test_a_header_is_tried_again_and_given_up_once_for_every_ccd() -> None:
    night = Night()
    tries: list[datetime] = []

    def fail(asked: object) -> Sequence[Message] | None:
        if isinstance(asked, FetchHeader):
            tries.append(night.now)
            return [HeaderFailed(asked.obsid, "404 Not Found", final=False)]
        return None

    night.fail = fail
    night.hear(*orders(FIRST))
    night.go()
    while not night.closed and night.now < NOW + timedelta(hours=1):
        due = night.talk.next_due()
        assert due is not None
        night.later(max(0.0, (due - night.now).total_seconds()))
    gaps = [(b - a).total_seconds() for a, b in pairwise(tries)]
    assert gaps[:4] == [1, 2, 4, 8]
    assert max(gaps) == 60
    assert night.retrieved() == Counter({(FIRST, detector, 5610): 1 for detector in DETECTORS})
    assert all("404 Not Found" in m.description for m in map(_retrieval, night.says) if m)
    assert timedelta(minutes=10) <= night.now - NOW < timedelta(minutes=12)
    assert night.closed == [FIRST]


def test_one_bad_ccd_does_not_stop_the_others() -> None:
    night = Night()

    def fail(asked: object) -> Sequence[Message] | None:
        if isinstance(asked, Assemble) and asked.detector == "R22_S01":
            return [AssemblyFailed(asked.obsid, asked.detector, "15 amplifiers", final=True)]
        return None

    night.fail = fail
    night.hear(*orders(FIRST))
    night.go()
    wanted = Counter({(FIRST, "R22_S00", 0): 1, (FIRST, "R22_S01", 5611): 1, (FIRST, "R22_S02", 0): 1})
    assert night.retrieved() == wanted
    assert [mark.detector for mark in night.marks if mark.what is Milestone.FAULT] == ["R22_S01"]
    assert night.closed == [FIRST]


def test_pixels_that_are_late_are_waited_for() -> None:
    night = Night()
    asked_for: list[Assemble] = []

    def fail(asked: object) -> Sequence[Message] | None:
        if not isinstance(asked, Assemble):
            return None
        asked_for.append(asked)
        late = night.now < NOW + timedelta(seconds=20)
        return [AssemblyFailed(asked.obsid, asked.detector, "not read out", final=False)] if late else None

    night.fail = fail
    night.hear(*orders(FIRST))
    during(night, 40)
    assert night.retrieved() == WELL
    assert len(asked_for) == 3 * 6, "at 0, 1, 3, 7, 15 and 31 s"
    faults = {(mark.detector, mark.text) for mark in night.marks if mark.what is Milestone.FAULT}
    assert faults == {(detector, "not read out; it is tried again") for detector in DETECTORS}


def test_a_file_is_announced_until_it_is_acknowledged() -> None:
    night = Night()
    night.fail = lambda asked: [] if isinstance(asked, Say) and asked.to == "controller" else None
    night.hear(transfer(FIRST, locations=("22/1",)), readout(FIRST), header(FIRST))
    told: list[int] = []
    for second in range(900):
        night.later(1)
        told += [second] * (len(night.said(FileTransferCompleted)) - len(told))
    assert [b - a for a, b in pairwise(told)] == [10, 20, 40, 80, 160, 300]
    assert night.did(DropLocal) == [], "our copy stays until it is"
    assert night.retrieved() == Counter({(FIRST, "R22_S02", 0): 1})
    said = night.said(FileTransferCompleted)[0]
    assert isinstance(said, FileTransferCompleted)
    ack = FileTransferCompletedAck(said.filename, FIRST, "22", "02", "s", "3", "ARCHIVE_CTRL")
    night.hear(ack, ack, replace(ack, filename="/etc/passwd"), replace(ack, obsid=SECOND))
    night.go()
    [drop, _] = night.did(DropLocal)
    assert drop == DropLocal(FIRST, f"2021-03-04/{FIRST}-R22S02.fits", 8, DIGEST, 1_700_000_000)
    assert night.closed == [FIRST]


def test_a_file_that_cannot_be_sent_is_said_once_and_may_be_sent_after_all() -> None:
    night = Night()
    bad = f"2021-03-04/{FIRST}-R22S01.fits"
    night.fail = lambda asked: (
        [HandoffFailed(FIRST, bad, "staging", "the name is taken")] * 2
        if isinstance(asked, Admit) and str(asked.arrival.path) == bad
        else None
    )
    night.hear(*orders(FIRST))
    night.go()
    assert night.retrieved()[(FIRST, "R22_S01", 5612)] == 1
    assert night.closed == [], "a person may have it tried again"
    night.died()
    night.hear(HandedOff(FIRST, bad, "staging", DIGEST, 8))
    night.go()
    assert night.retrieved()[(FIRST, "R22_S01", 0)] == 1
    assert night.closed == [FIRST]


def test_a_copy_of_ours_that_changed_stays_and_is_said() -> None:
    night = Night()
    night.fail = lambda asked: (
        [HandoffFailed(asked.obsid, asked.path, "f99", "another file")]
        if isinstance(asked, DropLocal) and asked.path.endswith("S01.fits")
        else None
    )
    night.hear(*orders(FIRST))
    night.go()
    assert [(m.detector, m.text) for m in night.marks if m.what is Milestone.FAULT] == [
        ("R22_S01", "our copy stays: another file")
    ]
    assert night.closed == [FIRST]


def test_a_better_header_counts_as_long_as_none_is_there() -> None:
    night = Night()
    urls: list[str] = []

    def fail(asked: object) -> Sequence[Message] | None:
        if isinstance(asked, FetchHeader):
            urls.append(asked.url)
            return [HeaderFailed(asked.obsid, "404", final=False)] if "better" not in asked.url else None
        return None

    night.fail = fail
    night.hear(*orders(FIRST))
    night.later(1)
    night.hear(replace(header(FIRST), url="http://localhost/better.yaml"))
    night.later(10)
    assert urls[-1] == "http://localhost/better.yaml"
    assert night.retrieved() == WELL
