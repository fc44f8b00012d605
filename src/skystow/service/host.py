"""Several components in one process, each with its control socket; the process ends with the last of them.

An error that nobody foresaw is one component's: it begins again from what is written down, after a rest, and the others
do not notice. One that is alone in its process ends it: whoever started it starts it again, with a clean memory.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from datetime import timedelta

from skystow.errors import SkystowError
from skystow.model.records import Health
from skystow.service.component import Component, Ending
from skystow.service.control import listening
from skystow.service.halt import Halt
from skystow.service.notify import Manager, informed

NOBODY = Manager()
FIRST_REST, LONGEST_REST = 1.0, 60.0


async def run_together(
    components: Mapping[str, Component], halt: Halt, control: str, manager: Manager = NOBODY
) -> Ending:
    """Until `halt`, or until each was told to exit. `control`: the directory of the sockets, each by its component's
    name. `manager`: who started us, and is told how we are. Raises `OperatorFault` for what a person must change first:
    the others are ended in order before."""
    together = Halt(halt)
    jobs = [
        _one(name, component, together, control, alone=len(components) == 1) for name, component in components.items()
    ]
    talks = [component.talk for component in components.values() if component.talk is not None]
    async with informed(manager, talks, together):
        ended = await asyncio.gather(*jobs, return_exceptions=True)
    # Those that we know how to explain first.
    for fault in sorted((each for each in ended if each is not None), key=lambda e: not isinstance(e, SkystowError)):
        raise fault
    return Ending.STOPPED


async def _one(name: str, component: Component, together: Halt, control: str, *, alone: bool) -> None:
    try:
        if component.talk is None:
            await component.run(Halt(together), once=False)
            return
        async with listening(name, component.talk, control):
            await _again_and_again(name, component, together, alone=alone)
    except BaseException:
        together.set()
        raise


async def _again_and_again(name: str, component: Component, together: Halt, *, alone: bool) -> None:
    rest = FIRST_REST
    while not together.is_set():
        try:
            await component.run(Halt(together), once=False)
        except SkystowError:
            raise
        except Exception as error:
            if alone:
                raise
            now, text = component.clock.now(), f"{type(error).__name__}: {error}"
            reason = f"an error that we did not foresee: {text}; it begins again"
            component.progress.report(Health(name, False, now, reason, now + timedelta(seconds=rest)))
            if component.talk is not None:
                component.talk.log(name, f"unforeseen, please report it: {''.join(traceback.format_exception(error))}")
            await together.sleep(rest)
            rest = min(LONGEST_REST, rest * 2)
        else:
            return
        component.progress.report(Health(name, True, component.clock.now()))
