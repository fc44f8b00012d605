"""The image archiver on RabbitMQ, Redis and MariaDB, killed before and after whatever it says, hears or takes note of.

In CI one night is killed many times, at one act after the other in the order of a file's way; `long`: a night for each.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.crash.night_field import Plan
from tests.crash.wire_kit import Servers

PARTS = 4
MANY_PARTS = 32

SAID = {
    *("ARCHIVE_HEALTH_CHECK", "ARCHIVE_HEALTH_CHECK_ACK", "ASSOCIATED", "ASSOCIATED_ACK"),
    *("NEW_CC_ARCHIVE_ITEM", "NEW_CC_ARCHIVE_ITEM_ACK", "CC_FWDR_XFER_PARAMS", "CC_FWDR_XFER_PARAMS_ACK"),
    *("CC_FWDR_END_READOUT", "CC_FWDR_END_READOUT_ACK", "CC_FWDR_HEADER_READY", "CC_FWDR_HEADER_READY_ACK"),
    *("FILE_TRANSFER_COMPLETED", "FILE_TRANSFER_COMPLETED_ACK", "IMAGE_RETRIEVAL_FOR_ARCHIVING"),
    *("CC_FILE_INGEST_REQUEST", "IMAGE_IN_OODS"),
}
NOTED = {f"commit accept outbox {name}" for name in ("CCArchiver", "controller", "f99", "oods")}
REDIS = {"redis REGISTER", "redis POP", "redis SETEX", "redis HSET"}
WIRE = {*NOTED, *REDIS, *(f"{what} {message}" for what in ("publish", "ack") for message in SAID)}

ALONE = {
    "controller": ("ack FILE_TRANSFER_COMPLETED", "publish CC_FILE_INGEST_REQUEST", "commit accept outbox controller"),
    "f99": ("ack CC_FWDR_HEADER_READY", "publish FILE_TRANSFER_COMPLETED", "commit accept outbox f99"),
}
"""What a component is killed at while all others go on."""


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory, wired: Servers) -> list[str]:
    return wired.acts_of(tmp_path_factory.mktemp("count") / "night")


def test_the_acts_are_what_we_think(acts: list[str]) -> None:
    counts = Counter(acts)
    assert set(counts) >= WIRE
    assert {act for act in counts if act.startswith(("publish", "ack", "redis"))} <= WIRE
    assert counts["publish FILE_TRANSFER_COMPLETED"] == counts["publish CC_FILE_INGEST_REQUEST"] == 6
    for message in SAID:
        assert 1 <= counts[f"ack {message}"] <= counts[f"publish {message}"], "several at one time"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_kind_of_act(tmp_path: Path, wired: Servers, acts: list[str], part: int, when: str) -> None:
    kinds = [act for act in dict.fromkeys(acts) if act in WIRE][part::PARTS]
    blows: list[Plan] = [{"act": act, "at": 0, "when": when} for act in kinds]
    missed = wired.kill(wired.night(tmp_path / "night"), blows)
    assert len(missed) <= 1, f"all was archived before {missed}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ALONE)
def test_one_component_is_killed_and_the_others_go_on(tmp_path: Path, wired: Servers, name: str) -> None:
    blows: list[Plan] = [{"act": act, "at": 0, "when": when} for act in ALONE[name] for when in ("before", "after")]
    missed = wired.kill(wired.night(tmp_path / "night"), blows, only=name)
    assert len(missed) <= len(blows) / 2, missed


@pytest.mark.timeout(300)
def test_killed_while_it_sets_aside_what_nobody_can_read(tmp_path: Path, wired: Servers) -> None:
    """It is one dead letter, and gone from the queue."""
    made = wired.night(tmp_path / "night")
    made.receive("archive_ctrl_consume", b"MSG_TYPE: [NEW_CC_ARCHIVE_ITEM")
    acts = [("commit lay_aside", "before"), ("commit lay_aside", "after"), ("ack ?", "before"), ("ack ?", "after")]
    assert wired.kill(made, [{"act": act, "at": 0, "when": when} for act, when in acts]) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", range(MANY_PARTS))
def test_killed_at_every_act_of_the_wire(tmp_path: Path, wired: Servers, acts: list[str], part: int, when: str) -> None:
    counts = Counter(acts)
    every = [(act, at) for act in sorted(WIRE) for at in range(counts[act])][part::MANY_PARTS]
    missed = []
    for n, (act, at) in enumerate(every):
        missed += wired.kill(wired.night(tmp_path / str(n)), [{"act": act, "at": at, "when": when}])
    assert len(missed) < len(every) / 3
