"""Carry a claimed batch to its place: the lines that lose or save a file.

    stage     the source's bytes into an inode of the claim's own, hashed on the way
    prove     read back from the target; differs → this file's fault
    seal      read-only, and the content durable
    promise   the ledger writes down what is about to stand under the final name (and whether it is still ours)
    publish   link to the final name; never overwrites
    sync      the directories
    drop      the staged names
    settle    the ledger's verdict, one transaction for the group

Every line may be killed and the whole run again: same result, no second copy. A group is what was proven within
`PACE` seconds, so each file has its verdict soon, and many share a sync and a commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath

from skystow.errors import (
    ClaimLost,
    Conflict,
    DigestMismatch,
    FileFault,
    Missing,
    NameTaken,
    NoRoom,
    NoSpace,
    OperatorFault,
    PlaceFault,
    SkystowError,
    Stopped,
    Unreachable,
)
from skystow.model.records import Digest, shown
from skystow.model.transfer import (
    Delivered,
    Held,
    Quarantined,
    Reason,
    Receipt,
    Renumbered,
    Retry,
    RetryPolicy,
    Verdict,
    Work,
    judge,
    numbered,
)
from skystow.ports import Clock, Ledger, Staged, Stop, Store

PACE = 1.0
"""Seconds between two settlements of one batch, at most (but for one file that takes longer)."""

GROUP = 1_000
"""Files settled together, at most: each group costs two syncs and two commits."""

LEASE = 60.0
"""Seconds; renewed every third of it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the files of a batch, in numbers; `bytes` of those delivered."""

    delivered: int = 0
    already: int = 0
    bytes: int = 0
    retried: int = 0
    quarantined: int = 0
    conflicts: int = 0
    held: int = 0
    lost: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Rules:
    """How a lane treats its files."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    algorithm: str = "blake3"
    number_conflicts: bool = False


Tell = Callable[[Tally], None]
"""Hears what became of the files, at each settlement."""


def deliver(
    works: Sequence[Work], store: Store, ledger: Ledger, rules: Rules, *, tell: Tell, clock: Clock, stop: Stop
) -> None:
    """Carry a claimed batch; every work has its verdict, or is put back, when this returns or raises.

    Raises `PlaceFault` and `OperatorFault` (what was not delivered is held: no attempt spent) and `Stopped`.
    """
    _Delivery(works, store, ledger, rules, tell, clock, stop).run()


