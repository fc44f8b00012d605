"""The Archive Controller's hands: the day's directory, adopting what a forwarder put into staging, the manifest.

Adopted means: held inside staging, a regular file that may be linked, of the size and digest that were announced,
digested, read-only where it is ours, and durable with its name. Only then is anything said about it.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_bits
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file_by
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import BadName, DigestMismatch, FileFault, Missing, SkystowError, Unreadable
from skystow.model.acts import Act, Adopt, MakeDay, SweepStaging, WriteManifest
from skystow.model.layout import RESERVED
from skystow.model.messages import Message
from skystow.model.records import ALGORITHMS, Digest, path_bytes, shown
from skystow.model.reports import Adopted, AdoptionRefused, DayMade, DayRefused, HandedOff, ManifestWritten
from skystow.model.transfer import State
from skystow.ports import Ledger, Stop

ALGORITHM = "sha256"
"""So that manifests are what `sha256sum -c` reads."""

_NAME = re.compile(r"(?P<obsid>[A-Za-z0-9][A-Za-z0-9_.]*)-R(?P<raft>[0-9A-Z]{2})S(?P<sensor>[0-9A-Z]{2})\.fits")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TRIAL = RESERVED.encode() + b"/trial"

Inspect = Callable[[int, str, str], None]
"""Raises `Unreadable` unless a descriptor is a whole FITS file of (obsid, detector)."""


class Landing:
    """Acts on the staging tree. `ledger` tells what was adopted and linked before; `day_mode` is of day directories."""

    def __init__(
        self, tree: LocalTree, ledger: Ledger, *, inspect: Inspect, day_mode: int = 0o2775, sweep_after: float = 600.0
    ) -> None:
        self.tree, self.ledger, self.inspect = tree, ledger, inspect
        self.day_mode, self.sweep_after = day_mode, sweep_after
        self.unfinished: dict[str, str] = {}
        """What the last sweep found and left, and why."""

    # ── the day ─────────────────────────────────────────────────────────────────────────────────────────────────

    def make_day(self, act: Act, *, stop: Stop) -> Sequence[Message]:  # noqa: ARG002 - the port's
        assert isinstance(act, MakeDay)  # noqa: S101 - wiring gives each hand its own acts
        if not _DAY.fullmatch(act.day):
            return [DayRefused(act.obsid, f"‘{shown(act.day)}’ is no day")]
        try:
            self.tree.forget()
            self.tree.directory(act.day.encode(), self._make)
        except (FileExistsError, NotADirectoryError) as error:
            return [DayRefused(act.obsid, f"{self.tree}/{act.day}: {(error.strerror or '').lower()}")]
        except OSError as error:
            raise blame(error, Side.PUBLISH, act.day, place=self.tree.place) from error
        return [DayMade(act.obsid, f"{os.fsdecode(self.tree.root)}/{act.day}/")]

    def _make(self, above: Directory, name: bytes) -> None:
        """Durable before anybody is told of it. mkdir obeys the umask and drops set-gid on some systems: chmod."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above.fd)
            os.chmod(name, self.day_mode, dir_fd=above.fd)
        os.fsync(above.fd)

    # ── a file ──────────────────────────────────────────────────────────────────────────────────────────────────

    def adopt(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        assert isinstance(act, Adopt)  # noqa: S101
        said = act.announced
        try:
            path = self._below(said.filename)
            self._named(path, said.obsid, said.raft, said.sensor)
            claimed = self._claimed(said.checksum_type, said.checksum)
            return [self._adopt(path, said.filename, said.obsid, said.raft, said.sensor, said.size, claimed, stop)]
        except Missing as missing:
            return self._before(path, said.obsid) or [self._refusal(act, missing, final=False, gone=True)]
        except FileFault as fault:
            return [self._refusal(act, fault, final=not isinstance(fault, Unreadable))]

    def _refusal(self, act: Adopt, fault: SkystowError, *, final: bool, gone: bool = False) -> AdoptionRefused:
        return AdoptionRefused(act.announced.obsid, act.announced.filename, str(fault), final, gone)

    def _below(self, filename: str) -> PurePosixPath:
        """An announced name, relative to staging. Lexical: symlinks on the way are refused when it is opened."""
        root, raw = self.tree.root.rstrip(b"/"), path_bytes(filename)
        if b"\0" in raw or b".." in raw.split(b"/"):
            raise BadName(f"‘{shown(filename)}’ is no name of a file in staging")
        parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
        above = [part for part in root.split(b"/") if part]
        below = parts[len(above) :]
        if not raw.startswith(b"/") or parts[: len(above)] != above or not below or below[0] == RESERVED.encode():
            raise BadName(
                f"‘{shown(filename)}’ is not in staging ({self.tree})",
                remedy="forwarder and Controller must see staging under the same name",
            )
        return PurePosixPath(os.fsdecode(b"/".join(below)))

    def _named(self, path: PurePosixPath, obsid: str, raft: str, sensor: str) -> None:
        if not path.name.startswith(f"{obsid}-"):
            raise BadName(f"{shown(path)} is announced as a file of {shown(obsid)}, whose name it does not bear")
        found = _NAME.fullmatch(path.name)
        if found and raft and (found["raft"], found["sensor"]) != (raft, sensor):
            raise BadName(f"{shown(path)} is announced as raft {shown(raft)}, sensor {shown(sensor)}")

    def _claimed(self, algorithm: str, digits: str) -> Digest | None:
        if not digits:
            return None
        if algorithm.lower() not in ALGORITHMS or not re.fullmatch(r"[0-9A-Fa-f]{16,128}", digits):
            raise BadName(f"‘{shown(algorithm)}: {shown(digits)}’ is no checksum that can be compared")
        return Digest(algorithm.lower(), digits.lower())

    def _adopt(
        self,
        path: PurePosixPath,
        filename: str,
        obsid: str,
        raft: str,
        sensor: str,
        size: int | None,
        claimed: Digest | None,
        stop: Stop,
        *,
        swept: bool = False,
    ) -> Adopted:
        self.tree.forget()
        fd, found = self.tree.open_file(path)
        try:
            if size is not None and found.st_size != size:
                raise DigestMismatch(f"{shown(path)} has {found.st_size} bytes, {size} were announced")
            self._linkable(path, found)
            algorithms = [ALGORITHM, *([claimed.algorithm] if claimed and claimed.algorithm != ALGORITHM else [])]
            digests = digest_file_by(fd, found.st_size, algorithms, stop)
            if claimed is not None and claimed not in digests:
                raise DigestMismatch(f"{shown(path)} reads {digests[-1]}, {claimed} was announced")
            if swept:
                self.inspect(fd, obsid, f"R{raft}_S{sensor}")
            if found.st_uid == os.geteuid():
                os.fchmod(fd, 0o444)
            os.fsync(fd)
            directory = self.tree.directory(held(path)[0])  # kept: another thread may let go of it
            os.fsync(directory.fd)
            after = os.fstat(fd)
        except OSError as error:
            raise self.tree.fault(error, path) from error
        finally:
            os.close(fd)
        if (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise Unreadable(f"{shown(path)} was written to while it was read")
        name = os.fsdecode(path_bytes(path))
        return Adopted(
            obsid,
            filename,
            name,
            raft,
            sensor,
            after.st_size,
            str(digests[0]),
            after.st_mtime_ns,
            after.st_ino,
            0,
            swept,
        )

    def _linkable(self, path: PurePosixPath, found: os.stat_result) -> None:
        """By trying: who may link what is a matter of owners, modes, capabilities and fs.protected_hardlinks."""
        parent, name = held(path)
        trial = b"%d" % found.st_ino
        try:
            area = self.tree.directory(_TRIAL, _private)
            with suppress(FileNotFoundError):
                os.unlink(trial, dir_fd=area.fd)
            above = self.tree.directory(parent)
            os.link(name, trial, src_dir_fd=above.fd, dst_dir_fd=area.fd, follow_symlinks=False)
            os.unlink(trial, dir_fd=area.fd)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise
            raise Unreadable(
                f"{shown(path)} belongs to user {found.st_uid} and cannot be linked by user {os.geteuid()}",
                remedy="let forwarders write as the Controller's user, or group-writable with a common group",
            ) from error

    def _before(self, path: PurePosixPath, obsid: str) -> list[Message]:
        """Where all its links were made before, it is gone for that reason: they are told again."""
        for number in self.ledger.find(path_bytes(path)):
            dossier = self.ledger.dossier(number)
            if dossier is None or dossier.source != self.tree.place:
                continue
            if all(copy.state is State.DONE for copy in dossier.copies):
                return [
                    HandedOff(obsid, str(path), copy.route.destination, str(copy.digest), copy.size or 0)
                    for copy in dossier.copies
                ]
        return []

    # ── what nobody told us of ──────────────────────────────────────────────────────────────────────────────────

    def sweep(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        """Whole files that stand there untouched for `sweep_after` seconds and were never adopted."""
        assert isinstance(act, SweepStaging)  # noqa: S101
        adopted: list[Message] = []
        self.unfinished = {}
        for path in self._standing():
            if stop.is_set():
                break
            named = _NAME.fullmatch(path.name)
            if named is None:
                self.unfinished[shown(path)] = "not named as a forwarder names files"
                continue
            if self._known(path):
                continue
            filename = f"{os.fsdecode(self.tree.root)}/{path}"
            obsid, raft, sensor = named["obsid"], named["raft"], named["sensor"]
            try:
                adopted.append(self._adopt(path, filename, obsid, raft, sensor, None, None, stop, swept=True))
            except FileFault as fault:
                self.unfinished[shown(path)] = str(fault)
        return adopted

    def _standing(self) -> Iterator[PurePosixPath]:
        before = time.time() - self.sweep_after
        try:
            self.tree.forget()
            root = self.tree.directory(b"")
            for day in sorted(os.listdir(root.fd)):
                if not _DAY.fullmatch(day):
                    continue
                directory = self.tree.directory(day.encode())
                for name in sorted(os.listdir(directory.fd)):
                    found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                    if stat_bits.S_ISREG(found.st_mode) and max(found.st_mtime, found.st_ctime) < before:
                        yield PurePosixPath(day, name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise blame(error, Side.SOURCE, str(self.tree), place=self.tree.place) from error

    def _known(self, path: PurePosixPath) -> bool:
        dossiers = (self.ledger.dossier(number) for number in self.ledger.find(path_bytes(path)))
        return any(dossier is not None and dossier.source == self.tree.place for dossier in dossiers)


class Manifests:
    """Writes `<obsid>.sha256` beside the files of a complete exposure, in each of some trees."""

    def __init__(self, trees: Sequence[LocalTree]) -> None:
        self.trees = trees

    def write(self, act: Act, *, stop: Stop) -> Sequence[Message]:  # noqa: ARG002 - the port's
        assert isinstance(act, WriteManifest)  # noqa: S101
        names = sorted(act.files, key=lambda path: PurePosixPath(path).name)
        text = "".join(f"{act.files[path]}  {PurePosixPath(path).name}\n" for path in names)
        path = PurePosixPath(act.directory, f"{act.obsid}.sha256")
        for tree in self.trees:
            try:
                _write_new(tree, path, text.encode())
            except OSError as error:
                raise blame(error, Side.PUBLISH, shown(path), place=tree.place) from error
        return [ManifestWritten(act.obsid, str(path))]


def _write_new(tree: LocalTree, path: PurePosixPath, content: bytes) -> None:
    """Atomically, durably, never over another; what stands there from an earlier try is left."""
    parent, name = held(path)
    directory = tree.directory(parent)
    fd = os.open(b".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=directory.fd)
    try:
        while content:
            content = content[os.write(fd, content) :]
        os.fsync(fd)
        with suppress(FileExistsError):
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory.fd, follow_symlinks=True)
    finally:
        os.close(fd)
    os.fsync(directory.fd)


def _private(above: Directory, name: bytes) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above.fd)
