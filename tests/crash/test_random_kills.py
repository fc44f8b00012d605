"""Thirty kills at random moments while 2,000 files are archived; after each it is started again."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.crash.kit import make_field, watched
from tests.nursery import Nursery

KILLS = 30


@pytest.mark.timeout(600)
def test_thirty_random_kills(tmp_path: Path, nursery: Nursery) -> None:
    made, dice = make_field(tmp_path, 2_000, largest=2_000), random.Random(30)
    made.runner = nursery.run
    hits, seen_growing = 0, set[int]()
    with watched(made) as seen:
        for _ in range(KILLS):
            blow = {"at": dice.randint(0, 2_500), "when": dice.choice(["before", "after"])}
            done = made.run({"kill": blow})
            assert done.returncode in (-signal.SIGKILL, 0), done.stderr.decode()
            hits += done.returncode != 0
            seen_growing.add(len(made.visible()))
        said = made.finish()
    assert seen == []
    assert hits >= KILLS // 2, "too often it had ended before"
    assert len(seen_growing) > 3, "it was killed in the midst of things"
    assert (said["files"], said["failed"]) == (2_000, 0)
    made.assert_whole()
