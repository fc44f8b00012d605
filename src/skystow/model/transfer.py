"""One file on its way to one place: states, verdicts, and the rule that turns an error into a verdict.

    WAITING ──Delivered──► DONE          (removed on purpose: still DONE, with `removed_at` and why)
       │  ▲
       │  └──Retry, Held, a lease that ran out
       ├──Quarantined──► QUARANTINED ──retry, resolve──► WAITING
       └──ignore, superseded──► CANCELLED ──retry──► WAITING

A claim is a lease, not a state: a WAITING transfer under a live lease is being worked on.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from skystow.errors import FileFault, NoRoom, SkystowError
from skystow.model.records import Digest, Fingerprint, Location


class State(StrEnum):
    """Of a transfer."""

    WAITING = "waiting"
    DONE = "done"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """What can happen to a file: the vocabulary of the event log and of notices."""

    ADMITTED = "admitted"
    REFRESHED = "refreshed"  # its source changed before it was copied
    SUPERSEDED = "superseded"  # a newer version of its source took its turn
    CLAIMED = "claimed"
    ABANDONED = "abandoned"  # a claim ended without a verdict
    HELD = "held"  # a place's fault, or we were asked to stop
    RETRY = "retry"
    DELIVERED = "delivered"
    QUARANTINED = "quarantined"
    RENUMBERED = "renumbered"  # goes to another name, beside the one that is taken
    REQUEUED = "requeued"  # an operator said: again
    IGNORED = "ignored"  # an operator said: never
    VERIFIED = "verified"  # read again, digest holds
    DAMAGED = "damaged"  # read again, digest does not hold
    MISSING = "missing"  # looked for again, not there
    RETIRED = "retired"  # removed at its source, after proof
    REMOVED = "removed"  # a copy was removed on purpose


TRANSITIONS: Mapping[tuple[State, Step], State] = {
    (State.WAITING, Step.REFRESHED): State.WAITING,
    (State.WAITING, Step.CLAIMED): State.WAITING,
    (State.WAITING, Step.ABANDONED): State.WAITING,
    (State.WAITING, Step.HELD): State.WAITING,
    (State.WAITING, Step.RETRY): State.WAITING,
    (State.WAITING, Step.RENUMBERED): State.WAITING,
    (State.WAITING, Step.DELIVERED): State.DONE,
    (State.WAITING, Step.QUARANTINED): State.QUARANTINED,
    (State.WAITING, Step.SUPERSEDED): State.CANCELLED,
    (State.WAITING, Step.IGNORED): State.CANCELLED,
    (State.QUARANTINED, Step.SUPERSEDED): State.CANCELLED,
    (State.QUARANTINED, Step.IGNORED): State.CANCELLED,
    (State.QUARANTINED, Step.REQUEUED): State.WAITING,
    (State.QUARANTINED, Step.RENUMBERED): State.WAITING,
    (State.CANCELLED, Step.REQUEUED): State.WAITING,
    (State.DONE, Step.VERIFIED): State.DONE,
    (State.DONE, Step.DAMAGED): State.DONE,
    (State.DONE, Step.MISSING): State.DONE,
    (State.DONE, Step.RETIRED): State.DONE,
    (State.DONE, Step.REMOVED): State.DONE,
}
"""Anything absent is unlawful; the picture in the docs is drawn from this table."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Somebody who is told of steps of files, through an outbox of its own: one that is away keeps nobody else
    waiting. `source`: only of files of this one (None: of all)."""

    name: str
    steps: frozenset[Step]
    source: str | None = None


JOURNAL = Audience("journal", frozenset({Step.DELIVERED, Step.QUARANTINED, Step.DAMAGED, Step.MISSING}))
"""Who wants to know what became of every file."""


@dataclass(frozen=True, slots=True)
class Route:
    """From one place to another; each route is a queue of its own, so that one dead place stops only its routes."""

    source: str
    destination: str

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}"


@dataclass(frozen=True, slots=True)
class Destination:
    """What admission must know of a destination: one transfer is made for each.

    `upstream` names the destination whose verified copy it takes its bytes from; None: straight from the source.
    Where the reader may remove a name (`owned` is False), absence after DONE is not damage.
    """

    name: str
    upstream: str | None = None
    required: bool = True
    owned: bool = True


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed transfer: all that a store needs to know. Valid while its token holds."""

    id: int
    token: str
    route: Route
    source: Location
    target: PurePosixPath
    fingerprint: Fingerprint
    claimed: Digest | None
    """What the bytes must digest to: claimed by the source or, for a handoff, proven by the upstream copy."""
    promised: Digest | None
    """What an earlier claim was about to publish; a file of that digest under the final name is its doing."""
    attempts: int

    def __hash__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Work) and self.id == other.id and self.token == other.token


