"""The file that says that a timecode directory is complete: written once, entered once, wherever we are killed.

    stage     the YAML under a name of its own (below `.skystow`), durable; rewritten at will
    enter     ONE TRANSACTION, if it still is so: the file's row in `supersync_v0`, its id in `timecode_dirs_v0`
    place     link it to the name that its row has, which is durable before the staged name goes

Until it is entered nobody sees it; from then on it is a file like any other, which may go once it has its name: a start
that finds one staged looks whether it is entered, and places it. `finalized` is set when its row is proven (announcer).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from skystow.adapters.rows.source import Row
from skystow.adapters.suprsync.database import SuprSyncDatabase
from skystow.adapters.suprsync.standing import (
    Standing,
    any_data,
    codes,
    entries,
    oldest_unproven,
    remotes,
    standing,
    unproven,
)
from skystow.adapters.suprsync.timecodes import Summary, is_data, subdirectories, timecode, timecode_at
from skystow.errors import NoSpace, PlaceFault, ReadOnly, Unreachable
from skystow.model.layout import RESERVED
from skystow.model.records import shown
from skystow.ports import Clock, Finding, Stop

LOOK_BACK = 7
"""Timecodes, of this moment and before, that are looked for among files that others have proven."""

NAMED = 5
"""Late files of one directory that are named; of more there is a word."""

_FINAL = re.compile(r"/suprsync/[^/]+/\d+_(?P<archive>[^/]+)_(?P<code>\d{5})_finalized\.yaml\Z", re.ASCII)

_NEW = sa.text(
    "INSERT INTO timecode_dirs_v0 (timecode, archive_name, completed, synced, finalized)"
    " VALUES (:code, :archive, 0, 0, 0)"
)
_FLAGS = sa.text(
    "UPDATE timecode_dirs_v0 SET completed = :completed, synced = :synced"
    " WHERE archive_name = :archive AND timecode = :code"
)
_FILE = sa.text(
    "INSERT INTO supersync_v0 (local_path, local_md5sum, archive_name, remote_path, timestamp, failed_copy_attempts,"
    ' deletable, "ignore") VALUES (:local, :md5, :archive, :remote, :at, 0, 1, 0)'
)
_ENTER = sa.text(
    "UPDATE timecode_dirs_v0 SET completed = 1, synced = 1, finalized = 0, finalize_file_id = :file WHERE id = :entry"
)
_ENTERED = sa.text("SELECT local_path, local_md5sum, removed FROM supersync_v0 WHERE id = :file")


class Finalizer:
    """For the archives of one source. `root` is suprsync's file root, `instance` its sync id; both are here.
    `settle`: seconds for which more files of a directory may be registered."""

    def __init__(
        self,
        database: SuprSyncDatabase,
        archives: Sequence[str],
        *,
        root: str,
        instance: str,
        settle: float,
        clock: Clock,
        place: str,
    ) -> None:
        self._database, self._archives = database, tuple(archives)
        self._root, self._instance, self._clock, self._place = Path(root), instance, clock, place
        self._settle = settle
        self._staging = self._root / RESERVED / instance
        self.notes: list[str] = []
        self.ailing: PlaceFault | None = None
        """What is wrong with finalization just now. It holds up nothing else, so it is not raised."""
        self._late: dict[tuple[str, int], int] = {}
        self._saw_fault = False

    # ── rows that come ──────────────────────────────────────────────────────────────────────────────────────────

    def saw(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Before they are admitted: each has its directory's line in the table, and is named if it comes too late. A
        finalization file that is entered and has not got its name yet is not admitted yet."""
        with self._ailing():
            self._enter(rows)
        self._saw_fault = self._saw_fault or self.ailing is not None
        return [row for row in rows if not self._unplaced(row)]

    def _enter(self, rows: Sequence[Row]) -> None:
        for archive in self._archives:
            if not (wanted := codes(rows, archive)):
                continue
            with self._database.reading() as connection:
                known = entries(connection, archive)
            self._make(archive, wanted - known.keys())
            settled = {code: each.file for code, each in known.items() if each.settled}
            for row in rows if settled.keys() & wanted else ():
                self._note_late(archive, row, settled)

    def _unplaced(self, row: Row) -> bool:
        local, remote = row["local_path"], row["remote_path"]
        if not isinstance(local, str) or not isinstance(remote, str) or "\0" in local:
            return False
        found = _FINAL.search(remote)
        if found is None or found["archive"] != row["archive_name"]:
            return False
        return self._staged(found["archive"], int(found["code"])).exists() and not os.path.lexists(local)

    def _make(self, archive: str, wanted: set[int]) -> None:
        if wanted:
            with self._database.writing() as connection:  # others make them too: look again
                fresh = sorted(wanted - entries(connection, archive).keys())
                if fresh:
                    connection.execute(_NEW, [{"code": code, "archive": archive} for code in fresh])

    def _note_late(self, archive: str, row: Row, settled: Mapping[int, int | None]) -> None:
        remote = row["remote_path"]
        if row["archive_name"] != archive or not isinstance(remote, str) or not is_data(remote):
            return
        code = timecode(remote)
        if code is None or code not in settled or row["id"] == settled[code]:
            return
        count = self._late[archive, code] = self._late.get((archive, code), 0) + 1
        if count <= NAMED:
            said = f"came after {code} of {archive} was finalized; it is archived, and not in the finalization file"
            self.notes.append(f"row {row['id']}: {shown(remote)} {said}")
        elif count == NAMED + 1:
            self.notes.append(f"more files came after {code} of {archive} was finalized (skystow suprsync timecodes)")

    # ── directories that are complete ───────────────────────────────────────────────────────────────────────────

    def work(self, *, stop: Stop) -> bool:
        """Finalize what is complete and wholly proven; returns whether files got their names. Raises `PlaceFault` where
        it is the database that is away; its own troubles are `ailing`."""
        placed, saw_fault, self._saw_fault = 0, self._saw_fault, False
        if not saw_fault:
            self.ailing = None
        with self._ailing(), self._alone() as alone:
            if alone:
                placed += self._place_staged()
                for each in self._ripe():
                    placed += not stop.is_set() and self._finalize(each)
        return placed > 0

    @contextmanager
    def _ailing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.ailing = self._fault(error)
        except IntegrityError as error:
            remedy = "has a later socs added columns that must be filled? files are archived all the same"
            what = f"{self._place}: {self._database} takes no rows of ours: {error.orig}"
            self.ailing = ReadOnly(what, place=self._place, remedy=remedy)
        except PlaceFault as fault:
            if fault.place != self._place:
                raise
            self.ailing = fault

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process with our ledger is at it just now."""
        os.stat(self._root)  # it is never made
        if not self._staging.is_dir():
            _make_directories(self._staging, self._root)
        fd = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)

    def _ripe(self) -> list[Standing]:
        """Keeps the flags as they are, on the way."""
        ripe = []
        at = self._clock.now().timestamp()
        now = timecode_at(at)
        for archive in self._archives:
            with self._database.reading() as connection:
                known = entries(connection, archive)
                recent = (code for code in range(now - LOOK_BACK, now + 1) if code not in known)
                self_made = {code for code in recent if any_data(connection, archive, code, code)}
            self._make(archive, self_made)
            with self._database.reading() as connection:
                open_ = [each for each in entries(connection, archive).values() if not each.settled]
                found = [standing(connection, archive, entry, at, self._settle) for entry in open_]
            changed = [
                {"archive": archive, "code": each.entry.timecode, "completed": each.completed, "synced": each.synced}
                for each in found
                if (each.completed, each.synced) != (each.entry.completed, each.entry.synced)
                and each.entry.timecode < now  # who called it completed before its time may be right in the end
            ]
            if changed:
                with self._database.writing() as connection:
                    connection.execute(_FLAGS, changed)
            ripe += [each for each in found if each.synced and each.data and not each.settling]
        return ripe

    def _finalize(self, ripe: Standing) -> bool:
        archive, code = ripe.archive, ripe.entry.timecode
        at = self._clock.now().timestamp()
        with self._database.reading() as connection:
            paths = list(remotes(connection, archive, code))
            oldest = oldest_unproven(connection, archive)
        summary = Summary(
            timecode=code,
            archive_name=archive,
            instance_id=self._instance,
            num_files=len(paths),
            subdirs=subdirectories(paths),
            finalized_at=at,
            finalized_until=at if oldest is None else oldest - 1,
        )
        text, local = summary.text().encode(), self._root / summary.local
        staged = self._stage(archive, code, text)
        with self._database.writing() as connection:
            now = entries(connection, archive)[code]
            if now.settled or unproven(connection, archive, code):
                return False  # a file has come meanwhile: once that is proven, all of this again
            if list(remotes(connection, archive, code)) != paths:
                return False  # or is not to be ignored any more
            row = {"archive": archive, "at": at, "local": str(local), "remote": str(summary.remote)}
            done = connection.execute(_FILE, row | {"md5": _md5(text)})
            connection.execute(_ENTER, {"file": done.lastrowid, "entry": now.id})
        self._place_one(staged, local)
        return True

    def check(self) -> Finding:
        """Of `skystow check`: really writes a file, where it stages, and removes it."""
        trial = self._staging / "check"
        try:
            os.stat(self._root)
            _make_directories(self._staging, self._root)
            _write(trial, b"trial")
            os.unlink(trial)
        except OSError as error:
            fault = self._fault(error)
            return Finding(self._place, ok=False, text=fault.message, remedy=fault.remedy)
        return Finding(self._place, ok=True, text=f"{shown(str(self._root))} may be written")

    # ── the disk ────────────────────────────────────────────────────────────────────────────────────────────────

    def _stage(self, archive: str, code: int, text: bytes) -> Path:
        staged = self._staged(archive, code)
        part = staged.with_suffix(".part")
        _write(part, text)
        os.replace(part, staged)
        _sync(self._staging)
        return staged

    def _staged(self, archive: str, code: int) -> Path:
        return self._staging / f"{archive}_{code}.yaml"

    def _place_staged(self) -> int:
        """What an earlier run entered, and did not place any more; returns how many. What was not entered waits to be
        rewritten."""
        placed = 0
        for staged in sorted(self._staging.glob("*_?????.yaml")):
            archive, _, digits = staged.stem.rpartition("_")
            if archive not in self._archives or not digits.isdecimal():
                continue
            with self._database.reading() as connection:
                entry = entries(connection, archive).get(int(digits))
                row = connection.execute(_ENTERED, {"file": entry.file if entry else None}).one_or_none()
            if row is None or row.local_md5sum != _md5(staged.read_bytes()):
                continue
            local = PurePosixPath(str(row.local_path))
            if row.removed is None and local.is_relative_to(self._root) and ".." not in local.parts:
                self._place_one(staged, Path(local))
                placed += 1
            else:
                os.unlink(staged)
        return placed

    def _place_one(self, staged: Path, local: Path) -> None:
        _make_directories(local.parent, self._root)
        try:
            os.link(staged, local)
        except FileExistsError:
            if local.read_bytes() != staged.read_bytes():
                raise ReadOnly(
                    f"{self._place}: {shown(str(local))} is taken by another file",
                    place=self._place,
                    remedy="move it away; skystow puts its own there by itself",
                ) from None
        _sync(local.parent)
        os.unlink(staged)

    def _fault(self, error: OSError) -> PlaceFault:
        kind = {errno.ENOSPC: NoSpace, errno.EDQUOT: NoSpace, errno.EROFS: ReadOnly, errno.EACCES: ReadOnly}
        what = f"{self._place}: {shown(str(error.filename or self._root))}: {(error.strerror or str(error)).lower()}"
        remedy = "is file_root: there, with room, and may this user write it? files are archived all the same"
        return kind.get(error.errno or 0, Unreachable)(what, place=self._place, remedy=remedy)


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _write(path: Path, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        while text:
            text = text[os.write(fd, text) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_directories(path: Path, root: Path) -> None:
    """Below `root`, which is there; each durable before the next."""
    if path != root:
        _make_directories(path.parent, root)
        if not path.is_dir():
            os.mkdir(path)
        _sync(path.parent)  # whoever made it: an earlier run may have ended before


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
