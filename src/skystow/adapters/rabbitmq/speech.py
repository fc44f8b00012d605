"""Messages to the broker: all under way together, each confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from skystow.adapters.rabbitmq.connection import Link
from skystow.adapters.rabbitmq.trouble import fault
from skystow.model.acts import Say

SOON = 1.0
"""Seconds in which a broker confirms; after them we look whether it listens at all."""

PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class Letter:
    say: Say
    exchange: str
    queue: str
    body: bytes


class Speech:
    """`seconds`: how long to wait for confirms."""

    def __init__(self, link: Link, seconds: float) -> None:
        self._link, self._seconds = link, seconds

    async def publish(self, letters: Sequence[Letter]) -> Sequence[tuple[Letter, str]]:
        """Returns when the broker has them: those that no queue took, and why. Raises `PlaceFault`; then nothing is
        known of any of them."""
        link = self._link
        if link.channel is None or await link.blocked():
            raise link.away or fault("the connection was closed")
        # Tasks begin in their order, and the channel takes one at a time: so the order is kept.
        tasks = [asyncio.ensure_future(_send(link.channel, letter)) for letter in letters]
        try:
            return await self._outcome(tasks, letters)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, tasks: Sequence[asyncio.Task[str]], letters: Sequence[Letter]) -> list[tuple[Letter, str]]:
        link = self._link
        all_of_them: asyncio.Future[list[str | BaseException]] = asyncio.gather(*tasks, return_exceptions=True)
        waiting: list[asyncio.Future[Any]] = [all_of_them, link.lost]
        for seconds in (min(SOON, self._seconds), max(0.0, self._seconds - SOON)):
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if all_of_them.done() or link.lost.done() or await link.blocked():
                break
        if not all_of_them.done():
            all_of_them.cancel()
            await asyncio.gather(all_of_them, return_exceptions=True)
            if link.away is None and not link.lost.done():
                link.drop(fault("the broker does not confirm what it is given"))
            raise link.away or fault("the connection broke before the broker had confirmed")
        outcomes = all_of_them.result()
        for each in outcomes:
            if isinstance(each, DeliveryError):
                error = fault("the broker would not take a message", "is a queue full, by a policy? See its log")
                link.refused(error)
                raise error
            if isinstance(each, BaseException):
                raise link.why(each)
        link.refused(None)
        return [
            (letter, each) for letter, each in zip(letters, outcomes, strict=True) if isinstance(each, str) and each
        ]


async def _send(channel: AbstractChannel, letter: Letter) -> str:
    """Why no queue took it; "": one did."""
    properties = Basic.Properties(
        content_type="application/x-yaml", content_encoding="utf-8", delivery_mode=PERSISTENT, message_id=uuid4().hex
    )
    outcome: object = await channel.basic_publish(
        letter.body,
        exchange=letter.exchange,
        routing_key=letter.queue,
        properties=properties,
        mandatory=True,
    )
    if isinstance(outcome, DeliveredMessage):
        by = f"exchange {letter.exchange}" if letter.exchange else "the default exchange"
        return f"queue {letter.queue} is not there, or not bound to {by}; declare it, then replay this"
    return ""
