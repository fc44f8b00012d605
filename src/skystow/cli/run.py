"""`skystow run SITE`: until it is stopped, or one pass with `--once`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from skystow.cli.exits import Exit
from skystow.cli.log import Tap, entry
from skystow.cli.summary import Run, notes
from skystow.cli.watch import Pace, watching
from skystow.config import Site, load
from skystow.errors import ConfigError, PlaceFault, Stopped
from skystow.hosts.archiver import presented
from skystow.model.records import shown
from skystow.service.component import Ending
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.service.notify import Manager
from skystow.wiring import House, build
from skystow.wiring.image import FILES, component_names, control_directory

FIRST_REST, LONGEST_REST = 0.5, 30.0
"""Seconds between two looks for a ledger's server that is away."""


def run(halt: Halt, site: str, *, once: bool, json: bool, give_up_after: float, component: str | None = None) -> Exit:
    config = load(site)
    names = _named(config, component, once=once)
    tap = Tap()
    log, manager = _log(tap), Manager.of(os.environ)
    with _house(config, halt, log, manager, together=component is None, patient=not once) as house:
        log.info("started", site=shown(site), sources=len(config.sources), destinations=len(config.destinations))
        summary, told = Run(house), set[tuple[str, str]]()

        def note() -> None:
            for each in notes(house):
                if each not in told:
                    log.warning("note", source=each[0], text=each[1])
                told.add(each)

        def line(pace: Pace) -> None:
            note()
            log.info("progress", text=pace.line())
            for place in house.progress.resting:
                log.warning("resting", place=place.place, reason=place.reason, next_look=str(place.next_probe))

        plain = json or not sys.stderr.isatty()
        with watching(house, line=line if plain else None):
            if once:
                ending = asyncio.run(house.component().run(halt, once=True, give_up_after=give_up_after))
            else:
                ending = _serve(house, halt, names, control_directory(site, config), manager, tap)
        note()
        code = summary.finish(ending, place=shown(site), json=json, endless=not once)
        log.info("ended", ending=ending.value)
        return code


@contextmanager
def _house(config: Site, halt: Halt, log: Any, manager: Manager, *, together: bool, patient: bool) -> Iterator[House]:
    """The site, opened. While its ledger is away: who is `patient` waits, and says so."""
    rest = FIRST_REST
    with ExitStack() as stack:
        while True:
            try:
                house = stack.enter_context(build(config, together=together, log=partial(entry, log)))
                break
            except PlaceFault as fault:
                if not patient:
                    raise
                log.warning("waiting", place=fault.place, reason=str(fault), seconds=rest)
                manager.status(f"waits: {fault}")
                if halt.wait(rest):
                    raise Stopped("stopped before its ledger was there") from fault
                rest = min(LONGEST_REST, rest * 2)
        yield house


def _named(config: Site, component: str | None, *, once: bool) -> list[str]:
    known = component_names(config)
    if component is not None and component not in known:
        raise ConfigError(f"this site has no component ‘{shown(component)}’", remedy=f"it has {', '.join(known)}")
    if (once and (component or FILES) != FILES) or (once and FILES not in known):
        raise ConfigError("only the file archiver can make a single pass", remedy="leave out --once")
    return [component] if component else known


def _serve(house: House, halt: Halt, names: list[str], control: str, manager: Manager, tap: Tap) -> Ending:
    components = house.components(names)
    with presented(house, components, tap):
        return asyncio.run(run_together(components, halt, control, manager))


def _log(tap: Tap) -> Any:
    """Lines of time and key=value on stderr, for a service's journal."""
    import structlog

    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            tap,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.LogfmtRenderer(key_order=["at", "level", "event"]),
        ],
    )
