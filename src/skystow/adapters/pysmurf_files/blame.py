"""Whose fault an error of the table's database is: one table, by the server's or SQLite's number."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from skystow.adapters.rows import sqlite
from skystow.errors import OperatorFault, ReadOnly, SkystowError, Unreachable

LOGIN = {1044, 1045, 1049, 1130, 1251, 1698, 2059, 4151}
"""Access denied, to the server or the database; no such database; a kind of login that is not known."""

MAY_NOT = {1142, 1143, 1227, 1290, 1370, 1792, 1836, 3554}
"""A statement that this account may not run, or a server that only reads."""

GONE = {1054, 1146}
"""No such column; no such table."""

UNFIT = {1264, 1292, 1366, 1406}
"""A value that its column does not take; the driver calls some of them an error of operation."""


def blame(error: DBAPIError, table: str, place: str) -> SkystowError | None:
    """None: ours, a bug. What the driver says never holds a password."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        lacking = "is the path of the url right? skystow pysmurf-files create SITE makes it where there is none"
        return sqlite.blame(original, table, place, lacking=lacking)
    code = original.args[0] if original is not None and original.args else 0
    said = original.args[-1] if original is not None and original.args else "no answer"
    if code in LOGIN:
        remedy = "look at the user, host and database of the url, and at password_file or password_env"
        return OperatorFault(f"{table}: {said}", remedy=remedy)
    if code in MAY_NOT:
        remedy = "grant it SELECT and UPDATE on this table"
        return ReadOnly(f"{table}: the account may not do that: {said}", place=place, remedy=remedy)
    if code in GONE:
        return OperatorFault(f"{table}: {said}", remedy="skystow check SITE names what is missing")
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        return Unreachable(f"{table}: {said}", place=place, remedy="skystow tries again by itself")
    return None


def unfit(error: DBAPIError) -> bool:
    """Whether it is a value's fault, and no place's."""
    return isinstance(error, DataError | IntegrityError) or bool(
        error.orig is not None and error.orig.args and error.orig.args[0] in UNFIT
    )
