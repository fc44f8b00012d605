"""The image archiver, all components in one process, killed before and after its durable acts in a night."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from skystow.model.acts import Say
from skystow.model.messages import HealthCheck, ImageRetrieval, Message
from skystow.simulate.comcam import ComCam, HeaderService
from skystow.testing.mischief import Mischief
from tests.crash.image_kit import Nights, acts_of, kill_each
from tests.crash.night_field import DETECTORS, SHAPE, NightField, Plan, watched

PARTS = 4
MANY_PARTS = 32

PROMISES = (
    "commit converse CCArchiver",
    "commit converse controller",
    "commit converse f99",
    "commit converse oods",
    "commit put",  # what the camera says
    "commit accept",
    "commit admit",
    "commit claim f99 → staging",
    "commit promise",
    "commit settle",
    "commit mark_sent",
    "commit register",  # in the catalogue
    "commit retired",
    "link work/header/*.yaml",
    "link work/fits/DAY/*.fits",
    "mkdir staging/DAY",
    "link staging/DAY/*.fits",
    "fsync staging/DAY/*.fits",  # adopted
    "link backbone/DAY/*.fits",
    "link oods/DAY/*.fits",
    "link backbone/DAY/*.sha256",
    "link oods/DAY/*.sha256",
    "unlink staging/DAY/*.fits",
    "unlink work/fits/DAY/*.fits",
    "unlink work/header/*.yaml",
)
"""The acts by which a night is archived, in the order of a file's way; the others are those of housekeeping."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    with HeaderService(ComCam(names=DETECTORS, shape=SHAPE)).serving() as headers:
        made = Nights(tmp_path_factory.mktemp("nights"), headers.url)
        yield made
        made.close()


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory, nights: Nights) -> Counter[str]:
    return Counter(acts_of(nights, NightField(tmp_path_factory.mktemp("count") / "night")))


def test_the_acts_are_what_we_think(acts: Counter[str]) -> None:
    files = 4
    assert set(PROMISES) <= set(acts)
    for each in ("work/fits", "staging", "backbone", "oods"):
        assert acts[f"link {each}/DAY/*.fits"] == files
    assert acts["unlink staging/DAY/*.fits"] == acts["unlink work/fits/DAY/*.fits"] == files
    assert acts["mkdir staging/DAY"] == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_kind_of_promise(
    tmp_path: Path, nights: Nights, acts: Counter[str], part: int, when: str
) -> None:
    """In the midst of those of its kind, where there are several."""
    blows = [{"act": act, "at": acts[act] // 3, "when": when} for act in PROMISES[part::PARTS]]
    missed = kill_each(nights, tmp_path, blows)
    assert all(blow["act"].startswith("commit") for blow in missed), "what is done for each file is done in every run"
    assert len(missed) <= len(blows) / 3, "messages that come at one time are one commit"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_kind_of_housekeeping(tmp_path: Path, nights: Nights, acts: Counter[str], part: int) -> None:
    """The first of every third kind; `make test-long` has all of them."""
    others = sorted(act for act in set(acts) - set(PROMISES) if "control" not in act)[:: PARTS - 1]
    blows = [
        {"act": act, "at": 0, "when": ("before", "after")[n // PARTS % 2]}
        for n, act in enumerate(others)
        if n % PARTS == part
    ]
    assert len(kill_each(nights, tmp_path, blows)) <= 1


def test_mischief_is_done(tmp_path: Path) -> None:
    made = NightField(tmp_path)
    sent: list[Message] = [HealthCheck(f"{n}", "", "") for n in range(100)]
    sent += [ImageRetrieval(f"{n}", "", "", "", 0, "") for n in range(100)]
    with made.ledger() as ledger:
        bus, got = Mischief(ledger.bus, 2, late=0.05), list[Message]()
        bus.publish([Say("x", message) for message in sent])
        while ledger.bus.receive("x", limit=1):
            found = bus.receive("x", limit=500)
            got += [each.message for each in found]
            bus.accept(found)
    counts = Counter(got)
    lost = [message for message in sent if message not in counts]
    assert 5 < len(lost) < 40
    assert all(isinstance(message, HealthCheck) for message in lost)
    assert max(len(list(run)) for gone, run in groupby(sent, key=lambda message: message not in counts) if gone) == 2
    assert set(counts.values()) == {1, 2}
    assert list(counts) != [message for message in sent if message in counts], "out of order"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(3))
def test_messages_are_lost_doubled_late_and_out_of_order(tmp_path: Path, nights: Nights, seed: int) -> None:
    """Those of the real components; and the process is killed in the midst of it: what is accepted at one time is one
    commit, of which such a night has fifty, and one that nobody disturbs two dozen."""
    made = NightField(tmp_path / "night", hurried=True)
    made.write()
    with watched(made) as seen:
        kill = {"act": "commit accept", "at": 12 + 6 * seed, "when": "before"}
        assert nights.run(made, {"mischief": seed, "kill": kill}) == -signal.SIGKILL
        assert nights.run(made, {"mischief": seed + 100}) == 0
    assert seen == []
    made.assert_whole()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(MANY_PARTS))
def test_killed_at_every_durable_act(tmp_path: Path, nights: Nights, acts: Counter[str], part: int, when: str) -> None:
    every = [(act, at) for act in sorted(acts) for at in range(acts[act])]
    blows: list[Plan] = [{"act": act, "at": at, "when": when} for act, at in every[part::MANY_PARTS]]
    assert len(kill_each(nights, tmp_path, blows)) < len(blows) / 3
