"""The Archive Controller's hands: the day's directory, and adopting what a forwarder put into staging.

Adopted means: held inside staging, in the directory of a day, a regular file that may be linked, of the size and
digest that were announced, digested, read-only where it is ours, and durable with its name. Only then is anything
said about it. A fault of one file is a report; only a place's fault is raised.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_bits
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file_by
from skystow.adapters.syscalls import syncfs, syncs_whole
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import BadName, DigestMismatch, FileFault, Missing, NotAFile, SkystowError, Unreadable
from skystow.model.acts import Adopt, MakeDay, SweepStaging
from skystow.model.layout import RESERVED
from skystow.model.messages import FileTransferCompleted, Message, digest_of, named_by
from skystow.model.records import ALGORITHMS, Digest, Fingerprint, path_bytes, path_text, shown
from skystow.model.reports import Adopted, AdoptionRefused, DayMade, DayRefused, HandedOff, PassEnded
from skystow.model.transfer import State
from skystow.ports import Dossier, Ledger, Stop

ALGORITHM = "sha256"
"""So that manifests are what `sha256sum -c` reads."""

MANY = 16
"""So many files cost more than one sync of the whole file system."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_HOME = RESERVED.encode()

Inspect = Callable[[int, str, str], None]
"""Raises `Unreadable` unless a descriptor is a whole FITS file of (obsid, detector)."""


@dataclass(frozen=True, slots=True)
class _Meant:
    """A file that is to be adopted, and what was said of it."""

    said: FileTransferCompleted
    path: PurePosixPath
    claimed: Digest | None = None
    swept: bool = False


@dataclass(frozen=True, slots=True)
class _Open:
    """One that is as it was said to be: as it looked before it was read, and what was read."""

    fd: int
    found: os.stat_result
    digest: Digest


