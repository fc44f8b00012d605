"""One ledger's database: transactions, its clock, who we are, and whose fault an error is."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from skystow.adapters.ledger import faults, servers, sqlite
from skystow.adapters.ledger.schema import workers
from skystow.adapters.ledger.values import micros
from skystow.errors import SkystowError, Unreachable
from skystow.model.records import Worker
from skystow.model.transfer import Audience
from skystow.ports import Clock

P = ParamSpec("P")
R = TypeVar("R")

TRIES = 10
"""How often a transaction is begun that gave way to others."""

TRUSTED_S = 1.0
"""Seconds for which we count on from what a server's clock said …"""
PROMPT_S = 0.005
"""… where its answer took no longer than this, which is how far off we may be."""

_WORKER = [f.name for f in fields(Worker)]
_ME = sa.select(workers.c.id).where(*(workers.c[name] == sa.bindparam(name) for name in _WORKER))


class Collision(Exception):
    """The transaction gave way to another one's; nothing of it was done."""


@dataclass
class Database:
    """`path` is the file of an SQLite ledger, None for a server's; `audiences` are to be told. Safe from any thread.

    An SQLite ledger goes by `clock`. A server's goes by the server's own clock, so that all hosts agree; only with
    `hosts_clock` (tests, whose time must stand still until they say so) by `clock` too.
    """

    engine: sa.Engine
    clock: Clock
    path: bytes | None
    audiences: tuple[Audience, ...] = ()
    hosts_clock: bool = False
    doubtful: set[str] = field(default_factory=set)
    """Tokens of claims whose commit was never answered: they may hold files that nobody knows he has."""
    _told_at: float = float("-inf")
    """When (by CLOCK_BOOTTIME) the server told its time, which was `_ahead` microseconds of that."""
    _ahead: int = 0
    _turn: AbstractContextManager[object] = field(init=False)

    def __post_init__(self) -> None:
        # SQLite has one writer; threads of one process queue here, in order, instead of polling for its lock.
        self._turn = threading.Lock() if self.path is not None else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view; takes no write lock. Raises `PlaceFault`, `LedgerUnusable`."""
        with self.blaming(), self.engine.connect() as connection, connection.begin():
            if self.path is None:
                connection.exec_driver_sql(servers.SNAPSHOT)
            yield connection

    @contextmanager
    def looking(self) -> Iterator[sa.Connection]:
        """`reading` of what need not be of one moment, as a single statement is by itself: a server is asked for no
        more."""
        with self.blaming(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, committed when the block is left without an error. Raises `PlaceFault`, `LedgerUnusable`,
        and `Collision`: whoever writes is `whole`."""
        with self._turn, self.blaming(), self.engine.connect() as connection:
            connection.execution_options(**sqlite.WRITES)
            with connection.begin():
                yield connection

    def now(self, connection: sa.Connection) -> int:
        """Microseconds since the epoch: the database's clock, so that all hosts of a ledger agree. A server is asked
        once a second, where it answers promptly; our own clock only counts on from there."""
        if self.path is not None or self.hosts_clock:
            return micros(self.clock.now())
        begin = time.clock_gettime(time.CLOCK_BOOTTIME)
        if begin - self._told_at < TRUSTED_S:
            return int(begin * 1e6) + self._ahead
        told: datetime = connection.exec_driver_sql(servers.TIME[connection.dialect.name]).scalar_one()
        now, end = micros(told.replace(tzinfo=UTC)), time.clock_gettime(time.CLOCK_BOOTTIME)
        if end - begin < PROMPT_S:
            self._ahead, self._told_at = now - int(end * 1e6), end
        return now

    def worker_id(self, worker: Worker) -> int:
        """The row of this process, made where there is none."""
        return _worker_id(self, worker)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Errors of the driver become faults of ours."""
        try:
            yield
        except DBAPIError as error:
            if isinstance(error, IntegrityError) or (self.path is None and faults.collided(error)):
                raise Collision from error
            fault = self._blame(error)
            if fault is None:
                raise
            raise fault from error
        except PoolTimeout as error:
            raise Unreachable(f"no connection to the ledger is free ({error})", place="ledger") from error

    def _blame(self, error: DBAPIError) -> SkystowError | None:
        if self.path is not None:
            return sqlite.blame(error.orig, self.path) if error.orig else None
        return faults.blame(error)


def whole(call: Callable[Concatenate[Database, P], R]) -> Callable[Concatenate[Database, P], R]:
    """A function whose transaction gives way to another host's is run again from its beginning, with new reads: two
    hosts admitted the same names, or locked the same rows in another order. Its transaction is short."""

    @wraps(call)
    def run(database: Database, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for n in range(TRIES):
            try:
                return call(database, *args, **kwargs)
            except Collision as collision:
                cause = collision.__cause__
            time.sleep(secrets.randbelow(2**n * 1_000) / 1e6)  # up to 1, 2, 4 … 512 ms, not the same on each host
        if isinstance(cause, IntegrityError):
            raise cause  # it collides with nobody but itself: a bug
        text = f"the ledger's server gave up a transaction of ours {TRIES} times for those of others"
        raise Unreachable(text, place="ledger") from cause

    return run


@whole
def _worker_id(database: Database, worker: Worker) -> int:
    values = dict(zip(_WORKER, astuple(worker), strict=True))
    with database.reading() as connection:
        found = connection.execute(_ME, values).scalar()
    if found is None:
        with database.writing() as connection:
            connection.execute(sa.insert(workers), values)
            found = connection.execute(_ME, values).scalar_one()
    return int(found)


def connect(url: str, clock: Clock) -> Database:
    """Raises `LedgerUnusable`, `ConfigError`."""
    if url.startswith("sqlite:"):
        path = sqlite.database_path(url)
        return Database(sqlite.make_engine(path), clock, path)
    return Database(servers.make_engine(url), clock, None)
