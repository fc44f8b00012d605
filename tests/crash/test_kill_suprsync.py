"""suprsync's database: killed at every act between its rows and what they say in the end, while a directory is
finalized, and while local files are removed; then run again, and compared with what was registered."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.matrix import Blow, acts_of, each, every, kill_each
from tests.crash.suprsync_kit import SuprSite, make_ripe, make_supr
from tests.nursery import Nursery
from tests.sshd import Sshd

ROWS = "supersync_v0"
TOLD = (f"commit {ROWS}", "commit notices")
PARTS = 2


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_the_rows_are_told(tmp_path: Path, nursery: Nursery, far: Sshd, when: str) -> None:
    """Files are pushed over SSH. What was told and not marked is told again, which changes nothing."""

    def make(root: Path) -> SuprSite:
        return make_supr(root, 3, push=far)

    counted = make(tmp_path / "count")
    counted.runner = nursery.run
    acts = acts_of(counted)
    verdict, marked = (at for at, act in enumerate(acts) if act == "commit notices")
    assert verdict < acts.index(f"commit {ROWS}") < marked
    blows = list(each(acts, when, TOLD.__contains__))
    assert len(blows) == 3
    kill_each(tmp_path, make, blows, runner=nursery.run)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_act(tmp_path: Path, nursery: Nursery, far: Sshd, part: int) -> None:
    counted = make_supr(tmp_path / "count", 3, push=far)
    counted.runner = nursery.run
    blows = every(acts_of(counted), part, PARTS, "before")
    kill_each(tmp_path, lambda root: make_supr(root, 3, push=far), blows, runner=nursery.run)


# ── finalization ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_acts_of_a_finalization_are_what_we_think(tmp_path: Path, nursery: Nursery) -> None:
    """Durable before it is entered, entered before it has its name, proven before the directory is finalized."""
    acts = finalization_acts(tmp_path, nursery)
    staged = next(at for at, act in enumerate(acts) if act.startswith("replace smurf_"))
    lines = [at for at, act in enumerate(acts) if act == "commit timecode_dirs_v0"]
    made, flags, entered, told = lines
    named = [at for at, act in enumerate(acts) if act.startswith("link") and act.endswith("_finalized.yaml")]
    assert made < flags < staged < entered < named[0] < named[1] < told
    assert acts[staged - 1 : staged + 2] == ["fsync file", acts[staged], "fsync directory"]
    assert acts[named[0] + 1] == "fsync directory"


def finalization_acts(tmp_path: Path, nursery: Nursery) -> list[str]:
    made = make_ripe(tmp_path / "count", 1)
    made.runner = nursery.run
    return acts_of(made)


def of_finalization(acts: list[str]) -> Iterator[Blow]:
    """From the first look at the database until its file is admitted, and from its verdict on."""
    first = next(at for at, act in enumerate(acts) if act.startswith("open suprsync.db.skystow-"))
    admitted = acts.index("commit events")
    verdict = acts.index("commit notices")
    for at in [*range(first, admitted + 1), *range(verdict, len(acts))]:
        yield f"act {at} ({acts[at]})", {"at": at, "when": "before"}, False


@pytest.mark.timeout(300)
def test_killed_while_a_directory_is_finalized(tmp_path: Path, nursery: Nursery) -> None:
    """Before each act: after one is before the next. One file, one row, wherever it happens."""
    acts = finalization_acts(tmp_path, nursery)
    blows = list(of_finalization(acts))
    assert len(blows) > 12
    kill_each(tmp_path, lambda root: make_ripe(root, 1), blows, runner=nursery.run)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_at_every_act_of_two_finalizations(tmp_path: Path, nursery: Nursery) -> None:
    made = make_ripe(tmp_path / "count", 2)
    made.runner = nursery.run
    kill_each(tmp_path, lambda root: make_ripe(root, 2), every(acts_of(made), 0, 1, "before"), runner=nursery.run)


# ── removal of local files ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(300)
def test_killed_while_files_are_removed(tmp_path: Path, nursery: Nursery) -> None:
    """What is gone is said to be gone, with the time, wherever we died; what is not deletable stays."""

    def archived(root: Path) -> tuple[SuprSite, list[str]]:
        made = make_supr(root, 3, retire=True)
        made.runner = nursery.run
        made.database.execute("UPDATE supersync_v0 SET deletable = 0 WHERE id = 3")
        made.finish()
        return made, ["retire", str(made.place), "--json"]

    _, command = archived(tmp_path / "count")
    listed = tmp_path / "acts"
    assert nursery.run({"count": str(listed)}, command).returncode == 0
    acts = listed.read_text().splitlines()
    first = next(at for at, act in enumerate(acts) if act.startswith("unlink"))
    removals = [act for act in acts[first:] if act != "commit workers"]  # who we are: once
    assert [act.partition(".")[0] for act in removals] == [
        *("unlink 0", "fsync directory", "commit notices"),
        *("unlink 1", "fsync directory", "commit notices"),
    ]
    for at in range(first, len(acts) + 1):
        made, command = archived(tmp_path / str(at))
        when = {"at": at, "when": "before"} if at < len(acts) else {"at": at - 1, "when": "after"}
        killed = nursery.run({"kill": when}, command)
        assert killed.returncode == -signal.SIGKILL, (acts, at, killed.stderr.decode())
        again = nursery.run(None, command)
        assert again.returncode == 0, again.stderr.decode()
        assert json.loads(again.stdout)["kept"] in (1, 2)  # and one of which it finds that it is gone
        made.finish()
        rows = made.database.rows()
        assert [rows[n]["removed"] is not None for n in (1, 2, 3)] == [True, True, False]
        assert all(rows[n]["removed"] > 1_700_000_000 for n in (1, 2))
        assert sorted(os.listdir(made.source / "smurf")) == ["2.g3"]
        made.assert_whole()
