"""The image archiver in one process on a real RabbitMQ, Redis and MariaDB, to be killed at a durable act; and what must
be true of it, and of what the servers hold, afterwards.

    python -m tests.crash.wire_kit      as tests.crash.image_kit, with the acts of the wire among those that are named
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import sqlalchemy as sa

from skystow.adapters.ledger import SqlLedger
from skystow.adapters.ledger.schema import parcels
from tests.brokers import USER, Broker, Vhost
from tests.crash.image_kit import Nights, work
from tests.crash.kit import wait_until
from tests.crash.night_field import DETECTORS, NightField, Plan, watched
from tests.crash.wire_saboteur import WireSaboteur
from tests.redis_server import DB, RedisServer
from tests.servers import PASSWORD, EmptyLedger

CCDS = (*DETECTORS, "R22_S22")
SOON, LONG = 2.0, 3600.0
"""Seconds: after which an answer is asked for again; and that nobody waits for, as whoever is silent is dead, and is
started again."""


@dataclass
class WiredNight(NightField):
    """Its servers, and `port`: of the broker, or of a proxy before it."""

    detectors: Sequence[str] = CCDS
    ledger_url: str = ""
    vhost: Vhost | None = None
    redis: RedisServer | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return self.ledger_url

    def write(self, forwarders: Sequence[dict[str, Any]] = ()) -> None:
        super().write(forwarders)
        assert self.vhost is not None
        assert self.redis is not None
        broker, site = self.vhost.broker, json.loads(self.site.read_text())
        image = site["image"]
        image["archiver"] |= {"ack_timeout": SOON, "deadline": LONG, "patience": LONG, "heartbeat": LONG}
        image["bus"] = {"kind": "rabbitmq", "port": self.port or broker.port, "vhost": self.vhost.name, "user": USER}
        image["bus"] |= {"password_file": str(broker.password_file)}
        image["scoreboard"] = {"kind": "redis", "port": self.redis.port, "db": DB}
        self.site.write_text(json.dumps(site))

    def left(self) -> dict[str, int]:
        """Messages that the broker still has, by queue."""
        assert self.vhost is not None
        counted = {name: q["messages_ready"] + q["messages_unacknowledged"] for name, q in self.vhost.queues().items()}
        return {name: count for name, count in counted.items() if count}

    def receive(self, queue: str, body: bytes) -> None:
        """What nobody can read, before anybody is there to hear it."""
        self.rubbish += 1
        asyncio.run(self._say(queue, body))

    async def _say(self, queue: str, body: bytes) -> None:
        assert self.vhost is not None
        broker, vhost = self.vhost.broker, quote(self.vhost.name, safe="")
        login = f"{USER}:{quote(PASSWORD, safe='')}"
        async with await aio_pika.connect(f"amqp://{login}@127.0.0.1:{broker.port}/{vhost}") as connection:
            channel = await connection.channel()
            await channel.declare_queue(queue, durable=True)
            await channel.default_exchange.publish(aio_pika.Message(body), queue)

    def _assert_said(self, ledger: SqlLedger) -> None:
        super()._assert_said(ledger)
        with ledger._database.reading() as connection:
            left = connection.execute(sa.select(parcels.c.address, parcels.c.kind, parcels.c.unreadable)).all()
        assert [each for each in left if not each.unreadable] == []
        assert len(left) == self.rubbish


@dataclass
class Servers:
    """Where nights are played, each on what is empty of all others."""

    broker: Broker
    redis: RedisServer
    ledger: EmptyLedger
    more_nights: Callable[[], Nights]

    @cached_property
    def nights(self) -> Nights:
        return self.more_nights()

    @cached_property
    def others(self) -> Nights:
        """Beside them, where a night has two processes."""
        return self.more_nights()

    def night(self, root: Path, port: int = 0) -> WiredNight:
        """`port`: of a proxy before the broker."""
        self.redis.flush()
        made = WiredNight(root, ledger_url=self.ledger(), vhost=self.broker.vhost(), redis=self.redis, port=port)
        made.write()
        return made

    def settle(self, made: WiredNight) -> None:
        """What a process had not heard when it ended the next one hears: then there is nothing left on any queue."""
        if made.left():
            assert self.nights.run(made, {}) == 0
            assert made.left() == {}
        made.assert_whole()

    def acts_of(self, root: Path) -> list[str]:
        """Every durable act of an undisturbed night, by name."""
        made, listed = self.night(root), root / "acts"
        assert self.nights.run(made, {"count": str(listed)}) == 0
        made.assert_whole()
        return listed.read_text().splitlines()

    @contextmanager
    def at_work(self, made: WiredNight, plan: Plan | None = None) -> Iterator[int]:
        """The number of a process that archives all of it meanwhile; afterwards all is as it should be."""
        with watched(made) as seen:
            child = self.nights.started(made, plan or {})
            try:
                yield child
            except BaseException:
                with suppress(ProcessLookupError, AssertionError):
                    os.kill(child, signal.SIGKILL)
                    self.nights.ended(child)
                raise
            assert self.nights.ended(child) == 0
        assert seen == []
        self.settle(made)

    @contextmanager
    def stopped(self, made: WiredNight, act: str, when: str) -> Iterator[Callable[[], None]]:
        """It stands still at its first such act, until it is told to go on."""
        with self.at_work(made, {"freeze": {"act": act, "at": 0, "when": when}}) as child:
            stat = Path(f"/proc/{child}/stat")
            wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", f"that it stops {when} {act}")
            yield lambda: os.kill(child, signal.SIGCONT)

    @contextmanager
    def without(self, made: WiredNight, name: str) -> Iterator[None]:
        """All the others are at work meanwhile, in another process."""
        names = ("archiver", "controller", "f99", "oods")
        child = self.others.started(made, {"only": [each for each in names if each != name]})
        try:
            yield
        except BaseException:
            with suppress(ProcessLookupError, AssertionError):
                os.kill(child, signal.SIGKILL)
                self.others.ended(child)
            raise
        assert self.others.ended(child) == 0

    def kill(self, made: WiredNight, blows: Iterable[Plan], only: str = "") -> list[Plan]:
        """One night that is killed again and again, by one blow in each run, and then ends well. Returns those that
        missed. `only`: the component whose process it is; the others go on."""
        struck, missed = list[Plan](), list[Plan]()
        plan: Plan = {"only": [only]} if only else {}
        try:
            with watched(made) as seen, self.without(made, only) if only else nullcontext():
                for blow in blows:
                    struck.append(blow)
                    if self.nights.run(made, plan | {"kill": blow}) == 0:
                        missed.append(blow)
                assert self.nights.run(made, plan) == 0
            assert seen == []
            self.settle(made)
        except AssertionError as error:
            raise AssertionError(f"killed by {struck} in {made.root}: {error}") from error
        return missed


if __name__ == "__main__":
    work(WireSaboteur)
