"""The OODS's hand: reads what a file says of itself, registers it, and puts bad ones aside with the reason."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath
from typing import Protocol

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import (
    BadName,
    ConfigError,
    Conflict,
    FileFault,
    Missing,
    PlaceFault,
    Stopped,
    UnfitPlace,
    Unreadable,
)
from skystow.model.acts import Ingest
from skystow.model.layout import RESERVED
from skystow.model.messages import FileIngestRequest, Message
from skystow.model.records import Digest, Fingerprint, path_bytes, path_text, shown
from skystow.model.reports import Ingested, IngestFailed
from skystow.model.transfer import State
from skystow.ports import Ledger, Stop
from skystow.ports.image import Catalogue, Frame

ALGORITHM = "sha256"
NOT_INGESTED, BAD_METADATA = 1, 2


class Said(Protocol):
    """What a file's headers say (`skystow.adapters.fits.Reading`)."""

    @property
    def obsid(self) -> str: ...
    @property
    def day_obs(self) -> int: ...
    @property
    def seq_num(self) -> int: ...
    @property
    def raft(self) -> str: ...
    @property
    def sensor(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def exposure_time(self) -> float: ...


Hook = Callable[[Frame], None]
"""The site's own ingest, a Butler's for instance. What it raises makes the file a bad one, but a `PlaceFault`, which
means: ask again later. It may be called twice for one file."""


def load_hook(name: str | None) -> Hook | None:
    """`package.module:callable`. Raises `ConfigError`."""
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of somebody else may raise anything when it is imported
        raise ConfigError(
            f"hook: {name}: {type(error).__name__}: {error}", remedy="name a callable as package.module:callable"
        ) from error
    if not callable(found):
        raise ConfigError(f"hook: {name} cannot be called", remedy="name a callable as package.module:callable")
    hook: Hook = found
    return hook


@dataclass(frozen=True, slots=True)
class _Fit:
    """A file that may be registered. `already`: it was, before."""

    request: FileIngestRequest
    path: PurePosixPath
    frame: Frame
    already: bool

    def ingested(self) -> Ingested:
        return Ingested(self.request.obsid, self.request.filename, self.frame.raft, self.frame.sensor, self.already)


class Shelf:
    """Ingests files below `tree`. `read` is given a descriptor and raises `Unreadable`; `bad` is the directory for
    what cannot be used, on the same file system."""

    def __init__(
        self,
        tree: LocalTree,
        bad: LocalTree,
        catalogue: Catalogue,
        ledger: Ledger,
        *,
        read: Callable[[int], Said],
        hook: Hook | None = None,
    ) -> None:
        self.tree, self.bad, self.catalogue, self.ledger = tree, bad, catalogue, ledger
        self.read, self.hook = read, hook

    def ingest(self, act: Ingest, *, stop: Stop) -> Sequence[Message]:
        return self.ingest_all([act], stop=stop)

    def ingest_all(self, asked: Sequence[Ingest], *, stop: Stop) -> Sequence[Message]:
        """A `Crew`: what is fit is registered in one transaction."""
        reports: list[Message] = []
        fit: list[_Fit] = []
        for act in asked:
            found = self._examine(act.request, stop)
            if isinstance(found, _Fit):
                fit.append(found)
            else:
                reports.append(found)
        return [*reports, *self._register(fit)]

    def _examine(self, request: FileIngestRequest, stop: Stop) -> _Fit | IngestFailed:
        path: PurePosixPath | None = None
        try:
            path = self._below(request.filename)
            frame = self._frame(path, request, stop)
            already = bool(self.catalogue.find(path=frame.path, limit=1))
            if not already:
                self._hooked(frame)  # first: what is registered has been through it (a crash may call it twice)
        except FileFault as fault:
            return self._unfit(request, path, fault)
        return _Fit(request, path, frame, already)

    def _register(self, fit: Sequence[_Fit]) -> list[Message]:
        try:
            self.catalogue.register([each.frame for each in fit])
        except Conflict as conflict:
            if len(fit) > 1:  # one of them is to blame, and nothing was registered
                return [report for each in fit for report in self._register([each])]
            return [self._unfit(each.request, each.path, conflict) for each in fit]
        return [each.ingested() for each in fit]

    def _unfit(self, request: FileIngestRequest, path: PurePosixPath | None, fault: FileFault) -> IngestFailed:
        if isinstance(fault, Missing):
            put_aside = self._put_aside_before(path) if path is not None else None
            return self._failed(request, *(put_aside or (NOT_INGESTED, str(fault), "")))
        code = BAD_METADATA if isinstance(fault, Unreadable) else NOT_INGESTED
        moved, unmoved = self._put_aside(path, code, str(fault)) if path is not None else ("", "")
        return self._failed(request, code, f"{fault}{unmoved}", moved)

    def _below(self, filename: str) -> PurePosixPath:
        root, path = PurePosixPath(path_text(self.tree.root)), PurePosixPath(filename)
        try:
            path_bytes(filename)
        except UnicodeEncodeError as error:
            raise BadName(f"‘{shown(filename)}’ is no name that a file can have") from error
        if ".." in path.parts or not path.is_relative_to(root) or path == root:
            raise BadName(f"‘{shown(filename)}’ is not in the OODS ({self.tree})")
        below = path.relative_to(root)
        if below.parts[0] == RESERVED:
            raise BadName(f"‘{shown(filename)}’ is below {RESERVED}, which is ours")
        return below

    def _frame(self, path: PurePosixPath, request: FileIngestRequest, stop: Stop) -> Frame:
        self.tree.forget()
        fd, found = self.tree.open_file(path)
        try:
            said = self.read(fd)
            digest = self._proven(path, found) or digest_file(fd, found.st_size, ALGORITHM, stop)
        except OSError as error:
            raise self.tree.fault(error, path) from error
        finally:
            os.close(fd)
        obsid, raft, sensor = request.obsid, request.raft or said.raft, request.sensor or said.sensor
        if (said.obsid, said.raft, said.sensor) != (obsid, raft, sensor):
            says = f"{shown(said.obsid)} R{shown(said.raft)}S{shown(said.sensor)}"
            raise Unreadable(f"its headers say {says}, it was announced as {obsid} R{shown(raft)}S{shown(sensor)}")
        absolute = PurePosixPath(path_text(self.tree.root)) / path
        what = (said.obsid, said.day_obs, said.seq_num, said.raft, said.sensor, said.filter, said.exposure_time)
        return Frame(*what, absolute, found.st_size, digest)

    def _proven(self, path: PurePosixPath, found: os.stat_result) -> Digest | None:
        """The ledger's digest of the very inode, where it is the one that was linked: read when it was adopted."""
        looks = Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino)
        for number in self.ledger.find(path_bytes(path)):
            dossier = self.ledger.dossier(number)
            if dossier is None or dossier.fingerprint.inode is None or not dossier.fingerprint.untouched(looks):
                continue
            for copy in dossier.copies:
                if (copy.route.destination, copy.path, copy.state) == (self.tree.place, path, State.DONE):
                    return copy.digest if copy.digest and copy.digest.algorithm == ALGORITHM else None
        return None

    def _hooked(self, frame: Frame) -> None:
        hook = self.hook
        try:
            if hook is not None:
                hook(frame)
        except (FileFault, PlaceFault, Stopped):
            raise
        except (Exception, SystemExit) as error:  # somebody else's code: it may raise anything, and stops nobody
            raise Conflict(f"the ingest hook refuses it: {type(error).__name__}: {error}") from error

    # ── bad files ───────────────────────────────────────────────────────────────────────────────────────────────

    def _failed(self, request: FileIngestRequest, code: int, reason: str, moved: str) -> IngestFailed:
        return IngestFailed(request.obsid, request.filename, request.raft, request.sensor, code, reason, moved)

    def _put_aside(self, path: PurePosixPath, code: int, reason: str) -> tuple[str, str]:
        """A second name among the bad files, the reason beside it; the first name then goes by the engine's hand.
        Returns where it is, or "" and why it stays. Raises `PlaceFault`."""
        try:
            if self.tree.look(path) is None:
                return "", ""  # a directory, a FIFO, a symlink: nothing of ours
            name = self._link_aside(path)
            self._write_reason(path.with_name(f"{name}.reason"), f"{code} {reason}\n")
        except (FileFault, UnfitPlace) as fault:
            return "", f"; it cannot be put aside: {fault}"
        except OSError as error:
            found = blame(error, Side.PUBLISH, shown(path), place=self.bad.place)
            if isinstance(found, PlaceFault):
                raise found from error
            return "", f"; it cannot be put aside: {found}"
        return f"{self.bad}/{shown(path.with_name(name))}", ""

    def _link_aside(self, path: PurePosixPath) -> str:
        """Under its own name, or a numbered one where another bad file has that: nothing is overwritten or lost."""
        parent, name = held(path)
        source = self.tree.directory(parent)
        self.bad.forget()
        target = self.bad.directory(parent, _make)
        ours = os.stat(name, dir_fd=source.fd, follow_symlinks=False)
        for number in count():
            other = name + b".%d" % number if number else name
            try:
                os.link(name, other, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
            except FileExistsError:
                if not os.path.samestat(ours, os.stat(other, dir_fd=target.fd, follow_symlinks=False)):
                    continue
            return path_text(other)
        raise AssertionError("numbers do not end")

    def _write_reason(self, path: PurePosixPath, text: str) -> None:
        parent, name = held(path)
        target = self.bad.directory(parent)
        fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=target.fd
        )
        try:
            os.write(fd, text.encode("utf-8", "backslashreplace"))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.fsync(target.fd)

    def _put_aside_before(self, path: PurePosixPath) -> tuple[int, str, str] | None:
        """What a run that ended before it could say so has found and put aside: status, reason, where."""
        if self.bad.look(path) is None:
            return None
        try:
            fd, found = self.bad.open_file(path.with_name(f"{path.name}.reason"))
        except FileFault:
            return None
        try:
            said = os.pread(fd, found.st_size, 0).decode("utf-8", "backslashreplace")
        except OSError as error:
            raise blame(error, Side.STAGING, shown(path), place=self.bad.place) from error
        finally:
            os.close(fd)
        code, _, reason = said.strip().partition(" ")
        return (int(code), reason, f"{self.bad}/{shown(path)}") if code in ("1", "2") else None


def _make(above: Directory, name: bytes) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o2775, dir_fd=above.fd)
    os.fsync(above.fd)
