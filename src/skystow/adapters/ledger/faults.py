"""Whose fault an error of a database server is, by the number that the server gives it."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

from skystow.errors import ConfigError, LedgerUnusable, NoSpace, ReadOnly, SkystowError, Unreachable

Codes = set[int | str]

# MariaDB's and MySQL's numbers beside PostgreSQL's SQLSTATEs (the first two characters: a whole class).
_COLLISION: Codes = {1213, 1020, 3572, "40001", "40P01"}  # deadlock, serialization: the server chose us to give way
_TWICE: Codes = {1062, 1586, "23505"}  # the key is there already: another host was quicker
_REFUSED: Codes = {1044, 1045, 1049, 1698, 2054, 2059, 3118, "28", "3D"}  # user, password, database
_FORBIDDEN: Codes = {1142, 1143, 1227, 1370, "42501"}
_FULL: Codes = {1021, 1114, 1041, "53100"}
_READ_ONLY: Codes = {1036, 1290, 1792, 1836, "25006"}
_LOCKED: Codes = {1205, "55P03"}
_STRANGE: Codes = {
    1054,
    1146,
    1932,
    1034,
    126,
    "42P01",
    "42703",
    "XX001",
    "XX002",
}  # a table or column is not there, or broken

# libpq gives no SQLSTATE where a connection is refused, only the server's words.
_WORDS = ("authentication failed", "no pg_hba.conf entry", "no password supplied", "does not exist")


def collided(error: DBAPIError) -> bool:
    """Whether the transaction gave way to another one's: nothing of it was done, and it may be run again."""
    return _is(error, _COLLISION) or (isinstance(error, IntegrityError) and _is(error, _TWICE))


def blame(error: DBAPIError) -> SkystowError | None:
    """None: ours, a bug."""
    said = f"the ledger's server: {_said(error)}"
    if _is(error, _REFUSED) or (_code(error) is None and any(word in said for word in _WORDS)):
        return ConfigError(said, remedy="are user, password and database of the ledger's URL right? was it created?")
    if _is(error, _FORBIDDEN):
        return ConfigError(said, remedy="grant the ledger's user all rights on the ledger's database")
    if _is(error, _FULL) or (_is(error, {1030, 3}) and "28" in said):  # 28: ENOSPC, of the server's storage
        return NoSpace(said, place="ledger", remedy="free some space on the server; nothing is lost")
    if _is(error, _READ_ONLY):
        return ReadOnly(said, place="ledger", remedy="is it a replica? name the server that takes writes")
    if _is(error, _LOCKED):
        return Unreachable(said, place="ledger", remedy="another program holds the ledger's rows for long; who?")
    if _is(error, _STRANGE):
        remedy = "put back a copy, or name an empty database: a new ledger finds what is archived and proves it again"
        return LedgerUnusable(said, remedy=remedy)
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError | InternalError):
        return Unreachable(said, place="ledger")
    return None


def _code(error: DBAPIError) -> int | str | None:
    """MySQL's number, or PostgreSQL's SQLSTATE."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return first if isinstance(first, int) else getattr(error.orig, "sqlstate", None)


def _is(error: DBAPIError, codes: Codes) -> bool:
    code = _code(error)
    return code in codes or (isinstance(code, str) and code[:2] in codes)


def _said(error: DBAPIError) -> str:
    """The server's own sentence: neither statement nor values, which the text of an SQLAlchemy error would add."""
    arguments = error.orig.args if error.orig is not None else ()
    return " ".join(str(arguments[-1]).split()) if arguments else type(error.orig).__name__
