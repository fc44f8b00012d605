"""`column IN (many values)` as one value: on SQLite a list of hundreds of parameters costs more than what it asks for.

Other databases are given the list itself; their drivers write it into the statement.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

HASH = 32
"""Bytes of each value of `among_hashes`."""


_OF_JSON = "{column} IN (SELECT value FROM json_each({values}))"
_OF_PIECES = """{column} IN (
    WITH RECURSIVE pieces(at) AS (
        SELECT 1 UNION ALL SELECT at + {size} FROM pieces WHERE at + {size} <= length({values})
    )
    SELECT substr({values}, at, {size}) FROM pieces
)"""


class _Numbers(sa.types.UserDefinedType[Sequence[int]]):
    """Integers as a JSON array."""

    cache_ok = True

    def bind_processor(self, _dialect: sa.Dialect) -> Any:
        return json.dumps


class _Hashes(sa.types.UserDefinedType[Sequence[bytes]]):
    """Hashes, one behind the other."""

    cache_ok = True

    def bind_processor(self, _dialect: sa.Dialect) -> Any:
        return b"".join


class _Among(FunctionElement[bool]):
    inherit_cache = True
    type = sa.Boolean()

    def self_group(self, against: Any = None) -> Any:
        """As it is: behind `… = 1`, as SQLAlchemy writes a boolean function for SQLite, it would use no index."""
        del against
        return self


class _AmongNumbers(_Among):
    inherit_cache = True


class _AmongHashes(_Among):
    inherit_cache = True


def among(column: sa.ColumnElement[int], name: str) -> sa.ColumnElement[bool]:
    """Whether a column of integers holds one of the sequence that is bound to `name`."""
    return _AmongNumbers(column, sa.bindparam(name, expanding=True, type_=column.type))


def among_hashes(column: sa.ColumnElement[bytes], name: str) -> sa.ColumnElement[bool]:
    """The same for a column of hashes, each of `HASH` bytes."""
    return _AmongHashes(column, sa.bindparam(name, expanding=True, type_=column.type))


@compiles(_Among)
def _list(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    return str(compiler.process(column.in_(values), **options))


@compiles(_AmongNumbers, "sqlite")
def _json(element: _Among, compiler: Any, **options: Any) -> str:
    return _written(_OF_JSON, _Numbers(), element, compiler, options)


@compiles(_AmongHashes, "sqlite")
def _cut(element: _Among, compiler: Any, **options: Any) -> str:
    return _written(_OF_PIECES, _Hashes(), element, compiler, options)


def _written(form: str, kind: Any, element: _Among, compiler: Any, options: dict[str, Any]) -> str:
    column, values = element.clauses
    one = compiler.process(sa.bindparam(values.key, type_=kind), **options)
    return form.format(column=compiler.process(column, **options), values=one, size=HASH)
