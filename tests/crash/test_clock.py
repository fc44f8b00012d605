"""The wall clock jumps an hour back, or forward: work may be delayed, never lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.kit import ONE_STREAM, Plan, make_field, make_site, resume, wait_for_stop, watched
from tests.nursery import Nursery

HOUR = 3600
ACTS = range(2, 45, 6)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR], ids=["back", "forward"])
@pytest.mark.parametrize("at", ACTS)
def test_it_jumps_at_an_act(tmp_path: Path, nursery: Nursery, at: int, seconds: int) -> None:
    made = make_field(tmp_path, 3)
    made.runner = nursery.run
    with watched(made) as seen:
        done = made.run({"clock": {"at": at, "seconds": seconds}}, *ONE_STREAM)
        assert done.returncode == 0, done.stderr.decode()
    assert seen == []
    made.assert_whole()


@pytest.mark.parametrize("seconds", [-HOUR, HOUR], ids=["back", "forward"])
@pytest.mark.parametrize("act", ["write", "link", "unlink"])
def test_it_jumps_and_then_the_program_is_killed(tmp_path: Path, nursery: Nursery, act: str, seconds: int) -> None:
    """The next run has the right time again: the jump is taken back while claims are open."""
    made = make_site(tmp_path, 3)
    made.runner = nursery.run
    with watched(made) as seen:
        plan: Plan = {"clock": {"at": 8, "seconds": seconds}, "kill": {"act": act, "at": 1, "when": "after"}}
        assert made.run(plan).returncode < 0
        made.finish()
    assert seen == []
    made.assert_whole()


@pytest.mark.parametrize("seconds", [-HOUR, HOUR], ids=["back", "forward"])
def test_it_jumps_while_another_one_waits_for_a_lease(tmp_path: Path, seconds: int) -> None:
    """Back: the lease is over at once, the other takes the files, and the frozen one finds them done. Forward: the
    lease seems to last an hour more, so the other says that it is not finished, and the frozen one finishes."""
    made = make_field(tmp_path, 3)
    moment = {"act": "link", "at": 1, "when": "before"}
    plan: Plan = {"lease": 2.0, "freeze": moment, "clock": {"at": 22, "seconds": seconds}}
    with watched(made) as seen, made.started(plan, *ONE_STREAM) as old:
        wait_for_stop(old)
        assert made.run(None, *ONE_STREAM).returncode == (0 if seconds < 0 else 5)
        code, _, err = resume(old)
    assert (code, seen) == (0, []), err
    made.assert_whole()
