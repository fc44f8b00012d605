"""Several components in one process, each with its control socket; the process ends with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from skystow.service.component import Component, Ending
from skystow.service.control import listening
from skystow.service.halt import Halt


async def run_together(components: Mapping[str, Component], halt: Halt, control: str) -> Ending:
    """Until `halt`, or until each was told to exit. `control`: the directory of the sockets.
    Raises `OperatorFault` for what a person must change first; then all of them end."""
    async with asyncio.TaskGroup() as group:
        for name, component in components.items():
            group.create_task(_one(name, component, Halt(halt), control))
    return Ending.STOPPED


async def _one(name: str, component: Component, halt: Halt, control: str) -> None:
    if component.talk is None:
        await component.run(halt, once=False)
        return
    async with listening(name, component.talk, control):
        await component.run(halt, once=False)
