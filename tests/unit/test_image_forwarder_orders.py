"""Orders to the Forwarder that are odd or not allowed, and what it was never asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tests.unit.forwarder_kit import (
    DIGEST,
    FIRST,
    NOW,
    SETTINGS,
    WELL,
    Night,
    _retrieval,
    header,
    orders,
    readout,
    transfer,
)

from skystow.errors import BadName
from skystow.model.acts import Assemble, Beat, FetchHeader, Look, Register
from skystow.model.messages import FileTransferCompletedAck
from skystow.model.reports import Assembled, Dropped, HandedOff, HeaderFetched


@pytest.mark.parametrize(
    "target",
    [
        "/etc/2021-03-04/",
        "/data/staging/../2021-03-04/",
        "/data/staging/a/../../b",
        "/data/staging/",
        "/data/staging/2021-03-04/deeper",
        "/data/staging/a;rm -rf b",
        "/data/stagingX/2021-03-04",
        "data/staging/2021-03-04",
        "arc@elsewhere:/data/staging/2021-03-04/",
        "",
    ],
)
def test_a_target_that_is_not_allowed_is_no_work(target: str) -> None:
    night = Night()
    asked = transfer(FIRST, target_location=target)
    night.hear(asked, asked, readout(FIRST))
    night.go()
    assert [(m.status_code, m.filename) for m in map(_retrieval, night.says) if m] == [(5612, "")]
    assert [mark.number for mark in night.marks] == [5612]
    assert night.did(FetchHeader) == night.did(Assemble) == []
    night.died()
    night.hear(asked, transfer(FIRST, ack="9"), header(FIRST))
    night.go()
    assert night.retrieved()[(FIRST, "R22_S00", 0)] == 1, "a lawful one may still come"


@pytest.mark.parametrize(
    ("allowed", "target", "lawful"),
    [
        ("arc@10.0.0.1", "arc@10.0.0.1:/data/staging/2021-03-04//", True),
        ("10.0.0.1", "arc@10.0.0.1:/data/staging/2021-03-04", True),
        ("10.0.0.1", "/data/staging/2021-03-04", False),
        ("arc@10.0.0.1", "root@10.0.0.1:/data/staging/2021-03-04", False),
        ("", ":/data/staging/2021-03-04", True),
    ],
)
def test_the_host_of_a_target(allowed: str, target: str, lawful: bool) -> None:
    night = Night(replace(SETTINGS, target_host=allowed))
    night.hear(transfer(FIRST, target_location=target), readout(FIRST), header(FIRST))
    night.go()
    assert set(night.retrieved().elements()) == (set(WELL) if lawful else {(FIRST, "R_S", 5612)})


def test_an_unknown_location_is_said_and_the_known_ones_are_retrieved() -> None:
    night = Night()
    night.hear(transfer(FIRST, locations=("22/1", "23/0")), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == Counter({(FIRST, "R22_S02", 0): 1, (FIRST, "R23_S0", 5611): 1})
    assert night.closed == [FIRST]


def test_without_locations_all_detectors_are_meant() -> None:
    night = Night()
    night.hear(transfer(FIRST, locations=()), readout(FIRST), header(FIRST))
    night.go()
    assert night.retrieved() == WELL


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", "$(reboot)", "x" * 65, "a\0"])
def test_a_name_that_cannot_become_a_file_is_for_the_dead_letters(name: str) -> None:
    night = Night()
    for message in orders(name):
        with pytest.raises(BadName):
            night.talk.hear(message, NOW)
    night.go()
    assert {type(act) for act in night.acts} <= {Beat, Look, Register}


def test_what_was_never_asked_for_changes_nothing() -> None:
    night = Night()
    night.hear(
        FileTransferCompletedAck("/x", FIRST, "22", "00", "s", "3", "c"),
        HandedOff(FIRST, "2021-03-04/x.fits", "staging", DIGEST, 8),
        Assembled(FIRST, "R22_S00", "x", 8, DIGEST, 1),
        Dropped(FIRST, "x"),
        HeaderFetched(FIRST, "/x"),
    )
    assert (night.steps, night.says, night.marks) == ([], [], [])
