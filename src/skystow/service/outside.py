"""What a component says to the outside, from where it waits in the ledger to whoever publishes it: at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from skystow.errors import PlaceFault
from skystow.model.messages import Message
from skystow.ports.talk import Bus, Delivery, outside

BATCH = 200


class Outside:
    """Of one component. `say`: publishes; its future raises `PlaceFault` while it cannot."""

    def __init__(self, component: str, bus: Bus, say: Callable[[Message], Future[None]]) -> None:
        self._address, self._bus, self._say = outside(component), bus, say

    async def publish(self) -> None:
        """All that waits; published, then taken out of the ledger, never the other way. What could not be published,
        whoever's fault it is, waits there for the next time, and what was is not said again for it."""
        try:
            while waiting := await asyncio.to_thread(self._bus.receive, self._address, limit=BATCH):
                published: list[Delivery] = []
                try:
                    for each in waiting:
                        await asyncio.wrap_future(self._say(each.message))
                        published.append(each)
                finally:
                    await asyncio.to_thread(self._bus.accept, published)
        except PlaceFault:
            return
