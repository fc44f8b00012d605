"""Remove files at their source, after proof. The only module that deletes a source file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from skystow.errors import FileFault
from skystow.model.layout import file_type
from skystow.model.records import Digest, Fingerprint, path_bytes
from skystow.model.transfer import State
from skystow.ports import Dossier, Ledger, Passage, Source, Stop, Tree

PAGE = 500

DECIDED = frozenset({State.DONE, State.CANCELLED})
"""Nothing more is to be done for a copy; of another arrival than the one whose file is to go."""


def nothing(_dossier: Dossier) -> str:
    """Speaks against nothing."""
    return ""


@dataclass(frozen=True, slots=True)
class Policy:
    """`after` seconds since the first copy was done; file types in `keep` stay for ever. `against`: what its source
    says against the removal of a file (empty: nothing); may raise `PlaceFault`."""

    after: float
    keep: frozenset[str] = frozenset()
    against: Callable[[Dossier], str] = nothing


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

    A file goes only when every required copy of whatever was to be made of it is DONE, every copy that we own was read
    again just now and its digest holds, and the source still has the archived size, mtime and digest. Raises
    `PlaceFault` where a place is away.
    """
    source.tree.present()
    after = 0
    while page := ledger.retirable(source.name, older_than=policy.after, after=after, limit=PAGE):
        for dossier in page:
            if stop.is_set():
                return
            try:
                yield _decide(ledger, dossier, source.tree, trees, policy, dry_run, stop)
            except FileFault as fault:
                yield Decision(dossier, False, f"at the source: {fault}")
        after = page[-1].id


def _decide(
    ledger: Ledger,
    dossier: Dossier,
    source: Tree,
    trees: Mapping[str, Tree],
    policy: Policy,
    dry_run: bool,
    stop: Stop,
) -> Decision:
    now = source.stat(dossier.origin)
    if now is None:
        # Removed by somebody else, or by us just before a crash; or its disk is gone, since we began.
        source.present()
        if not dry_run:
            ledger.retired(dossier)
        return Decision(dossier, False, "not at the source any more")
    # What costs least goes first; and its source is asked once more in the end: to read all copies may take an hour, in
    # which somebody may have said that the file must stay.
    against = _kept(dossier, policy) or policy.against(dossier) or _against(dossier, now, source, trees, stop)
    if against := against or _awaited(ledger, dossier, policy):
        return Decision(dossier, False, against)
    if not dry_run:
        # Compares once more: what was put there while all copies were read has never been looked at.
        source.remove(dossier.origin, now)
        ledger.retired(dossier)
    return Decision(dossier, True, "archived, read again, unchanged at the source")


def _awaited(ledger: Ledger, dossier: Dossier, policy: Policy) -> str:
    """Whether somebody still needs it; empty: nobody. One file may have come under several keys, as rows of a table
    that name it twice: it is removed for all of them, or not at all."""
    same = (ledger.dossier(number) for number in ledger.find(path_bytes(dossier.origin)))
    others = [each for each in same if each and (each.source, each.origin) == (dossier.source, dossier.origin)]
    for each in [dossier, *(each for each in others if each.key != dossier.key)]:
        if against := policy.against(each):
            return against
        if each is not dossier and any(c.required and c.state not in DECIDED for c in each.copies):
            return f"it came under another key too, and is not archived for that yet (number {each.id})"
    return ""


def _kept(dossier: Dossier, policy: Policy) -> str:
    kind = file_type(dossier.origin)
    return f"files of type {kind} are kept" if kind in policy.keep else ""


def _against(dossier: Dossier, now: Fingerprint, source: Tree, trees: Mapping[str, Tree], stop: Stop) -> str:
    """What speaks against removing it; empty: nothing. `now` is what the source looks like."""
    for copy in dossier.copies:
        if copy.required and copy.state is not State.DONE:
            return f"the copy at {copy.route.destination} is {copy.state}"
    standing = [c for c in dossier.copies if c.state is State.DONE and c.removed_at is None and c.owned and c.digest]
    if not standing:
        return "no copy that we own stands"
    archived: Digest | None = None
    for copy in standing:
        archived, place = copy.digest, copy.route.destination
        if place not in trees:
            return f"the copy at {place} cannot be read: the site file names no such place any more"
        if against := _differs(trees[place], copy.path, archived, stop):
            return f"the copy at {place}: {against}"
    if not dossier.fingerprint.same_content(now):
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


def release(ledger: Ledger, source: str, tree: Passage, *origins: PurePosixPath, stop: Stop) -> list[PurePosixPath]:
    """Remove the names that files came by, where every required copy is DONE; returns those of which nothing is owed
    any more. One sync and one transaction for all of them.

    For places of our own that files only pass through: what was proven when it was copied, or linked by its very
    inode, is not read a second time; what came under that name once more is. A file that was replaced since is
    another one, and stays. Raises `PlaceFault`; and, when the others are done, the first `FileFault` of one that
    cannot be looked at or removed now.
    """
    gone: dict[PurePosixPath, Dossier] = {}
    faults: list[FileFault] = []
    for origin, dossier in ledger.latest(source, origins).items():
        if any(copy.required and copy.state is not State.DONE for copy in dossier.copies):
            continue
        try:
            now = tree.stat(origin)
            if now is not None and _is_what_went(dossier, now, tree, stop):
                tree.unlink(origin, now)
            gone[origin] = dossier
        except FileFault as fault:
            faults.append(fault)
    tree.sync(list(gone))  # all of them: an earlier run may have ended between the two
    ledger.retired(*(dossier for dossier in gone.values() if dossier.retired_at is None))
    if faults:
        raise faults[0]
    return list(gone)


def _is_what_went(dossier: Dossier, now: Fingerprint, tree: Tree, stop: Stop) -> bool:
    then = dossier.fingerprint
    if not then.same_content(now):
        return False
    if dossier.retired_at is None and then.inode in (None, now.inode):
        return True
    proven = [copy.digest for copy in dossier.copies if copy.state is State.DONE]
    return bool(proven) and all(not _differs(tree, dossier.origin, digest, stop) for digest in set(proven))


def discard(ledger: Ledger, destination: str, tree: Tree, path: PurePosixPath, reason: str) -> None:
    """Remove a published file that turned out to be of no use; it was put aside under another name before.
    Raises `FileFault`, `PlaceFault`."""
    if (now := tree.stat(path)) is not None:
        tree.remove(path, now)
    for number in ledger.find(path_bytes(path)):
        dossier = ledger.dossier(number)
        copies = [c for c in dossier.copies if c.route.destination == destination and c.path == path] if dossier else []
        ledger.removed(copies, reason)