class Landing:
    """Acts on the staging tree. `ledger` tells what was adopted and linked before; `day_mode` is of day directories.
    One Controller alone works on a staging tree; its threads may be several."""

    def __init__(
        self, tree: LocalTree, ledger: Ledger, *, inspect: Inspect, day_mode: int = 0o2775, sweep_after: float = 600.0
    ) -> None:
        self.tree, self.ledger, self.inspect = tree, ledger, inspect
        self.day_mode, self.sweep_after = day_mode, sweep_after
        self._trial = threading.Lock()
        self._links = False
        """A file of ours could be linked: so can the others."""
        self._left: dict[str, str] = {}
        """What the last sweep found and did not adopt, and why."""

    # ── the day ─────────────────────────────────────────────────────────────────────────────────────────────────

    def make_day(self, act: MakeDay, *, stop: Stop) -> Sequence[Message]:
        if not _DAY.fullmatch(act.day):
            return [DayRefused(act.obsid, f"‘{shown(act.day)}’ is no day")]
        try:
            self._make_day(act.day.encode())
        except FileFault as fault:
            return [DayRefused(act.obsid, str(fault))]
        return [DayMade(act.obsid, f"{path_text(self.tree.root)}/{act.day}/")]

    def _make_day(self, name: bytes) -> None:
        """Durable before anybody is told of it. mkdir obeys the umask, and a crash may come before the mode."""
        self.tree.forget()
        try:
            day = self.tree.directory(name, _private)
            found = os.fstat(day.fd)
            mode = stat_bits.S_IMODE(found.st_mode)
            if found.st_uid == os.geteuid() and mode & self.day_mode != self.day_mode:
                os.fchmod(day.fd, mode | self.day_mode)
            os.fsync(day.fd)
            os.fsync(self.tree.directory(b"").fd)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NotAFile(f"{self.tree}/{name.decode()} is no directory") from error
            raise blame(error, Side.PUBLISH, f"{self.tree}/{name.decode()}", place=self.tree.place) from error

    # ── a file ──────────────────────────────────────────────────────────────────────────────────────────────────

    def adopt(self, acts: Sequence[Adopt], *, stop: Stop) -> Sequence[Message]:
        """A `Crew`: they share their syncs, and what the ledger knows of them is asked once."""
        reports: list[Message] = []
        meant: list[_Meant] = []
        for act in acts:
            said = act.announced
            try:
                path = self._below(said.filename)
                _agree(path, said)
                meant.append(_Meant(said, path, _claimed(said)))
            except FileFault as fault:
                reports.append(self._refusal(said, fault, final=True))
        found = self._adopt(meant, stop)
        known = self.ledger.latest(self.tree.place, [each.path for each in meant])
        for each, outcome in zip(meant, found, strict=True):
            reports += self._reports(each, outcome, known.get(each.path))
        return reports

    def _reports(self, meant: _Meant, found: Adopted | FileFault, known: Dossier | None) -> list[Message]:
        if isinstance(found, Adopted):
            return [found, *self._known(meant.said, found, known)]
        if isinstance(found, Missing):
            # Where all its links were made before, it is gone for that reason.
            gone = self._refusal(meant.said, found, final=False, gone=True)
            return self._linked(meant.said, meant.claimed, known) or [gone]
        return [self._refusal(meant.said, found, final=not isinstance(found, Unreadable))]

    def _refusal(
        self, said: FileTransferCompleted, fault: SkystowError, *, final: bool, gone: bool = False
    ) -> AdoptionRefused:
        return AdoptionRefused(said.obsid, said.filename, str(fault), final, gone)

    def _below(self, filename: str) -> PurePosixPath:
        """An announced name, as `<day>/<file>`. Lexical: symlinks on the way are refused when it is opened."""
        try:
            raw = path_bytes(filename)
        except UnicodeEncodeError as error:
            raise BadName(f"‘{shown(filename)}’ is no name that a file can have") from error
        if b"\0" in raw or b".." in raw.split(b"/"):
            raise BadName(f"‘{shown(filename)}’ is no name of a file in staging")
        parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
        above = [part for part in self.tree.root.split(b"/") if part]
        if not raw.startswith(b"/") or parts[: len(above)] != above:
            raise BadName(
                f"‘{shown(filename)}’ is not in staging ({self.tree})",
                remedy="forwarder and Controller must see staging under the same name",
            )
        below = parts[len(above) :]
        if len(below) != 2 or not _DAY.fullmatch(path_text(below[0])):
            raise BadName(f"‘{shown(filename)}’ is not in the directory of a day in staging ({self.tree})")
        return PurePosixPath(path_text(b"/".join(below)))

    def _adopt(self, meant: Sequence[_Meant], stop: Stop) -> list[Adopted | FileFault]:
        """What each of them is, once all are durable with their names, or what is wrong with it; in their order."""
        self.tree.forget()
        found: list[_Open | FileFault] = []
        with ExitStack() as opened:
            whole = len(meant) >= MANY and syncs_whole(self.tree.directory(b"").fd)
            for each in meant:
                try:
                    found.append(self._take(each, opened, stop, sync=not whole))
                except FileFault as fault:
                    found.append(fault)
            good = [(each, one) for each, one in zip(meant, found, strict=True) if isinstance(one, _Open)]
            try:
                # Kept while they are used: another thread may let go of them.
                days = [self.tree.directory(parent) for parent in {held(each.path)[0] for each, _ in good}]
                if good and whole:
                    syncfs(good[0][1].fd)
                else:
                    for day in days:
                        os.fsync(day.fd)
                return [
                    one if isinstance(one, FileFault) else _adopted(each, one)
                    for each, one in zip(meant, found, strict=True)
                ]
            except OSError as error:
                raise self._gone(error, f"syncing {self.tree}") from error

    def _take(self, meant: _Meant, opened: ExitStack, stop: Stop, *, sync: bool) -> _Open:
        said, path, claimed = meant.said, meant.path, meant.claimed
        fd, found = self.tree.open_file(path)
        opened.callback(os.close, fd)
        try:
            if said.size is not None and found.st_size != said.size:
                raise DigestMismatch(f"{shown(path)} has {found.st_size} bytes, {said.size} were announced")
            if meant.swept:
                self.inspect(fd, said.obsid, f"R{said.raft}_S{said.sensor}")
            self._linkable(path, found)
            algorithms = [ALGORITHM, *([claimed.algorithm] if claimed and claimed.algorithm != ALGORITHM else [])]
            digests = digest_file_by(fd, found.st_size, algorithms, stop)
            if claimed is not None and claimed not in digests:
                raise DigestMismatch(f"{shown(path)} reads {digests[-1]}, {claimed} was announced")
            if found.st_uid == os.geteuid():
                os.fchmod(fd, 0o444)
            if sync:
                os.fsync(fd)
        except OSError as error:
            raise self.tree.fault(error, path) from error
        return _Open(fd, found, digests[0])

    def _linkable(self, path: PurePosixPath, found: os.stat_result) -> None:
        """By trying: who may link what is a matter of owners, modes, capabilities and fs.protected_hardlinks. Of our
        own files once: with them it is a matter of the file system."""
        ours = found.st_uid == os.geteuid() and found.st_nlink == 1
        if ours and self._links:
            return
        parent, name = held(path)
        above = self.tree.directory(parent)
        trial = b"link"
        with self._trial:
            try:
                area = self.tree.directory(_HOME + b"/trial", _private)
                with suppress(FileNotFoundError):
                    os.unlink(trial, dir_fd=area.fd)  # of a run that was killed
            except OSError as error:
                raise blame(error, Side.STAGING, f"{self.tree}/{RESERVED}", place=self.tree.place) from error
            try:
                os.link(name, trial, src_dir_fd=above.fd, dst_dir_fd=area.fd, follow_symlinks=False)
                os.unlink(trial, dir_fd=area.fd)
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EACCES):
                    raise Unreadable(
                        f"{shown(path)} belongs to user {found.st_uid} and cannot be linked by user {os.geteuid()}",
                        remedy="let forwarders write as the Controller's user, or group-writable with a common group",
                    ) from error
                if error.errno == errno.ENOENT:
                    raise
                raise blame(error, Side.STAGING, shown(path), place=self.tree.place) from error
        self._links = self._links or ours

    def _linked(self, said: FileTransferCompleted, claimed: Digest | None, dossier: Dossier | None) -> list[Message]:
        """Links that were all made before, of the file that is meant: they are told again."""
        if dossier is None or not dossier.copies:
            return []
        for copy in dossier.copies:
            if copy.state is not State.DONE or copy.digest is None:
                return []
            if said.size is not None and copy.size != said.size:
                return []
            if claimed is not None and claimed.algorithm == copy.digest.algorithm and claimed != copy.digest:
                return []
        return [
            HandedOff(said.obsid, str(dossier.origin), copy.route.destination, str(copy.digest), copy.size or 0)
            for copy in dossier.copies
        ]

    def _known(self, said: FileTransferCompleted, adopted: Adopted, dossier: Dossier | None) -> list[Message]:
        """Sent once more as it was: the ledger sees nothing new in it, and would say nothing."""
        if dossier is None or not dossier.fingerprint.same_content(Fingerprint(adopted.size, adopted.mtime_ns)):
            return []
        return self._linked(said, digest_of(adopted.digest), dossier)

    # ── what nobody told us of ──────────────────────────────────────────────────────────────────────────────────

    def sweep(self, act: SweepStaging, *, stop: Stop) -> Sequence[Message]:
        """Whole files that stand there untouched for `sweep_after` seconds and that nobody sees to. The others are
        reported, once for each reason."""
        found: list[Message] = []
        left: dict[str, str] = {}
        standing = list(self._standing(left))
        known = self.ledger.latest(self.tree.place, standing)
        for path in standing:
            if stop.is_set():
                break
            filename, obsid = f"{path_text(self.tree.root)}/{path}", ""
            try:
                obsid, raft, sensor = named_by(path.name)
                dossier = known.get(path)
                if dossier is not None and dossier.retired_at is None:
                    continue  # the spine has it
                said = FileTransferCompleted(filename, obsid, raft, sensor, "", "", "")
                (adopted,) = self._adopt([_Meant(said, path, swept=True)], stop)
                if isinstance(adopted, FileFault):
                    raise adopted
                found += [adopted, *self._known(said, adopted, dossier)]
            except Missing:
                continue  # it went meanwhile
            except FileFault as fault:
                left[filename] = str(fault)
                if self._left.get(filename) != str(fault):
                    found.append(AdoptionRefused(obsid, filename, f"found in staging: {fault}", False, swept=True))
        found += [
            AdoptionRefused("", name, reason, False, swept=True)
            for name, reason in left.items()
            if _DAY.fullmatch(PurePosixPath(name).name) and self._left.get(name) != reason
        ]
        self._left = left
        return [*found, PassEnded()]

    def held(self) -> Iterator[FileFault]:
        """Files of other users that cannot be linked, and why; what is looked at changes nothing."""
        self.sweep_after = float("-inf")
        for path in self._standing({}):
            found = self.tree.look(path)
            if found is None or found.st_uid == os.geteuid():
                continue
            try:
                self._linkable(path, found)
            except FileFault as fault:
                yield fault

    def _standing(self, left: dict[str, str]) -> Iterator[PurePosixPath]:
        """Regular files in the directories of days; days that cannot be looked into are put into `left`."""
        before = time.time() - self.sweep_after
        self.tree.forget()
        root = self.tree.directory(b"")
        try:
            days = sorted(filter(_DAY.fullmatch, os.listdir(root.fd)))
        except OSError as error:
            raise self._gone(error, str(self.tree)) from error
        for day in days:
            try:
                directory = self.tree.directory(day.encode())
                names = sorted(os.listdir(directory.fd))
            except FileNotFoundError:
                continue
            except OSError as error:
                left[f"{path_text(self.tree.root)}/{day}"] = f"{day}: {error.strerror}"
                continue
            for name in names:
                with suppress(FileNotFoundError):  # moved on meanwhile
                    found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                    if not stat_bits.S_ISREG(found.st_mode) or max(found.st_mtime, found.st_ctime) < before:
                        yield PurePosixPath(day, name)

    def _gone(self, error: OSError, what: str) -> SkystowError:
        return blame(error, Side.STAGING, what, place=self.tree.place)


