"""How a file archiver is, in numbers: from the memory ledger, and while it is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from skystow.adapters.memory import MemoryLedger
from skystow.engine.deliver import Tally
from skystow.errors import Conflict, Unreachable
from skystow.model.records import DeadLetter, Health
from skystow.ports import Glimpse
from skystow.service.account import Account, degraded, figures
from skystow.service.status import Progress
from skystow.testing.ledger_kit import ARCHIVE, CAMERA, STRAIGHT, Desk, gone


class Flickering(MemoryLedger):
    away = False

    def glimpse(self, *args: Any, **more: Any) -> Glimpse:
        if self.away:
            raise Unreachable("no answer", place="ledger")
        return super().glimpse(*args, **more)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made: list[Flickering] = []

    def make(**options: Any) -> Flickering:
        made.append(Flickering(**options))
        return made[-1]

    desk = Desk(make)
    yield desk
    desk.close()


def account(desk: Desk, progress: Progress) -> Account:
    roots = {CAMERA: "/data", ARCHIVE: "/archive"}
    return Account(desk.ledger, desk.clock, progress, [STRAIGHT], roots, {CAMERA: ["a note"]})


def test_what_it_did_owes_and_cannot(desk: Desk) -> None:
    progress = Progress()
    ours = account(desk, progress)
    start = ours.document()
    assert (start["backlog"], start["oldest_waiting"], start["last_files"], degraded(start)) == (0, None, [], False)
    for name in "abcde":
        desk.admit(name)
        desk.clock.advance(1)
    a, b, c, d, _ = desk.claim()
    desk.deliver([a])
    desk.quarantine(b)
    desk.ledger.settle({c: gone(Conflict("other content"))})
    desk.retry(d, after=100)
    desk.ledger.bury([DeadLetter(CAMERA, b"7", "no path")])
    progress.add(Tally(delivered=1, bytes=10, retried=1, quarantined=1, conflicts=1))
    found = ours.document()
    json.dumps(found)
    assert (found["archived"], found["archived_bytes"], found["failed_attempts"]) == (1, 10, 3)
    assert (found["backlog"], found["retrying"], found["quarantined"], found["conflicts"]) == (2, 1, 1, 1)
    assert (found["dead_letters"], found["notes"]) == (1, ["a note"])
    assert found["oldest_waiting"] | {"since": 0} == {"file": "data/d", "since": 0, "seconds": 2.0}
    assert [each["file"] for each in found["last_files"]] == ["/archive/data/a"]
    assert found["rates"] == {"files_per_s": 0.2, "bytes_per_s": 2.0}
    assert found["timestamp"] == desk.clock.now().timestamp()


def test_while_the_ledger_or_a_place_is_away_it_tells_what_it_knew(desk: Desk) -> None:
    progress = Progress()
    ours = account(desk, progress)
    desk.admit("a")
    assert ours.document()["backlog"] == 1
    assert isinstance(desk.ledger, Flickering)
    desk.ledger.away = True
    since = desk.clock.now()
    ours.document()
    desk.clock.advance(5)
    found = ours.document()
    assert (found["backlog"], degraded(found), figures(found)["places_not_well"]) == (1, True, 1)
    assert found["places"]["ledger"] == {"well": False, "since": since.timestamp(), "reason": "no answer"}
    desk.ledger.away = False
    assert not degraded(ours.document())
    progress.report(Health(CAMERA, False, since + timedelta(seconds=5), "gone"))
    assert degraded(ours.document())


def test_figures_are_always_the_same_lawful_names(desk: Desk) -> None:
    from ocs.ocs_feed import Feed

    ours = account(desk, Progress())
    before = figures(ours.document())
    desk.admit("a")
    after = figures(ours.document())
    assert before.keys() == after.keys()
    for name, value in after.items():
        Feed.verify_data_field_string(name)
        Feed.verify_message_data_type(value)