class _Delivery:
    """One batch on its way; `open` is what has no verdict yet, `group` what is proven and not yet published."""

    def __init__(
        self, works: Sequence[Work], store: Store, ledger: Ledger, rules: Rules, tell: Tell, clock: Clock, stop: Stop
    ) -> None:
        self.store, self.ledger, self.rules, self.tell = store, ledger, rules, tell
        self.clock, self.stop = clock, stop
        self.total = len(works)
        self.open = dict.fromkeys(works)
        self.group: list[tuple[Staged, Receipt]] = []
        self.verdicts: dict[Work, Verdict] = {}
        self.missing: list[tuple[Work, Missing]] = []
        self.cramped = 0
        self.settled_at = clock.monotonic()
        self.most = min(GROUP, store.max_group)

    def run(self) -> None:
        try:
            fresh: list[Work] = []
            for work in list(self.open):
                if self._published_before(work):
                    self._settle_if_due()
                else:
                    fresh.append(work)
            for work, outcome in self.store.stage(fresh, stop=self.stop):
                self._take(work, outcome)
                self._settle_if_due()
            self._blame_missing()
            self._settle_group()
            self._blame_room()
        except (PlaceFault, OperatorFault) as fault:
            self._salvage()
            self._put_back(Held(Reason.of(fault)))
            raise
        except ClaimLost:
            self._put_back(Held(None))
        except Stopped:
            self._put_back(Held(None))
            raise
        except BaseException:
            self.store.drop([staged for staged, _ in self.group])
            raise

    # ── one file ────────────────────────────────────────────────────────────────────────────────────────────────

    def _published_before(self, work: Work) -> bool:
        """Whether an earlier claim died between publishing this file and settling it: what it promised stands under
        the final name. Then the source, which may have changed or gone since, is not asked again."""
        if work.promised is None or (found := self.store.adopt(work)) is None:
            return False
        ours = False
        try:
            ours = self.store.prove(found, work.promised.algorithm, stop=self.stop) == work.promised
        except FileFault:
            pass  # it cannot be read, so it is none of our proof: staged anew, it will be met again as a taken name
        finally:
            if not ours:
                self.store.drop([found])
        if ours:
            self.group.append((found, Receipt(work.promised, found.size, found.source)))
        return ours

    def _take(self, work: Work, outcome: Staged | FileFault) -> None:
        if isinstance(outcome, Missing):
            self.missing.append((work, outcome))
            return
        self._judge_missing()
        if isinstance(outcome, FileFault):
            self.cramped += isinstance(outcome, NoRoom)
            self._verdict(work, self._judged(work, outcome))
            return
        try:
            self.group.append((outcome, self._prove(outcome)))
        except FileFault as fault:
            self.store.drop([outcome])
            self._verdict(work, self._judged(work, fault))
        except BaseException:
            self.store.drop([outcome])
            raise

    def _prove(self, staged: Staged) -> Receipt:
        """What landed is read back, and must be what was read and what the source claims."""
        claimed = staged.work.claimed
        algorithm = claimed.algorithm if claimed else self.rules.algorithm
        landed = self.store.prove(staged, algorithm, stop=self.stop)
        for expected, whose in ((staged.digest, "was read from the source"), (claimed, "the source claims")):
            if expected is not None and landed != expected:
                raise DigestMismatch(
                    f"{shown(staged.work.source.path)}: {landed} landed in {self.store.name}, {expected} {whose}",
                    remedy="nothing was published; if it stays so, look at the source file and at the disk",
                )
        return Receipt(landed, staged.size, staged.source)

    # ── a group ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _settle_if_due(self) -> None:
        if len(self.group) >= self.most or self.clock.monotonic() - self.settled_at >= PACE:
            self._settle_group()

    def _settle_group(self) -> None:
        """Seal, promise, publish, sync, settle; in this order, for reasons that `docs/architecture` tells.

        A group that fails on the way is let go and staged anew, never sealed again: the kernel tells only once that
        it could not write something back, and a second sync would call it durable.
        """
        if self.group:
            group, receipts = [staged for staged, _ in self.group], {s.work: receipt for s, receipt in self.group}
            self.group.clear()
            try:
                self.store.seal(group)
                ours = self.ledger.promise(receipts, seconds=LEASE)
                named = self.store.publish([s for s in group if s.work in ours])
                verdicts = {s.work: self._named(s, receipts[s.work], fault) for s, fault in named}
                # A verdict of Delivered is worth nothing before its directory is synced: only then is it kept.
                self.store.sync([s for s in group if isinstance(verdicts.get(s.work), Delivered)])
                for work, verdict in verdicts.items():
                    self._verdict(work, verdict)
                for work in receipts.keys() - ours:
                    self.open.pop(work, None)
                    self.tell(Tally(lost=1))
            finally:
                self.store.drop(group)
        self._settle()

    def _named(self, staged: Staged, receipt: Receipt, fault: FileFault | ClaimLost | None) -> Verdict:
        """What it means for a file how the store gave it its final name."""
        if fault is None:
            return Delivered(receipt)
        if isinstance(fault, ClaimLost):
            return Held(None)
        try:
            if isinstance(fault, NameTaken):
                return self._clash(staged.work, receipt, fault)
        except FileFault as its:
            fault = its
        return self._judged(staged.work, fault)

    def _clash(self, work: Work, receipt: Receipt, taken: NameTaken) -> Verdict:
        """The final name is taken. The same content: done. Other content: a conflict, never overwritten."""
        found = self.store.adopt(work)
        there: Digest | None = None
        if found is not None:
            try:
                there = self.store.prove(found, receipt.digest.algorithm, stop=self.stop)
                if there == receipt.digest:
                    self.store.seal([found])
                    return Delivered(receipt, already=True)
            finally:
                self.store.drop([found])
        conflict = Conflict(
            f"{shown(work.target)} in {self.store.name} "
            + (f"holds other content ({there}, not {receipt.digest})" if there else f"is taken: {taken.message}"),
            remedy="a person decides: skystow resolve … keep (what is archived stays) or number (this one goes beside)",
        )
        if self.rules.number_conflicts:
            return Renumbered(Reason.of(conflict), self._free_number(work, receipt))
        return self._judged(work, conflict)

    def _free_number(self, work: Work, receipt: Receipt) -> PurePosixPath:
        """The first `name.N` that is free, or that holds this very content: decided by digest."""
        tree, n = self.store.tree, 1
        while not self.stop.is_set():
            path = numbered(work.target, n)
            if tree.stat(path) is None:
                return path
            with suppress(FileFault):  # what cannot be read is taken
                if tree.digest(path, receipt.digest.algorithm, stop=self.stop) == receipt.digest:
                    return path
            n += 1
        raise Stopped("stopped while looking for a free number")

    # ── verdicts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _judged(self, work: Work, fault: SkystowError) -> Verdict:
        return judge(fault, work.id, work.attempts, self.rules.retry)

    def _judge_missing(self) -> None:
        for work, fault in self.missing:
            self._verdict(work, self._judged(work, fault))
        self.missing.clear()

    def _blame_missing(self) -> None:
        """A batch of which everything is missing tells of the source, not of its files (a batch of one cannot tell)."""
        if len(self.missing) == self.total > 1:
            place = self.missing[0][0].source.place
            raise Unreachable(
                f"all {len(self.missing)} files of a batch are missing at {place}",
                place=place,
                remedy="is the right disk mounted there? skystow looks again by itself, one file at a time",
            )
        self._judge_missing()

    def _blame_room(self) -> None:
        """Where nothing of a batch found room, the next may find none either: one file at a time, after a rest."""
        if 0 < self.cramped == self.total:
            raise NoSpace(
                f"{self.store.name} has no room for {self.cramped} files of a batch, all that there were",
                place=self.store.name,
                remedy="make room there (min_free must be left); smaller files go on",
            )

    def _verdict(self, work: Work, verdict: Verdict) -> None:
        self.verdicts[work] = verdict
        self.open.pop(work, None)

    def _settle(self) -> None:
        """Write the verdicts down. The ledger may be away for a while; what was published must not be forgotten."""
        self.settled_at = self.clock.monotonic()
        if not self.verdicts:
            return
        verdicts, self.verdicts = self.verdicts, {}
        pause = 0.2
        while True:
            try:
                effective = self.ledger.settle(verdicts)
                break
            except PlaceFault:
                if self.stop.wait(pause):
                    raise
                pause = min(10.0, pause * 2)
        self.tell(_counted(verdict for work, verdict in verdicts.items() if work in effective))
        if lost := len(verdicts) - len(effective):
            self.tell(Tally(lost=lost))

    def _salvage(self) -> None:
        """A place failed under us. What is proven already may still be published; if not, it is put back too."""
        with suppress(PlaceFault, OperatorFault, Stopped):
            self._settle_group()

    def _put_back(self, held: Held) -> None:
        self.store.drop([staged for staged, _ in self.group])
        self.group.clear()
        for work in list(self.open):
            self._verdict(work, held)
        self._settle()


def _counted(verdicts: Iterable[Verdict]) -> Tally:
    numbers: Counter[str] = Counter()
    for verdict in verdicts:
        match verdict:
            case Delivered(receipt, already):
                numbers.update(delivered=1, already=int(already), bytes=receipt.size)
            case Quarantined(fault):
                numbers["conflicts" if fault.code == Conflict.code else "quarantined"] += 1
            case Retry() | Renumbered():
                numbers["retried"] += 1
            case Held():
                numbers["held"] += 1
    return Tally(**numbers)
