"""`skystow retry`, `ignore` and `resolve`: what a person decides about files that are stuck."""

from __future__ import annotations

from pathlib import PurePosixPath

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say
from skystow.engine.outlook import is_conflict
from skystow.errors import ConfigError
from skystow.model.records import path_bytes, shown
from skystow.model.transfer import State, numbered
from skystow.ports import Copy, Dossier
from skystow.wiring import House, open_house
from skystow.wiring.find import newest, quarantined, stuck

KEPT = "resolved: what is archived stays, this version is left out"


def retry(place: str, names: list[str], *, all_: bool, ledger: str | None, json: bool) -> Exit:
    if all_ == bool(names):
        raise ConfigError("name the files to try again, or say --all")
    with open_house(place, ledger) as house:
        copies = list(quarantined(house)) if all_ else stuck(house, names)
        changed = house.ledger.requeue(copies)
    text = f"{_copies(changed)} again in the queue; a skystow that runs takes them up, else the next run does."
    _report(json, {"requeued": changed}, text if changed else "Nothing to try again: none is quarantined or ignored.")
    return Exit.WELL


def ignore(place: str, name: str, reason: str, *, ledger: str | None, json: bool) -> Exit:
    if not reason.strip():
        raise ConfigError("say why, with --reason: whoever traces the file later will ask")
    with open_house(place, ledger) as house:
        copies = [c for dossier in newest(house, name) for c in dossier.copies if _open(c)]
        changed = house.ledger.ignore(copies, reason)
    text = f"{_copies(changed)} of {shown(name)} left out: {shown(reason)}"
    _report(json, {"ignored": changed}, text if changed else f"Nothing to leave out: no copy of {shown(name)} waits.")
    return Exit.WELL


def _copies(count: int) -> str:
    return "1 copy" if count == 1 else f"{count:,} copies"


def _open(copy: Copy) -> bool:
    return copy.state in (State.WAITING, State.QUARANTINED)


def resolve(place: str, name: str, *, number: bool, ledger: str | None, json: bool) -> Exit:
    with open_house(place, ledger) as house:
        found = [dossier for dossier in newest(house, name) if any(map(is_conflict, dossier.copies))]
        if not found:
            raise ConfigError(
                f"{shown(name)} is in no conflict", remedy=f"skystow trace {shown(place)} {shown(name)} tells its state"
            )
        if len(found) > 1:
            numbers = ", ".join(f"{each.id} ({shown(each.origin)} of {each.source})" for each in found)
            raise ConfigError(f"{shown(name)} may be any of {numbers}", remedy="name it by its source path or number")
        paths = _number(house, found[0]) if number else _keep(house, found[0])
    done = ", ".join(f"goes to {path}" for path in paths) if number else "stays out; what is archived stays"
    _report(json, {"resolved": "number" if number else "keep", "paths": paths}, f"{shown(name)} {done}.")
    return Exit.WELL


def _keep(house: House, dossier: Dossier) -> list[str]:
    """The newcomer is left out, and with it the copies that would be made of it."""
    conflicts = [copy for copy in dossier.copies if is_conflict(copy)]
    places = {copy.route.destination for copy in conflicts}
    behind = [copy for copy in dossier.copies if copy.blocked and copy.route.source in places]
    house.ledger.ignore([*conflicts, *behind], KEPT)
    return [shown(copy.path) for copy in conflicts]


def _number(house: House, dossier: Dossier) -> list[str]:
    """The newcomer goes beside what is archived, to the first free `name.N`."""
    paths = []
    for copy in dossier.copies:
        if is_conflict(copy):
            path = _free(house, copy)
            house.ledger.renumber(copy, path)
            paths.append(shown(path))
    return paths


def _free(house: House, copy: Copy) -> PurePosixPath:
    tree, n = house.destinations[copy.route.destination], 1
    tree.present()
    while tree.stat(path := numbered(copy.path, n)) is not None or house.ledger.find(path_bytes(path)):
        n += 1
    return path


def _report(json: bool, document: dict[str, object], text: str) -> None:
    if json:
        emit(document)
    else:
        say(text)
