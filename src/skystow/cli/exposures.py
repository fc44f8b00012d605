"""`skystow exposures` and `skystow night`: what became of what the camera took."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from skystow.cli.exits import Exit
from skystow.cli.present import columns, emit, say, when
from skystow.errors import ConfigError
from skystow.image.night import Exposure, Night, exposures, night
from skystow.model.acts import Milestone
from skystow.model.records import shown
from skystow.ports.talk import Line
from skystow.wiring.image import open_talks

_CCD = re.compile(r"(?P<obsid>.+)-R(?P<raft>[0-9A-Z]{2})S(?P<sensor>[0-9A-Z]{2})\.fits")


def listed(site: str, *, day_obs: int | None, json: bool) -> Exit:
    with open_talks(site) as talks:
        days = [day_obs] if day_obs is not None else list(talks.days())
        found = [each for day in sorted(days) for each in exposures(talks.lines(day_obs=day))]
    if json:
        emit({"exposures": [_plain(each) for each in found]})
    elif not found:
        say("No exposures." if day_obs is None else f"No exposures on {day_obs}.")
    else:
        rows = [["exposure", "began", "state", "files", "faults"]]
        for each in found:
            rows.append([each.obsid, when(each.began), _state(each), each.sentence(), str(len(each.faults) or "")])
        say(*columns(rows))
    return Exit.PEOPLE if any(not each.ignored and not each.complete for each in found) else Exit.WELL


def report(site: str, day_obs: int, *, json: bool) -> Exit:
    with open_talks(site) as talks:
        found = night(day_obs, talks.lines(day_obs=day_obs))
        known = talks.days()
    if not found.exposures and day_obs not in known:
        raise ConfigError(
            f"no exposures are known of {day_obs}", remedy=f"known: {', '.join(map(str, known)) or 'none'}"
        )
    if json:
        emit(_night(found))
    else:
        _tell(found)
    return Exit.PEOPLE if found.owed else Exit.WELL


def record(site: str, path: PurePosixPath) -> list[Line]:
    """What is on record of the CCD whose file this is, from the camera's event to the OODS; oldest first."""
    found = _CCD.fullmatch(path.name)
    if found is None:
        return []
    with open_talks(site) as talks:
        lines = talks.lines(obsid=found["obsid"])
    own = ("", f"R{found['raft']}_S{found['sensor']}")
    return sorted((line for line in lines if line.detector in own), key=lambda line: line.at)


def _state(each: Exposure) -> str:
    if each.ignored:
        return "ignored"
    if each.complete:
        return "complete, late" if each.late else "complete"
    return "late" if each.late else "under way"


def _plain(each: Exposure) -> dict[str, Any]:
    return {
        "obsid": each.obsid,
        "state": _state(each),
        "expected": len(each.expected),
        "assembled": len(each.reached(Milestone.ASSEMBLED)),
        "sent": len(each.reached(Milestone.SENT)),
        "linked": len(each.reached(Milestone.LINKED)),
        "ingested": len(each.reached(Milestone.INGESTED)),
        "missing": each.missing(),
        "late": each.late,
        "at": {str(what): at for what, at in each.at.items()},
        "faults": [{"detector": ccd, "number": number, "text": text} for ccd, number, text in each.faults],
    }


def _night(found: Night) -> dict[str, Any]:
    return {
        "day_obs": found.day_obs,
        "exposures": len(found.archived),
        "ignored": len(found.exposures) - len(found.archived),
        "complete": sum(each.complete for each in found.exposures),
        "files": {str(what): found.files(what) for what in _STAGES},
        "gaps": [list(gap) for gap in found.gaps],
        "seconds_to_published": {f"p{p}": value for p, value in found.published.items()},
        "seconds_to_ingested": {f"p{p}": value for p, value in found.ingested.items()},
        "late": [each.obsid for each in found.exposures if each.late],
        "owed": [_plain(each) for each in found.owed],
        "faults": [
            {"obsid": each.obsid, "detector": ccd, "number": number, "text": text}
            for each in found.exposures
            for ccd, number, text in each.faults
        ],
    }


_STAGES = (Milestone.ASSEMBLED, Milestone.SENT, Milestone.ADOPTED, Milestone.LINKED, Milestone.INGESTED)


def _tell(found: Night) -> None:
    complete = sum(each.complete for each in found.exposures)
    say(f"Night {found.day_obs}: {len(found.archived):,} exposures, {complete:,} complete")
    say("files: " + ", ".join(f"{found.files(what):,} {what}" for what in _STAGES))
    if ignored := len(found.exposures) - len(found.archived):
        say(f"{ignored:,} exposures were ignored: the Archiver was disabled")
    runs = [str(a) if a == b else f"{a}–{b}" for a, b in found.gaps]
    say(f"gaps in the sequence: {', '.join(runs) or 'none'}")
    for what, values in (("published", found.published), ("ingested", found.ingested)):
        if values:
            say(f"seconds from endReadout to {what}: " + ", ".join(f"p{p} {v:.2f}" for p, v in values.items()))
    for each in found.exposures:
        if each.late:
            say(f"late: {each.obsid}: {each.late}")
        for ccd, number, text in each.faults:
            say(f"fault: {each.obsid} {ccd} {number or ''} {shown(text)}")
    for each in found.owed:
        say(f"owed: {each.obsid}: {each.sentence()}")
    if not found.owed:
        say("Nothing is owed.")
