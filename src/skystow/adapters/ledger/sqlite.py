"""What only SQLite needs: the file, its connections, its refusals. No other module here knows SQLite.

WAL with `synchronous=FULL`: a commit that returned survives a power cut. Writers say `BEGIN IMMEDIATE`, so that they
wait for each other at the start and never fail in the middle.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from skystow.errors import LedgerUnusable, NoSpace, ReadOnly, SkystowError, Unreachable
from skystow.model.records import shown

PREFIX = "sqlite:///"
APPLICATION_ID = 0x534B5953  # "SKYS"
WRITES = {"begin": "BEGIN IMMEDIATE"}
"""Execution options of a connection that is about to write."""

BUSY_S = 30.0
MOUNTINFO = "/proc/self/mountinfo"

NETWORK = re.compile(
    rb"(nfs4?|cifs|smb3|smbfs|9p|ncpfs|coda|afs|ceph|lustre|gpfs|beegfs|glusterfs|ocfs2|gfs2|orangefs|pvfs2"
    rb"|fuse\.(sshfs|glusterfs|ceph|cephfs|rclone|s3fs|davfs|curlftpfs|nfs.*|juicefs|gcsfuse|smbnetfs))"
)


def database_path(url: str) -> bytes:
    """All behind `sqlite:///` is the path, as it is: `?` and `%` mean nothing here."""
    path = os.fsencode(url.removeprefix(PREFIX))
    if not url.startswith(PREFIX) or path in (b"", b":memory:"):
        raise LedgerUnusable(
            f"{shown(url)} is no ledger that lasts", remedy="write sqlite:///DIRECTORY/ledger.db, with a full path"
        )
    return os.path.abspath(path)


def make_engine(path: bytes) -> sa.Engine:
    """Connections to the ledger at `path`, which is made where there is none. Raises `LedgerUnusable`."""
    _refuse_unfit(path)
    _create(path)

    def connect() -> sqlite3.Connection:
        # isolation_level=None: we say BEGIN, the driver never does.
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # A claim of thousands touches some MiB of pages: kept until the commit, and copied home not at every tenth one.
        connection.execute("PRAGMA cache_size=-24000")
        connection.execute("PRAGMA wal_autocheckpoint=8000")
        connection.execute("PRAGMA cache_size=-16384")  # KiB
        return connection

    engine = sa.create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=sa.QueuePool, max_overflow=-1, pool_use_lifo=True
    )

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if word := connection.get_execution_options().get("begin", "BEGIN"):
            connection.exec_driver_sql(word)

    return engine


@contextmanager
def opening(path: bytes) -> Iterator[None]:
    """One process at a time looks at a ledger and creates it where it is empty."""
    # The directory is locked, not the file: to close any descriptor of the file would drop SQLite's own locks on it.
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + BUSY_S
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    text = f"another process has been opening the ledger {shown(os.fsdecode(path))} for {BUSY_S:.0f} s"
                    raise Unreachable(text, place="ledger") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(directory)


def is_empty(connection: sa.Connection, path: bytes) -> bool:
    """Whether nothing was ever written there. Raises `LedgerUnusable` where it belongs to somebody else."""
    mark = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    if mark == APPLICATION_ID or (mark == 0 and tables == 0):
        return bool(tables == 0)
    raise LedgerUnusable(
        f"{shown(os.fsdecode(path))} is a database of another program",
        remedy="name another file for the ledger; this one was not touched",
    )


def prepare(engine: sa.Engine) -> None:
    """Readers and the writer do not wait for each other (WAL). It stays so: written in the file's header."""
    with engine.connect().execution_options(begin="") as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def sign(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def blame(error: BaseException, path: bytes) -> SkystowError | None:
    """Whose fault an error of the driver is; None: ours, a bug."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = f"the ledger {shown(os.fsdecode(path))}"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unreachable(f"{where} was locked for {BUSY_S:.0f} s", place="ledger", remedy="who else writes to it?")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _full(path)):
        return NoSpace(f"no space left for {where}", place="ledger", remedy="free some; nothing is lost")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return Unreachable(f"{where} cannot be read or written ({error})", place="ledger")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ReadOnly(f"{where} cannot be written to ({error})", place="ledger")
    if code == sqlite3.SQLITE_NOTADB:
        return LedgerUnusable(f"{where} is not a database", remedy="name another file; this one was not touched")
    if code == sqlite3.SQLITE_CORRUPT:
        remedy = "put back a copy, or move it away: a new ledger finds what is archived and proves it again"
        return LedgerUnusable(f"{where} is damaged ({error})", remedy=remedy)
    if "no such table" in str(error):  # removed while we were at work: SQLite makes a new one, with nothing in it
        remedy = "put it back, or a copy; else stop: a new ledger finds what is archived and proves it again"
        return LedgerUnusable(f"{where} is not the one that we opened any more ({error})", remedy=remedy)
    return None


def _full(path: bytes) -> bool:
    try:
        return os.statvfs(os.path.dirname(path)).f_bavail == 0
    except OSError:
        return False


def _refuse_unfit(path: bytes) -> None:
    directory = os.path.dirname(path)
    text, where = shown(os.fsdecode(path)), shown(os.fsdecode(directory))
    if not os.path.isdir(directory):
        raise LedgerUnusable(f"no directory {where} for the ledger", remedy="make it, or name another")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise LedgerUnusable(f"{text} is not a file, so it cannot be the ledger", remedy="name another file")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        remedy = "the ledger's directory must be readable and writable: SQLite keeps its log beside it"
        raise LedgerUnusable(f"cannot write in {where}, where the ledger is", remedy=remedy)
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        raise LedgerUnusable(f"cannot write to the ledger {text}", remedy="give this user the right, or run as another")
    kind = file_system(os.path.realpath(directory), Path(MOUNTINFO).read_bytes())
    if NETWORK.fullmatch(kind):
        raise LedgerUnusable(
            f"the ledger {text} is on a network file system ({kind.decode()}), whose locks cannot be trusted",
            remedy="name a file on a local disk (--ledger, or ledger: in the site file), or use a database server",
        )


def file_system(directory: bytes, mountinfo: bytes) -> bytes:
    """The type of the file system that holds `directory`: of the longest, and then the last, mount above it."""
    best, kind = -1, b""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        point = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), before.split()[4])
        above = directory == point or directory.startswith(point.rstrip(b"/") + b"/")
        if above and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def _create(path: bytes) -> None:
    """An empty file of our mode; SQLite gives the same to its log. Its name is durable before anything is in it."""
    directory = os.path.dirname(path)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o660))
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerUnusable(f"cannot make the ledger {shown(os.fsdecode(path))}: {error.strerror}") from error
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
