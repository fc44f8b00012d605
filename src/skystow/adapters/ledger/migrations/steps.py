"""What migrations are made of. Each step first looks whether it was done: MariaDB and MySQL commit every table by
itself, so a migration that was killed in its middle is run again from its beginning.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

# Whatever a server's default is: rows that roll back, and text that holds every letter and merges none.
_MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def create_table(name: str, *parts: sa.schema.SchemaItem, **more: Any) -> None:
    if not _there().has_table(name):
        op.create_table(name, *parts, **_MYSQL, **more)


def create_index(name: str, table: str, columns: list[str]) -> None:
    if name not in {index["name"] for index in _there().get_indexes(table)}:
        op.create_index(name, table, columns)


def drop_index(name: str, table: str) -> None:
    if name in {index["name"] for index in _there().get_indexes(table)}:
        op.drop_index(name, table)


def add_column(table: str, column: sa.Column[object]) -> None:
    if column.name not in {each["name"] for each in _there().get_columns(table)}:
        op.add_column(table, column)


def _there() -> sa.Inspector:
    return sa.inspect(op.get_bind())
