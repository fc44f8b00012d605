"""The store at a remote end that has ssh, rsync and python3 alone: rsync pushes, the helper does the rest.

The order is that of the local store, and so are the staging area and the names in it. The line that makes a file
visible is `os.link` in `helper.give_name`; the lines that make it survive a power cut are in `helper.make_durable`.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file_by, hasher
from skystow.adapters.options import StoreOptions
from skystow.adapters.remote import doctor
from skystow.adapters.remote.bandwidth import Bandwidth
from skystow.adapters.remote.batch import Batch, Batches
from skystow.adapters.remote.rsync import LONGEST, Line, Run, Tuning, agreed_checksum
from skystow.adapters.remote.tree import RemoteTree, wire
from skystow.adapters.space import no_room
from skystow.adapters.staging import HOME
from skystow.adapters.tree import LocalTree, fingerprint, held
from skystow.errors import (
    BadName,
    Changed,
    ClaimLost,
    ConfigError,
    DigestMismatch,
    FileFault,
    NameTaken,
    OperatorFault,
    PlaceFault,
    Stopped,
    UnfitPlace,
    Unreadable,
)
from skystow.model.records import Digest, Fingerprint, path_bytes, shown
from skystow.model.transfer import Work
from skystow.ports import Finding, Room, Staged, Stop, Tree

LARGE = 64 * 2**20
CHUNK, PAUSE = 500, 0.5
FALLBACK = "sha256"
"""What every python3 has."""
_TOKEN = re.compile(r"[0-9a-f]{1,128}")

Outcome = tuple[Work, Staged | FileFault]


@dataclass(frozen=True, slots=True)
class _Landed:
    """What the helper read back of a staged file."""

    inode: int
    proof: Mapping[str, str]


class RemoteStore:
    """The `Store` port. `origins` are the local trees that `Work.source.place` may name. Safe to share between threads.

    A digest that the remote python lacks falls to sha256, unless a source claims that very digest: then the source is
    read here too. `streams` share the `bwlimit` of `options`.
    """

    def __init__(
        self,
        name: str,
        tree: RemoteTree,
        origins: Mapping[str, LocalTree],
        options: StoreOptions,
        *,
        streams: int = 1,
        large: int = LARGE,
    ) -> None:
        hasher(options.algorithm)
        self.name, self.options, self.max_group = name, options, 500
        self.tree: Tree = tree
        self._tree, self._origins, self._large = tree, origins, large
        self._bandwidth = Bandwidth(options.bwlimit, streams)
        self._handles = itertools.count(1)
        self._live: dict[int, _Landed] = {}

    # staging

    def stage(self, works: Sequence[Work], *, stop: Stop) -> Iterator[Outcome]:
        if stop.is_set():
            raise Stopped("stopped before a batch")
        batches = Batches(self._large)
        for place in dict.fromkeys(work.source.place for work in works):
            self._origin(place).forget()
        room = self.room()
        for work in works:
            try:
                origin, found = self._found(work)
                if cramped := no_room(work, found.st_size, room, place=self.name):
                    raise cramped
            except FileFault as fault:
                yield work, fault
            else:
                room = replace(room, spare=room.spare - found.st_size)
                batches.add(work, origin, found)
        for batch in batches:
            yield from self._carry(batch, stop)

    def _origin(self, place: str) -> LocalTree:
        try:
            return self._origins[place]
        except KeyError:
            raise ConfigError(f"{self.name} takes nothing from {place!r}") from None

    def _found(self, work: Work) -> tuple[LocalTree, os.stat_result]:
        """Its source, as it is now. Raises `FileFault`."""
        held(work.target)
        raw = path_bytes(work.source.path)
        if len(raw) > LONGEST or len(path_bytes(work.target)) > LONGEST:
            raise BadName(f"{shown(work.source.path.name)}: its path is too long for rsync")
        origin = self._origin(work.source.place)
        fd, found = origin.open_file(work.source.path)
        os.close(fd)
        return origin, found

    def _carry(self, batch: Batch, stop: Stop) -> Iterator[Outcome]:
        whole = False
        try:
            with self._bandwidth.share(batch.size, stop) as rate:
                run = self._run(batch, rate, stop)
                due = time.monotonic() + PAUSE
                for lines in run.lines(stop):
                    batch.landed += lines
                    if len(batch.landed) >= CHUNK or (batch.landed and time.monotonic() >= due):
                        yield from self._take(batch, stop)
                        due = time.monotonic() + PAUSE
            while batch.landed:
                before = len(batch.landed)
                yield from self._take(batch, stop)
                if len(batch.landed) == before:
                    break
            fault = run.fault(self._tree.link.host, remote=self.name, receiver=self.name)
            if fault is not None:
                raise fault
            yield from self._absent(batch, run.errors)
            whole = True
        finally:
            if batch.into and self._tree.link.up:
                with suppress(PlaceFault, OperatorFault, OSError):  # else the sweep of dead claims finds it
                    request = {"op": "landed", "token": batch.token, "into": batch.into, "whole": whole}
                    self._tree.ask(request)

    def _run(self, batch: Batch, rate: float | None, stop: Stop) -> Run:
        checksum = agreed_checksum(doctor.rsync_of(self._tree, stop), xxh128_reads_back="xxh128" in self._known(stop))
        if batch.part:
            [name] = batch.names
            request = {"op": "part", "token": batch.token, "key": batch.part, "name": wire(name)}
            found = self._staging(request, stop)
        else:
            found = self._staging({"op": "area", "token": batch.token}, stop)
        batch.into, root = found["into"], found["root"].encode("latin-1")
        into = root + b"/" + batch.into.encode("latin-1")
        basis = into.rpartition(b"/")[0] + b"/basis" if batch.part else None
        tuning = Tuning(self._tree.link.host.timeout, rate, checksum)
        shell = self._tree.link.shell(self.name, stop)
        return Run(batch.top, b"remote:" + into, list(batch.names), batch.size, shell=shell, tuning=tuning, basis=basis)

    def _take(self, batch: Batch, stop: Stop) -> Iterator[Outcome]:
        """Let the helper read back and rename what rsync says it has sent; what is not there yet waits."""
        lines, batch.landed = batch.landed, []
        items = []
        for line in lines:
            algorithms = {self._algorithm(batch.names[line.name][0], stop)}
            algorithms |= {line.digest.algorithm} if line.digest else set()
            items.append([wire(line.name), batch.names[line.name][0].id, sorted(algorithms)])
        request = {"op": "land", "token": batch.token, "into": batch.into, "items": items}
        for line, answer in zip(lines, self._staging(request, stop), strict=True):
            if answer == errno.ENOENT:
                batch.landed.append(line)
                continue
            work, before = batch.names.pop(line.name)
            if isinstance(answer, int):
                raise blame(OSError(answer, os.strerror(answer)), Side.STAGING, shown(work.target), place=self.name)
            staged = self._hold(work, before, answer)
            fault = self._judge(batch.origin, work, before, line, answer)
            if fault is not None:
                self.drop([staged])
            yield work, fault or staged

    def _judge(
        self, origin: LocalTree, work: Work, before: Fingerprint, line: Line, answer: Sequence[Any]
    ) -> FileFault | None:
        proof, size, _ = answer
        after = origin.look(work.source.path)
        if after is None or fingerprint(after) != before or size != before.size:
            return Changed(f"{shown(work.source.path)}: changed while it was copied")
        read = line.digest
        if read is not None and proof[read.algorithm] != read.hex:
            landed = Digest(read.algorithm, proof[read.algorithm])
            return DigestMismatch(
                f"{shown(work.source.path)}: {landed} landed in {self.name}, {read} was read from the source",
                remedy="nothing was published; if it stays so, look at the disk there",
            )
        return None

    def _absent(self, batch: Batch, said: str) -> Iterator[Outcome]:
        last = shown(said.strip().splitlines()[0]) if said.strip() else "and rsync does not say why"
        for work, before in batch.names.values():
            fault: FileFault = Unreadable(f"{shown(work.source.path)}: did not arrive ({last})")
            try:
                fd, found = batch.origin.open_file(work.source.path)
                os.close(fd)
                if fingerprint(found) != before:
                    fault = Changed(f"{shown(work.source.path)}: changed while it was copied")
            except FileFault as its:
                fault = its
            yield work, fault

    def _hold(self, work: Work, before: Fingerprint, answer: Sequence[Any]) -> Staged:
        proof, size, inode = answer
        handle = next(self._handles)
        self._live[handle] = _Landed(inode, proof)
        return Staged(work, None, size, before, handle)

    # proof

    def _known(self, stop: Stop | None) -> Sequence[str]:
        found: Sequence[str] = self._tree.link.facts(self.name, stop)["algorithms"]
        return found

    def _algorithm(self, work: Work, stop: Stop | None) -> str:
        wanted = work.claimed.algorithm if work.claimed else self.options.algorithm
        return wanted if wanted in self._known(stop) else FALLBACK

    def prove(self, staged: Staged, algorithm: str, *, stop: Stop) -> Digest:
        """What the helper read back when the file landed, in its own inode, in an area that only we can enter."""
        if staged.adopted:
            return self._tree.digest(staged.work.target, algorithm, stop=stop)
        proof = self._live[staged.handle].proof
        if algorithm in proof:
            return Digest(algorithm, proof[algorithm])
        if algorithm in self._known(stop):
            [again] = self._staging(
                {"op": "redigest", "token": staged.work.token, "number": staged.work.id, "algorithms": [algorithm]},
                stop,
            )
            return Digest(algorithm, again)
        if staged.work.claimed is None:
            return Digest(FALLBACK, proof[FALLBACK])
        return self._through_the_source(staged, algorithm, proof[FALLBACK], stop)

    def _through_the_source(self, staged: Staged, algorithm: str, landed: str, stop: Stop) -> Digest:
        """The other end cannot compute it: what landed is, by sha256, what we read here, and that has this digest."""
        work = staged.work
        origin = self._origin(work.source.place)
        fd, found = origin.open_file(work.source.path)
        try:
            wanted, same = digest_file_by(fd, found.st_size, (algorithm, FALLBACK), stop)
        except OSError as error:
            raise origin.fault(error, work.source.path) from error
        finally:
            os.close(fd)
        if same.hex != landed:
            raise DigestMismatch(
                f"{shown(work.source.path)}: sha256:{landed} landed in {self.name}, {same} is at the source",
                remedy="nothing was published; did the source change?",
            )
        return wanted

    def seal(self, group: Sequence[Staged]) -> None:
        options = self.options
        for token, some in _by_token(group).items():
            items = [
                [wire(staged.work.target), None]
                if staged.adopted
                else [staged.work.id, staged.source.mtime_ns if options.keep_mtime else None]
                for staged in some
            ]
            request = {"op": "seal", "token": token, "items": items, "mode": options.file_mode, "sync": options.sync}
            self._staging({**request, "owner": options.owner, "group": options.group})

    # the final name

    def publish(self, group: Sequence[Staged]) -> Iterator[tuple[Staged, FileFault | ClaimLost | None]]:
        """All of a claim in one exchange."""
        fresh: list[Staged] = []
        for staged in group:
            target = path_bytes(staged.work.target)
            if staged.adopted:
                yield staged, None
            elif target.split(b"/", 1)[0] == HOME:
                yield staged, BadName(f"{shown(staged.work.target)}: {HOME.decode()} is skystow's own")
            else:
                fresh.append(staged)
        options = self.options
        for token, some in _by_token(fresh).items():
            items = [[each.work.id, self._live[each.handle].inode, wire(each.work.target)] for each in some]
            request = {"op": "publish", "token": token, "items": items, "mode": options.directory_mode}
            answers = self._staging({**request, "owner": options.owner, "group": options.group})
            for staged, answer in zip(some, answers, strict=True):
                yield staged, self._naming_fault(answer, shown(staged.work.target))

    def _naming_fault(self, answer: int | str, what: str) -> FileFault | ClaimLost | None:
        """What the helper's answer means for a file; raises what it means for the place."""
        if answer == 0:
            return None
        if isinstance(answer, str):
            return ClaimLost(f"{what}: its staging area was swept")
        if answer == errno.EEXIST:
            return NameTaken(f"{what}: the name is taken")
        if answer == errno.EOPNOTSUPP:
            raise UnfitPlace(f"{self.name}: neither hard links nor renameat2(RENAME_NOREPLACE) work in {self._tree}")
        fault = blame(OSError(answer, os.strerror(answer)), Side.PUBLISH, what, place=self.name)
        if not isinstance(fault, FileFault):
            raise fault
        return fault

    def sync(self, group: Sequence[Staged]) -> None:
        if group:
            paths = [wire(staged.work.target) for staged in group]
            self._staging({"op": "sync", "paths": paths, "sync": self.options.sync})

    # afterwards

    def drop(self, group: Sequence[Staged]) -> None:
        """Where the connection is gone, what is staged stays until the sweep of dead claims."""
        ours = [staged for staged in group if self._live.pop(staged.handle, None) is not None]
        for token, some in _by_token(ours).items():
            if self._tree.link.up:
                numbers = [staged.work.id for staged in some if not staged.adopted]
                with suppress(PlaceFault, OperatorFault):
                    self._staging({"op": "drop", "token": token, "numbers": numbers})

    def adopt(self, work: Work) -> Staged | None:
        try:
            found = self._tree.look(work.target)
        except FileFault:  # it cannot be told what stands there: a person must look
            return None
        if found is None:
            return None
        handle = next(self._handles)
        self._live[handle] = _Landed(found.st_ino, {})
        return Staged(work, None, found.st_size, work.fingerprint, handle, adopted=True)

    def tokens(self, *, idle: float = 0.0) -> Sequence[str]:
        found: Sequence[str] = self._staging({"op": "tokens", "idle": idle})
        return found

    def sweep(self, token: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise BadName(f"{token!r} is not the token of a claim")
        self._staging({"op": "sweep", "token": token})

    def room(self) -> Room:
        total, free = self._staging({"op": "room"})
        return Room(total=total, free=free, spare=int(free - self.options.min_free * total))

    def check(self, upstream: Tree | None) -> Iterator[Finding]:
        if isinstance(upstream, LocalTree):
            upstream.directory(b"")  # raises where the source is not there
        yield from doctor.fit(self._tree, self.options, self.room)

    def _staging(self, request: Mapping[str, Any], stop: Stop | None = None) -> Any:
        try:
            return self._tree.ask(request, stop)
        except OSError as error:
            raise blame(error, Side.STAGING, f"{self._tree}", place=self.name) from error


def _by_token(group: Sequence[Staged]) -> dict[str, list[Staged]]:
    found: dict[str, list[Staged]] = {}
    for staged in group:
        found.setdefault(staged.work.token, []).append(staged)
    return found
