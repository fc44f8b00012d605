"""Every fault, sorted by whose it is.

The line that knows says whose fault it is, by the class that it raises; what follows is decided once, in
`skystow.model.transfer.judge`::

    SkystowError
    ├── FileFault           this one file: an attempt is spent, the others go on
    │   ├── Missing             not at its source, though the source is there
    │   ├── Unreadable          permission, or the medium, refuses this file
    │   ├── NotAFile            a directory, link, FIFO, device or socket stands there
    │   ├── Changed             written to while it was copied
    │   ├── DigestMismatch      what landed is not what was claimed or read
    │   ├── BadName             a name that the layout or the target cannot take
    │   ├── NameTaken           its final name is taken (by what, the engine finds out)
    │   ├── Conflict            its final name holds other content: a person decides
    │   ├── TooLarge            its place could not hold it even if it were empty
    │   ├── NoRoom              no room for it as yet, smaller ones go on: no attempt is spent, later again
    │   └── Abandoned           the process died three times running with it alone in its hands
    ├── PlaceFault          a place: no attempt is spent, the pump rests
    │   ├── Unreachable         gone, unmounted, stale, not answering
    │   ├── UnfitHost           its key, ours, its shell or its tools: a person must act, the other places go on
    │   ├── NoSpace             full, over quota, or below `min_free`
    │   └── ReadOnly            cannot be written to at all
    ├── OperatorFault       a person must change something first
    │   ├── ConfigError         the site file or the command line
    │   ├── LedgerUnusable      not a ledger, damaged, or on a network file system
    │   ├── SchemaMismatch      a ledger of another version of skystow
    │   └── UnfitPlace          links or syncs do not work there, or another device
    ├── Refused             a command that is unlawful now, or cannot be obeyed: nothing has changed
    ├── ClaimLost           the lease ran out and another worker has the file: drop it, say nothing
    └── Stopped             somebody asked us to stop: put everything back
"""

from __future__ import annotations

from typing import ClassVar


class SkystowError(Exception):
    """Base of all; `remedy` says in a sentence what a person can do."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class FileFault(SkystowError):
    """This one file's fault. `final` faults are not tried again."""

    code = "file"
    final: ClassVar[bool] = False


class Missing(FileFault):
    code = "missing"


class Unreadable(FileFault):
    code = "unreadable"


class NotAFile(FileFault):
    code = "not-a-file"


class Changed(FileFault):
    code = "changed"


class DigestMismatch(FileFault):
    code = "digest"


class BadName(FileFault):
    code = "bad-name"


class NameTaken(FileFault):
    code = "name-taken"


class Conflict(FileFault):
    code = "conflict"
    final = True


class TooLarge(FileFault):
    code = "too-large"
    final = True


class NoRoom(FileFault):
    """The one fault of a file that spends none of its attempts."""

    code = "no-room"


class Abandoned(FileFault):
    """The process died three times running with this file alone in its hands."""

    code = "abandoned"


class PlaceFault(SkystowError):
    """A place's fault; `place` is its name in the site file."""

    code = "place"

    def __init__(self, message: str, *, place: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.place = place


class Unreachable(PlaceFault):
    code = "unreachable"


class UnfitHost(PlaceFault):
    code = "unfit-host"


class NoSpace(PlaceFault):
    code = "no-space"


class ReadOnly(PlaceFault):
    code = "read-only"


class OperatorFault(SkystowError):
    code = "operator"


class ConfigError(OperatorFault):
    """The site file or the command line; `problems` has every one of them, each with its line."""

    code = "config"

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.problems = problems


class LedgerUnusable(OperatorFault):
    code = "ledger"


class SchemaMismatch(LedgerUnusable):
    code = "schema"


class UnfitPlace(OperatorFault):
    code = "unfit"


class Refused(SkystowError):
    """An unlawful command, or one that could not be obeyed; no state has changed. `number` is SAL's errorCode."""

    code = "refused"

    def __init__(self, message: str, *, number: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.number = number


class ClaimLost(SkystowError):
    code = "claim-lost"


class Stopped(SkystowError):
    code = "stopped"
