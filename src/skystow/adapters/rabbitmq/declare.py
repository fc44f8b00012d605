"""What is there on the broker before anybody speaks: an exchange, the queues of the site, and who hears which."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage

from skystow.adapters.rabbitmq.queues import Queues
from skystow.adapters.rabbitmq.trouble import in_use

Heard = Callable[[DeliveredMessage], Coroutine[Any, Any, None]]


async def declare(channel: AbstractChannel, queues: Queues, *, quorum: bool) -> None:
    """As the originals do, who find nothing changed: all durable, for all, without arguments; each queue is bound by
    its own name. Raises what the broker says of what is there already and unlike."""
    await channel.exchange_declare(queues.exchange, exchange_type="direct", durable=True)
    for queue in queues.all:
        await channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"} if quorum else None)
        await channel.queue_bind(queue, queues.exchange, routing_key=queue)


async def consume(channel: AbstractChannel, queue: str, heard: Heard, *, quorum: bool) -> None:
    """Alone: two programs on one queue would each get a part of what is said. Raises `PlaceFault`."""
    # A quorum queue takes a second exclusive consumer without a word, so we count them; of two that come at the same
    # moment both give way, and come again at moments of their own.
    if quorum and await _consumers(channel, queue):
        raise in_use(queue)
    await channel.basic_consume(queue, heard, exclusive=True)
    if quorum and await _consumers(channel, queue) > 1:
        raise in_use(queue)


async def _consumers(channel: AbstractChannel, queue: str) -> int:
    return (await channel.queue_declare(queue, passive=True)).consumer_count or 0
