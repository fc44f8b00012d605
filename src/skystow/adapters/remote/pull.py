"""The local store whose files come from remote hosts: one rsync for a batch, into the staging area of the claim.

rsync writes below `.skystow/staging/<token>/in/` under the names of the source; each file that landed is opened, held
inside, and renamed to the number of its transfer. From there on it is a staged file like any other: read back, sealed,
published by the code of all local stores.

A large file has an rsync of its own, below `.skystow/partial/<what it is>/<token>/`. What an earlier try left there is
the basis that the next one copies from, into a new inode; nobody ever writes into an inode of another claim.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from skystow.adapters.blame import Side, blame
from skystow.adapters.copying import CopyingStore
from skystow.adapters.digests import digest_file_by, hasher
from skystow.adapters.options import StoreOptions
from skystow.adapters.remote import doctor
from skystow.adapters.remote.bandwidth import Bandwidth
from skystow.adapters.remote.rsync import LONGEST, Line, Run, Tuning, agreed_checksum
from skystow.adapters.remote.tree import Look, RemoteTree
from skystow.adapters.space import no_room
from skystow.adapters.staging import HOME, STAGING, empty, make_private
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import BadName, Changed, ConfigError, DigestMismatch, FileFault, NotAFile, Stopped, Unreadable
from skystow.model.records import Digest, path_bytes, shown
from skystow.model.transfer import Work
from skystow.ports import Finding, Staged, Stop, Tree

PARTIAL = HOME + b"/partial"
LARGE = 64 * 2**20
"""Bytes from which on a file has an rsync of its own, which goes on where an earlier one stopped."""
MOST = 256 * 2**20
"""Bytes for one rsync of smaller files. A claim keeps to that by itself where the sizes are known before; the rows of a
table do not say them."""
KEPT_FOR = 14 * 86400.0
"""Seconds that a part waits for somebody to go on with it."""
CHUNK, PAUSE = 500, 0.25
"""Files, and seconds, after which what landed is looked at."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Outcome = tuple[Work, Staged | FileFault]


@dataclass
class _Batch:
    """What one rsync is to bring: `names` as rsync has them. `into` is the directory that it writes to."""

    source: RemoteTree
    top: bytes
    into: bytes
    names: dict[bytes, tuple[Work, Look]]
    token: str
    basis: bytes | None = None
    landed: list[Line] = field(default_factory=list)


