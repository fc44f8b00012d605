"""Records: what arrives, what it looks like, where it is.

Sizes are bytes, times aware UTC or integer nanoseconds where the name ends in `_ns`. A path is a `PurePosixPath`
relative to the root of a place; bytes that are not UTF-8 ride in it as surrogates (`path_bytes` gives them back).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

ALGORITHMS = ("blake3", "sha256", "xxh128", "md5")
"""Digests that we compute; the first is the default where a source claims none."""


def path_bytes(path: PurePosixPath | str) -> bytes:
    """The path as the file system has it."""
    return str(path).encode("utf-8", "surrogateescape")


def path_text(raw: bytes) -> str:
    """The reverse of `path_bytes`: text that may hold surrogates; show it with `shown`."""
    return raw.decode("utf-8", "surrogateescape")


def shown(path: PurePosixPath | str) -> str:
    """The path as a person or a JSON reader may see it: what cannot be printed is escaped (`\\xff`, `\\n`)."""
    try:
        raw = str(path).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a UTF-16 pair: not from a disk, but a JSON text can hold it
        raw = str(path).encode("utf-8", "backslashreplace")
    text = raw.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest, `hex` in lower case."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def plain(value: object) -> object:
    """What JSON has no word for, as programs see it: `json.dumps(…, default=plain)`."""
    match value:
        case datetime():
            return value.isoformat()
        case PurePosixPath():
            return shown(value)
        case Digest():
            return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a result")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file looks like from outside; None where the source cannot know (a table row has no inode).

    `inode` and `ctime_ns` tell a rewritten file from an untouched one while it is copied; size and mtime tell,
    later, whether the source still is what was archived.
    """

    size: int | None = None
    mtime_ns: int | None = None
    inode: int | None = None
    ctime_ns: int | None = None

    def same_content(self, other: Fingerprint) -> bool:
        """Whether both look like the same version of one file, by what both know of size and mtime."""
        return _agree((self.size, other.size), (self.mtime_ns, other.mtime_ns))

    def untouched(self, other: Fingerprint) -> bool:
        """Whether both are the very same file with nothing done to it in between, by all that both know."""
        return self.same_content(other) and _agree((self.inode, other.inode), (self.ctime_ns, other.ctime_ns))


def _agree(*pairs: tuple[int | None, int | None]) -> bool:
    return all(a == b for a, b in pairs if a is not None and b is not None)


@dataclass(frozen=True, slots=True)
class Location:
    """Where bytes are: a place of the site (a source or a destination) and a path below its root."""

    place: str
    path: PurePosixPath


@dataclass(frozen=True, slots=True)
class Arrival:
    """One file that a source says it has. Its identity is (source, key); the file that it becomes is (archive, path).

    The same key with another fingerprint is a newer version of the same source file (see `Ledger.admit`).
    `rank` orders the queue, smallest first (oldest first: mtime; newest first: its negative); `priority` goes before
    rank, largest first. `attempts` is what the source says was spent already.
    """

    source: str
    key: bytes
    origin: PurePosixPath
    archive: str
    path: PurePosixPath
    fingerprint: Fingerprint
    claimed: Digest | None = None
    priority: int = 0
    rank: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something at a source that is not ours to archive, and why; counted and named, no failure."""

    source: str
    origin: PurePosixPath
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that a source has and that cannot be admitted as it is; a person must look. `key` as in `Arrival`.

    `id` and `at` are the ledger's: its number, and when it was buried first.
    """

    source: str
    key: bytes
    reason: str
    id: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A process, told apart from any other on any host, before and after a reboot, inside or outside a container."""

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: int
    """Start time of the process in clock ticks since boot (`/proc/PID/stat`, field 22)."""

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, slots=True)
class Health:
    """How a place is. `next_probe` is when the pump looks again; None when the place is well."""

    place: str
    well: bool
    since: datetime
    reason: str = ""
    next_probe: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell the world, from the outbox. `kind` is a `Step` of a file, as text.

    `body` is for readers: paths as `shown` shows them. `key` (the arrival's) and `path` (the copy's) are as they are.
    """

    id: int
    at: datetime
    kind: str
    body: dict[str, str | int | None]
    key: bytes = b""
    path: PurePosixPath = field(default_factory=PurePosixPath)
