"""From what a person types to files of the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from skystow.engine.outlook import is_conflict
from skystow.errors import ConfigError
from skystow.model.records import path_bytes, shown
from skystow.model.remote import is_remote, remote_end
from skystow.model.transfer import State
from skystow.ports import Copy, Dossier
from skystow.wiring import House

PAGE = 500


def dossiers(house: House, name: str) -> list[Dossier]:
    """The arrivals that `name` may mean, newest first: an absolute path at a source or a destination, a path
    relative to either or to the working directory, or a number. Raises `ConfigError` where there is none."""
    found = list(_of_paths(house, name))
    if not found and name.isascii() and name.isdigit():
        dossier = house.ledger.dossier(int(name))
        found = [dossier] if dossier is not None else []
    if not found:
        roots = ", ".join(f"{shown(root)} ({place})" for place, root in house.roots.items())
        raise ConfigError(
            f"the ledger knows no file {shown(name)}",
            remedy=f"give its path, absolute or relative to one of {roots}",
        )
    return found


def newest(house: House, name: str) -> list[Dossier]:
    """The same without older versions: one for each source file that `name` may mean."""
    each: dict[tuple[str, bytes], Dossier] = {}
    for dossier in dossiers(house, name):
        each.setdefault((dossier.source, path_bytes(dossier.origin)), dossier)
    return list(each.values())


def stuck(house: House, names: Sequence[str]) -> list[Copy]:
    """What can be tried again of the named files. All names are looked up before anything is changed."""
    found = [dossier for name in names for dossier in newest(house, name)]
    return [c for dossier in found for c in dossier.copies if c.state in (State.QUARANTINED, State.CANCELLED)]


def quarantined(house: House) -> Iterator[Copy]:
    """All that failed too often. Conflicts are left: to try them again changes nothing."""
    after = 0
    while page := house.ledger.copies(after=after, limit=PAGE, state=State.QUARANTINED):
        yield from (copy for copy in page if not is_conflict(copy))
        after = page[-1].id


def _of_paths(house: House, name: str) -> Iterator[Dossier]:
    seen: set[int] = set()
    for place, relative in _meanings(house, name):
        for number in house.ledger.find(relative):
            dossier = house.ledger.dossier(number)
            if dossier is None or number in seen or not (place is None or _at(dossier, place, relative)):
                continue
            seen.add(number)
            yield dossier


def _meanings(house: House, name: str) -> Iterator[tuple[str | None, bytes]]:
    """What `name` may be: (place, path below its root); place None: any."""
    raw = os.fsencode(name)
    if not os.path.isabs(raw):
        yield None, os.path.normpath(raw)
    absolute = os.path.abspath(raw)
    # Only the way there is resolved: the file itself may be gone, or be a link by now.
    resolved = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    for place, root in house.roots.items():
        ways = [(absolute, os.path.abspath(os.fsencode(root))), (resolved, os.path.realpath(os.fsencode(root)))]
        if is_remote(root):  # a path as it is there, which is how a table's row has it
            ways.append((os.path.normpath(raw), os.fsencode(remote_end(root)[1])))
        for path, top in ways:
            if path.startswith(top.rstrip(b"/") + b"/"):
                yield place, path[len(top.rstrip(b"/")) + 1 :]


def _at(dossier: Dossier, place: str, relative: bytes) -> bool:
    if dossier.source == place:
        return path_bytes(dossier.origin) == relative
    return any(copy.route.destination == place and path_bytes(copy.path) == relative for copy in dossier.copies)
