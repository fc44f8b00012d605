"""One ledger's database: transactions, its clock, who we are, and whose fault an error is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from skystow.adapters.ledger import sqlite
from skystow.adapters.ledger.schema import workers
from skystow.adapters.ledger.values import micros
from skystow.errors import ConfigError, SkystowError, Unreachable
from skystow.model.records import Worker
from skystow.model.transfer import Audience
from skystow.ports import Clock

_SERVER_TIME = {
    "postgresql": "SELECT clock_timestamp() AT TIME ZONE 'UTC'",
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "mariadb": "SELECT UTC_TIMESTAMP(6)",
}

_WORKER = [f.name for f in fields(Worker)]
_ME = sa.select(workers.c.id).where(*(workers.c[name] == sa.bindparam(name) for name in _WORKER))


@dataclass
class Database:
    """`path` is the file of an SQLite ledger, None for a server's; `audiences` are to be told. Safe from any thread."""

    engine: sa.Engine
    clock: Clock
    path: bytes | None
    audiences: tuple[Audience, ...] = ()
    _turn: AbstractContextManager[object] = field(init=False)

    def __post_init__(self) -> None:
        # SQLite has one writer; threads of one process queue here, in order, instead of polling for its lock.
        self._turn = threading.Lock() if self.path is not None else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view; takes no write lock. Raises `PlaceFault`, `LedgerUnusable`."""
        with self.blaming(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, committed when the block is left without an error. Raises `PlaceFault`, `LedgerUnusable`."""
        with self._turn, self.blaming(), self.engine.connect() as connection:
            connection.execution_options(**sqlite.WRITES)
            with connection.begin():
                yield connection

    def now(self, connection: sa.Connection) -> int:
        """Microseconds since the epoch: the database's clock, so that all hosts of a ledger agree."""
        if self.path is not None:
            return micros(self.clock.now())
        told: datetime = connection.exec_driver_sql(_SERVER_TIME[connection.dialect.name]).scalar_one()
        return micros(told.replace(tzinfo=UTC))

    def worker_id(self, worker: Worker) -> int:
        """The row of this process, made where there is none."""
        values = dict(zip(_WORKER, astuple(worker), strict=True))
        with self.reading() as connection:
            found = connection.execute(_ME, values).scalar()
        if found is None:
            try:
                with self.writing() as connection:
                    connection.execute(sa.insert(workers), values)
            except IntegrityError:
                pass  # another ledger of this very process was quicker
            with self.reading() as connection:
                found = connection.execute(_ME, values).scalar_one()
        return int(found)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Errors of the driver become faults of ours."""
        try:
            yield
        except DBAPIError as error:
            fault = self._blame(error)
            if fault is None:
                raise
            raise fault from error
        except PoolTimeout as error:
            raise Unreachable(f"no connection to the ledger is free ({error})", place="ledger") from error

    def _blame(self, error: DBAPIError) -> SkystowError | None:
        if self.path is not None:
            return sqlite.blame(error.orig, self.path) if error.orig else None
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
            return Unreachable(f"the ledger's server: {error.orig}", place="ledger")
        return None


def connect(url: str, clock: Clock) -> Database:
    """Raises `LedgerUnusable`, `ConfigError`."""
    if url.startswith("sqlite:"):
        path = sqlite.database_path(url)
        return Database(sqlite.make_engine(path), clock, path)
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(f"cannot use this ledger URL: {error}", remedy="see the user guide, ledgers") from error
    if engine.dialect.name not in _SERVER_TIME:
        raise ConfigError(f"{engine.dialect.name} cannot hold a ledger", remedy="SQLite, MariaDB or PostgreSQL can")
    return Database(engine, clock, None)
