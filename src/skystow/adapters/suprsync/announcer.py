"""Tells `supersync_v0` what became of its rows. Every update says how it is, not what has changed: safe to repeat.

A timecode directory is `finalized` in the very transaction in which the row of its finalization file is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import sqlalchemy as sa

from skystow.adapters.rows.verdicts import Change, Counted, Row, in_order
from skystow.adapters.suprsync.database import DIRECTORIES, FILES, SuprSyncDatabase
from skystow.adapters.suprsync.rows import number_of
from skystow.model.records import Notice, path_bytes
from skystow.model.transfer import Step
from skystow.ports import Dossier

STEPS = frozenset({Step.DELIVERED, Step.RETRY, Step.QUARANTINED, Step.REQUEUED, Step.IGNORED, Step.RETIRED})
"""What its outbox must hold."""

_COLUMNS = ("id", "local_md5sum", "remote_path", "remote_md5sum", "copied", "removed", "failed_copy_attempts", "ignore")
_rows = sa.table(FILES, *map(sa.column, _COLUMNS))
_C = _rows.c
_ours = sa.update(_rows).where(_C.id == sa.bindparam("row"))
_unproven = _ours.where(_C.remote_md5sum.is_distinct_from(_C.local_md5sum))
_md5: sa.BindParameter[str] = sa.bindparam("md5", type_=sa.String)
# Spelt as the row spells it: others compare the two letter by letter.
_same = sa.case((sa.func.lower(_C.local_md5sum) == _md5, _C.local_md5sum), else_=_md5)
_there: sa.BindParameter[str] = sa.bindparam("there", type_=sa.String)
_suffix: sa.BindParameter[str] = sa.bindparam("suffix", type_=sa.String)
# A file that went beside one of another content has another name than its row said.
_where = sa.case((_there == _C.remote_path + _suffix, _there), else_=_C.remote_path)
_COPIED = _ours.values(remote_md5sum=_same, copied=sa.bindparam("at"), remote_path=_where)
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
_FINALIZED = sa.update(_directories).where(_D.finalize_file_id == sa.bindparam("row")).values(finalized=1)


class SuprSyncAnnouncer:
    """Implements `skystow.ports.Announcer`. `counted` are the destinations that must have a file before its row says
    so; `dossier` is asked where there are several. Raises `PlaceFault`, `OperatorFault`."""

    def __init__(
        self, database: SuprSyncDatabase, counted: Sequence[str], *, dossier: Callable[[int], Dossier | None]
    ) -> None:
        self._database, self._counted = database, Counted(counted, dossier)

    def announce(self, notices: Sequence[Notice]) -> None:
        changes = [change for each in notices if (change := self._change(each))]
        if not changes:
            return
        self._database.shape()
        copied = {row["row"] for statement, row in changes if statement is _COPIED}
        with self._database.writing() as connection:
            for statement, some in in_order(changes):
                connection.execute(statement, some)
            if copied:
                awaited = connection.execute(_AWAITED).scalars().all()
                if proven := [{"row": number} for number in awaited if number in copied]:
                    connection.execute(_FINALIZED, proven)

    def _change(self, notice: Notice) -> Change | None:
        row: Row = {"row": number_of(notice.key)}
        if notice.kind == Step.RETIRED:
            return _REMOVED, row | {"at": notice.at.timestamp()}
        if not self._counted.concerns(notice):
            return None
        match notice.kind:
            case Step.DELIVERED:
                path = self._counted.whole(notice)
                return None if path is None else (_COPIED, row | _copy(notice, path))
            case Step.RETRY | Step.QUARANTINED:
                return _FAILED, row | {"n": notice.body["attempts"]}
            case Step.REQUEUED:
                return _AGAIN, row
            case Step.IGNORED:
                return _IGNORED, row
        return None


def _copy(notice: Notice, path: PurePosixPath) -> Row:
    md5 = str(notice.body["digest"]).removeprefix("md5:")  # what the row claims, so this is what was read back
    there = path_bytes(path).decode("utf-8", "replace")  # what is no text was not numbered by us alone
    return {"md5": md5, "at": notice.at.timestamp(), "there": there, "suffix": path.suffix}
