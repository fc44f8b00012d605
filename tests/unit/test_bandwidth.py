"""A limit that several transfers keep together, and that one alone has for itself."""

from __future__ import annotations

import threading

import pytest

from skystow.adapters.remote.bandwidth import BRIEF, Bandwidth
from skystow.errors import Stopped
from skystow.testing.store_contract import Flag

LIMIT = 1_000.0
LONG = int(LIMIT * BRIEF * 10)


def test_without_a_limit_there_is_nothing_to_share() -> None:
    with Bandwidth(None, 2).share(LONG, Flag()) as rate:
        assert rate is None


def test_a_brief_transfer_alone_has_all_of_it_and_gives_it_back() -> None:
    bandwidth = Bandwidth(LIMIT, 2)
    for _ in range(3):
        with bandwidth.share(100, Flag()) as rate:
            assert rate == LIMIT


def test_a_long_one_leaves_the_rest_to_others() -> None:
    bandwidth = Bandwidth(LIMIT, 3)
    with bandwidth.share(LONG, Flag()) as long, bandwidth.share(100, Flag()) as brief:
        assert long == pytest.approx(LIMIT / 3)
        assert brief == pytest.approx(2 * LIMIT / 3)
    with bandwidth.share(100, Flag()) as again:
        assert again == pytest.approx(LIMIT)


def test_together_they_never_have_more_than_the_limit() -> None:
    bandwidth, lock = Bandwidth(LIMIT, 3), threading.Lock()
    going: list[float] = []
    sums: list[float] = []

    def transfer(turn: int) -> None:
        for i in range(40):
            with bandwidth.share(LONG if (turn + i) % 3 else 100, Flag()) as rate:
                assert rate is not None
                with lock:
                    going.append(rate)
                    sums.append(sum(going))
                with lock:
                    going.remove(rate)

    threads = [threading.Thread(target=transfer, args=(turn,)) for turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(sums), going) == (240, [])
    assert max(sums) <= LIMIT * 1.001
    assert min(sums) >= LIMIT / 3 * 0.99


def test_who_waits_for_it_can_be_stopped() -> None:
    bandwidth, stop = Bandwidth(LIMIT, 1), Flag()
    with bandwidth.share(LONG, Flag()):
        stop.asked = True
        with pytest.raises(Stopped), bandwidth.share(1, stop):
            pytest.fail("it had a share")
