"""Trees, stores, sources and an announcer in memory, with faults on cue.

A `Cue` is called with a verb (the method's name) and a path before each act, and whatever it raises happens there. It
may also change what it finds: flip a staged byte, take the tree away, move the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import PurePosixPath

from skystow.adapters.digests import hasher
from skystow.adapters.space import no_room
from skystow.errors import BadName, Changed, ClaimLost, FileFault, Missing, NameTaken, NotAFile, Stopped, Unreachable
from skystow.model.records import Arrival, Digest, Fingerprint, Notice, Skipped, path_bytes, shown
from skystow.model.transfer import Work
from skystow.ports import Finding, Room, Staged, Stop, Tree

Cue = Callable[[str, PurePosixPath], None]

SWEEP = 1000
"""Arrivals in one batch of a sweep, at most."""


def no_fault(verb: str, path: PurePosixPath) -> None:
    """The `Cue` of a world in which nothing fails."""


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """Content under an inode number. The same object under two names is a hard link."""

    content: bytes
    mtime_ns: int
    inode: int

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(len(self.content), self.mtime_ns, self.inode, self.mtime_ns)


class MemoryTree:
    """A `Tree` over a dict. `here = False` takes the root away."""

    def __init__(self, place: str, fault: Cue = no_fault) -> None:
        self.place, self.fault, self.here = place, fault, True
        self.files: dict[PurePosixPath, MemoryFile] = {}

    def write(self, path: PurePosixPath | str, content: bytes, *, mtime_ns: int = 0) -> MemoryFile:
        """What somebody else does to the tree: a file is written there, in an inode of its own."""
        file = MemoryFile(content, mtime_ns, next(_INODES))
        self.files[PurePosixPath(path)] = file
        return file

    def present(self) -> None:
        self.fault("present", PurePosixPath())
        if not self.here:
            raise Unreachable(f"{self.place} is not there", place=self.place)

    def stat(self, path: PurePosixPath) -> Fingerprint | None:
        self.present()
        self.fault("stat", path)
        file = self.files.get(path)
        return file.fingerprint if file else None

    def digest(self, path: PurePosixPath, algorithm: str, *, stop: Stop) -> Digest:
        return digest_of(self.read("digest", path, stop).content, algorithm)

    def remove(self, path: PurePosixPath, expected: Fingerprint) -> None:
        found = self.stat(path)
        self.fault("remove", path)
        if found is None or not found.untouched(expected):
            raise Changed(f"{shown(path)} in {self.place} is not what was expected")
        del self.files[path]

    def read(self, verb: str, path: PurePosixPath, stop: Stop) -> MemoryFile:
        """The file under `path`; raises `Stopped`, `Unreachable`, `Missing`, `NotAFile`."""
        if stop.is_set():
            raise Stopped(f"asked to stop at {shown(path)}")
        self.present()
        self.fault(verb, path)
        if path in self.files:
            return self.files[path]
        if any(path in name.parents for name in self.files):
            raise NotAFile(f"{shown(path)} in {self.place} is a directory")
        raise Missing(f"{shown(path)} is not in {self.place}")


class MemoryStore:
    """A `Store` over a `MemoryTree`. `staged[token][handle]` are the bytes that landed; `room_now`, and seconds
    for which an area was `idle`, may be set."""

    def __init__(
        self, name: str, sources: Mapping[str, MemoryTree], *, tree: MemoryTree | None = None, fault: Cue = no_fault
    ) -> None:
        self.name, self.sources, self.fault = name, sources, fault
        self.max_group = 1_000
        self.files = tree or MemoryTree(name)
        self.tree: Tree = self.files
        self.staged: dict[str, dict[int, MemoryFile]] = {}
        self.idle: dict[str, float] = {}
        self.room_now = Room(total=2**40, free=2**40, spare=2**40)

    def stage(self, works: Sequence[Work], *, stop: Stop) -> Iterator[tuple[Work, Staged | FileFault]]:
        for work in works:
            try:
                yield work, self._stage(work, stop)
            except FileFault as fault:
                yield work, fault

    def _stage(self, work: Work, stop: Stop) -> Staged:
        self.fault("stage", work.target)
        _check_name(work.target)
        source = self._source(work.source.place).read("read", work.source.path, stop)
        self.files.present()
        if fault := no_room(work, len(source.content), self.room_now, place=self.name):
            raise fault
        landed = replace(source, inode=next(_INODES))
        self.staged.setdefault(work.token, {})[landed.inode] = landed
        algorithm = work.claimed.algorithm if work.claimed else "blake3"
        digest = digest_of(source.content, algorithm)
        return Staged(work, digest, len(source.content), source.fingerprint, landed.inode)

    def _source(self, place: str) -> MemoryTree:
        if place not in self.sources:
            raise Unreachable(f"{place} is not a source of {self.name}", place=place)
        return self.sources[place]

    def prove(self, staged: Staged, algorithm: str, *, stop: Stop) -> Digest:
        self.fault("prove", staged.work.target)
        if staged.adopted:
            return self.files.digest(staged.work.target, algorithm, stop=stop)
        return digest_of(self._landed(staged).content, algorithm)

    def seal(self, group: Sequence[Staged]) -> None:
        for staged in group:
            self.fault("seal", staged.work.target)

    def publish(self, group: Sequence[Staged]) -> Iterator[tuple[Staged, FileFault | ClaimLost | None]]:
        for staged in group:
            try:
                if not staged.adopted:
                    self._name(staged)
            except (FileFault, ClaimLost) as fault:
                yield staged, fault
            else:
                yield staged, None

    def _name(self, staged: Staged) -> None:
        path, landed = staged.work.target, self._landed(staged)
        self.fault("publish", path)
        self.files.present()
        if any(path in name.parents or name in path.parents for name in self.files.files):
            raise NameTaken(f"{shown(path)} in {self.name} is in the way of a directory")
        if self.files.files.setdefault(path, landed).inode != landed.inode:
            raise NameTaken(f"{shown(path)} in {self.name} is taken")

    def sync(self, group: Sequence[Staged]) -> None:
        for staged in group:
            self.fault("sync", staged.work.target)

    def drop(self, group: Sequence[Staged]) -> None:
        for staged in group:
            self.fault("drop", staged.work.target)
            area = self.staged.get(staged.work.token, {})
            area.pop(staged.handle, None)
            if not area:
                self.staged.pop(staged.work.token, None)

    def adopt(self, work: Work) -> Staged | None:
        self.fault("adopt", work.target)
        self.files.present()
        there = self.files.files.get(work.target)
        if there is None:
            return None
        return Staged(work, None, len(there.content), work.fingerprint, there.inode, adopted=True)

    def tokens(self, *, idle: float = 0.0) -> Sequence[str]:
        return [token for token in self.staged if self.idle.get(token, 0.0) >= idle]

    def sweep(self, token: str) -> None:
        self.fault("sweep", PurePosixPath(token))
        self.staged.pop(token, None)

    def room(self) -> Room:
        self.fault("room", PurePosixPath())
        return self.room_now

    def check(self, upstream: Tree | None) -> Iterator[Finding]:
        for tree in (self.tree, upstream):
            if tree is not None:
                tree.present()
        yield Finding(self.name, ok=True, text="a place in memory: nothing to try out")

    def _landed(self, staged: Staged) -> MemoryFile:
        """The staged bytes; swept away, they are as gone as an unlinked name (`Missing` would blame the source)."""
        area = self.staged.get(staged.work.token, {})
        if staged.handle not in area:
            raise Unreachable(f"the staging area of {staged.work.token} was swept away", place=self.name)
        return area[staged.handle]


class MemorySource:
    """A `Source` that offers every file of its tree under its own path. `unfinished` are left out and counted."""

    def __init__(self, name: str, tree: MemoryTree, *, archive: str = "archive") -> None:
        self.name, self.archive = name, archive
        self.files = tree
        self.tree: Tree = tree
        self.unfinished: set[PurePosixPath] = set()
        self.skipped: list[Skipped] = []

    def sweep(self, *, stop: Stop) -> Iterator[Sequence[Arrival | Skipped]]:
        self.files.present()
        finished = [p for p in self.files.files if p not in self.unfinished]
        found: Iterator[Arrival | Skipped] = iter([*map(self.arrival, finished), *self.skipped])
        while batch := list(islice(found, SWEEP)):
            if stop.is_set():
                raise Stopped(f"asked to stop in the sweep of {self.name}")
            yield batch

    def arrival(self, path: PurePosixPath) -> Arrival:
        """What the source says of one file; the oldest goes first."""
        fingerprint = self.files.files[path].fingerprint
        return Arrival(
            source=self.name,
            key=path_bytes(path),
            origin=path,
            archive=self.archive,
            path=path,
            fingerprint=fingerprint,
            rank=fingerprint.mtime_ns or 0,
        )

    def settling(self) -> int:
        return len(self.unfinished & self.files.files.keys())

    def wait(self, seconds: float, *, stop: Stop) -> None:
        stop.wait(seconds)


class MemoryAnnouncer:
    """An `Announcer` that remembers what it was told."""

    def __init__(self, fault: Cue = no_fault) -> None:
        self.fault = fault
        self.announced: list[Notice] = []

    def announce(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            self.fault("announce", notice.path)
            self.announced.append(notice)


_INODES = count(1)


def digest_of(content: bytes, algorithm: str) -> Digest:
    state = hasher(algorithm)
    state.update(content)
    return Digest(algorithm, state.hexdigest())


def _check_name(path: PurePosixPath) -> None:
    """What no file system takes, no store of memory takes."""
    if path.is_absolute() or not path.parts or ".." in path.parts or any(len(path_bytes(p)) > 255 for p in path.parts):
        raise BadName(f"{shown(path)} is no name for a file")
