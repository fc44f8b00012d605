"""The bus of one component over RabbitMQ: an event loop in a thread of its own, behind blocking calls.

Two connections: a broker that is short of memory does not listen any more to whoever publishes, and what is
acknowledged there would not be heard. Messages are persistent, confirmed and mandatory; deliveries are acknowledged
when they are accepted, after the commit of whoever accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage

from skystow.adapters.rabbitmq.bodies import LARGEST, WIRE, as_text, read
from skystow.adapters.rabbitmq.connection import Link
from skystow.adapters.rabbitmq.declare import consume, declare
from skystow.adapters.rabbitmq.dialect import Dialect
from skystow.adapters.rabbitmq.inbox import Acks, Arrived, Inbox
from skystow.adapters.rabbitmq.options import BrokerOptions, login, tls
from skystow.adapters.rabbitmq.speech import Letter, Speech
from skystow.adapters.rabbitmq.trouble import fault, is_trouble
from skystow.errors import BadName, PlaceFault
from skystow.model.acts import Say
from skystow.model.packing import written
from skystow.model.records import shown
from skystow.ports.talk import Delivery, outbox

PREFETCH = 500
"""Deliveries of each queue that may wait for us to accept them."""

OPENING = 2.0
"""Seconds that `open` waits for the first connection, so that a healthy start begins with nothing away."""

CONFIRM = 60.0
"""Seconds that the broker may take to confirm, however long its heartbeat."""

ENDING = 15.0

AGAIN = 1.0
"""Seconds until a bus that died begins again."""

_LOG = logging.getLogger(__name__)
"""Seconds that the thread may take to say goodbye."""

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
    ) -> None:
        self._options, self._dialect, self._component = options, dialect, component
        self._aside, self._ring = aside, ring
        self._queues = dialect.queues
        self._ours = {queue: address for address in addresses for queue in self._queues.consumed(address)}
        self._inbox = Inbox()
        self._acking: set[asyncio.Task[None]] = set()
        self._connections()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event
        self._tried, self._closing = threading.Event(), threading.Event()

    def _connections(self) -> None:
        name = f"skystow {self._component}"
        self._hearing = Link(self._options, f"{name}, hearing", self._listen, self._nothing, self._changed)
        self._speaking = Link(self._options, f"{name}, speaking", self._declare, lambda: None, self._changed)
        self._speech = Speech(self._speaking, min(CONFIRM, self._options.heartbeat))

    # ── whoever uses it ─────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Begin to connect, and go on for ever. Raises `ConfigError` for what a person must change first (secrets)."""
        login(self._options)
        tls(self._options)
        self._tried.clear()
        self._closing.clear()
        self._connections()
        self._thread = threading.Thread(target=self._work, name=f"bus {self._component}", daemon=True)
        self._thread.start()
        self._tried.wait(OPENING)

    def close(self) -> None:
        """What is not accepted is the broker's again."""
        thread, self._thread = self._thread, None
        self._closing.set()
        if thread is not None:
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(ENDING)

    @property
    def away(self) -> PlaceFault | None:
        if self._thread is None or not self._thread.is_alive():
            return fault(f"the connection to {self._options.where} is not open")
        return self._hearing.away or self._speaking.away

    def publish(self, says: Sequence[Say]) -> None:
        letters = [letter for say in says if (letter := self._letter(say)) is not None]
        if letters:
            for letter, reason in self._do(self._speech.publish(letters)):
                self._return(letter.say, reason)

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        waiting = self._inbox.first(address, limit)
        return [delivery for each in waiting if (delivery := self._read(each)) is not None]

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        self._accept([each.id for each in deliveries])

    # ── between the wire and us ─────────────────────────────────────────────────────────────────────────────────

    def _letter(self, say: Say) -> Letter | None:
        """None: it cannot leave, and was set aside."""
        target = self._queues.target(say.to, say.message, self._component)
        if target is None:
            self._return(say, "nobody has this address on the broker; see forwarders: and queues:")
            return None
        exchange, queue = target
        if not is_name(queue):
            self._return(say, f"‘{shown(queue[:80])}’ is no name of a queue; whoever asked for an answer named it")
            return None
        try:
            return Letter(say, exchange, queue, self._dialect.encode(say.message))
        except BadName as error:
            self._return(say, str(error))
            return None

    def _return(self, say: Say, reason: str) -> None:
        kind, body = written(say.message)
        to = shown(say.to[:200])
        self._aside(outbox(self._component), say.to, kind, body, f"from {self._component} to {to}: {kind}: {reason}")

    def _read(self, arrived: Arrived) -> Delivery | None:
        """None: it is no message, and was set aside."""
        if arrived.delivery is None:
            try:
                message = self._dialect.decode(whole(arrived))
            except BadName as error:
                self._bury(arrived, error)
                return None
            arrived.delivery = Delivery(arrived.id, message, arrived.address)
        return arrived.delivery

    def _bury(self, arrived: Arrived, error: BadName) -> None:
        """Written down first, then acknowledged: where the ledger is away, it waits."""
        body = as_text(arrived.body)
        reason = f"to {arrived.address} by queue {arrived.queue}: {error}: {shown(body[:500])}"
        self._aside(arrived.address, arrived.address, WIRE, body, reason)
        self._accept([arrived.id])

    def _accept(self, numbers: Sequence[int]) -> None:
        if (acks := self._inbox.take(numbers)) is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: they come again
                self._loop.call_soon_threadsafe(self._acknowledge, acks)

    def _do(self, call: Coroutine[Any, Any, Sequence[tuple[Letter, str]]]) -> Sequence[tuple[Letter, str]]:
        closed = fault(f"the connection to {self._options.where} is not open")
        if self._thread is None or self._loop is None:
            call.close()
            raise closed
        try:
            return asyncio.run_coroutine_threadsafe(call, self._loop).result(CONFIRM + ENDING)
        except RuntimeError:
            call.close()
            raise closed from None
        except (CancelledError, TimeoutError):
            raise closed from None

    def _changed(self) -> None:
        if self._hearing.tried and self._speaking.tried:
            self._tried.set()
        self._ring()

    # ── in the event loop ───────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        """An error that nobody foresaw is logged, and all begins again: a bus that is silent for ever helps nobody."""
        while True:
            try:
                asyncio.run(self._main())
            except Exception:  # noqa: BLE001 - whatever it is, it is logged and ends nothing
                _LOG.exception("bus of %s: an error that we did not foresee; it begins again", self._component)
            if self._closing.wait(AGAIN):
                return
            self._connections()
            self._changed()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        links = [asyncio.create_task(link.run()) for link in (self._hearing, self._speaking)]
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*links, stop], return_when=asyncio.FIRST_COMPLETED)
        if self._acking:
            await asyncio.wait(self._acking, timeout=1)
        for each in (*links, stop):
            each.cancel()
        await asyncio.gather(*links, stop, return_exceptions=True)
        for each in done:
            each.result()

    async def _declare(self, channel: AbstractChannel) -> None:
        await declare(channel, self._queues, quorum=self._options.quorum)

    async def _listen(self, channel: AbstractChannel) -> None:
        await self._declare(channel)
        await channel.basic_qos(prefetch_count=PREFETCH)
        self._inbox.begin(channel)
        for queue, address in self._ours.items():
            heard = partial(self._arrived, channel, address, queue)
            await consume(channel, queue, heard, quorum=self._options.quorum)

    def _nothing(self) -> None:
        self._inbox.begin(None)

    async def _arrived(self, channel: AbstractChannel, address: str, queue: str, message: DeliveredMessage) -> None:
        tag = message.delivery_tag
        if tag is not None and self._inbox.put(channel, address, queue, tag, message.body):
            self._ring()

    def _acknowledge(self, acks: Acks) -> None:
        task = asyncio.ensure_future(self._tell(acks))
        self._acking.add(task)
        task.add_done_callback(self._acking.discard)

    async def _tell(self, acks: Acks) -> None:
        """By a channel that is gone meanwhile: they come again, by the next."""
        try:
            if acks.until:
                await acks.channel.basic_ack(acks.until, multiple=True)
            for tag in acks.others:
                await acks.channel.basic_ack(tag)
        except asyncio.CancelledError:
            pass  # the library says that it has closed
        except Exception as error:
            if not is_trouble(error):
                raise


def whole(arrived: Arrived) -> bytes:
    """Raises `BadName` where a part of it is gone."""
    if arrived.size > LARGEST:
        raise BadName(f"{arrived.size} bytes are too many, its first {LARGEST} are kept")
    return arrived.body


def is_name(queue: str) -> bool:
    """Whether AMQP can say it."""
    try:
        return 0 < len(queue.encode()) <= 255
    except UnicodeEncodeError:
        return False


__all__ = ["WIRE", "Aside", "BrokerOptions", "RabbitBus", "read"]
