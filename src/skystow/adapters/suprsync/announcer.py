"""Tells `supersync_v0` what became of its rows. Every update says how it is, not what has changed: safe to repeat.

Only a row that still says what it said when it was admitted is told: another one with its id knows nothing of the file.
A timecode directory is `finalized` in the very transaction in which the row of its finalization file is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import sqlalchemy as sa

from skystow.adapters.rows.verdicts import Change, Counted, Row, in_order
from skystow.adapters.suprsync.database import DIRECTORIES, FILES, SuprSyncDatabase
from skystow.adapters.suprsync.rows import Claim, number_of
from skystow.model.records import Notice, path_bytes
from skystow.model.transfer import Step
from skystow.ports import Dossier

STEPS = frozenset({Step.DELIVERED, Step.RETRY, Step.QUARANTINED, Step.REQUEUED, Step.IGNORED, Step.RETIRED})
"""What its outbox must hold."""

SET_ASIDE, CORRECTED = "its row is to be ignored", "its row says something else now"
"""Why copies are cancelled for the table's sake."""

OF_THE_TABLE = frozenset({SET_ASIDE, CORRECTED})

_COLUMNS = ("local_path", "local_md5sum", "remote_path", "remote_md5sum", "copied", "removed", "failed_copy_attempts")
_rows = sa.table(FILES, *map(sa.column, ("id", *_COLUMNS, "ignore")))
_C = _rows.c


def _raw(name: str) -> sa.ColumnElement[str]:
    """Text with whatever bytes."""
    return sa.cast(sa.bindparam(name, type_=sa.LargeBinary), sa.Text)


_ours = sa.update(_rows).where(
    _C.id == sa.bindparam("row"),
    *(_C[name] == _raw(f"its_{name}") for name in ("local_path", "local_md5sum", "remote_path")),
)
_unproven = _ours.where(_C.remote_md5sum.is_distinct_from(_C.local_md5sum))
_md5: sa.BindParameter[str] = sa.bindparam("md5", type_=sa.String)
# Spelt as the row spells it: others compare the two letter by letter.
_same = sa.case((sa.func.lower(_C.local_md5sum) == _md5, _C.local_md5sum), else_=_md5)
_COPIED = _ours.values(remote_md5sum=_same, copied=sa.bindparam("at"), remote_path=_raw("there"))
_FAILED = _unproven.values(
    failed_copy_attempts=sa.func.max(sa.func.coalesce(_C.failed_copy_attempts, 0), sa.bindparam("n", type_=sa.Integer))
)
_AGAIN = _unproven.values(failed_copy_attempts=0, ignore=0)
_IGNORED = _unproven.values(ignore=1)
_REMOVED = _ours.where(_C.removed.is_(None)).values(removed=sa.bindparam("at"))

_directories = sa.table(DIRECTORIES, sa.column("finalized"), sa.column("finalize_file_id"))
_D = _directories.c
_AWAITED = sa.select(_D.finalize_file_id).where(
    _D.finalize_file_id.is_not(None), sa.or_(_D.finalized.is_(None), _D.finalized == 0)
)
_FINALIZED = (
    sa.update(_directories)
    .where(
        _D.finalize_file_id == sa.bindparam("row"),
        sa.exists().where(_C.id == _D.finalize_file_id, _C.remote_md5sum == _C.local_md5sum),
    )
    .values(finalized=1)
)


class SuprSyncAnnouncer:
    """Implements `skystow.ports.Announcer`. `counted` are the destinations that must have a file before its row says
    so; `dossier` is asked where there are several, and of files that went under another name than their rows said.
    `warn` is told of rows that are others now. Raises `PlaceFault`, `OperatorFault`."""

    def __init__(
        self,
        database: SuprSyncDatabase,
        counted: Sequence[str],
        *,
        dossier: Callable[[int], Dossier | None],
        warn: Callable[[str], None],
    ) -> None:
        self._database, self._counted = database, Counted(counted, dossier)
        self._dossier, self._warn = dossier, warn

    def announce(self, notices: Sequence[Notice]) -> None:
        verdicts = [verdict for each in notices if (verdict := self._verdict(each))]
        if not verdicts:
            return
        self._database.shape()
        changes = self._changes(verdicts)
        copied = {row["row"] for statement, row in changes if statement is _COPIED}
        with self._database.writing() as connection:
            for statement, some in in_order(changes):
                connection.execute(statement, some)
            if copied:
                awaited = connection.execute(_AWAITED).scalars().all()
                if proven := [{"row": number} for number in awaited if number in copied]:
                    connection.execute(_FINALIZED, proven)

    def _verdict(self, notice: Notice) -> _Verdict | None:
        if notice.kind == Step.RETIRED:
            return _Verdict(notice, _REMOVED, {"at": notice.at.timestamp()})
        if not self._counted.concerns(notice):
            return None
        match notice.kind:
            case Step.DELIVERED:
                path = self._counted.whole(notice)
                return None if path is None else _Verdict(notice, _COPIED, _copy(notice), path)
            case Step.RETRY | Step.QUARANTINED:
                return _Verdict(notice, _FAILED, {"n": notice.body["attempts"]})
            case Step.REQUEUED:
                return _Verdict(notice, _AGAIN, {})
            case Step.IGNORED if notice.body["text"] in OF_THE_TABLE:
                return None  # it said so itself, and may have changed its mind
            case Step.IGNORED:
                return _Verdict(notice, _IGNORED, {})
        return None

    def _changes(self, verdicts: Sequence[_Verdict]) -> list[Change]:
        """Each of the very row, as it is read now and as those before leave it."""
        claims = self._database.claims({number_of(each.notice.key) for each in verdicts})
        changes: list[Change] = []
        for each in verdicts:
            number = number_of(each.notice.key)
            claim = claims.get(number)
            if claim is None:
                continue  # somebody has deleted it
            there = self._there(number, claim, each)
            if there is None:
                origin = each.notice.body["origin"]  # as `shown` shows it
                self._warn(
                    f"row {number} of {self._database} is not told of {origin}: it said something else when that was "
                    "admitted; as it is now it is another row"
                )
                continue
            row = each.row | {"row": number}
            row |= {f"its_{name}": path_bytes(value) for name, value in claim._asdict().items()}
            if each.path is not None:
                row["there"] = path_bytes(there)
                claims[number] = claim._replace(remote_path=there)
            changes.append((each.statement, row))
        return changes

    def _there(self, number: int, claim: Claim, verdict: _Verdict) -> str | None:
        """The remote path that the row is to have; None: it is not the row that was admitted."""
        notice, path = verdict.notice, verdict.path
        known = claim.key(number) == notice.key
        if known and path in (None, PurePosixPath(claim.remote_path)):
            return str(claim.remote_path)  # spelt as it spells it
        dossier = self._dossier(int(notice.body["arrival"] or 0))
        if dossier is None or not (known or claim.is_of(number, dossier)):
            return None
        # A file that went beside one of another content has another name than its row said.
        beside = path is not None and path != dossier.path
        return path_bytes(path).decode("utf-8", "surrogateescape") if path and beside else str(claim.remote_path)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """`path`: where the file is, of one that is copied."""

    notice: Notice
    statement: sa.Update
    row: Row
    path: PurePosixPath | None = None


def _copy(notice: Notice) -> Row:
    md5 = str(notice.body["digest"]).removeprefix("md5:")  # what the row claims, so this is what was read back
    return {"md5": md5, "at": notice.at.timestamp()}
