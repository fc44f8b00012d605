"""The bus of one component over RabbitMQ: an event loop in a thread of its own, behind blocking calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skystow.adapters.rabbitmq.dialect import Dialect
from skystow.errors import PlaceFault
from skystow.model.acts import Say
from skystow.model.messages import Message
from skystow.ports.talk import Delivery

WIRE = "wire"
"""The kind of a parcel in the ledger that holds a body as it came over the wire."""


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Where the broker is, and who we are there. `credentials`: iip_cred.yaml. `port` 0: 5672, with TLS 5671."""

    host: str = "127.0.0.1"
    port: int = 0
    vhost: str = "/"
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    credentials: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    quorum: bool = False
    heartbeat: float = 30.0


Aside = Callable[[str, str, str, str, str], None]
"""Told of what cannot be used: tray, address, kind, body, reason (`EmbeddedBus.set_aside`). Returns when the ledger has
it. Raises `PlaceFault`."""


class RabbitBus:
    """See `skystow.ports.talk.Bus`. `component` and `addresses` are whose it is; `ring` is called when a message came
    or when `away` has changed, from any thread."""

    def __init__(
        self,
        options: BrokerOptions,
        dialect: Dialect,
        component: str,
        addresses: Sequence[str],
        *,
        aside: Aside,
        ring: Callable[[], None],
    ) -> None: ...

    def open(self) -> None:
        """Begin to connect, and go on for ever. Raises `ConfigError` for what a person must change first (secrets)."""

    def close(self) -> None: ...

    @property
    def away(self) -> PlaceFault | None:
        raise NotImplementedError

    def publish(self, says: Sequence[Say]) -> None: ...

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        raise NotImplementedError

    def accept(self, deliveries: Sequence[Delivery]) -> None: ...


def read(dialect: Dialect, kind: str, body: str) -> Message:
    """`EmbeddedBus`'s reader where there is a broker: what was set aside is tried again. Raises `BadName`."""
    raise NotImplementedError


__all__ = ["WIRE", "Aside", "BrokerOptions", "RabbitBus", "read"]
