"""`skystow run SITE`: until it is stopped, or one pass with `--once`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from skystow.cli.exits import Exit
from skystow.cli.summary import Run, notes
from skystow.cli.watch import Pace, watching
from skystow.config import load
from skystow.model.records import shown
from skystow.service.halt import Halt
from skystow.wiring import build


def run(halt: Halt, site: str, *, once: bool, json: bool, give_up_after: float) -> Exit:
    config = load(site)
    log = _log()
    with build(config) as house:
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
            ending = asyncio.run(house.component().run(halt, once=once, give_up_after=give_up_after))
        note()
        code = summary.finish(ending, place=shown(site), json=json, endless=not once)
        log.info("ended", ending=ending.value)
        return code


def _log() -> Any:
    """Lines of time and key=value on stderr, for a service's journal."""
    import structlog

    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.LogfmtRenderer(key_order=["at", "level", "event"]),
        ],
    )
