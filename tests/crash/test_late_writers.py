"""Several archivers on one ledger: born at once, working side by side, frozen past their lease and woken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from skystow.model.transfer import Step
from tests.crash.kit import (
    ONE_STREAM,
    Field,
    Plan,
    ended,
    make_field,
    make_site,
    resume,
    staged_files,
    wait_for_stop,
    wait_until,
    watched,
)

BEFORE_A_LINK = {"act": "link", "at": 1, "when": "before"}
IN_A_FILE = {"act": "write", "at": 1, "when": "after"}
BEFORE_THE_SYNC = {"act": "fsync", "at": 4, "when": "before"}


@pytest.mark.parametrize("swept", [False, True], ids=["its area stands", "its area was swept"])
@pytest.mark.parametrize("moment", [BEFORE_A_LINK, IN_A_FILE, BEFORE_THE_SYNC], ids=lambda blow: str(blow["act"]))
def test_an_old_writer_wakes_after_another_published(tmp_path: Path, moment: Plan, swept: bool) -> None:
    made = make_field(tmp_path, 3)
    with watched(made) as seen, made.started({"lease": 2.0, "freeze": moment}, *ONE_STREAM) as old:
        wait_for_stop(old)
        assert made.finish(*ONE_STREAM)["failed"] == 0
        published = made.visible()
        assert published == made.truth
        if swept:  # the next one that starts removes what a claim that is over left behind
            assert staged_files(made.dest) != []
            made.finish(*ONE_STREAM)
            assert staged_files(made.dest) == []
        inodes = {name: os.stat(made.dest / os.fsdecode(name)).st_ino for name in published}
        code, _, err = resume(old)
    assert (code, seen) == (0, []), err
    made.assert_whole()
    assert inodes == {name: os.stat(made.dest / os.fsdecode(name)).st_ino for name in published}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("act", ["link", "write", "commit"])
def test_two_side_by_side_one_frozen_past_its_lease(tmp_path: Path, act: str) -> None:
    """300 files in batches of 20, into an archive and a handoff: what the frozen one held goes over to the other.
    They share 430 kB, so slowly that none of them can do all before the other has started."""
    made = make_site(tmp_path, 300, largest=3_000, batch=20, bwlimit="80k")
    made.write(b"first.fits", b"so that both find a ledger")
    # After a commit, not before: who is frozen within a transaction holds SQLite's lock, and the other must wait.
    blow = {"act": act, "at": 18, "when": "after"} if act == "commit" else {"act": act, "at": 45, "when": "before"}
    plan = {"lease": 2.0, "freeze": blow}
    with watched(made) as seen, made.started(plan) as one, made.started({"lease": 2.0}) as other:
        wait_for_stop(one)
        code, said, err = ended(other)
        assert (code, said["files"], said["failed"]) == (0, 301, 0), err
        assert all(made.visible(tree) == made.truth for tree in made.trees)
        code, _, err = resume(one)
    assert (code, seen) == (0, []), err
    made.assert_whole()
    workers = {e.worker for dossier in made.dossiers() for e in dossier.events if e.step is Step.DELIVERED}
    assert len(workers) == 2


@pytest.mark.parametrize("again", range(4))
def test_two_born_at_the_same_instant(tmp_path: Path, again: int) -> None:
    made = make_field(tmp_path, 20, seed=again, largest=3_000)
    with watched(made) as seen, made.started() as one, made.started() as other:
        outcomes = [ended(one), ended(other)]
    assert [(code, err) for code, _, err in outcomes] == [(0, ""), (0, "")]
    assert seen == []
    made.assert_whole()


@pytest.mark.parametrize(
    "moment",
    [
        {"act": "mkdir", "at": 0, "when": "after"},
        {"act": "mkdir", "at": 1, "when": "after"},
        {"act": "open", "at": 0, "when": "after"},
        {"act": "commit", "at": 0, "when": "before"},
        {"act": "commit", "at": 0, "when": "after"},
    ],
    ids=lambda blow: f"{blow['when']} {blow['act']} {blow['at']}",
)
def test_one_is_frozen_while_it_makes_the_ledger(tmp_path: Path, moment: Plan) -> None:
    """The other makes it instead, or waits; it never works with half of one."""
    made = make_field(tmp_path, 3)
    with watched(made) as seen, made.started({"freeze": moment}) as one:
        wait_for_stop(one)
        with made.started() as other:
            wait_until(lambda: other.poll() is not None or _at_the_door(made, other), "that the other is at the ledger")
            code, _, err = resume(one)
            assert (code, err) == (0, "")
            code, _, err = ended(other)
            assert (code, err) == (0, "")
    assert seen == []
    made.assert_whole()


def _at_the_door(made: Field, process: subprocess.Popen[bytes]) -> bool:
    """Whether it has the ledger's directory open: it creates the ledger, or waits for who does."""
    try:
        where = f"/proc/{process.pid}/fd"
        opened = {os.readlink(f"{where}/{number}") for number in os.listdir(where)}
    except OSError:
        return False  # a descriptor was closed meanwhile, or all of them
    return str(made.dest / ".skystow") in opened
