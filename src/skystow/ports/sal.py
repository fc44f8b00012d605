"""The door to SAL, for the host of a component that SAL commands. PROTOCOLS of the observatory: ts_salobj 6.9.

Calls do not block, unless they say so, and may be made from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol


class Code(IntEnum):
    """Of an acknowledgement. After a final one nothing more is said of a command."""

    ACK = 300
    IN_PROGRESS = 301
    STALLED = 302
    COMPLETE = 303
    NO_PERMISSION = -300
    NO_ACK = -301
    FAILED = -302
    ABORTED = -303
    TIMEOUT = -304

    @property
    def final(self) -> bool:
        return self not in (Code.ACK, Code.IN_PROGRESS, Code.STALLED)


@dataclass(frozen=True, slots=True)
class Command:
    """One that came. `name`: without `command_`; `values`: its own fields; `identity`, `origin`, `seq_num`: whose it
    is; `wrong`: why it cannot be obeyed as it is."""

    name: str
    values: Mapping[str, Any]
    identity: str
    origin: int
    seq_num: int
    wrong: str = ""


class Front(Protocol):
    """One commandable component, as SAL sees it. States and acknowledgements leave in the order in which they were
    said, and so do other events; neither wait for each other."""

    name: str

    def open(self, hear: Callable[[Command], None]) -> None:
        """Blocks until we know that we are alone under our name. `hear` is called in a thread of the front's.
        Raises `ConfigError` where another one is alive."""

    def check(self) -> None:
        """Whether all is well since; to be asked every second. Raises `ConfigError` where another one of our name is
        alive, which was here before us, and `Unreachable` where the front has died."""

    def has(self, event: str) -> bool:
        """Whether the site's definitions have it."""
        ...

    def say(self, event: str, **values: object) -> Future[None]:
        """Publish an event. The future raises `Unreachable` where a reader that must have it takes nothing."""
        ...

    def ack(self, command: Command, code: Code, text: str = "", *, seconds: float = 0.0, number: int = 0) -> None:
        """`seconds`: with IN_PROGRESS, how long it may take from now; `number`: of an error."""

    def flush(self, seconds: float) -> None:
        """Blocks until what was said has left, at most so long."""

    def close(self) -> None:
        """Blocks; leaves SAL."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`seconds`: from now, within which the next one comes at the latest; `number`: of an error."""

    code: Code
    text: str
    seconds: float
    number: int


@dataclass(frozen=True, slots=True)
class Event:
    """One that was heard. `name`: without `logevent_`; `values`: its own fields; `said`: nanoseconds since 1970."""

    name: str
    values: Mapping[str, Any]
    said: int


class Remote(Protocol):
    """The other side of a component: who commands it, and hears what it says."""

    commands: Sequence[str]
    events: Sequence[str]

    def given(self, command: str, texts: Sequence[str]) -> Mapping[str, object]:
        """`level=10` …, as the command has its fields. Raises `ConfigError` for what is none."""
        ...

    def command(self, name: str, values: Mapping[str, object], *, seconds: float) -> Iterator[Acknowledgement]:
        """Each acknowledgement as it comes, the final one last; one of our own (NO_ACK, TIMEOUT) where none came within
        `seconds`, or within what the component asked for. Raises `ConfigError` for a command that there is not, and
        `Unreachable` where nobody of that name is there."""
        ...

    def check(self) -> None:
        """Whether all is well; to be asked now and then. Raises `Unreachable` where the connection has died."""

    def listen(self, events: Sequence[str], hear: Callable[[Event], None]) -> None:
        """From now on, what was said before first; `hear` is called in another thread. Raises `ConfigError` for an
        event that there is not."""
