"""The OODS's hand: reads what a file says of itself, registers it, and puts bad ones aside with the reason."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Protocol

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import BadName, ConfigError, Conflict, FileFault, Missing, SkystowError, Unreadable
from skystow.model.acts import Act, Ingest
from skystow.model.messages import FileIngestRequest, Message
from skystow.model.records import Digest, path_bytes, shown
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
"""The site's own ingest, a Butler's for instance; what it raises makes the file a bad one."""


def load_hook(name: str | None) -> Hook | None:
    """`package.module:callable`. Raises `ConfigError`."""
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"hook: {name}: {error}", remedy="name a callable as package.module:callable") from error
    if not callable(found):
        raise ConfigError(f"hook: {name} cannot be called")
    hook: Hook = found
    return hook


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

    def ingest(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        assert isinstance(act, Ingest)  # noqa: S101 - wiring gives each hand its own acts
        request = act.request
        path: PurePosixPath | None = None
        try:
            path = self._below(request.filename)
            frame = self._frame(path, request, stop)
            already = bool(self.catalogue.find(path=frame.path, limit=1))
            if not already:
                self._hooked(frame)  # first: what is registered has been through it (a crash may call it twice)
            self.catalogue.register([frame])
        except FileFault as fault:
            code = BAD_METADATA if isinstance(fault, Unreadable) else NOT_INGESTED
            return [self._failed(request, fault, code, path)]
        return [Ingested(request.obsid, request.filename, frame.raft, frame.sensor, already)]

    def _below(self, filename: str) -> PurePosixPath:
        root = os.fsdecode(self.tree.root)
        path = PurePosixPath(filename)
        if ".." in path.parts or not path.is_relative_to(root) or path == PurePosixPath(root):
            raise BadName(f"‘{shown(filename)}’ is not in the OODS ({self.tree})")
        return path.relative_to(root)

    def _frame(self, path: PurePosixPath, request: FileIngestRequest, stop: Stop) -> Frame:
        self.tree.forget()
        fd, found = self.tree.open_file(path)
        try:
            said = self.read(fd)
            digest = self._proven(path) or digest_file(fd, found.st_size, ALGORITHM, stop)
        except OSError as error:
            raise self.tree.fault(error, path) from error
        finally:
            os.close(fd)
        asked = (request.obsid, request.raft or said.raft, request.sensor or said.sensor)
        if (said.obsid, said.raft, said.sensor) != asked:
            raise Unreadable(f"its headers say {shown(said.obsid)} R{said.raft}S{said.sensor}, not {'-'.join(asked)}")
        absolute = PurePosixPath(os.fsdecode(self.tree.root)) / path
        what = (said.obsid, said.day_obs, said.seq_num, said.raft, said.sensor, said.filter, said.exposure_time)
        return Frame(*what, absolute, found.st_size, digest)

    def _proven(self, path: PurePosixPath) -> Digest | None:
        """The ledger's digest of the very link, where it is ours: read back when the file was adopted."""
        for number in self.ledger.find(path_bytes(path)):
            dossier = self.ledger.dossier(number)
            for copy in dossier.copies if dossier else ():
                if copy.route.destination == self.tree.place and copy.state is State.DONE and copy.path == path:
                    return copy.digest
        return None

    def _hooked(self, frame: Frame) -> None:
        hook = self.hook
        try:
            if hook is not None:
                hook(frame)
        except SkystowError:
            raise
        except Exception as error:
            raise Conflict(f"the ingest hook refuses it: {type(error).__name__}: {error}") from error

    # ── bad files ───────────────────────────────────────────────────────────────────────────────────────────────

    def _failed(
        self, request: FileIngestRequest, fault: FileFault, code: int, path: PurePosixPath | None
    ) -> IngestFailed:
        moved = ""
        if path is not None and not isinstance(fault, Missing | BadName):
            moved = self._put_aside(path, str(fault))
        return IngestFailed(request.obsid, request.filename, request.raft, request.sensor, code, str(fault), moved)

    def _put_aside(self, path: PurePosixPath, reason: str) -> str:
        """A second name among the bad files, the reason beside it; the first name then goes by the engine's hand."""
        parent, name = held(path)
        try:
            source = self.tree.directory(parent)
            self.bad.forget()
            target = self.bad.directory(parent, _make)
            with suppress(FileExistsError):
                os.link(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
            fd = os.open(
                name + b".reason", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=target.fd
            )
            try:
                os.write(fd, reason.encode("utf-8", "backslashreplace") + b"\n")
                os.fsync(fd)
            finally:
                os.close(fd)
            os.fsync(target.fd)
        except OSError as error:
            raise blame(error, Side.PUBLISH, shown(path), place=self.bad.place) from error
        return f"{self.bad}/{shown(path)}"


def _make(above: Directory, name: bytes) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o2775, dir_fd=above.fd)
    os.fsync(above.fd)
