"""What a person is told by commands of the image door that need no component at work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skystow.cli.exits import Exit
from skystow.config import load
from skystow.model.acts import Mark, Milestone
from skystow.wiring import build
from skystow.wiring.image import control_directory
from tests.nursery import Nursery
from tests.system.cli_kit import Bench

KNOWN, STRANGE = "CC_O_20210304_000001", "CC_O_20210304_000002"


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    section = {
        "detectors": ["R22_S00"],
        "staging": {"root": str(tmp_path / "staging")},
        "backbone": {"root": str(tmp_path / "backbone")},
        "forwarders": [{"name": "f99", "work": str(tmp_path / "work"), "camera": {"kind": "simulated"}}],
    }
    site = {"ledger": f"sqlite:///{tmp_path}/ledger.db", "control": str(tmp_path / "control"), "image": section}
    (tmp_path / "site.json").write_text(json.dumps(site))
    with build(load(str(tmp_path / "site.json"))) as house:
        house.ledger.talks.converse("CCArchiver", marks=[Mark(KNOWN, Milestone.IGNORED)])  # type: ignore[attr-defined]
    return Bench(tmp_path, skystow_bin, nursery)


def test_what_was_never_heard_of_cannot_be_caught_up(bench: Bench) -> None:
    done = bench.run("catch-up", "site.json", KNOWN, STRANGE)
    assert done.returncode == Exit.USAGE
    assert f"nothing was ever heard of {STRANGE}" in done.stderr
    assert KNOWN not in done.stderr


def test_what_is_known_needs_somebody_to_do_it(bench: Bench) -> None:
    done = bench.run("catch-up", "site.json", KNOWN)
    assert done.returncode == Exit.UNFINISHED
    assert "archiver cannot be reached" in done.stderr


def test_who_is_commanded_is_found_whatever_the_environment_says(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    site = load(str(bench.here / "site.json")).model_copy(update={"control": None})
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    service = control_directory("site.json", site)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(bench.here))
    monkeypatch.setenv("TMPDIR", str(bench.here))
    assert control_directory("site.json", site) == service
