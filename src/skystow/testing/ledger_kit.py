"""What the ledger's contract suite and state machine share: two workers, three places, and short verbs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from skystow.adapters.memory import ManualClock
from skystow.errors import FileFault, SkystowError, Unreachable
from skystow.model.records import Arrival, Digest, Fingerprint, Worker, path_bytes
from skystow.model.transfer import (
    TRANSITIONS,
    Delivered,
    Destination,
    Held,
    Quarantined,
    Reason,
    Receipt,
    Retry,
    Route,
    State,
    Step,
    Work,
)
from skystow.ports import Admission, Clock, Copy, Dossier, Ledger

ANNA = Worker("dome", "boot-1", "pid:[1]", 101, 1)
BEN = Worker("dome", "boot-1", "pid:[1]", 202, 2)

CAMERA, ARCHIVE, OODS, REMOTE = "camera", "archive", "oods", "remote"
STRAIGHT = Route(CAMERA, ARCHIVE)
HANDOFF = Route(ARCHIVE, OODS)
ONE = (Destination(ARCHIVE),)
CHAIN = (Destination(ARCHIVE), Destination(OODS, upstream=ARCHIVE, required=False, owned=False))

LEASE = 60.0
BROKEN = Reason.of(FileFault("it broke"))
AWAY = Reason.of(Unreachable("no route to it", place=ARCHIVE))

Opener = Callable[..., Ledger]
"""`make(worker=…, clock=…)`: the same ledger each time, as seen by that worker."""


def arrival(name: PurePosixPath | str, *, size: int | None = 10, mtime_ns: int | None = 1, **more: Any) -> Arrival:
    """A file of the camera that goes to `data/NAME`."""
    path = PurePosixPath(name)
    made = Arrival(
        source=CAMERA,
        key=path_bytes(path),
        origin=path,
        archive="main",
        path="data" / path,
        fingerprint=Fingerprint(size, mtime_ns, 77, 88),
    )
    return replace(made, **more)


def digest_for(text: object) -> Digest:
    return Digest("sha256", hashlib.sha256(str(text).encode("utf-8", "surrogateescape")).hexdigest())


def receipt_for(work: Work, *, size: int = 10) -> Receipt:
    """A proof that leaves the source looking as it did."""
    return Receipt(digest_for(work.target), size, work.fingerprint)


def gone(error: SkystowError | None = None) -> Quarantined:
    return Quarantined(Reason.of(error) if error else BROKEN)


class Desk:
    """A ledger opened by Anna and by Ben, and the clock of both."""

    def __init__(self, make: Opener) -> None:
        self.clock = ManualClock()
        self.make = make
        self.ledger: Ledger = make(worker=ANNA, clock=self.clock)
        self.ben: Ledger = make(worker=BEN, clock=self.clock)

    def opened_by(self, worker: Worker, clock: Clock) -> Ledger:
        return self.make(worker=worker, clock=clock)

    def close(self) -> None:
        self.ledger.close()
        self.ben.close()

    def admit(self, *files: Arrival | str, to: Sequence[Destination] = ONE) -> Admission:
        return self.ledger.admit([f if isinstance(f, Arrival) else arrival(f) for f in files], to)

    def claim(
        self, route: Route = STRAIGHT, *, files: int = 1000, size: int = 2**40, by: Ledger | None = None
    ) -> Sequence[Work]:
        return (by or self.ledger).claim(route, files=files, size=size, seconds=LEASE)

    def one(self, route: Route = STRAIGHT, *, by: Ledger | None = None) -> Work:
        (work,) = self.claim(route, by=by)
        return work

    def deliver(self, works: Sequence[Work]) -> None:
        assert self.ledger.settle({w: Delivered(receipt_for(w)) for w in works}) == set(works)

    def quarantine(self, work: Work) -> None:
        assert self.ledger.settle({work: gone()}) == {work}

    def retry(self, work: Work, after: float) -> None:
        assert self.ledger.settle({work: Retry(BROKEN, after)}) == {work}

    def hold(self, work: Work) -> None:
        assert self.ledger.settle({work: Held(AWAY)}) == {work}

    def dossiers(self, name: PurePosixPath | str) -> list[Dossier]:
        """Of every version, newest first."""
        return [d for d in map(self.ledger.dossier, self.ledger.find(path_bytes(name))) if d is not None]

    def dossier(self, name: PurePosixPath | str) -> Dossier:
        return self.dossiers(name)[0]

    def copy(self, name: PurePosixPath | str, destination: str = ARCHIVE) -> Copy:
        return next(c for c in self.dossier(name).copies if c.route.destination == destination)

    def steps(self, name: PurePosixPath | str, destination: str | None = ARCHIVE) -> list[Step]:
        """What happened to one copy; None: to the file as a whole."""
        return [e.step for e in self.dossier(name).events if e.destination == destination]

    def forget_lease(self) -> None:
        """Long enough for every lease to run out."""
        self.clock.advance(LEASE + 1)


def unlawful(dossier: Dossier) -> list[str]:
    """Steps that `TRANSITIONS` does not know, and copies whose state is not where their steps lead."""
    wrong = []
    for copy in dossier.copies:
        state = State.WAITING
        for event in dossier.events:
            if event.destination == copy.route.destination:
                if (state, event.step) not in TRANSITIONS:
                    wrong.append(f"{copy.id}: {event.step} while {state}")
                state = TRANSITIONS.get((state, event.step), state)
        if state is not copy.state:
            wrong.append(f"{copy.id} is {copy.state}, its events say {state}")
    return wrong
