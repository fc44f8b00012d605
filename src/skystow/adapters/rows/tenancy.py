"""One table has one ledger: archivers with the same ledger share it, one with another is refused.

Two ledgers would each copy every row, and each tell the table that *its* copy is the one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from skystow.errors import OperatorFault

TRIES, PAUSE = 10, 0.1
"""Looks, and seconds between them, while another process is just taking or leaving the place."""


class Tenancy(Protocol):
    """`hold` is called before each sweep, takes what is free, and raises `OperatorFault` where another ledger is."""

    def hold(self) -> None: ...
    def release(self) -> None: ...


def refused(table: object, owner: str, what: str) -> OperatorFault:
    return OperatorFault(
        f"{table}: another ledger archives {what} {owner!r} already",
        remedy="use that ledger here too (ledger: in the site file), or end the other archiver",
    )


def mark(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


class FileTenancy:
    """A lock file beside an SQLite database for each owner of rows in a table: shared by those whose ledger's identity
    stands in it. `table` names it in errors; `name` is the table's own."""

    def __init__(
        self, database: str, table: object, name: str, owners: Sequence[str], ledger: str, *, what: str
    ) -> None:
        """`what` an owner is called: a target, an archive."""
        self._database, self._table, self._name, self._what = os.path.realpath(database), table, name, what
        self._owners, self._ledger = tuple(owners), ledger
        self._held: dict[str, int] = {}

    def hold(self) -> None:
        for owner in self._owners:
            if owner not in self._held:
                self._held[owner] = self._take(owner)

    def _take(self, owner: str) -> int:
        path = f"{self._database}.skystow-{mark(self._name, owner)}.lock"
        try:
            descriptor = os.open(os.fsencode(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except OSError as error:
            remedy = "SQLite needs to write beside the database too: give the user that skystow runs as the right to"
            raise OperatorFault(
                f"{self._table}: no lock can be made beside it: {error.strerror}", remedy=remedy
            ) from error
        for _ in range(TRIES):
            if _locked(descriptor, fcntl.LOCK_EX):  # nobody is here: it is ours to say whose it is
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, self._ledger.encode(), 0)
            if _locked(descriptor, fcntl.LOCK_SH):
                if os.pread(descriptor, 64, 0) == self._ledger.encode():
                    return descriptor
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(PAUSE)
        os.close(descriptor)
        raise refused(self._table, owner, self._what)

    def release(self) -> None:
        held, self._held = self._held, {}
        _close(held.values())


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
