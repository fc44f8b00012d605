"""How components of the image door talk: by tables of the ledger, or by the broker and scoreboard of the site file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from skystow.config.image import Image
from skystow.config.wire import RabbitMQ, Redis
from skystow.errors import ConfigError, PlaceFault
from skystow.model.acts import Say
from skystow.ports import Clock, Finding
from skystow.ports.talk import Bus, Conversation, Scoreboard, Talks, outbox
from skystow.service.halt import Halt
from skystow.service.post import BATCH, Post, Relay

if TYPE_CHECKING:
    from skystow.adapters.ledger import SqlLedger
    from skystow.adapters.rabbitmq.broker import BrokerOptions, RabbitBus
    from skystow.adapters.rabbitmq.queues import Queues
    from skystow.adapters.redis.board import BoardOptions, RedisBoard, RedisView
    from skystow.service.status import Progress
    from skystow.service.view import View

SHARED_PRESENCE = "f99_association"
"""What the originals keep alive, whatever their names."""

ANSWER = 10.0
"""Seconds that a broker has to answer the doctor."""

Job = Callable[[Halt], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Wire:
    """What one component hears and speaks by, and who carries it."""

    bus: Bus
    talks: Talks
    jobs: tuple[Job, ...] = ()
    said: Callable[[], None] | None = None
    """Something waits for them."""


@dataclass
class Wires:
    """Of one site. `ring`: there is something to hear."""

    image: Image | None
    ledger: SqlLedger
    clock: Clock
    progress: Progress
    ring: Callable[[], None]
    _open: list[RabbitBus | RedisBoard | RedisView] = field(default_factory=list)

    def wire(self, conversation: Conversation) -> Wire:
        """Raises `ConfigError`."""
        config = self.image.bus if self.image else None
        if self.image is None or config is None or not conversation.addresses:
            self._bring_home(conversation.name)
            return Wire(self.ledger.bus, self.ledger.talks)
        with needed("rabbitmq", "a bus on RabbitMQ"):
            from skystow.adapters.rabbitmq import broker
        from skystow.adapters.rabbitmq.dialect import Dialect

        name = conversation.name
        dialect = Dialect(self.image.short_name, queues_of(self.image, config))
        own = self.ledger.mail(name, partial(broker.read, dialect))
        bus = broker.RabbitBus(
            broker_options(config), dialect, name, conversation.addresses, aside=own.set_aside, ring=self.ring
        )
        bus.open()
        self._open.append(bus)
        post = Post(name, own, bus, self.ledger, self.clock, self.progress)
        carried = [each for each in conversation.addresses if dialect.queues.consumed(each)]
        return Wire(Relay(own, bus, carried), self.ledger.posted(), (post.run,), post.ring)

    def _bring_home(self, component: str) -> None:
        """What was said while a broker carried messages, and did not leave: the ledger carries it now."""
        bus = self.ledger.bus
        while left := bus.receive(outbox(component), limit=BATCH):
            bus.publish([Say(each.to, each.message) for each in left])
            bus.accept(left)

    def board(self) -> Scoreboard:
        """Raises `ConfigError`."""
        config = self.image.scoreboard if self.image else None
        if self.image is None or config is None:
            return self.ledger.board
        board = _redis(self.image, config)
        self._open.append(board)
        return board

    @property
    def shared_presence(self) -> str:
        """The key that every forwarder keeps alive ("": each its own)."""
        config = self.image.scoreboard if self.image else None
        return SHARED_PRESENCE if config is not None and config.presence == "shared" else ""

    def view(self, session: str) -> View | None:
        """Keeps the Archiver's hash on the scoreboard, where there is one. Raises `ConfigError`."""
        config = self.image.scoreboard if self.image else None
        if self.image is None or config is None or not config.view:
            return None
        from skystow.adapters.redis.board import RedisView
        from skystow.service.view import View

        queues = queues_of(self.image, self.image.bus)
        panel = RedisView(board_options(config), self.image.name, queue_of=queues.queue_of)
        self._open.append(panel)
        return View(panel, self.clock, self.progress, session=session)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


