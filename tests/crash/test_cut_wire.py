"""A night on RabbitMQ, Redis and MariaDB, of which the connections to the broker are cut at messages of every kind,
both ways; and whose servers are flushed, killed and started again in the midst of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.crash.kit import wait_until
from tests.crash.wire_kit import Servers, WiredNight
from tests.cutproxy import CutProxy, talk
from tests.servers import Server

PUBLISHED, CONFIRMED, GIVEN, ACCEPTED = ">basic.publish", "<basic.ack", "<basic.deliver", ">basic.ack"
CUTS = {
    PUBLISHED: (1, 9, 14, 23),
    CONFIRMED: (2, 8, 13, 11),
    GIVEN: (1, 9, 14, 23),
    ACCEPTED: (1, 7, 11, 9),
}
"""Which of them never arrives; after each cut counted anew."""

MANY_PARTS = 32
Counts = Callable[[str], bool]


@contextmanager
def cutting(proxy: CutProxy, at: Sequence[int], counts: Counts = talk) -> Iterator[None]:
    """All connections, in place of the n-th message that counts; then again, in place of the next number's."""
    over = threading.Event()
    proxy.cut_at(at[0], counts)

    def again() -> None:
        for n in at[1:]:
            while proxy.armed:
                if over.wait(0.002):
                    return
            proxy.cut_at(n, counts)

    cutter = threading.Thread(target=again)
    cutter.start()
    try:
        yield
    finally:
        over.set()
        cutter.join()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("message", CUTS)
def test_cut_at_messages_of_each_kind(tmp_path: Path, wired: Servers, cut_proxy: CutProxy, message: str) -> None:
    made = wired.night(tmp_path / "night", cut_proxy.port)
    with cutting(cut_proxy, CUTS[message], message.__eq__), wired.at_work(made):
        pass
    assert cut_proxy.cuts >= 3


@pytest.mark.timeout(300)
def test_cut_again_and_again(tmp_path: Path, wired: Servers, cut_proxy: CutProxy) -> None:
    """Whatever passes by."""
    made = wired.night(tmp_path / "night", cut_proxy.port)
    with cutting(cut_proxy, [31] * 9), wired.at_work(made):
        pass
    assert cut_proxy.cuts >= 3


@pytest.mark.timeout(300)
def test_cut_and_refused_for_a_while(tmp_path: Path, wired: Servers, cut_proxy: CutProxy) -> None:
    made = wired.night(tmp_path / "night", cut_proxy.port)
    with wired.stopped(made, "publish FILE_TRANSFER_COMPLETED", "before") as go_on, cut_proxy.refusing():
        go_on()
        said(made, "bus")


def said(made: WiredNight, place: str) -> None:
    """Wait until the components say that it is away."""
    with made.ledger() as ledger:
        wait_until(lambda: any(h.place == place and not h.well for h in ledger.healths()), f"that {place} is away")


# ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(300)
@pytest.mark.parametrize("act", ["redis REGISTER", "redis POP", "publish NEW_CC_ARCHIVE_ITEM"])
def test_redis_is_flushed(tmp_path: Path, wired: Servers, act: str) -> None:
    """Nobody is on the list any more, or alive."""
    with wired.stopped(wired.night(tmp_path / "night"), act, "after") as go_on:
        wired.redis.flush()
        go_on()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("act", [pytest.param("redis POP", marks=pytest.mark.long), "publish CC_FWDR_XFER_PARAMS"])
def test_redis_is_killed(tmp_path: Path, wired: Servers, act: str) -> None:
    made = wired.night(tmp_path / "night")
    with wired.stopped(made, act, "before") as go_on:
        wired.redis.kill()
        go_on()
        if act == "redis POP":
            said(made, "scoreboard")  # else it may not be missed before the end
        wired.redis.start()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("act", "when"),
    [
        ("publish FILE_TRANSFER_COMPLETED", "after"),  # confirmed, and still in the outbox
        ("ack FILE_TRANSFER_COMPLETED", "before"),  # committed, and still the broker's
        ("commit converse controller", "before"),
    ],
)
def test_mariadb_is_killed(tmp_path: Path, wired: Servers, mariadb: Server, act: str, when: str) -> None:
    with wired.stopped(wired.night(tmp_path / "night"), act, when) as go_on:
        mariadb.kill()
        go_on()
        mariadb.start()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("message", "n"), [(PUBLISHED, 20), *(pytest.param(each, 12, marks=pytest.mark.long) for each in CUTS)]
)
def test_rabbitmq_is_killed(tmp_path: Path, wired: Servers, cut_proxy: CutProxy, message: str, n: int) -> None:
    """With what it has not confirmed, and with what it has confirmed in vain."""
    made, dead = wired.night(tmp_path / "night", cut_proxy.port), threading.Event()
    with cutting(cut_proxy, [1], killing(wired.broker, message, n, dead)), wired.at_work(made):
        assert dead.wait(60)
        wired.broker.kill()
        wired.broker.start()


def killing(broker: Broker, message: str, n: int, dead: threading.Event) -> Counts:
    """Counts the n-th such message, and kills the broker before it is cut."""
    left = [n]

    def counts(passing: str) -> bool:
        left[0] -= passing == message
        if left[0] == 0 and not dead.is_set():
            assert broker.process is not None
            broker.process.kill()
            dead.set()
            return True
        return False

    return counts


# ── everywhere ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(MANY_PARTS))
def test_cut_at_every_message(tmp_path: Path, wired: Servers, cut_proxy: CutProxy, part: int) -> None:
    """Whichever way it goes; each in a night of its own."""
    with wired.at_work(wired.night(tmp_path / "count", cut_proxy.port)):
        pass
    total = sum(map(talk, cut_proxy.passed))
    assert total > 100
    for n in range(1 + part, total, MANY_PARTS):
        made = wired.night(tmp_path / str(n), cut_proxy.port)
        with cutting(cut_proxy, [n]), wired.at_work(made):
            pass
