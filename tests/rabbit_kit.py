"""Buses on the tests' own RabbitMQ, and what they set aside."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from skystow.adapters.rabbitmq.broker import BrokerOptions, RabbitBus
from skystow.adapters.rabbitmq.dialect import Dialect
from skystow.adapters.rabbitmq.queues import Queues
from skystow.errors import PlaceFault
from skystow.model.acts import Say
from skystow.model.messages import Message, NewArchiveItem
from skystow.ports.talk import Bus, Delivery
from tests.brokers import USER, Vhost

LIMIT = 30.0
QUEUES = Queues(forwarders={"f1": "f1_consume", "F1": "F1_consume"})
DIALECT = Dialect("CC", QUEUES)
INBOX = "archive_ctrl_consume"
"""The Controller's queue."""


def item(n: int) -> Message:
    return NewArchiveItem(f"ack_{n}", n, "session", f"CC_O_20210304_{n:06}", "archiver", exposure_time=15.0)


def items(*numbers: int) -> list[Say]:
    return [Say("controller", item(n)) for n in numbers]


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [message.job_num for each in deliveries if isinstance(message := each.message, NewArchiveItem)]


def until(true: Callable[[], object], what: str = "") -> None:
    due = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < due, what
        time.sleep(0.01)


class Letter(NamedTuple):
    """What was set aside."""

    tray: str
    address: str
    kind: str
    body: str
    reason: str


@dataclass
class Desk:
    """Opens buses, and closes them after the test. `broken`: nothing can be set aside."""

    vhost: Vhost
    letters: list[Letter] = field(default_factory=list)
    broken: bool = False
    rings: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _made: list[RabbitBus] = field(default_factory=list)

    def options(self, **more: Any) -> BrokerOptions:
        broker = self.vhost.broker
        usual: dict[str, Any] = {"port": broker.port, "vhost": self.vhost.name, "heartbeat": 10.0}
        if not {"user", "credentials"} & set(more):
            usual |= {"user": USER, "password_file": str(broker.password_file)}
        return BrokerOptions(**(usual | more))

    def bus(
        self, component: str = "controller", *addresses: str, dialect: Dialect = DIALECT, **options: Any
    ) -> RabbitBus:
        """Not open yet."""
        made = RabbitBus(
            self.options(**options), dialect, component, addresses or (component,), aside=self.aside, ring=self.ring
        )
        self._made.append(made)
        return made

    def opened(self, component: str = "controller", *addresses: str, **options: Any) -> RabbitBus:
        """Open; not away, unless it is so by what is tested."""
        made = self.bus(component, *addresses, **options)
        made.open()
        return made

    def ring(self) -> None:
        self.rings.release()

    def aside(self, *letter: str) -> None:
        if self.broken:
            raise PlaceFault("the ledger is away", place="ledger")
        if Letter(*letter) not in self.letters:
            self.letters.append(Letter(*letter))

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def desk(vhost: Vhost) -> Iterator[Desk]:
    made = Desk(vhost)
    yield made
    made.close()


def arrived(bus: Bus, count: int, address: str = "controller") -> list[Delivery]:
    """So many, and no more so far."""
    until(lambda: len(bus.receive(address, limit=10_000)) >= count, f"{count} did not come")
    return list(bus.receive(address, limit=10_000))


@contextmanager
def babbling(what: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that says the same to everybody, and hangs up: its port, and what it was told."""
    greeted: list[bytes] = []

    def serve(client: socket.socket) -> None:
        greeted.append(client.recv(8))
        client.sendall(what)
        client.shutdown(socket.SHUT_WR)

    with served("127.0.0.1", serve) as port:
        yield port, greeted


@contextmanager
def forwarded(host: str, port: int) -> Iterator[int]:
    """Another address of a server on 127.0.0.1."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as server:
            back = threading.Thread(target=carry, args=(server, client), daemon=True)
            back.start()
            carry(client, server)
            back.join(LIMIT)

    with served(host, serve) as own:
        yield own


@contextmanager
def served(host: str, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Each connection in a thread of its own."""
    with socket.create_server((host, 0)) as listener:

        def one(client: socket.socket) -> None:
            with client, suppress(OSError):
                client.settimeout(LIMIT)
                serve(client)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(LIMIT)
