"""What is there on the broker before anybody speaks: an exchange, the queues of the site, and who hears which."""

from __future__ import annotations

from aiormq.abc import AbstractChannel

from skystow.adapters.rabbitmq.queues import Queues


async def declare(channel: AbstractChannel, queues: Queues, *, quorum: bool) -> None:
    """As the originals do, who find nothing changed: all durable, for all, without arguments; each queue is bound by
    its own name. Raises what the broker says of what is there already and unlike."""
    await channel.exchange_declare(queues.exchange, exchange_type="direct", durable=True)
    for queue in queues.all:
        arguments: dict[str, str] | None = {"x-queue-type": "quorum"} if quorum else None
        await channel.queue_declare(queue, durable=True, arguments=arguments)  # type: ignore[arg-type]
        await channel.queue_bind(queue, queues.exchange, routing_key=queue)
