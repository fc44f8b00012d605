"""Is this a ledger that we can use? Every refusal says what it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from skystow.adapters.ledger import servers, sqlite
from skystow.adapters.ledger.database import Database, connect
from skystow.adapters.ledger.schema import HEAD, metadata, workers
from skystow.errors import LedgerUnusable, SchemaMismatch
from skystow.ports import Clock

MIGRATIONS = Path(__file__).parent / "migrations"

_VERSION_TABLE = "alembic_version"


def open_database(url: str, clock: Clock) -> Database:
    """A database with the schema of this program; an empty one is given it.

    Raises `LedgerUnusable`, `SchemaMismatch`, `ConfigError`, `PlaceFault`.
    """
    with _opened(url, clock) as database:
        version = _version(database)
        if version is None and database.path is not None:
            _make(database)
        elif version is None or (version < HEAD and _never_used(database)):
            migrate(database)
        elif version < HEAD:
            raise SchemaMismatch(
                f"the ledger has schema {version}, this program needs {HEAD}",
                remedy="stop what uses it, keep a copy, then run skystow ledger upgrade",
            )
        else:
            _refuse_newer(version)
        return database


def upgrade(url: str, *, clock: Clock) -> tuple[str | None, str]:
    """Bring a ledger to the schema of this program; returns the versions before (None: it was empty) and after."""
    with _opened(url, clock) as database:
        try:
            version = _version(database)
            _refuse_newer(version or HEAD)
            if version != HEAD:
                migrate(database)
            return version, HEAD
        finally:
            database.close()


@contextmanager
def _opened(url: str, clock: Clock) -> Iterator[Database]:
    database = connect(url, clock)
    try:
        with database.blaming():
            one_at_a_time = servers.opening(database.engine) if database.path is None else sqlite.opening(database.path)
            with one_at_a_time:
                yield database
    except BaseException:
        database.close()
        raise


def _version(database: Database) -> str | None:
    """Of the schema; None where the database is empty."""
    with database.reading() as connection:
        if database.path is not None and sqlite.is_empty(connection, database.path):
            return None
        tables = set(sa.inspect(connection).get_table_names())
        if not tables:
            return None
        if _VERSION_TABLE in tables:
            found = connection.execute(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608
            if found is not None and "transfers" in tables:
                return str(found)
            if found is None and database.path is None and _half_made(connection, tables):
                return None
    raise LedgerUnusable(
        "this database holds tables, but no ledger of skystow", remedy="name another one; it was not touched"
    )


def _never_used(database: Database) -> bool:
    """Whether its maker was killed between two versions, each of which MariaDB and MySQL commit by itself: then nobody
    has written to it, and the first thing that anybody writes is who he is."""
    if database.engine.dialect.name not in ("mysql", "mariadb"):
        return False
    with database.reading() as connection:
        return connection.execute(sa.select(workers.c.id).limit(1)).first() is None


def _half_made(connection: sa.Connection, tables: set[str]) -> bool:
    """Whether whoever made this ledger was killed before its end: MariaDB and MySQL commit each table by itself."""
    ours = [metadata.tables[name] for name in tables - {_VERSION_TABLE} if name in metadata.tables]
    return len(ours) == len(tables) - 1 and not any(
        connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() for table in ours
    )


def _refuse_newer(version: str) -> None:
    if version > HEAD:
        raise SchemaMismatch(
            f"the ledger has schema {version}, this program knows up to {HEAD}",
            remedy="it was written by a newer skystow: use that one",
        )


def _make(database: Database) -> None:
    """What all migrations together make (a test compares), at once, in one transaction of SQLite."""
    with database.blaming():
        sqlite.prepare(database.engine)
    with database.writing() as connection:
        metadata.create_all(connection)
        connection.exec_driver_sql(
            f"CREATE TABLE {_VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, "
            f"CONSTRAINT {_VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
        )
        connection.execute(sa.text(f"INSERT INTO {_VERSION_TABLE} VALUES (:head)"), {"head": HEAD})  # noqa: S608
        sqlite.sign(connection)


def migrate(database: Database, to: str = HEAD) -> None:
    # Alembic takes a while to import, and is needed once in the life of a ledger.
    from alembic import command
    from alembic.config import Config

    if database.path is not None:
        with database.blaming():
            sqlite.prepare(database.engine)
    with database.writing() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        if database.path is not None:
            sqlite.sign(connection)