class PullStore(CopyingStore):
    """The `Store` port. `remotes` are the trees that `Work.source.place` may name. `streams` share the `bwlimit` of
    `options`; from `large` bytes on a file has an rsync of its own, and smaller ones share one up to `most` bytes."""

    def __init__(
        self,
        name: str,
        tree: LocalTree,
        remotes: Mapping[str, RemoteTree],
        options: StoreOptions,
        *,
        streams: int = 1,
        large: int = LARGE,
        most: int = MOST,
    ) -> None:
        super().__init__(name, tree, {}, options)
        hasher(options.algorithm)
        self._remotes = remotes
        self._bandwidth = Bandwidth(options.bwlimit, streams)
        self._large, self._most = large, most
        self._read: dict[int, Digest] = {}

    def stage(self, works: Sequence[Work], *, stop: Stop) -> Iterator[Outcome]:
        if stop.is_set():
            raise Stopped("stopped before a batch")
        for place in dict.fromkeys(work.source.place for work in works):
            yield from self._bring(self._remote(place), [each for each in works if each.source.place == place], stop)

    def prove(self, staged: Staged, algorithm: str, *, stop: Stop) -> Digest:
        """Reads back once, by our algorithm and by the one with which rsync read the source."""
        stream = self._read.get(staged.handle)
        if stream is None or staged.adopted:
            return super().prove(staged, algorithm, stop=stop)
        try:
            landed, again = digest_file_by(staged.handle, staged.size, (algorithm, stream.algorithm), stop)
        except OSError as error:
            raise blame(error, Side.STAGING, f"reading {shown(staged.work.target)} back", place=self.name) from error
        if again != stream:
            raise DigestMismatch(
                f"{shown(staged.work.source.path)}: {again} landed in {self.name}, {stream} was read at the source",
                remedy="nothing was published; if it stays so, look at the disk",
            )
        return landed

    def witness(self, staged: Staged) -> int:
        """The claim's own area, which was opened before rsync wrote into it."""
        return staged.handle if staged.adopted else self.area(staged.work.token).fd

    def drop(self, group: Sequence[Staged]) -> None:
        for staged in group:
            self._read.pop(staged.handle, None)
        super().drop(group)

    def tokens(self, *, idle: float = 0.0) -> Sequence[str]:
        self._forget_old_parts()
        return super().tokens(idle=idle)

    def check(self, upstream: Tree | None) -> Iterator[Finding]:
        yield from super().check(None)
        if isinstance(upstream, RemoteTree):
            yield from doctor.look_over(upstream, reads=())

    # one batch

    def _remote(self, place: str) -> RemoteTree:
        try:
            return self._remotes[place]
        except KeyError:
            raise ConfigError(f"{self.name} takes nothing from {place!r}") from None

    def _bring(self, source: RemoteTree, works: Sequence[Work], stop: Stop) -> Iterator[Outcome]:
        lawful: list[Work] = []
        for work in works:
            try:
                _lawful(work)
            except BadName as fault:
                yield work, fault
            else:
                lawful.append(work)
        if not lawful:
            return
        root = source.proof(stop)["root"].encode("latin-1")
        rounds: list[dict[bytes, tuple[Work, Look]]] = []
        filled: list[int] = []
        large: list[tuple[Work, Look]] = []
        looks = source.looks([work.source.path for work in lawful], stop)
        room = self.measure()
        for work, look in zip(lawful, looks, strict=True):
            if isinstance(look, FileFault):
                yield work, look
                continue
            if cramped := no_room(work, look.st_size, room, place=self.name):
                yield work, cramped
                continue
            room = replace(room, spare=room.spare - look.st_size)
            if look.st_size >= self._large:
                large.append((work, look))
            else:  # two works may have one source: each has an inode of its own, from an rsync of its own
                name = path_bytes(work.source.path)
                fits = (
                    n
                    for n, each in enumerate(rounds)
                    if name not in each and _token(each) == work.token and filled[n] + look.st_size <= self._most
                )
                if (n := next(fits, len(rounds))) == len(rounds):
                    rounds.append({})
                    filled.append(0)
                rounds[n][name] = (work, look)
                filled[n] += look.st_size
        for names in rounds:
            into = STAGING + b"/" + _token(names).encode() + b"/in"
            yield from self._transfer(_Batch(source, root, into, names, _token(names)), stop)
        for work, look in large:
            yield from self._transfer(self._alone(source, root, work, look), stop)

    def _transfer(self, batch: _Batch, stop: Stop) -> Iterator[Outcome]:
        whole = False
        try:
            size = sum(look.st_size for _, look in batch.names.values())
            with self._bandwidth.share(size, stop) as rate:
                run = self._run(batch, size, rate, stop)
                due = time.monotonic() + PAUSE
                for lines in run.lines(stop):
                    batch.landed += lines
                    if len(batch.landed) >= CHUNK or (batch.landed and time.monotonic() >= due):
                        yield from self._take(batch, stop)
                        due = time.monotonic() + PAUSE
            while batch.landed and self._any_landed(batch):
                yield from self._take(batch, stop)
            fault = run.fault(batch.source.link.host, remote=batch.source.place, receiver=self.name)
            if fault is not None:
                raise fault
            yield from self._absent(batch, run.errors, stop)
            whole = True
        except OSError as error:
            raise blame(error, Side.STAGING, f"what rsync brings to {self._tree}", place=self.name) from error
        finally:
            self._tidy(batch, whole=whole)

    def _run(self, batch: _Batch, size: int, rate: float | None, stop: Stop) -> Run:
        self.area(batch.token)  # opened now: a sync through it tells of every failure from here on
        self._tree.directory(batch.into, make_private)
        link, place = batch.source.link, batch.source.place
        theirs = doctor.rsync_of(batch.source, stop)
        tuning = Tuning(link.host.timeout, rate, agreed_checksum(theirs))
        target = self._tree.root + b"/" + batch.into
        source = b"remote:" + batch.top
        names = list(batch.names)
        return Run(source, target, names, size, shell=link.shell(place, stop), tuning=tuning, basis=batch.basis)

    def _any_landed(self, batch: _Batch) -> bool:
        return any(self._landed(batch, line.name) for line in batch.landed)

    def _landed(self, batch: _Batch, name: bytes) -> bool:
        above, _, last = name.rpartition(b"/")
        try:
            directory = self._tree.directory(batch.into + b"/" + above if above else batch.into)
            os.stat(last, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _take(self, batch: _Batch, stop: Stop) -> Iterator[Outcome]:
        """What landed and still is at its source what it was before. rsync names a file a moment before it gives it
        its name: such a one waits for the next turn."""
        lines: list[Line] = []
        waiting: list[Line] = []
        for line in batch.landed:
            (lines if self._landed(batch, line.name) else waiting).append(line)
        batch.landed = waiting
        if not lines:
            return
        works = [batch.names.pop(line.name) for line in lines]
        for line, (work, before), after in zip(
            lines, works, batch.source.looks([work.source.path for work, _ in works], stop, fresh=True), strict=True
        ):
            outcome: Staged | FileFault
            try:
                if not isinstance(after, Look) or after.fingerprint != before.fingerprint:
                    raise Changed(f"{shown(work.source.path)}: changed while it was copied")
                outcome = self._name_staged(batch, line, work, before)
            except FileFault as fault:
                outcome = fault
            yield work, outcome
            del outcome

    def _name_staged(self, batch: _Batch, line: Line, work: Work, look: Look) -> Staged:
        above, _, last = line.name.rpartition(b"/")
        directory = self._tree.directory(batch.into + b"/" + above if above else batch.into)
        handle = os.open(last, _OPEN, dir_fd=directory.fd)
        landed = False
        try:
            found = os.fstat(handle)
            if not _is_ours(found):
                raise NotAFile(f"{shown(work.source.path)}: rsync brought something that is no file")
            if found.st_size != look.st_size:
                raise Changed(f"{shown(work.source.path)}: changed while it was copied")
            area = self.area(work.token)
            os.rename(last, b"%d" % work.id, src_dir_fd=directory.fd, dst_dir_fd=area.fd)
            landed = True
        finally:
            if not landed:
                os.close(handle)
        if line.digest is not None:
            self._read[handle] = line.digest
        return self.hold(Staged(work, None, found.st_size, look.fingerprint, handle))

    def _absent(self, batch: _Batch, said: str, stop: Stop) -> Iterator[Outcome]:
        """What rsync did not bring, though it lives and says nothing of a place."""
        rest = list(batch.names.values())
        if not rest:
            return
        faults = batch.source.probe([work.source.path for work, _ in rest], stop)
        last = shown(said.strip().splitlines()[0]) if said.strip() else "and rsync does not say why"
        for (work, _), fault in zip(rest, faults, strict=True):
            if fault is not None and not isinstance(fault, FileFault):
                raise fault
            yield work, fault or Unreadable(f"{shown(work.source.path)}: did not arrive ({last})")

    def _tidy(self, batch: _Batch, *, whole: bool) -> None:
        """Nothing of a run stays but what was staged, and the part of a large file that is to go on."""
        with suppress(FileNotFoundError, NotADirectoryError):
            if batch.basis is None:
                self._remove(batch.into)
            elif whole:
                self._remove(batch.into.rpartition(b"/")[0])
        self._remove_area(batch.token)

    def _remove(self, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        self._tree.forget()
        empty(self._tree.directory(path))
        os.rmdir(name, dir_fd=self._tree.directory(above).fd)
        self._tree.forget()

    # large files

    def _alone(self, source: RemoteTree, root: bytes, work: Work, look: Look) -> _Batch:
        above, name = held(work.source.path)
        what = f"{source.place}\0{work.source.path}\0{look.st_size}\0{look.st_mtime_ns}"
        key = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:32].encode()
        home = PARTIAL + b"/" + key
        try:
            self._prepare_basis(self._tree.directory(home, make_private), home, name)
        except OSError as error:
            raise blame(error, Side.STAGING, f"parts in {self._tree}", place=self.name) from error
        basis = self._tree.root + b"/" + home + b"/basis"
        top = root + b"/" + above if above else root
        return _Batch(source, top, home + b"/" + work.token.encode(), {name: (work, look)}, work.token, basis)

    def _prepare_basis(self, home: Directory, path: bytes, name: bytes) -> None:
        """The longest part of earlier tries becomes the basis; whoever still writes to it only spoils a basis, which
        rsync finds out by its digest."""
        self._tree.forget()
        basis = self._tree.directory(path + b"/basis", make_private)
        best: tuple[int, bytes, bytes] | None = None
        for where in _directories(home):
            for inner in (where, where + b"/.part"):
                with suppress(FileNotFoundError, NotADirectoryError):
                    below = self._tree.directory(path + b"/" + inner)
                    for entry in map(os.fsencode, os.listdir(below.fd)):
                        found = os.stat(entry, dir_fd=below.fd, follow_symlinks=False)
                        if _is_ours(found) and (best is None or found.st_size > best[0]):
                            best = (found.st_size, inner, entry)
        if best is not None and best[1] != b"basis":
            below = self._tree.directory(path + b"/" + best[1])
            os.rename(best[2], name, src_dir_fd=below.fd, dst_dir_fd=basis.fd)
        for where in _directories(home):
            if where != b"basis":
                self._remove(path + b"/" + where)

    def _forget_old_parts(self) -> None:
        try:
            parts = self._tree.directory(PARTIAL)
            for name in map(os.fsencode, os.listdir(parts.fd)):
                if time.time() - os.stat(name, dir_fd=parts.fd, follow_symlinks=False).st_mtime > KEPT_FOR:
                    self._remove(PARTIAL + b"/" + name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise blame(error, Side.STAGING, f"parts in {self._tree}", place=self.name) from error


def _directories(home: Directory) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(home.fd)))


def _token(names: Mapping[bytes, tuple[Work, Look]]) -> str:
    return next(iter(names.values()))[0].token


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _lawful(work: Work) -> None:
    """Raises `BadName` for a path that leads out, or that rsync cannot take."""
    held(work.target)
    held(work.source.path)
    if len(path_bytes(work.source.path)) > LONGEST:
        raise BadName(f"{shown(PurePosixPath(work.source.path.name))}: its path is too long for rsync")
