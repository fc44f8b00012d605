"""Each audience has an outbox of its own, in every ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from skystow.adapters.ledger import open_ledger
from skystow.adapters.memory import ManualClock, MemoryLedger
from skystow.model.transfer import JOURNAL, Audience, Route, Step
from skystow.testing.ledger_kit import ANNA, ARCHIVE, CAMERA, Desk, arrival

TABLE = Audience("table", frozenset({Step.DELIVERED, Step.RETRY, Step.QUARANTINED, Step.REQUEUED}), CAMERA)
KEEPER = Audience("keeper", frozenset({Step.IGNORED, Step.RETIRED}), CAMERA)
OTHERS = Audience("others", frozenset({Step.DELIVERED}), "radio")


@pytest.fixture(params=["memory", "sqlite"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    who, clock = (JOURNAL, TABLE, KEEPER, OTHERS), ManualClock()
    desk = Desk(lambda worker, clock: MemoryLedger(worker, clock))
    if request.param == "memory":
        desk.ledger = MemoryLedger(ANNA, clock, audiences=who)
    else:
        desk.ledger = open_ledger(f"sqlite:///{tmp_path}/l.db", worker=ANNA, clock=clock, audiences=who)
    return desk


def kinds(desk: Desk, audience: Audience) -> list[str]:
    return [notice.kind for notice in desk.ledger.notices(limit=99, audience=audience.name)]


def test_each_hears_what_it_wants_to_know(desk: Desk) -> None:
    desk.admit("a", "b")
    a, b = desk.claim()
    desk.deliver([a])
    desk.retry(b, after=0)
    desk.quarantine(desk.one())
    desk.ledger.requeue([desk.copy("b")])
    assert kinds(desk, JOURNAL) == [Step.DELIVERED, Step.QUARANTINED]
    assert kinds(desk, TABLE) == [Step.DELIVERED, Step.RETRY, Step.QUARANTINED, Step.REQUEUED]
    assert kinds(desk, OTHERS) == []


def test_who_wants_to_know_hears_what_was_left_out_and_what_was_removed_at_its_source(desk: Desk) -> None:
    desk.admit("a", "b")
    a, b = desk.claim()
    desk.deliver([a])
    desk.retry(b, after=0)
    desk.ledger.ignore([desk.copy("b")], "it is bad")
    desk.ledger.retired(desk.dossier("a"))
    assert kinds(desk, JOURNAL) == kinds(desk, TABLE)[:1] == [Step.DELIVERED]
    assert kinds(desk, KEEPER) == [Step.IGNORED, Step.RETIRED]
    gone = desk.ledger.notices(limit=9, audience=KEEPER.name)[1]
    assert (gone.key, gone.at) == (desk.dossier("a").key, desk.dossier("a").retired_at)


def test_one_that_is_away_keeps_nobody_waiting(desk: Desk) -> None:
    desk.admit("a")
    desk.deliver(desk.claim())
    desk.ledger.sent(desk.ledger.notices(limit=99))
    assert kinds(desk, JOURNAL) == []
    assert kinds(desk, TABLE) == [Step.DELIVERED]


def test_only_files_of_its_source(desk: Desk) -> None:
    desk.admit(arrival("r", source="radio"))
    desk.deliver(desk.claim(Route("radio", ARCHIVE)))
    assert kinds(desk, TABLE) == []
    assert kinds(desk, OTHERS) == [Step.DELIVERED]


def test_a_notice_has_key_path_and_attempts_as_they_are(desk: Desk) -> None:
    desk.admit(arrival("a\nb", attempts=2, key=b"4711"))
    desk.retry(desk.one(), after=0)
    (notice,) = desk.ledger.notices(limit=9, audience=TABLE.name)
    assert (notice.key, str(notice.path), notice.body["attempts"]) == (b"4711", "data/a\nb", 3)
    assert notice.body["path"] == "data/a\\nb"
