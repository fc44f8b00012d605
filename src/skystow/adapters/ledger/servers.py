"""What only database servers need: their URLs, passwords and TLS, their connections, one opener at a time.

A URL names user, host and database. What is secret or a matter of TLS are options of ours behind `?`, taken off before
the driver sees them: `password_file`, `password_env`, `tls_ca`, `tls_cert`, `tls_key`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from skystow.adapters import secrets
from skystow.errors import ConfigError, Unreachable
from skystow.model.records import shown

DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql", "postgresql": "postgresql+psycopg"}
"""By the first word of a URL: the dialect, and the one driver that we speak it through."""

EXTRAS = {"mysql": "mysql", "postgresql": "postgres"}
OPTIONS = ("password_file", "password_env", "tls_ca", "tls_cert", "tls_key")
SECRET = ("password", "passwd", "sslpassword", "ssl_key_password")

CONNECT_S = 10
"""Seconds until a server must have taken our connection …"""
ANSWER_S = 60
"""… answered a statement …"""
LOCK_S = 20
"""… and given us a row that another transaction holds."""
IDLE_S = 60
"""Seconds after which the server drops a client that sleeps in a transaction (frozen, or its host is gone): its locks
must not stop the others for ever."""

FRESH_S = 0.1
"""Seconds after which a connection that lay in the pool is asked whether it is still there, before it is used: no
server ends and is back so soon."""

TIME = {"postgresql": "SELECT clock_timestamp() AT TIME ZONE 'UTC'", "mysql": "SELECT UTC_TIMESTAMP(6)"}

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""What a reader says first, so that all that it reads is of one moment. Both kinds of servers understand it."""


def make_engine(url: str) -> sa.Engine:
    """Connections to the database at `url`; none is opened yet. Raises `ConfigError`."""
    address, options = _taken_apart(url)
    dialect = address.get_backend_name()
    own = _for_postgres(options) if dialect == "postgresql" else _for_mysql(options)
    try:
        engine = sa.create_engine(
            address,
            connect_args=own,
            # A write sees what others committed before each statement, and locks no gaps between rows.
            isolation_level="READ COMMITTED",
            pool_use_lifo=True,
            pool_reset_on_return=None,  # whoever takes one ends his transaction, whatever happens
            max_overflow=-1,
        )
        connect = _patient() if dialect == "postgresql" else None
    except ModuleNotFoundError as error:
        remedy = f"pip install 'skystow[{EXTRAS[dialect]}]'"
        raise ConfigError(f"a ledger on {dialect} needs the Python package {error.name}", remedy=remedy) from error

    @event.listens_for(engine, "do_connect")
    def do_connect(_dialect: Any, _record: Any, args: list[Any], parameters: dict[str, Any]) -> DBAPIConnection | None:
        # Asked for anew: it may have been changed while we run.
        password = secrets.password("the ledger's", file=options["password_file"], env=options["password_env"])
        if password is not None:
            parameters["password"] = password
        return connect(*args, **parameters) if connect else None

    @event.listens_for(engine, "connect")
    @event.listens_for(engine, "checkin")
    def used(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def checkout(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info["used"] > FRESH_S:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise sa.exc.InvalidatePoolError from error  # the pool makes another one

    return engine


def _patient() -> Any:
    from skystow.adapters.ledger.postgres import Patient  # the driver is there only where somebody uses it

    return Patient.connect


def _taken_apart(url: str) -> tuple[sa.URL, Mapping[str, str]]:
    """The address for the driver, and the options that are ours. An error never repeats the URL: it may hold a
    password."""
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError("the ledger's URL cannot be understood", remedy=_FORM) from None
    name, _, driver = address.drivername.partition("+")
    if name not in DRIVERS:
        raise ConfigError(f"{shown(name)} cannot hold a ledger", remedy="SQLite, MariaDB, MySQL or PostgreSQL can")
    if driver and driver != DRIVERS[name].partition("+")[2]:
        raise ConfigError(f"a ledger is not reached through {shown(driver)}", remedy=f"write {name}://…")
    if not address.database:
        raise ConfigError("the ledger's URL names no database", remedy=_FORM)
    if secret := [key for key in SECRET if key in address.query]:
        raise ConfigError(f"the ledger's URL has a password in {secret[0]}", remedy="use password_file instead")
    options: dict[str, str] = {}
    for key in OPTIONS:
        if isinstance(value := address.query.get(key, ""), str):
            options[key] = value
        else:
            raise ConfigError(f"the ledger's URL says {key} more than once", remedy="say it once")
    if sum([bool(options["password_file"]), bool(options["password_env"]), address.password is not None]) > 1:
        raise ConfigError("the ledger's password is given more than once", remedy="password_file alone is best")
    if not options["tls_ca"] and (options["tls_cert"] or options["tls_key"]):
        raise ConfigError("tls_cert and tls_key need tls_ca", remedy="name the certificate that signed the server's")
    return address.set(drivername=DRIVERS[name]).difference_update_query(OPTIONS), options


_FORM = "it looks like mysql://USER@HOST/DATABASE or postgresql://USER@HOST/DATABASE; see the operators' handbook"


def _for_mysql(options: Mapping[str, str]) -> dict[str, Any]:
    # TRADITIONAL: what does not fit is an error, never cut.
    session = f"SET SESSION sql_mode='TRADITIONAL', wait_timeout={IDLE_S}, innodb_lock_wait_timeout={LOCK_S}"
    own: dict[str, Any] = {
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_S,
        "read_timeout": ANSWER_S,
        "write_timeout": ANSWER_S,
        "init_command": session,
    }
    if options["tls_ca"]:
        own |= {"ssl_ca": options["tls_ca"], "ssl_verify_cert": True, "ssl_verify_identity": True}
        own |= {f"ssl_{part}": options[f"tls_{part}"] for part in ("cert", "key") if options[f"tls_{part}"]}
    return own


def _for_postgres(options: Mapping[str, str]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "application_name": "skystow",
        "connect_timeout": CONNECT_S,
        "options": f"-c lock_timeout={LOCK_S}s -c idle_in_transaction_session_timeout={IDLE_S}s",
    }
    if options["tls_ca"]:
        own |= {"sslmode": "verify-full", "sslrootcert": options["tls_ca"]}
        own |= {f"ssl{part}": options[f"tls_{part}"] for part in ("cert", "key") if options[f"tls_{part}"]}
    return own


@contextmanager
def opening(engine: sa.Engine) -> Iterator[None]:
    """One process at a time, on whatever host, looks at a ledger and creates it where it is empty."""
    name = f"skystow-{hashlib.sha256(str(engine.url.database).encode()).hexdigest()[:16]}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the lock is the session's: it ends with it, whatever happens
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext(%(name)s))", {"name": name})
        else:
            connection.exec_driver_sql("SET SESSION wait_timeout=28800")  # an upgrade may take longer than a nap
            if connection.exec_driver_sql("SELECT GET_LOCK(%s, %s)", (name, LOCK_S)).scalar() != 1:
                raise Unreachable(f"another process has been opening the ledger for {LOCK_S} s", place="ledger")
        yield