class needed:  # noqa: N801 - reads as a sentence
    """Names the extra that a package is in, where it is not there."""

    def __init__(self, extra: str, what: str) -> None:
        self.extra, self.what = extra, what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ModuleNotFoundError):
            remedy = f"pip install 'skystow[{self.extra}]'"
            raise ConfigError(f"{self.what} needs the Python package {error.name}", remedy=remedy) from error


def _redis(image: Image, config: Redis) -> RedisBoard:
    with needed("redis", "a scoreboard on Redis"):
        from skystow.adapters.redis.board import RedisBoard
    queues = queues_of(image, image.bus)
    return RedisBoard(board_options(config), queue_of=queues.queue_of, address_of=queues.address_of)


def queues_of(image: Image, config: RabbitMQ | None) -> Queues:
    """The site's names, else those that the camera's short name makes."""
    from skystow.adapters.rabbitmq.queues import Queues

    short = image.short_name.lower()
    forwarders = {each.name: each.queue or f"{each.name}_consume" for each in image.forwarders}
    usual = {
        "acks": f"{short}_foreman_ack_publish",
        "oods": f"{short}_publish_to_oods",
        "oods_answers": f"oods_publish_to_{short}",
    }
    said: dict[str, str] = config.queues.model_dump(exclude_none=True) if config is not None else {}
    exchange = config.exchange if config is not None else "message"
    return Queues(exchange=exchange, forwarders=forwarders, **(usual | said))


def broker_options(config: RabbitMQ) -> BrokerOptions:
    from skystow.adapters.rabbitmq.broker import BrokerOptions

    tls = config.tls
    return BrokerOptions(
        host=config.host,
        port=config.port or 0,
        vhost=config.vhost,
        user=config.user,
        password_file=config.password_file,
        password_env=config.password_env,
        credentials=config.credentials,
        tls_ca=tls.ca if tls else None,
        tls_cert=tls.cert if tls else None,
        tls_key=tls.key if tls else None,
        quorum=config.queue_type == "quorum",
        heartbeat=config.heartbeat,
    )


def board_options(config: Redis) -> BoardOptions:
    from skystow.adapters.redis.board import BoardOptions

    tls = config.tls
    return BoardOptions(
        host=config.host,
        port=config.port,
        db=config.db,
        user=config.user,
        password_file=config.password_file,
        password_env=config.password_env,
        tls_ca=tls.ca if tls else None,
        tls_cert=tls.cert if tls else None,
        tls_key=tls.key if tls else None,
        list=config.list,
        shared=config.presence == "shared",
    )


def reached(image: Image) -> Iterator[Finding]:
    """Whether broker and scoreboard answer, and are as we want them: what is missing there is declared."""
    if image.bus is not None:
        yield _broker(image, image.bus)
    if image.scoreboard is not None:
        yield _scoreboard(image, image.scoreboard)


def _broker(image: Image, config: RabbitMQ) -> Finding:
    from skystow.adapters.rabbitmq import broker
    from skystow.adapters.rabbitmq.dialect import Dialect

    queues, rung = queues_of(image, config), threading.Event()
    bus = broker.RabbitBus(
        broker_options(config), Dialect(image.short_name, queues), "check", (), aside=_nothing, ring=rung.set
    )
    bus.open()
    try:
        due = time.monotonic() + ANSWER
        while (fault := bus.away) is not None and (left := due - time.monotonic()) > 0:
            rung.wait(left)
            rung.clear()
    finally:
        bus.close()
    if fault is not None:
        return Finding("bus", False, fault.message, fault.remedy)
    return Finding("bus", True, f"{config.host} {config.vhost} has our {len(queues.all)} queues, as we want them")


def _nothing(*_: str) -> None:
    """Nothing comes: no queue is listened to."""


def _scoreboard(image: Image, config: Redis) -> Finding:
    board = _redis(image, config)
    try:
        board.alive("skystow_check")
    except PlaceFault as fault:
        return Finding("scoreboard", False, fault.message, fault.remedy)
    finally:
        board.close()
    return Finding("scoreboard", True, f"{config.host}:{config.port} answers")
