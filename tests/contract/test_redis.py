"""The scoreboard on Redis: the contract of all, the originals' wire both ways, and what else may lie there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from tests.redis_server import DB, RedisServer

from skystow.adapters.rabbitmq.queues import Queues
from skystow.adapters.redis.board import MOST_ASIDE, SHARED, BoardOptions, RedisBoard, RedisView
from skystow.errors import Unreachable
from skystow.ports.talk import Listed, Scoreboard
from skystow.testing.board_contract import BoardContract, PassTime, popped, register

QUEUES = Queues(forwarders={name: f"{name}_consume" for name in ("f1", "f2", "F1", "f98", "f99")})
ORIGINAL = b'{"hostname":"comcam-fp01","ip_address":"139.229.170.12","consume_queue":"f77_consume"}'
"""As forwarder 2.3 pushes it."""
FOUND = Listed("comcam-fp01", "queue/f77_consume", SHARED, "139.229.170.12:comcam-fp01")

OTHERS: dict[str, tuple[str | int, ...]] = {
    "string": ("SET", "{}", "garbage"),
    "list": ("LPUSH", "{}", "garbage"),
    "set": ("SADD", "{}", "garbage"),
    "sorted set": ("ZADD", "{}", 1, "garbage"),
    "hash": ("HSET", "{}", "garbage", "garbage"),
    "stream": ("XADD", "{}", "*", "garbage", "garbage"),
    "bitmap": ("SETBIT", "{}", 70_000, 1),
    "log": ("PFADD", "{}", "garbage"),
}
"""Every type that a key of Redis can have."""

Make = Callable[..., RedisBoard]


@pytest.fixture
def asides() -> list[str]:
    return []


@pytest.fixture
def make(redis_server: RedisServer, asides: list[str]) -> Iterator[Make]:
    boards: list[RedisBoard] = []

    def make(**more: object) -> RedisBoard:
        options = BoardOptions(port=redis_server.port, **more)  # type: ignore[arg-type]
        to_and_fro = {"queue_of": QUEUES.queue_of, "address_of": QUEUES.address_of}
        boards.append(RedisBoard(options, **to_and_fro, aside=asides.append))
        return boards[-1]

    yield make
    for board in boards:
        board.close()


@pytest.fixture
def board(make: Make) -> RedisBoard:
    return make()


def garbage(server: RedisServer, key: str, kind: str) -> None:
    server.ask(*(word.format(key) if isinstance(word, str) else word for word in OTHERS[kind]))


def listed(server: RedisServer) -> list[bytes]:
    found: list[bytes] = server.ask("LRANGE", "forwarder_list", 0, -1)
    return found


class TestRedisBoard(BoardContract):
    @pytest.fixture
    def beside(self, make: Make) -> Scoreboard:
        return make()

    @pytest.fixture
    def pass_time(self, redis_server: RedisServer) -> PassTime:
        return redis_server.pass_time


class TestWire:
    """Keys, times and JSON of PROTOCOLS, section 2."""

    def test_what_an_original_archiver_pops(self, make: Make, redis_server: RedisServer) -> None:
        register(make(hostname="comcam-fp01", ip_address="139.229.170.12"), "f99")
        key, said = redis_server.ask("BRPOP", "forwarder_list", 1)
        assert key == b"forwarder_list"
        assert json.loads(said) == {
            "hostname": "comcam-fp01",
            "ip_address": "139.229.170.12",
            "consume_queue": "f99_consume",
        }

    def test_host_and_address_are_found_out(self, board: RedisBoard, redis_server: RedisServer) -> None:
        register(board, "f99")
        said = json.loads(redis_server.ask("RPOP", "forwarder_list"))
        assert (said["ip_address"], bool(said["hostname"])) == ("127.0.0.1", True)

    def test_what_an_original_forwarder_pushed(self, board: RedisBoard, redis_server: RedisServer) -> None:
        second = {"hostname": "comcam-fp02", "ip_address": "::1", "consume_queue": "f99_consume", "more": [1]}
        redis_server.ask("LPUSH", "forwarder_list", ORIGINAL)
        redis_server.ask("LPUSH", "forwarder_list", json.dumps(second, indent=2))
        assert board.pop() == FOUND
        assert board.pop() == Listed("f99", "forwarder/f99", "f99_association", "::1:comcam-fp02")
        assert board.pop() is None

    def test_signs_of_life(self, board: RedisBoard, redis_server: RedisServer) -> None:
        board.beat("ccarchiver_association", "comcam-fp01", 10.0)
        assert redis_server.ask("GET", "ccarchiver_association") == b"comcam-fp01"
        assert redis_server.ask("TTL", "ccarchiver_association") in (9, 10)
        redis_server.ask("SETEX", "f99_association", 10, "pong")
        assert board.alive("f99_association")
        board.forget("ccarchiver_association")
        assert redis_server.ask("KEYS", "*") == [b"f99_association"]

    def test_seconds_are_whole_and_pass_by_themselves(self, board: RedisBoard, redis_server: RedisServer) -> None:
        board.beat("a", "", 9.2)
        assert 9_000 < redis_server.ask("PTTL", "a") <= 10_000
        board.beat("a", "", 0.01)
        assert 0 < redis_server.ask("PTTL", "a") <= 1_000
        due = time.monotonic() + 10
        while board.alive("a"):
            assert time.monotonic() < due
            time.sleep(0.02)

    def test_nothing_else_is_touched(self, make: Make, redis_server: RedisServer) -> None:
        board = make(list="others_list", db=3)
        register(board, "f99")
        assert redis_server.ask("DBSIZE") == 0
        assert popped(board) == "f99"

    def test_a_key_that_forwarders_share(self, make: Make) -> None:
        board = make(shared=True, hostname="host", ip_address="10.0.0.1")
        for name in ("f98", "f99"):
            register(board, name)
        assert [board.pop(), board.pop()] == [
            Listed("f98", "forwarder/f98", "f99_association", "10.0.0.1:host"),
            Listed("f99", "forwarder/f99", "f99_association", "10.0.0.1:host"),
        ]


class TestStale:
    """Entries do not expire, and an original pushes its own at each start."""

    def test_of_doubles_one_stays_in_the_turn_of_the_oldest(self, make: Make, redis_server: RedisServer) -> None:
        old = b'{"hostname":"before","ip_address":"10.0.0.1","consume_queue":"f1_consume"}'
        for entry in (old, ORIGINAL, old, b"rubbish", old, old):
            redis_server.ask("LPUSH", "forwarder_list", entry)
        board = make(hostname="now", ip_address="10.0.0.2")
        for _ in range(3):
            register(board, "f1")
        ours = b'{"hostname":"now","ip_address":"10.0.0.2","consume_queue":"f1_consume"}'
        assert listed(redis_server) == [b"rubbish", ORIGINAL, ours]

    def test_a_stranger_of_another_queue_is_left(self, board: RedisBoard, redis_server: RedisServer) -> None:
        for entry in (ORIGINAL, b'{"consume_queue":["f1_consume"]}', b'{"consume_queue":null}', b"7", b"[" * 3_000):
            redis_server.ask("LPUSH", "forwarder_list", entry)
        register(board, "f1")
        assert len(listed(redis_server)) == 6

    def test_after_a_flush_it_is_on_the_list_again(self, board: RedisBoard, redis_server: RedisServer) -> None:
        register(board, "f1")
        board.beat("f1_association", "pong", 10)
        redis_server.flush()
        assert not board.alive("f1_association")
        assert popped(board) is None
        register(board, "f1")
        board.beat("f1_association", "pong", 10)
        assert board.alive("f1_association")
        assert popped(board) == "f1"


BAD = {
    b"": "not JSON",
    b"garbage": "not JSON",
    b"\x00\xff\xfe\x80": "not JSON",
    b"[" * 4_000: "not JSON",
    b"[]": "no JSON object",
    b"null": "no JSON object",
    b"12": "no JSON object",
    b"{}": "has no hostname",
    b'{"hostname":"a","ip_address":"b"}': "has no consume_queue",
    b'{"hostname":1,"ip_address":"b","consume_queue":"c"}': "its hostname is no name",
    b'{"hostname":"a","ip_address":null,"consume_queue":"c"}': "its ip_address is no name",
    b'{"hostname":"a","ip_address":"b","consume_queue":["c"]}': "its consume_queue is no name",
    b'{"hostname":"a\\n","ip_address":"b","consume_queue":"c"}': "its hostname is no name",
    b'{"hostname":"\\ud800","ip_address":"b","consume_queue":"c"}': "its hostname is no name",
    b'{"hostname":"","ip_address":"b","consume_queue":"c"}': "is empty",
    b'{"hostname":"a","ip_address":"b","consume_queue":""}': "is empty",
    b'{"hostname":"a","ip_address":"b","consume_queue":"' + b"c" * 300 + b'"}': "its consume_queue is no name",
    b'{"hostname":"a","ip_address":"b","consume_queue":"archive_ctrl_consume"}': "is that of the controller",
    b'{"hostname":"a","ip_address":"b","consume_queue":"cc_foreman_ack_publish"}': "is that of the archiver",
    ORIGINAL.replace(b"comcam", b"c" * 10_000_000): "10000080 bytes are no forwarder",
}


class TestGarbage:
    def test_what_is_no_forwarder_is_set_aside_and_named(
        self, board: RedisBoard, redis_server: RedisServer, asides: list[str]
    ) -> None:
        for entry in (*BAD, ORIGINAL):
            redis_server.ask("LPUSH", "forwarder_list", entry)
        assert board.pop() == FOUND
        for said, reason in zip(asides, BAD.values(), strict=True):
            assert reason in said
            assert len(said) < 2_000
        assert listed(redis_server) == []

    def test_a_look_ends(self, board: RedisBoard, redis_server: RedisServer, asides: list[str]) -> None:
        redis_server.ask("LPUSH", "forwarder_list", *[f"garbage {n}" for n in range(3 * MOST_ASIDE)])
        redis_server.ask("LPUSH", "forwarder_list", ORIGINAL)
        assert [board.pop() for _ in range(4)] == [None, None, None, FOUND]
        assert len(asides) == 3 * MOST_ASIDE

    def test_without_anybody_to_tell_it_is_logged(
        self, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        redis_server.ask("LPUSH", "forwarder_list", "garbage")
        options = BoardOptions(port=redis_server.port)
        with closing(RedisBoard(options, queue_of=QUEUES.queue_of, address_of=QUEUES.address_of)) as board:
            assert board.pop() is None
        assert "on the list forwarder_list was b'garbage': it is not JSON" in caplog.text

    @pytest.mark.parametrize("kind", OTHERS)
    def test_another_type_in_a_key_is_named_or_replaced(
        self, board: RedisBoard, redis_server: RedisServer, kind: str
    ) -> None:
        garbage(redis_server, "f99_association", kind)
        assert board.alive("f99_association")  # somebody keeps it: that is all that EXISTS says
        board.beat("f99_association", "pong", 10)
        assert redis_server.ask("GET", "f99_association") == b"pong"
        garbage(redis_server, "ccarchiver_association", kind)
        board.forget("ccarchiver_association")
        assert not board.alive("ccarchiver_association")
        if kind != "list":
            garbage(redis_server, "forwarder_list", kind)
            for call in (board.pop, lambda: register(board, "f1")):
                with pytest.raises(
                    Unreachable, match=f"something else in the key forwarder_list of database {DB}"
                ) as said:
                    call()
                assert (said.value.place, "DEL forwarder_list" in said.value.remedy) == ("scoreboard", True)
            redis_server.ask("DEL", "forwarder_list")
            register(board, "f1")
            assert popped(board) == "f1"


FACTS = {
    "state": "ENABLED",
    "session": "2021-03-04_12:34:56.789012",
    "jobnum": "3",
    "paired_forwarder": "comcam-fp01",
    "forwarders": json.dumps([FOUND._asdict(), Listed("f1", "forwarder/f1", "f1_association")._asdict()]),
    "closed": "not for others",
}


class TestView:
    @pytest.fixture
    def view(self, redis_server: RedisServer) -> Iterator[RedisView]:
        options = BoardOptions(port=redis_server.port)
        with closing(RedisView(options, "CCArchiver", queue_of=QUEUES.queue_of)) as view:
            yield view

    def shown(self, server: RedisServer) -> dict[str, str]:
        with closing(server.client()) as client:
            return {key.decode(): value.decode() for key, value in client.hgetall("CCArchiver").items()}  # type: ignore[union-attr]

    def test_the_hash_of_the_originals(self, view: RedisView, redis_server: RedisServer) -> None:
        assert not view.shows(FACTS)
        view.show(FACTS)
        assert view.shows(FACTS)
        assert self.shown(redis_server) == {
            "state": "ENABLED",
            "session": "2021-03-04_12:34:56.789012",
            "jobnum": "3",
            "paired_forwarder": ORIGINAL.decode(),
        }
        assert redis_server.ask("TTL", "CCArchiver") == -1

    def test_ours_and_nobody(self, view: RedisView, redis_server: RedisServer) -> None:
        view.show(FACTS | {"paired_forwarder": "f1"})
        said = json.loads(self.shown(redis_server)["paired_forwarder"])
        assert said == {"hostname": "f1", "ip_address": "", "consume_queue": "f1_consume"}
        view.show({"paired_forwarder": ""})
        assert set(self.shown(redis_server).values()) == {""}

    @pytest.mark.parametrize(
        "harm", [("FLUSHALL",), ("HSET", "CCArchiver", "state", "FAULT"), ("HDEL", "CCArchiver", "jobnum")]
    )
    def test_what_was_changed_there_is_seen(
        self, view: RedisView, redis_server: RedisServer, harm: tuple[str, ...]
    ) -> None:
        view.show(FACTS)
        redis_server.ask(*harm)
        assert not view.shows(FACTS)
        view.show(FACTS)
        assert view.shows(FACTS)

    @pytest.mark.parametrize("kind", [each for each in OTHERS if each != "hash"])
    def test_another_type_is_named(self, view: RedisView, redis_server: RedisServer, kind: str) -> None:
        garbage(redis_server, "CCArchiver", kind)
        for call in (view.show, view.shows):
            with pytest.raises(Unreachable, match="something else in the key CCArchiver"):
                call(FACTS)
