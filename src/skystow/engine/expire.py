"""Make room in the OODS: remove what was ingested, is old enough, and stands elsewhere. Deletes published files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skystow.errors import FileFault
from skystow.model.records import path_bytes
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
    ends as soon as it need not); `another_device`: whether a destination's root is on another device than ours."""

    destination: str
    root: str
    tree: Tree
    names: Callable[[PurePosixPath], int]
    crowded: Callable[[], bool]
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
    while shelf.crowded() and (page := catalogue.expirable(older_than=policy.older_than, after=after, limit=PAGE)):
        before = done.removed
        for number, frame in page:
            if stop.is_set() or not shelf.crowded():
                return done
            _one(number, frame, shelf, catalogue, ledger, policy, done)
        after = page[-1][0]
        if done.removed > before and not done.freed:
            done.stopped = f"{done.removed} names went and no room was made: the files have other names on this device"
            return done
    return done


def _one(
    number: int, frame: Frame, shelf: Shelf, catalogue: Catalogue, ledger: Ledger, policy: Policy, done: Pass
) -> None:
    path = PurePosixPath(os.path.relpath(frame.path, shelf.root))
    copies = list(_copies(ledger, path))
    for name in policy.requires:
        if not any(_stands(copy, name, frame) for copy in copies):
            done.keep(f"not proven at {name}")
            return
    try:
        found = shelf.tree.stat(path)
        if found is not None:
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
    ledger.removed([copy for copy in copies if copy.route.destination == shelf.destination], reason)
    catalogue.expired([number], reason)


def _copies(ledger: Ledger, path: PurePosixPath) -> Iterator[Copy]:
    for number in ledger.find(path_bytes(path)):
        if (dossier := ledger.dossier(number)) is not None:
            yield from dossier.copies


def _stands(copy: Copy, name: str, frame: Frame) -> bool:
    """The same content: by digest where both have the same kind, else by size."""
    if copy.route.destination != name or copy.state is not State.DONE or copy.removed_at is not None:
        return False
    if copy.digest is not None and copy.digest.algorithm == frame.digest.algorithm:
        return copy.digest == frame.digest
    return copy.size == frame.size
