"""`skystow control` and `skystow catch-up`: a word to a component that runs on this host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say
from skystow.config import load
from skystow.errors import BadName, ConfigError
from skystow.model.lifecycle import Verb
from skystow.model.messages import lawful_obsid
from skystow.service.control import CATCH_UP, STATE, ask
from skystow.wiring.image import component_names, control_directory, open_talks

VERBS = (*(str(verb) for verb in Verb), STATE)


def control(site: str, component: str, verb: str, *, json: bool) -> Exit:
    config = load(site)
    if component not in (known := component_names(config)):
        raise ConfigError(f"this site has no component ‘{component}’", remedy=f"it has {', '.join(known)}")
    return _told(ask(control_directory(site, config), component, {"verb": verb}), json=json)


def catch_up(site: str, obsids: Sequence[str], *, json: bool) -> Exit:
    try:
        named = [lawful_obsid(obsid) for obsid in obsids]
    except BadName as error:
        raise ConfigError(str(error)) from error
    with open_talks(site) as talks:
        strange = [obsid for obsid in named if not talks.lines(obsid=obsid)]
    if strange:
        raise ConfigError(
            f"nothing was ever heard of {', '.join(strange)}", remedy="skystow exposures lists those that are known"
        )
    answer = ask(control_directory(site, load(site)), "archiver", {"verb": CATCH_UP, "obsids": named})
    return _told(answer, json=json)


def _told(answer: dict[str, Any], *, json: bool) -> Exit:
    refused = answer.get("refused")
    if json:
        emit(answer)
    elif refused:
        number = f" ({answer['number']})" if answer.get("number") else ""
        say(f"{answer['component']} refuses: {refused}{number}. It is {answer['state']}.")
    else:
        report = f": {answer['number']} {answer['report']}" if answer.get("number") else ""
        degraded = f", DEGRADED: {'; '.join(answer['degraded'])}" if answer.get("degraded") else ""
        say(f"{answer['component']} is {answer['state']}{report}{degraded}.")
    if not refused:
        return Exit.WELL
    not_now = answer.get("number") or answer.get("later")
    return Exit.UNFINISHED if not_now else Exit.USAGE  # else it is not lawful
