"""One connection to the broker, made again for ever."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.connection import make_url
from aiormq.abc import AbstractChannel

from skystow.adapters.rabbitmq.options import GUEST, BrokerOptions, login, tls
from skystow.adapters.rabbitmq.trouble import fault, is_trouble, why
from skystow.errors import PlaceFault

FIRST_REST, LONGEST_REST = 0.5, 30.0
"""Seconds between two attempts: doubled each time, less up to a half by chance, lest a whole site comes at once."""

ANSWER = 10.0
"""Seconds in which a connection must stand, declarations and all."""

FAREWELL = 5.0
"""Seconds to say goodbye in."""

for _name in ("aio_pika", "aiormq"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # what they would say, `away` says where it is read

Use = Callable[[AbstractChannel], Awaitable[None]]


class Link:
    """`use` readies a new channel; `gone` is told when it is none any more; `changed` when `away` has changed. All in
    the event loop."""

    def __init__(
        self, options: BrokerOptions, name: str, use: Use, gone: Callable[[], None], changed: Callable[[], None]
    ) -> None:
        self._options, self._name, self._use, self._gone, self._changed = options, name, use, gone, changed
        self._user = options.user or GUEST
        self._connection: AbstractConnection | None = None
        self._watch: asyncio.Task[None] | None = None
        self.channel: AbstractChannel | None = None
        self._stood = self.tried = False
        self.lost: asyncio.Future[BaseException | None]
        self.away: PlaceFault | None = fault(f"{options.where} has not answered yet")

    async def run(self) -> None:
        rest = FIRST_REST
        while True:
            self.lost, self._stood = asyncio.get_running_loop().create_future(), False
            try:
                error = await self._stand()
                self._now(self.why(error))
            finally:
                await self._close()
            rest = FIRST_REST if self._stood else rest
            await asyncio.sleep(rest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            rest = min(LONGEST_REST, rest * 2)

    async def _stand(self) -> BaseException | None:
        """Until it is lost; why."""
        try:
            await self._connect()
            self._stood = True
            self._now(None)
            return await self.lost
        except asyncio.CancelledError as cancelled:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return cancelled  # the library's way to say that it has closed
        except Exception as error:
            if not is_trouble(error):
                raise
            return error

    def drop(self, error: PlaceFault) -> None:
        """This connection is of no use; make another."""
        if not self.lost.done():
            self.lost.set_result(error)

    def why(self, error: BaseException | None) -> PlaceFault:
        return why(self._options, self._user, error, stood=self._stood)

    def refused(self, fault: PlaceFault | None) -> None:
        """What the broker was given last it would not take (None: it did). `away`, until it takes something again."""
        if self.channel is not None and self._watch is None and not self.lost.done():
            self._now(fault)

    async def blocked(self) -> bool:
        """Whether the broker takes no messages for lack of memory or disk. Then `away`, until it takes them again."""
        if self._watch is None and self._connection is not None and self._connection.transport is not None:
            ready: asyncio.Future[None] = asyncio.ensure_future(self._connection.transport.ready())
            await asyncio.wait([ready], timeout=0.01)
            if not ready.done():
                self._watch = asyncio.create_task(self._until(ready))
                text = f"{self._options.where} takes no messages at present: it is short of memory or disk"
                self._now(fault(text, "see rabbitmqctl status there"))
        return self._watch is not None

    async def _until(self, ready: asyncio.Future[None]) -> None:
        await ready
        self._watch = None
        self._now(None)

    async def _connect(self) -> None:
        async with asyncio.timeout(ANSWER):
            self._user, secret = login(self._options)
            context = tls(self._options)
            # The library gives up a connection after three of its own beats and a bit.
            beat = max(1, int(self._options.heartbeat / 3) - 1)
            # Not by its `connect`, which leaves behind what it could not connect.
            self._connection = aio_pika.Connection(
                make_url(
                    host=self._options.host,
                    port=self._options.at,
                    login=self._user,
                    password=secret,
                    virtualhost=self._options.vhost,
                    ssl=context is not None,
                    heartbeat=beat,
                ),
                ssl_context=context,
                client_properties={"connection_name": self._name},
            )
            await self._connection.connect()
            self._connection.close_callbacks.add(self._ended)
            channel = self._connection.channel()
            await channel
            channel.close_callbacks.add(self._ended)
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(self._cancelled)
            await self._use(underlay)
            self.channel = underlay

    def _ended(self, _: object, error: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)

    def _cancelled(self, _: object) -> None:
        self.drop(fault(f"{self._options.where} has taken a queue away that we consume", "see who deletes queues"))

    async def _close(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
        if not self.lost.done():
            self.lost.set_result(None)
        self._gone()
        if connection is None:
            return
        try:
            async with asyncio.timeout(FAREWELL):
                await connection.close()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
        except Exception as error:
            if not is_trouble(error):
                raise
            # else it is gone, which is what we wanted

    def _now(self, away: PlaceFault | None) -> None:
        self.tried = True
        before, self.away = self.away, away
        if str(before) != str(away):
            self._changed()
