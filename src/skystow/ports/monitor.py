"""The doors of a monitor: datagrams come in, wait in a spool, and are registered in a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from skystow.model.datagram import Registration
from skystow.model.sequence import Sequence as Numbers


@dataclass(frozen=True, slots=True)
class Spooled:
    """A datagram that waits. `at`: when it came, unix seconds. `after`: it may be in the table already, by a row of a
    higher number than this (None: it never was tried)."""

    id: int
    at: float
    raw: bytes
    tries: int = 0
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Census:
    """What waits, since when (unix seconds), how many of them for their files, and what keeps the oldest of those."""

    waiting: int
    oldest: float | None
    fileless: int
    why: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is to be registered, as it is: proven by who looked."""

    said: Registration
    path: str
    md5: bytes
    size: int
    deletable: bool


class Datagrams(Protocol):
    def receive(self, seconds: float, *, most: int) -> Sequence[tuple[str, bytes]]:
        """What has come, after `seconds` at most, each with the address that it came from."""
        ...

    def close(self) -> None: ...


class Spool(Protocol):
    """Durable. Raises `PlaceFault`. Safe from any thread."""

    def add(self, raws: Sequence[tuple[float, bytes]], numbers: Mapping[str, Numbers]) -> None:
        """ONE TRANSACTION: datagrams, each with when it came, and how far each sender has counted."""

    def numbers(self) -> Mapping[str, Numbers]: ...

    def due(self, now: float, *, limit: int) -> Sequence[Spooled]:
        """Those whose turn it is, the oldest first."""
        ...

    def begin(self, ids: Collection[int], after: int) -> None:
        """They may be in the table from now on, in rows above `after`."""

    def settle(self, done: Collection[int], later: Mapping[int, tuple[float, str]]) -> None:
        """Forget those that are done; look at the others again at a time, for a reason."""

    def census(self) -> Census: ...
    def volume(self) -> int:
        """Bytes of all that waits."""
        ...

    def close(self) -> None: ...


class Registrar(Protocol):
    """The table. Raises `PlaceFault`, `OperatorFault`."""

    def mark(self) -> int:
        """The highest number of a row."""
        ...

    def known(self, entries: Sequence[Entry], after: int) -> set[int]:
        """Which of them (by index) are there already, in rows above `after`."""

    def register(self, entries: Sequence[Entry]) -> Mapping[int, str]:
        """ONE TRANSACTION. Those (by index) that the table cannot hold, and why."""
        ...

    @property
    def notes(self) -> Sequence[str]: ...
    def close(self) -> None: ...
