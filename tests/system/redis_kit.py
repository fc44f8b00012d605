"""A board on a Redis of the tests, and how its queues are called."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from skystow.adapters.redis.board import BoardOptions, RedisBoard
from tests.redis_server import RedisServer

LIMIT = 20.0


@contextlib.contextmanager
def board(server: RedisServer, **more: object) -> Iterator[RedisBoard]:
    options = BoardOptions(port=server.port, **more)  # type: ignore[arg-type]
    with contextlib.closing(RedisBoard(options, queue_of=queue_of, address_of=address_of)) as board:
        yield board


def queue_of(address: str) -> str:
    return f"{address.removeprefix('forwarder/')}_consume"


def address_of(queue: str) -> str:
    return f"forwarder/{queue.removesuffix('_consume')}"


def until(condition: Callable[[], object]) -> None:
    due = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.01)
