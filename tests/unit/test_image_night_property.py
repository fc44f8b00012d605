"""Random nights: the real Archiver, Controller, OODS and two Forwarders talk to each other, while messages are lost,
doubled, late and out of order, processes die at any commit, and a person disables and enables in the midst of it.

Hands and spine are models: files are entries of dictionaries. What they do is what the real ones promise; time is a
number, and chance a seed of hypothesis's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.night_parts import (
    AFTER,
    BEFORE,
    DAY,
    EVENTS,
    FAILED,
    LIMIT,
    NOISY,
    digest_of,
    obsid_of,
    paths_of,
)
from tests.unit.night_world import World

from skystow.model.lifecycle import Summary
from skystow.model.messages import (
    EndReadout,
    LargeFileObjectAvailable,
    Message,
    StartIntegration,
)


@st.composite
def exposures(draw: st.DrawFn) -> list[tuple[float, float, float]]:
    """When each begins, is read out, and has its header."""
    starts = draw(st.lists(st.floats(10, 100), min_size=1, max_size=4))
    return [(at, at + draw(st.floats(0, 20)), at + draw(st.floats(-3, 25))) for at in starts]


@given(
    seed=st.integers(0, 2**32 - 1),
    night=exposures(),
    switches=st.lists(st.floats(12, 140), max_size=4),
    dies_at=st.one_of(st.just(LIMIT * 2), st.floats(0, 140)),
    away_for=st.one_of(st.just(LIMIT * 2), st.floats(1, 200)),
    crashes=st.dictionaries(st.integers(5, 400), st.sampled_from([FAILED, BEFORE, AFTER]), max_size=6),
    restart=st.sampled_from(["last", "standby"]),
)
def test_every_exposure_begun_while_enabled_is_archived_once(
    seed: int,
    night: list[tuple[float, float, float]],
    switches: list[float],
    dies_at: float,
    away_for: float,
    crashes: dict[int, str],
    restart: str,
) -> None:
    world = World(Random(seed), away=(dies_at, dies_at + away_for), crashes=crashes, restart=restart)

    def event(message: Message) -> Callable[[], None]:
        return lambda: world.send(EVENTS, message)

    def want(state: Summary) -> Callable[[], None]:
        def switch() -> None:
            world.wanted = state

        return switch

    def reborn() -> None:
        if world.components["f1"].away[0] < LIMIT:
            world._gone("f1", born=True)

    script: list[tuple[float, Callable[[], None]]] = [(NOISY, want(Summary.ENABLED)), (dies_at + away_for, reborn)]
    script = [(at, act) for at, act in script if at < LIMIT]
    for number, (start, end, header) in enumerate(night):
        obsid = obsid_of(number)
        script.append((start, event(StartIntegration(obsid))))
        script.append((end, event(EndReadout(obsid))))
        script.append((header, event(LargeFileObjectAvailable(obsid, f"http://header/{obsid}.yaml"))))
    for state, at in zip(itertools.cycle([Summary.DISABLED, Summary.ENABLED]), sorted(switches), strict=False):
        script.append((at, want(state)))

    def ours() -> set[str]:
        return {obsid for obsid, state in world.begun.items() if state is Summary.ENABLED}

    def over() -> bool:
        if not (world.quiet() and world.time > NOISY + 10 and len(world.begun) == len(night)):
            return False
        return ours() <= world.completed and not world.left()

    world.run(script, over)
    wanted = {path for obsid in ours() for path in paths_of(obsid)}
    for place in ("backbone", "oods"):
        assert {path: file.digest for path, file in world.places[place].items()} == {p: digest_of(p) for p in wanted}
    assert set(world.placed.values()) <= {1}, "each name was made once"
    assert world.catalogue == {path: digest_of(path) for path in wanted}
    for obsid in world.begun:
        about = [message for message in world.said if message.key == obsid]
        manifest = world.manifests.get(f"{DAY}/{obsid}")
        if obsid in ours():
            assert manifest == {path: digest_of(path).partition(":")[2] for path in paths_of(obsid)}
        else:
            assert not about, "begun while disabled, and acted upon"
            assert manifest is None
    assert world.days <= {DAY}
