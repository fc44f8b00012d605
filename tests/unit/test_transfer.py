"""The pure rules of a transfer: what an error means, how long a wait is, what an abandoned claim leaves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skystow import errors
from skystow.errors import FileFault, NoRoom, OperatorFault, PlaceFault, SkystowError, Stopped
from skystow.model.transfer import (
    ROOM_AGAIN,
    TRANSITIONS,
    Abandonment,
    Held,
    Quarantined,
    Reason,
    Retry,
    RetryPolicy,
    State,
    Step,
    abandoned,
    judge,
    numbered,
)

FAULTS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SkystowError)]
POLICY = RetryPolicy()
OF_A_FILE = {Step.ADMITTED, Step.REFRESHED, Step.RETIRED}
"""Steps that the event log writes of a file as a whole."""


def made(kind: type[SkystowError]) -> SkystowError:
    return kind("broken", place="archive") if issubclass(kind, PlaceFault) else kind("broken")


class TestJudge:
    @pytest.mark.parametrize("kind", [k for k in FAULTS if not issubclass(k, FileFault)])
    @pytest.mark.parametrize("attempts", [0, 4, 1000])
    def test_who_is_not_the_file_costs_the_file_nothing(self, kind: type[SkystowError], attempts: int) -> None:
        assert judge(made(kind), 1, attempts, POLICY) == Held(Reason(kind.code, "broken"))

    @pytest.mark.parametrize("attempts", [0, 4, 1000])
    def test_no_room_costs_nothing_and_is_looked_for_again_later(self, attempts: int) -> None:
        assert judge(NoRoom("broken"), 1, attempts, POLICY) == Held(Reason("no-room", "broken"), ROOM_AGAIN)

    @pytest.mark.parametrize("kind", [k for k in FAULTS if issubclass(k, FileFault) and not k.final and k != NoRoom])
    def test_a_file_fault_is_tried_again_until_the_last_attempt(self, kind: type[FileFault]) -> None:
        verdicts = [judge(made(kind), 7, attempts, POLICY) for attempts in range(6)]
        assert [type(v) for v in verdicts] == [Retry] * 4 + [Quarantined] * 2
        assert verdicts[1] == Retry(Reason(kind.code, "broken"), POLICY.wait(2, 7))

    @pytest.mark.parametrize("kind", [k for k in FAULTS if issubclass(k, FileFault) and k.final])
    def test_a_final_fault_is_never_tried_again(self, kind: type[FileFault]) -> None:
        assert judge(made(kind), 1, 0, POLICY) == Quarantined(Reason(kind.code, "broken"))

    def test_a_single_attempt(self) -> None:
        assert isinstance(judge(FileFault("broken"), 1, 0, RetryPolicy(max_attempts=1)), Quarantined)

    def test_the_remedy_is_written_down(self) -> None:
        verdict = judge(FileFault("broken", remedy="mend it"), 1, 9, POLICY)
        assert verdict == Quarantined(Reason("file", "broken; mend it"))

    def test_codes_tell_faults_apart(self) -> None:
        assert len({kind.code for kind in FAULTS}) == len(FAULTS)
        assert {OperatorFault, Stopped} <= set(FAULTS)


class TestWait:
    @given(st.integers(1, 500), st.integers(0, 10**9))
    def test_it_stays_within_a_fifth_of_what_the_policy_says(self, spent: int, salt: int) -> None:
        plain = 3600.0 if spent > 6 else min(3600.0, 4.0 ** (spent - 1))
        assert 0.8 * plain <= POLICY.wait(spent, salt) <= 1.2 * plain

    def test_it_grows(self) -> None:
        waits = [POLICY.wait(spent, 3) for spent in range(1, 6)]
        assert all(longer > 2 * shorter for shorter, longer in pairwise(waits))

    def test_the_same_file_waits_the_same_and_others_do_not(self) -> None:
        assert POLICY.wait(2, 1) == POLICY.wait(2, 1)
        assert POLICY.wait(10_000, 1) <= 1.2 * POLICY.most
        waits = [POLICY.wait(1, salt) for salt in range(1000)]
        assert len(set(waits)) > 990
        assert max(waits) - min(waits) > 0.35


class TestAbandoned:
    def test_one_deadly_file_is_alone_after_log2_deaths(self) -> None:
        caps, batch = [], 1000
        while batch > 1:
            batch = abandoned(batch, 0).cap
            caps.append(batch)
        assert caps == [500, 250, 125, 62, 31, 15, 7, 3, 1]

    def test_deaths_count_only_alone(self) -> None:
        assert abandoned(1, 0) == Abandonment(cap=1, alone=1)
        assert abandoned(1, 2) == Abandonment(cap=1, alone=3)
        assert abandoned(2, 2) == Abandonment(cap=1, alone=0)


class TestTransitions:
    def test_every_state_has_a_way_out_but_done(self) -> None:
        for state in State:
            reachable = {target for (source, _), target in TRANSITIONS.items() if source is state}
            assert reachable == {State.DONE} if state is State.DONE else State.WAITING in reachable

    def test_done_is_reached_by_delivery_alone(self) -> None:
        into = {step for (source, step), target in TRANSITIONS.items() if target is State.DONE is not source}
        assert into == {Step.DELIVERED}

    def test_every_step_of_a_copy_is_lawful_somewhere(self) -> None:
        assert set(Step) - {step for _, step in TRANSITIONS} <= OF_A_FILE

    @pytest.mark.parametrize(
        "step", [Step.CLAIMED, Step.ABANDONED, Step.HELD, Step.RETRY, Step.DELIVERED, Step.REFRESHED]
    )
    def test_what_a_worker_does_is_lawful_only_while_waiting(self, step: Step) -> None:
        assert [source for source, s in TRANSITIONS if s is step] == [State.WAITING]


def test_numbers_go_behind_the_whole_name() -> None:
    assert numbered(PurePosixPath("a/b.fits.gz"), 12) == PurePosixPath("a/b.fits.gz.12")
