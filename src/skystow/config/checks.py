"""What a site file may not say though each of its lines is right: names and places that do not fit together.

Works on the plain values, so that a mistake elsewhere in an entry hides nothing; what has the wrong type is the
models' to tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from skystow.config.document import Place
from skystow.config.spelling import closest, meant
from skystow.errors import ConfigError
from skystow.model.records import shown
from skystow.model.remote import is_remote

Complaint = tuple[Place, str]
Entries = list[tuple[Place, dict[str, Any]]]


def complaints(site: Mapping[str, Any], directory: str) -> Iterator[Complaint]:
    """Everything that does not fit, each with the place that it is about. `directory`: of the site file."""
    sources, destinations = _entries(site, "sources"), _entries(site, "destinations")
    for key in ("sources", "destinations"):
        if site.get(key) == []:
            yield (key,), f"{key}: there should be at least one"
        elif key not in site and "image" not in site and all(closest(other, {key}) is None for other in site):
            yield (), f"{key!r} is missing"
    yield from _names([*sources, *destinations])
    yield from _references(sources, destinations)
    yield from _roots([e for e in sources if not e[1].get("host")], [e for e in destinations if _here(e)], directory)
    yield from _remote(sources, destinations)
    for place, entry in sources:
        yield from _below(place, entry, directory)


def _entries(site: Mapping[str, Any], key: str) -> Entries:
    entries = site.get(key)
    if not isinstance(entries, list):
        return []
    return [((key, n), each) for n, each in enumerate(entries) if isinstance(each, dict)]


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return value if isinstance(value, str) and value and "\0" not in value else None


def _names(entries: Entries) -> Iterator[Complaint]:
    taken: dict[str, str] = {}
    for place, entry in entries:
        if name := _text(entry, "name"):
            if name in taken:
                yield (*place, "name"), f"name {name!r} is taken by {taken[name]}; each place needs its own"
            taken.setdefault(name, "another source" if place[0] == "sources" else "another destination")


def _references(sources: Entries, destinations: Entries) -> Iterator[Complaint]:
    kinds = {name: entry.get("kind") for _, entry in destinations if (name := _text(entry, "name"))}
    for place, entry in destinations:
        upstream = _text(entry, "of") if entry.get("kind") in ("hardlink", "remote") else None
        if upstream and upstream not in kinds:
            yield (*place, "of"), f"of: no destination is called {upstream!r}{meant(upstream, kinds)}"
        elif upstream and kinds[upstream] in ("hardlink", "remote"):
            yield (*place, "of"), f"of: {upstream!r} is itself a {kinds[upstream]}; name a posix destination"
    for place, entry in sources:
        for key in ("to", "copied_when"):
            names = entry.get(key)
            for n, name in enumerate(names if isinstance(names, list) else ()):
                if isinstance(name, str) and name not in kinds:
                    yield (*place, key, n), f"{key}: no destination is called {name!r}{meant(name, kinds)}"
        yield from _counted(place, entry, destinations)


def _counted(place: Place, entry: Mapping[str, Any], destinations: Entries) -> Iterator[Complaint]:
    """What a row waits for must be where its files go."""
    to, counted = entry.get("to"), entry.get("copied_when")
    if not isinstance(to, list) or not isinstance(counted, list):
        return
    upstream = {_text(each, "of") for _, each in destinations if _text(each, "name") in to}
    for n, name in enumerate(counted):
        if isinstance(name, str) and name not in to and name not in upstream:
            yield (*place, "copied_when", n), f"copied_when: files of this source do not go to {name!r} (see to)"


def _here(entry: tuple[Place, dict[str, Any]]) -> bool:
    return entry[1].get("kind") != "remote"


def _remote(sources: Entries, destinations: Entries) -> Iterator[Complaint]:
    far = [entry for _, entry in destinations if entry.get("kind") == "remote" and not entry.get("of")]
    for place, entry in (*sources, *destinations):
        if entry.get("host") and (root := _text(entry, "root")) and not root.startswith("/"):
            yield (*place, "root"), f"root: {root} is on another host; write it from the root directory there"
    for place, entry in sources:
        served = entry.get("to")
        for each in far if entry.get("host") else ():
            if not isinstance(served, list) or each.get("name") in served:
                yield (
                    (*place, "host"),
                    f"host: from one host to another ({each.get('name')!r}) nothing is carried; "
                    "archive it here first, and let that destination say of:",
                )


def _roots(sources: Entries, destinations: Entries, directory: str) -> Iterator[Complaint]:
    seen: dict[str, str] = {}
    for place, entry in destinations:
        if root := _text(entry, "root"):
            real = os.path.realpath(os.path.join(directory, root))
            if real in seen:
                yield (*place, "root"), f"root {root} is the root of {seen[real]} too"
            seen.setdefault(real, f"destination {entry.get('name')!r}")
    for place, entry in sources:
        if root := _text(entry, "root"):
            for there, whose in seen.items():
                if relation := nested(os.path.join(directory, root), there):
                    yield (*place, "root"), f"source root {root} {relation} {whose} ({there})"


def _below(place: Place, entry: Mapping[str, Any], directory: str) -> Iterator[Complaint]:
    """Where files of a source may be must be below its root."""
    if entry.get("kind") != "suprsync" or not (root := _text(entry, "root")):
        return
    within, finalize = entry.get("within"), entry.get("finalize")
    named: list[tuple[Place, object]] = []
    if isinstance(within, list):
        named += [((*place, "within", n), each) for n, each in enumerate(within)]
    if isinstance(finalize, dict):
        named.append(((*place, "finalize", "file_root"), finalize.get("file_root")))
    top = os.path.normpath(os.path.join(directory, root)).rstrip("/") + "/"
    for where, path in named:
        if isinstance(path, str) and not os.path.normpath(os.path.join(directory, path)).startswith(top):
            yield where, f"{'within' if 'within' in where else 'file_root'}: {path} is not below root ({root})"


def nested(source: str, destination: str) -> str:
    """How two directories overlap, in words; empty where they do not. Links are followed."""
    here, there = os.path.realpath(source), os.path.realpath(destination)
    if here == there:
        return "is the same directory as"
    if here.startswith(there.rstrip("/") + "/"):
        return "lies inside"
    if there.startswith(here.rstrip("/") + "/"):
        return "contains"
    return ""


def refuse_places(source: str, dest: str) -> None:
    """Raise `ConfigError` where SOURCE and DEST cannot be what they are said to be; a remote end is not asked."""
    for word, place in (("SOURCE", source), ("DEST", dest)):
        if not place:
            raise ConfigError(f"{word} is an empty name", remedy="is a variable of the shell not set?")
    if is_remote(source) and is_remote(dest):
        raise ConfigError("SOURCE and DEST are both remote", remedy="run skystow on one of these hosts")
    if not is_remote(source):
        _refuse_source(source)
    if not is_remote(dest):
        _refuse_dest(dest)
    if not is_remote(source) and not is_remote(dest) and (relation := nested(source, dest)):
        raise ConfigError(f"SOURCE {shown(source)} {relation} DEST {shown(dest)}", remedy="they must be apart")


def _refuse_source(source: str) -> None:
    if not os.path.lexists(source):
        raise ConfigError(f"SOURCE {shown(source)} does not exist")
    if not os.path.isdir(source):
        raise ConfigError(f"SOURCE {shown(source)} is not a directory", remedy="name the directory that it lies in")
    if not os.access(source, os.R_OK | os.X_OK):
        raise ConfigError(
            f"SOURCE {shown(source)} cannot be read: permission denied",
            remedy="run skystow as a user who may read and search it",
        )


def _refuse_dest(dest: str) -> None:
    if os.path.lexists(dest) and not os.path.isdir(dest):
        raise ConfigError(f"DEST {shown(dest)} is not a directory")
    if not os.path.isdir(parent := os.path.dirname(os.path.abspath(dest))):
        raise ConfigError(f"DEST {shown(dest)}: there is no directory {shown(parent)}", remedy="make or mount it first")
