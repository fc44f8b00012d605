"""Remove files at their source, after proof. The only module that deletes a source file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from skystow.errors import FileFault
from skystow.model.layout import file_type
from skystow.model.records import Digest
from skystow.model.transfer import State
from skystow.ports import Dossier, Ledger, Source, Stop, Tree

PAGE = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """`after` seconds since the first copy was done; file types in `keep` stay for ever."""

    after: float
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """`remove`: it was removed (on a dry run: would be); `reason` says why, or why not."""

    dossier: Dossier
    remove: bool
    reason: str


def retire(
    ledger: Ledger, source: Source, trees: Mapping[str, Tree], policy: Policy, *, dry_run: bool, stop: Stop
) -> Iterator[Decision]:
    """Decide for each file of one source whose time has come, and remove what may go. `trees`: destinations by name.

    A file goes only when every required copy is DONE, every copy that we own was read again just now and its digest
    holds, and the source still has the archived size, mtime and digest. Raises `PlaceFault` where a place is away.
    """
    source.tree.present()
    after = 0
    while page := ledger.retirable(source.name, older_than=policy.after, after=after, limit=PAGE):
        for dossier in page:
            if stop.is_set():
                return
            if source.tree.stat(dossier.origin) is None:
                # Removed by somebody else, or by us just before a crash.
                if not dry_run:
                    ledger.retired(dossier)
                yield Decision(dossier, False, "not at the source any more")
                continue
            against = _against(dossier, source.tree, trees, policy, stop)
            if not against and not dry_run:
                against = _removed(ledger, dossier, source.tree)
            yield Decision(dossier, not against, against or "archived, read again, unchanged at the source")
        after = page[-1].id


def _removed(ledger: Ledger, dossier: Dossier, tree: Tree) -> str:
    try:
        tree.remove(dossier.origin, dossier.fingerprint)  # compares size and mtime once more
    except FileFault as fault:
        return str(fault)
    ledger.retired(dossier)
    return ""


def _against(dossier: Dossier, source: Tree, trees: Mapping[str, Tree], policy: Policy, stop: Stop) -> str:
    """What speaks against removing it; empty: nothing."""
    if (kind := file_type(dossier.origin)) in policy.keep:
        return f"files of type {kind} are kept"
    for copy in dossier.copies:
        if copy.required and copy.state is not State.DONE:
            return f"the copy at {copy.route.destination} is {copy.state}"
    standing = [c for c in dossier.copies if c.state is State.DONE and c.removed_at is None and c.owned and c.digest]
    if not standing:
        return "no copy that we own stands"
    archived: Digest | None = None
    for copy in standing:
        archived = copy.digest
        against = _differs(trees[copy.route.destination], copy.path, archived, stop)
        if against:
            return f"the copy at {copy.route.destination}: {against}"
    now = source.stat(dossier.origin)
    if now is None or not dossier.fingerprint.same_content(now):
        return "changed at the source since it was archived"
    against = _differs(source, dossier.origin, archived, stop)
    return f"at the source: {against}" if against else ""


def _differs(tree: Tree, path: PurePosixPath, expected: Digest | None, stop: Stop) -> str:
    if expected is None:
        return "no digest is known"
    try:
        found = tree.digest(path, expected.algorithm, stop=stop)
    except FileFault as fault:
        return str(fault)
    return "" if found == expected else f"reads {found}, archived as {expected}"