def mark_of(identity: str) -> str:
    """With what each token of a ledger begins: two ledgers of one place tell their staging areas apart by it."""
    return identity[:8]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of one copy: the digest read back from the target, and the source as it was when it was read."""

    digest: Digest
    size: int
    source: Fingerprint


@dataclass(frozen=True, slots=True)
class Delivered:
    """Proven and published. `already`: the same content stood under the final name before us."""

    receipt: Receipt
    already: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt is spent; again after `after` seconds."""

    fault: Reason
    after: float


@dataclass(frozen=True, slots=True)
class Held:
    """Nobody's attempt is spent; again as soon as the place is well (None: we were asked to stop), and not before
    `after` seconds."""

    fault: Reason | None
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An attempt is spent and a person must look."""

    fault: Reason


@dataclass(frozen=True, slots=True)
class Renumbered:
    """The name is taken by other content and the site says `on_conflict: number`: goes to `path` instead."""

    fault: Reason
    path: PurePosixPath


Verdict = Delivered | Retry | Held | Quarantined | Renumbered


@dataclass(frozen=True, slots=True)
class Reason:
    """An error, written down: `code` is the class's code in `skystow.errors`."""

    code: str
    text: str

    @classmethod
    def of(cls, error: SkystowError) -> Reason:
        return cls(error.code, str(error))


def spent_before(attempts: int) -> Reason:
    """Why a file is quarantined when it is admitted."""
    return Reason(FileFault.code, f"its source counts {attempts} failed attempts already")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a file is tried again. Waits are seconds and grow by `factor` up to `most`."""

    max_attempts: int = 5
    first: float = 1.0
    factor: float = 4.0
    most: float = 3600.0

    def wait(self, spent: int, salt: int) -> float:
        """Seconds to wait after the `spent`-th attempt (1 is the first), ± 20 % told from `salt`, so that a thousand
        files that failed together do not come back together."""
        jitter = 0.8 + 0.4 * (zlib.crc32(f"{salt}:{spent}".encode()) / 0xFFFFFFFF)
        try:
            grown = self.first * self.factor ** (spent - 1)
        except OverflowError:
            grown = self.most
        return float(min(self.most, grown)) * jitter


ROOM_AGAIN = 600.0
"""Seconds after which a file that found no room, where others may have found some, is tried again."""


def judge(error: SkystowError, work_id: int, attempts: int, policy: RetryPolicy) -> Retry | Held | Quarantined:
    """What an error means for one file. `attempts` is what was spent before this one."""
    reason = Reason.of(error)
    if isinstance(error, NoRoom):
        return Held(reason, ROOM_AGAIN)
    if not isinstance(error, FileFault):
        return Held(reason)
    spent = attempts + 1
    if error.final or spent >= policy.max_attempts:
        return Quarantined(reason)
    return Retry(reason, policy.wait(spent, work_id))


@dataclass(frozen=True, slots=True)
class Abandonment:
    """What a claim that ended without a verdict leaves on each transfer: `cap` bounds the next batch that it is in."""

    cap: int
    alone: int


DEATHS_ALONE = 3
"""A file with which, alone, the process died this often running gets a verdict for it."""


def abandoned(batch: int, alone: int) -> Abandonment:
    """Batches halve, so that one deadly file is found in log2(batch) steps; deaths count only once it is alone."""
    return Abandonment(cap=max(1, batch // 2), alone=alone + 1 if batch == 1 else 0)


def numbered(path: PurePosixPath, n: int) -> PurePosixPath:
    """`a/b.fits` → `a/b.fits.1`, as the original pysmurf archiver wrote it."""
    return path.with_name(f"{path.name}.{n}")
