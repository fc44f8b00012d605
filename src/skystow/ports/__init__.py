"""The doors of the house: what the engine and the services need from the outside. Read this file first.

Sources say what arrived. The ledger writes it down. Pumps carry it to each place. The outbox tells the world.

Each port has a memory implementation (`skystow.adapters.memory`), real ones, and a contract suite
(`skystow.testing`) that all of them pass. All calls block; asyncio lives in `skystow.service` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol

from skystow.errors import ClaimLost, FileFault
from skystow.model.records import Arrival, DeadLetter, Digest, Fingerprint, Notice, Skipped
from skystow.model.transfer import Work
from skystow.ports.ledger import Admission, Copy, Counts, Dossier, Event, Glimpse, Ledger

__all__ = [
    "Admission",
    "Announcer",
    "Clock",
    "Copy",
    "Counts",
    "Dossier",
    "Event",
    "Finding",
    "Glimpse",
    "Ledger",
    "Room",
    "Source",
    "Staged",
    "Stop",
    "Store",
    "Tree",
]


class Stop(Protocol):
    """Somebody may ask us to stop. Every long call takes one and looks at it per block or per poll."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool:
        """Sleep for `timeout` seconds at most; True as soon as we are asked to stop."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds; never jumps."""


# ── places ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Tree(Protocol):
    """Files that are there already, below one root that nothing escapes. Audit and retire read it."""

    def present(self) -> None:
        """Raise `Unreachable` unless the root (and its marker, where one is configured) is proven to be there."""

    def stat(self, path: PurePosixPath) -> Fingerprint | None:
        """None where no regular file stands under `path`."""

    def digest(self, path: PurePosixPath, algorithm: str, *, stop: Stop) -> Digest:
        """Read the file. Raises `Missing`, `Unreadable`, `NotAFile`, `PlaceFault`."""

    def remove(self, path: PurePosixPath, expected: Fingerprint) -> None:
        """Remove the name and sync its directory; raises `Changed` if it is not what was expected.
        Called by `skystow.engine.retire` and by nobody else."""


class Passage(Tree, Protocol):
    """A tree of our own that files pass through, many at a time. Called as `remove` is, by `skystow.engine.retire`."""

    def unlink(self, path: PurePosixPath, expected: Fingerprint) -> None:
        """`remove`, which is durable only after `sync`."""

    def sync(self, paths: Sequence[PurePosixPath]) -> None:
        """The directories of these; one that is not there is left out. Raises `PlaceFault`."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Bytes that landed in a claim's own staging area, or (`adopted`) that stand under the final name already.

    `digest` is that of the stream as it was read (None for adopted files and for links, which are read or compared
    in `prove`). `handle` is the store's own: a descriptor, a remote name.
    """

    work: Work
    digest: Digest | None
    size: int
    source: Fingerprint
    handle: int
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """Space at a place, bytes. `spare` is what may be written before `min_free` is reached; may be negative."""

    total: int
    free: int
    spare: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `skystow check`."""

    subject: str
    ok: bool
    text: str
    remedy: str = ""


class Store(Protocol):
    """A tree of files that only ever gains whole, verified, immutable files.

    The order is the engine's (`skystow.engine.deliver`): stage, prove, seal, (the ledger's promise), publish, sync,
    (the ledger's verdict), drop. Every call may be killed and the whole run again.
    """

    name: str
    tree: Tree
    max_group: int
    """Staged files that may be in hand at once (each may hold a descriptor)."""

    def stage(self, works: Sequence[Work], *, stop: Stop) -> Iterator[tuple[Work, Staged | FileFault]]:
        """Bring each source into the staging area of the claim's token, in an inode of its own, invisible to readers.
        Raises `PlaceFault` (source or target; what was not yielded is untouched), `OperatorFault`, `Stopped`."""
        ...

    def prove(self, staged: Staged, algorithm: str, *, stop: Stop) -> Digest:
        """The digest of what landed, read back from the target (a hard link: of the inode, if it is the same)."""
        ...

    def seal(self, group: Sequence[Staged]) -> None:
        """Read-only, owner, times; and the content durable. After this a power cut loses no byte of them."""
        ...

    def publish(self, group: Sequence[Staged]) -> Iterator[tuple[Staged, FileFault | ClaimLost | None]]:
        """Give each its final name, atomically; never overwrites. None: it has it, be it from an earlier call. Else
        what is wrong with this one: `NameTaken`, `BadName`, `ClaimLost`, …. Raises `PlaceFault`, `OperatorFault`: what
        was not yielded may have its name by then, or not."""

    def sync(self, group: Sequence[Staged]) -> None:
        """Make the names under which these stand durable: their directories, and every directory made on the way
        (whoever made it: another stream may have, and not have synced it yet)."""
        ...

    def drop(self, group: Sequence[Staged]) -> None:
        """Forget what is staged: names in the staging area, descriptors. Never a published name."""
        ...

    def adopt(self, work: Work) -> Staged | None:
        """What stands under the final name, as something to prove, sync and settle; None where nothing does."""
        ...

    def tokens(self, *, idle: float = 0.0) -> Sequence[str]:
        """The claims that have a staging area here in which no name came or went for `idle` seconds."""

    def sweep(self, token: str) -> None:
        """Remove the staging area of a dead claim. A writer that wakes later writes into inodes without a name."""

    def room(self) -> Room: ...

    def check(self, upstream: Tree | None) -> Iterator[Finding]:
        """Try it out: really write, sync, link and remove a probe file as the running user."""
        ...


# ── sources ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Source(Protocol):
    """Says what arrived. A sweep is the truth; `wait` is only speed."""

    name: str
    tree: Tree

    def sweep(self, *, stop: Stop) -> Iterator[Sequence[Arrival | Skipped | DeadLetter]]:
        """One pass over everything that is there and finished, in batches of at most 1,000. What was handed over once
        may be left out of later passes. Raises `Unreachable`, `OperatorFault`, and `Stopped` where it was asked to
        stop before its end."""

    def settling(self) -> int:
        """Files that the last sweep saw and left out because they are not finished yet."""

    def wait(self, seconds: float, *, stop: Stop) -> None:
        """Return after `seconds`, or earlier when something may have changed."""


class Announcer(Protocol):
    """Tells somebody of what happened. At least once; returns when the other side has it."""

    def announce(self, notices: Sequence[Notice]) -> None:
        """Tell of all of them, in this order. May be told again after a crash. Raises `PlaceFault`."""
