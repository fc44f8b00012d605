"""The table `pysmurf_files_v0` or `_v1`, somebody else's: its shape, what we read of it, and whose fault an error is.

Nothing here says `SET time_zone`: what one session wrote, another of the same default reads back as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from skystow.adapters.pysmurf_files.blame import blame
from skystow.adapters.rows import sqlite
from skystow.errors import ConfigError, OperatorFault, PlaceFault
from skystow.model.records import shown
from skystow.ports import Finding

PAGE = 1_000
SERVERS = frozenset({"mysql", "mariadb"})
INDEX = ("instance_id", "copied", "id")
TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60}
"""Seconds; a server that is silent for longer is away."""

_Flag = sa.SmallInteger().with_variant(mysql.TINYINT(1), "mysql", "mariadb")
_Md5 = sa.LargeBinary().with_variant(mysql.BINARY(16), "mysql", "mariadb")


def _column(name: str) -> sa.ColumnClause[Any]:
    """Without a type: what the driver gives is what there is."""
    return sa.column(name)


def _definition(version: str) -> sa.Table:
    """As the original made it (PROTOCOLS: the last form of each), with the index that it lacked."""
    kind = sa.Column("type", sa.String(32), nullable=False) if version == "v0" else sa.Column("action", sa.String(32))
    name = f"pysmurf_files_{version}"
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("path", sa.String(260), nullable=False),
        kind,
        sa.Column("timestamp", sa.TIMESTAMP, nullable=True),
        sa.Column("action_timestamp", sa.Integer),
        sa.Column("format", sa.String(32)),
        sa.Column("plot", _Flag),
        sa.Column("site", sa.String(32)),
        sa.Column("pub_id", sa.String(32)),
        sa.Column("script_id", sa.String(32)),
        sa.Column("instance_id", sa.String(32)),
        sa.Column("copied", _Flag),
        sa.Column("failed_copy_attempts", sa.Integer),
        sa.Column("md5sum", _Md5, nullable=False),
        sa.Column("pysmurf_version", sa.String(64)),
        sa.Column("socs_version", sa.String(64)),
        sa.Index(f"ix_{name}_uncopied", *INDEX),
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """`path_size` in characters (None: no limit); `indexed`: uncopied rows are found without reading the others."""

    columns: frozenset[str]
    path_size: int | None
    indexed: bool


class FilesTable:
    """Safe from any thread. `place` names it in faults. Raises `PlaceFault` where it is away, `OperatorFault` where a
    person must change something; neither ever shows the password."""

    def __init__(
        self,
        url: str,
        version: str,
        *,
        place: str,
        password: str | None = None,
        tls: Mapping[str, str] | None = None,
    ) -> None:
        """`tls`: `ca`, and where the server asks for them `cert` and `key`, as paths. With it nothing is said to a
        server that cannot prove, by that authority, that it is who the URL names."""
        self._tls = {f"ssl_{part}": path for part, path in (tls or {}).items()}
        if tls:
            self._tls |= {"ssl_verify_cert": "true", "ssl_verify_identity": "true"}
        try:
            parsed = sa.make_url(url)
        except ArgumentError as error:
            raise ConfigError("the table's url cannot be read", remedy="mysql://USER@HOST/DATABASE") from error
        if parsed.get_backend_name() in SERVERS:
            parsed = parsed.set(drivername=f"{parsed.get_backend_name()}+pymysql")
        self.url = parsed.set(password=password) if password is not None else parsed
        self.version, self.place, self.definition = version, place, _definition(version)
        self.name = self.definition.name
        self.on_server = self.url.get_backend_name() in SERVERS
        self.engine = self._engine()
        self._shape: Shape | None = None

    def __str__(self) -> str:
        return f"{self.name} at {shown(self.url._replace(password=None).render_as_string())}"

    def _engine(self, *, make: bool = False) -> sa.Engine:
        if self.on_server:
            try:
                arguments = TIMEOUTS | self._tls
                return sa.create_engine(self.url, pool_pre_ping=True, connect_args=arguments, hide_parameters=True)
            except (NoSuchModuleError, ModuleNotFoundError) as error:
                raise ConfigError(
                    "tables on MariaDB or MySQL need the driver PyMySQL", remedy="pip install 'skystow[mysql]'"
                ) from error
        if self.url.get_backend_name() != "sqlite" or not self.url.database:
            raise ConfigError(f"{self} cannot be used", remedy="the table may be in MariaDB, MySQL or SQLite")
        return sqlite.engine(self.url.database, make=make)

    def close(self) -> None:
        self.engine.dispose()

    # ── transactions ────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.blaming(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, committed when the block is left without an error."""
        with self.blaming(), self.engine.connect() as connection:
            connection.execution_options(begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    @contextmanager
    def blaming(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            self._shape = None  # whatever it was may have changed
            fault = blame(error, str(self), self.place)
            if fault is None:
                raise
            raise fault from error
        except RuntimeError as error:  # PyMySQL, asked for a kind of login that it has no code for
            if "cryptography" not in str(error):
                raise
            raise OperatorFault(f"{self}: {error}", remedy="pip install 'pymysql[rsa]'") from error

    # ── shape ───────────────────────────────────────────────────────────────────────────────────────────────────

    def shape(self, needed: Sequence[str] = ()) -> Shape:
        """What it looks like, looked up once. Raises `OperatorFault` where it or one of `needed` is not there."""
        if self._shape is None:
            with self.reading() as connection:
                self._shape = self._look(connection)
        if missing := [name for name in needed if name not in self._shape.columns]:
            self._shape = None
            raise OperatorFault(
                f"{self} has no column {', '.join(missing)}",
                remedy="is the version (v0, v1) right? skystow pysmurf-files upgrade SITE adds what is missing",
            )
        return self._shape

    def _look(self, connection: sa.Connection) -> Shape:
        inspector = sa.inspect(connection)
        if not inspector.has_table(self.name):
            raise OperatorFault(
                f"{self}: there is no such table",
                remedy="skystow pysmurf-files create SITE makes it; or is the url or the version (v0, v1) wrong?",
            )
        found = {column["name"]: column["type"] for column in inspector.get_columns(self.name)}
        leading = [tuple(index["column_names"][:2]) for index in inspector.get_indexes(self.name)]
        size = getattr(found.get("path"), "length", None)
        return Shape(frozenset(found), size, INDEX[:2] in leading)

    # ── what we read ────────────────────────────────────────────────────────────────────────────────────────────

    def waiting(self, owner: str) -> Iterator[Mapping[int, bytes]]:
        """Keys of the rows of one target that wait, in pages by id; read from the index alone."""
        number, of, copied = _column("id"), _column("instance_id"), _column("copied")
        for waits in (copied == 0, copied.is_(None)):  # apart: each is one stretch of the index
            query = sa.select(number).select_from(sa.table(self.name)).where(of == owner, waits)
            query = query.where(number > sa.bindparam("after")).order_by(number).limit(PAGE)
            after = -1
            while True:
                with self.reading() as connection:
                    page = connection.execute(query, {"after": after}).scalars().all()
                if not page:
                    break
                yield {number: b"%d" % number for number in page}
                after = page[-1]

    def names(self, target: str) -> bool:
        """Whether any row is of that target."""
        query = sa.select(_column("id")).select_from(sa.table(self.name)).where(_column("instance_id") == target)
        with self.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def rows(self, ids: Sequence[int], columns: Sequence[str]) -> list[Mapping[str, Any]]:
        """The values of those that still wait (who was told meanwhile has the path of his copy), as the driver gives
        them: no type is taken for granted."""
        number, copied = _column("id"), _column("copied")
        query = sa.select(*map(_column, columns)).select_from(sa.table(self.name))
        query = query.where(number.in_(ids), sa.or_(copied.is_(None), copied == 0)).order_by(number)
        with self.reading() as connection:
            return [row._asdict() for row in connection.execute(query)]

    # ── for operators ───────────────────────────────────────────────────────────────────────────────────────────

    def create(self) -> bool:
        """Make it, with its index; False where there is one already."""
        engine = self._engine(make=True)
        try:
            with self.blaming(), engine.begin() as connection:
                if sa.inspect(connection).has_table(self.name):
                    return False
                self.definition.create(connection)
                return True
        finally:
            engine.dispose()

    def upgrade(self) -> list[str]:
        """Add the columns and the index that it lacks; returns what was added."""
        shape, added = self.shape(), list[str]()
        with self.writing() as connection:
            preparer = connection.dialect.identifier_preparer
            for column in self.definition.columns:
                if column.name not in shape.columns:
                    kind = column.type.compile(connection.dialect)
                    text = (
                        f"ALTER TABLE {preparer.quote(self.name)} ADD COLUMN {preparer.quote(column.name)} {kind} NULL"
                    )
                    connection.exec_driver_sql(text)
                    added.append(f"column {column.name}")
            if not shape.indexed:
                index = next(iter(self.definition.indexes))
                index.create(connection)
                added.append(f"index {index.name}")
        self._shape = None
        return added

    def check(self, needed: Sequence[str]) -> Iterator[Finding]:
        """Findings of `skystow check`; changes nothing."""
        try:
            shape = self.shape(needed)
        except (OperatorFault, PlaceFault) as fault:
            yield Finding(self.place, ok=False, text=fault.message, remedy=fault.remedy)
            return
        slow = "; it has no index on instance_id and copied, so each look reads all of it (pysmurf-files upgrade)"
        yield Finding(self.place, ok=True, text=f"{self} is there" + ("" if shape.indexed else slow))
        same = {name: _column(name) for name in ("path", "copied", "failed_copy_attempts")}
        nothing = sa.update(sa.table(self.name, *map(_column, same))).values(same).where(_column("id") < 0)
        try:
            with self.writing() as connection:
                connection.execute(nothing)
        except (OperatorFault, PlaceFault) as fault:
            yield Finding(f"{self.place}, writing", ok=False, text=fault.message, remedy=fault.remedy)
        else:
            yield Finding(f"{self.place}, writing", ok=True, text="rows may be updated")
