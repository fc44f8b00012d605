"""Several components in one process, each with its control socket; the process ends with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from skystow.errors import SkystowError
from skystow.service.component import Component, Ending
from skystow.service.control import listening
from skystow.service.halt import Halt
from skystow.service.notify import Manager, informed

NOBODY = Manager()


async def run_together(
    components: Mapping[str, Component], halt: Halt, control: str, manager: Manager = NOBODY
) -> Ending:
    """Until `halt`, or until each was told to exit. `control`: the directory of the sockets, each by its component's
    name. `manager`: who started us, and is told how we are. Raises `OperatorFault` for what a person must change first:
    the others are ended in order before."""
    together = Halt(halt)
    jobs = [_one(name, component, together, control) for name, component in components.items()]
    talks = [component.talk for component in components.values() if component.talk is not None]
    async with informed(manager, talks, together):
        ended = await asyncio.gather(*jobs, return_exceptions=True)
    # Those that we know how to explain first.
    for fault in sorted((each for each in ended if each is not None), key=lambda e: not isinstance(e, SkystowError)):
        raise fault
    return Ending.STOPPED


async def _one(name: str, component: Component, together: Halt, control: str) -> None:
    try:
        if component.talk is None:
            await component.run(Halt(together), once=False)
            return
        async with listening(name, component.talk, control):
            await component.run(Halt(together), once=False)
    except BaseException:
        together.set()
        raise
