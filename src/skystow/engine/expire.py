"""Make room in the OODS: remove what was ingested, is old enough, and stands elsewhere. Deletes published files.

A hard link is no second copy, and to remove one frees nothing: where room must be made, names of files that have
others on this device stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skystow.errors import FileFault
from skystow.model.records import Fingerprint, path_bytes
from skystow.model.transfer import State
from skystow.ports import Copy, Ledger, Stop, Tree
from skystow.ports.image import Catalogue, Frame

PAGE = 200


@dataclass(frozen=True, slots=True)
class Policy:
    """`older_than` seconds since ingest; `requires`: destinations where the file must be DONE, on another device."""

    older_than: float
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where ingested files are. `names(path)`: how many names a file has; `crowded`: whether room must be made (a pass
    ends as soon as it need not; None: files go by age alone); `another_device`: whether a destination's root is on
    another device than ours."""

    destination: str
    root: str
    tree: Tree
    names: Callable[[PurePosixPath], int]
    crowded: Callable[[], bool] | None = None
    another_device: Mapping[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Pass:
    """What one pass did: `freed` counts only files whose last name went. `kept`: reason → how many."""

    removed: int = 0
    freed: int = 0
    bytes: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    stopped: str = ""

    def keep(self, reason: str) -> None:
        self.kept[reason] = self.kept.get(reason, 0) + 1


def expire(shelf: Shelf, catalogue: Catalogue, ledger: Ledger, policy: Policy, *, stop: Stop) -> Pass:
    """One pass, oldest first. Raises `PlaceFault`."""
    done, after = Pass(), 0
    for name, elsewhere in shelf.another_device.items():
        if name in policy.requires and not elsewhere:
            done.stopped = f"{name} is on the same device: what stands there is no second copy"
            return done
    while page := catalogue.expirable(older_than=policy.older_than, after=after, limit=PAGE):
        if not after:
            shelf.tree.present()  # an empty mount point is no shelf from which all has gone; a new one may be empty
        for number, frame in page:
            if stop.is_set() or (shelf.crowded is not None and not shelf.crowded()):
                return done
            _one(number, frame, shelf, catalogue, ledger, policy, done, stop)
        after = page[-1][0]
        if done.removed and not done.freed:
            done.stopped = f"{done.removed} names went and no room was made: the files have other names on this device"
            return done
    if shelf.crowded is not None and shelf.crowded():
        kept = "".join(f", {count} {reason}" for reason, count in done.kept.items())
        done.stopped = f"there is still too little room, and nothing more may go{kept}"
    return done


def _one(
    number: int,
    frame: Frame,
    shelf: Shelf,
    catalogue: Catalogue,
    ledger: Ledger,
    policy: Policy,
    done: Pass,
    stop: Stop,
) -> None:
    path = PurePosixPath(os.path.relpath(frame.path, shelf.root))
    try:
        found = shelf.tree.stat(path)
        if found is not None:
            if against := _against(path, frame, found, shelf, ledger, policy, stop):
                done.keep(against)
                return
            last = shelf.names(path) == 1
            shelf.tree.remove(path, found)
            done.removed += 1
            done.freed += last
            done.bytes += (found.size or 0) if last else 0
    except FileFault as fault:
        done.keep(str(fault))
        return
    # Removed first: a crash here leaves a name that is gone and not yet said to be, which the next pass says.
    reason = f"expired: ingested over {policy.older_than:.0f} s ago"
    ledger.removed([copy for copy in _copies(ledger, path) if copy.route.destination == shelf.destination], reason)
    catalogue.expired([number], reason)


def _copies(ledger: Ledger, path: PurePosixPath) -> Iterator[Copy]:
    for number in ledger.find(path_bytes(path)):
        if (dossier := ledger.dossier(number)) is not None:
            yield from dossier.copies


def _against(
    path: PurePosixPath,
    frame: Frame,
    found: Fingerprint,
    shelf: Shelf,
    ledger: Ledger,
    policy: Policy,
    stop: Stop,
) -> str:
    """What speaks against removing it; empty: nothing."""
    if found.size != frame.size:
        return "not what was ingested"
    if shelf.crowded is not None and shelf.names(path) > 1:
        return "with other names on this device"
    copies = list(_copies(ledger, path)) if policy.requires else []
    for name in policy.requires:
        if not any(_stands(copy, name, path, frame, shelf.tree, stop) for copy in copies):
            return f"not proven at {name}"
    return ""


def _stands(copy: Copy, name: str, path: PurePosixPath, frame: Frame, tree: Tree, stop: Stop) -> bool:
    """The same content: by digest. Images are all of one size; where the copy's digest is of another kind than that of
    the ingested file, the file is read."""
    there = copy.digest
    if copy.route.destination != name or copy.state is not State.DONE or copy.removed_at is not None or there is None:
        return False
    here = frame.digest if there.algorithm == frame.digest.algorithm else tree.digest(path, there.algorithm, stop=stop)
    return there == here
