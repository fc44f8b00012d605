"""Lines of a running site's log: what its components tell the outside, and what a person should look at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from skystow.model.acts import Become, Bury, Effect, Mark, Milestone, Reply, Tell
from skystow.model.lifecycle import Summary
from skystow.model.packing import packed
from skystow.model.records import path_text, shown

_LOUD = {Milestone.FAULT: "fault", Milestone.LATE: "late"}
_SAID = {Milestone.COMPLETE: "complete", Milestone.IGNORED: "ignored"}
HEAD, TAIL = 400, 100
"""Characters of a value that are shown: what is said from outside may be of any length."""


class Tap:
    """A processor of structlog: what is below `level` goes nowhere, and all else is told to `listeners`, too, as its
    level and a line."""

    def __init__(self) -> None:
        import structlog

        self.level = logging.INFO
        self.listeners: list[Callable[[int, str], None]] = []
        self._render, self._drop = structlog.processors.LogfmtRenderer(key_order=["event"]), structlog.DropEvent

    def set_level(self, level: int) -> None:
        """Warnings go into the journal, whatever somebody far away has commanded."""
        self.level = min(level, logging.WARNING)

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        level = logging.getLevelNamesMapping()[method.upper()]
        if level < self.level:
            raise self._drop
        line = self._render(logger, method, dict(event)) if self.listeners else ""
        for listen in self.listeners:
            listen(level, str(line))
        return event


def entry(log: Any, component: str, what: Effect | str) -> None:
    """One line, or none: the milestones of a good exposure are in the ledger."""
    match what:
        case str():
            log.info("note", component=component, text=_short(what))
        case Tell(message):
            kind, body = packed(message)
            said = {name: _short(value) for name, value in body.items()}
            log.info("told", **(said | {"component": component, "what": kind}))
        case Become(state, number, report):
            say = log.error if state is Summary.FAULT else log.info
            say("state", component=component, state=state.name, number=number, report=_short(report))
        case Reply(refused, number) if refused:
            log.warning("refused", component=component, number=number, reason=_short(refused))
        case Mark(obsid, milestone, detector, _, number, text) if milestone in _LOUD:
            of = {"exposure": _short(obsid), "detector": detector}
            log.warning(_LOUD[milestone], component=component, **of, number=number, text=_short(text))
        case Mark(obsid, milestone, _, _, _, text) if milestone in _SAID:
            log.info(_SAID[milestone], component=component, exposure=_short(obsid), text=_short(text))
        case Bury(letter):
            key = _short(path_text(letter.key))
            log.warning("dead letter", component=component, source=letter.source, key=key, reason=_short(letter.reason))
        case _:
            pass


def _short(value: object) -> str:
    text = shown(str(value))
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}…{text[-TAIL:]}"