def _agree(path: PurePosixPath, said: FileTransferCompleted) -> None:
    """A file bears the name of its image and CCD: the spine and the OODS know it by that. Raises `BadName`."""
    obsid, raft, sensor = named_by(path.name)
    if obsid != said.obsid:
        raise BadName(f"{shown(path)} is announced as a file of {shown(said.obsid)}, whose name it does not bear")
    if (said.raft or raft, said.sensor or sensor) != (raft, sensor):
        raise BadName(f"{shown(path)} is announced as raft {shown(said.raft)}, sensor {shown(said.sensor)}")


def _claimed(said: FileTransferCompleted) -> Digest | None:
    """Raises `BadName`."""
    if not said.checksum:
        return None
    kind, digits = said.checksum_type.lower(), said.checksum.lower()
    if kind not in ALGORITHMS or not re.fullmatch(r"[0-9a-f]{16,128}", digits):
        raise BadName(f"‘{shown(said.checksum_type)}: {shown(digits)}’ is no checksum that can be compared")
    return Digest(kind, digits)


def _adopted(meant: _Meant, read: _Open) -> Adopted | FileFault:
    """As it looks now. Raises `OSError`."""
    said, path, after = meant.said, meant.path, os.fstat(read.fd)
    if (after.st_size, after.st_mtime_ns) != (read.found.st_size, read.found.st_mtime_ns):
        return Unreadable(f"{shown(path)} was written to while it was read")
    _, raft, sensor = named_by(path.name)
    looks = (after.st_size, str(read.digest), after.st_mtime_ns, after.st_ino)
    return Adopted(said.obsid, said.filename, str(path), raft, sensor, *looks, 0, meant.swept)


def _private(above: Directory, name: bytes) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755 if name == _HOME else 0o700, dir_fd=above.fd)
