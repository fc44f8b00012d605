"""What a table is told of its rows: by an outbox of its own, in the order in which it happened, as things are and not
as they have changed, so that it may be told again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import PurePosixPath

import sqlalchemy as sa

from skystow.model.records import Notice
from skystow.model.transfer import State
from skystow.ports import Dossier

Row = dict[str, str | bytes | int | float | None]
Change = tuple[sa.Update, Row]


class Counted:
    """The destinations that count, in order: a row is copied when all of them have its file. `dossier` is asked where
    there are several."""

    def __init__(self, names: Iterable[str], dossier: Callable[[int], Dossier | None]) -> None:
        self._names, self._dossier = tuple(names), dossier

    @property
    def first(self) -> str:
        return self._names[0]

    def concerns(self, notice: Notice) -> bool:
        return notice.body["destination"] in self._names

    def whole(self, notice: Notice) -> PurePosixPath | None:
        """Where the first copy is, if every copy that counts is there."""
        if len(self._names) == 1:
            return notice.path
        dossier = self._dossier(int(notice.body["arrival"] or 0))
        copies = dossier.copies if dossier else ()
        done = {c.route.destination: c.path for c in copies if c.state is State.DONE}
        return done[self.first] if set(self._names) <= done.keys() else None


def in_order(changes: Iterable[Change]) -> Iterator[tuple[sa.Update, Sequence[Row]]]:
    """Those of one statement that follow each other, together."""
    for statement, some in groupby(changes, key=itemgetter(0)):
        yield statement, [row for _, row in some]
