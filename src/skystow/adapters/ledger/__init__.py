"""The ledger in SQL: implements `skystow.ports.Ledger` on SQLite, MariaDB, MySQL and PostgreSQL.

open        is it a ledger that we can use? refusals, migrations
database    transactions, the clock, whose fault an error is; `sqlite`, `servers`: what only they need
intake      admit                          queue      claim, renew, promise, reclaim
verdicts    settle                         repair     what operators and audits write down
inquiry     the windows                    events     the log, and the outboxes
letters     dead letters; who the ledger is
talks       the image door's conversations       mail       its bus
board       its scoreboard                       frames     its OODS's table of files
schema      the tables; `migrations` makes them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import PurePosixPath

from skystow.adapters.ledger import events, inquiry, intake, letters, places, queue, repair, verdicts
from skystow.adapters.ledger.board import EmbeddedBoard
from skystow.adapters.ledger.database import Database
from skystow.adapters.ledger.frames import SqlCatalogue
from skystow.adapters.ledger.mail import EmbeddedBus, Read
from skystow.adapters.ledger.open import open_database, upgrade
from skystow.adapters.ledger.talks import SqlTalks
from skystow.adapters.ledger.values import moment
from skystow.model.records import Arrival, DeadLetter, Health, Notice, Worker
from skystow.model.transfer import (
    JOURNAL,
    Audience,
    Destination,
    Receipt,
    RetryPolicy,
    Route,
    State,
    Step,
    Verdict,
    Work,
    mark_of,
)
from skystow.ports import Admission, Clock, Copy, Counts, Dossier, Glimpse

__all__ = ["SqlLedger", "open_ledger", "upgrade"]

_DEFAULT_POLICY = RetryPolicy()


def open_ledger(
    url: str,
    *,
    worker: Worker,
    clock: Clock,
    policy: RetryPolicy = _DEFAULT_POLICY,
    audiences: Sequence[Audience] = (JOURNAL,),
    hosts_clock: bool = False,
) -> SqlLedger:
    """The ledger at `url` (`sqlite:////full/path`, or a server's: see `servers`), made where there is none; `policy`
    judges abandoned files, and those that failed too often before. Notices are written for `audiences`.

    Of a server its own clock tells the time, whatever `clock` says; `hosts_clock` is for tests, see `Database`.

    Raises `LedgerUnusable`, `SchemaMismatch`, `ConfigError`, `PlaceFault` (place "ledger").
    """
    database = open_database(url, clock)
    database.audiences, database.hosts_clock = tuple(audiences), hosts_clock
    return SqlLedger(database, worker, policy)


class SqlLedger:
    """What each call does is told in `skystow.ports.Ledger`; every one raises `PlaceFault` (place "ledger") where the
    database is away, locked or full, and `LedgerUnusable` where it is damaged."""

    def __init__(self, database: Database, worker: Worker, policy: RetryPolicy) -> None:
        self._database, self._worker, self._policy = database, worker, policy

    @cached_property
    def _me(self) -> int:
        """Our row. Made with the first write, so that windows leave no trace."""
        return self._database.worker_id(self._worker)

    @cached_property
    def _mark(self) -> str:
        return mark_of(self.identity())

    # intake

    def admit(self, arrivals: Sequence[Arrival], destinations: Sequence[Destination]) -> Admission:
        return intake.admit(self._database, self._me, self._policy, arrivals, destinations)

    def bury(self, dead: Sequence[DeadLetter]) -> int:
        return letters.bury(self._database, dead)

    def buried(self, source: str, keys: Sequence[bytes]) -> set[bytes]:
        return letters.buried(self._database, source, keys)

    def dead_letters(self, *, after: int, limit: int, source: str | None = None) -> Sequence[DeadLetter]:
        return letters.page(self._database, after=after, limit=limit, source=source)

    def exhume(self, dead: Sequence[DeadLetter]) -> int:
        return letters.exhume(self._database, dead)

    # pump

    def claim(self, route: Route, *, files: int, size: int, seconds: float) -> Sequence[Work]:
        return queue.claim(
            self._database, self._me, self._policy, lambda: self._mark, route, files=files, size=size, seconds=seconds
        )

    def renew(self, works: Sequence[Work], *, seconds: float) -> set[Work]:
        return queue.renew(self._database, works, seconds=seconds)

    def promise(self, receipts: Mapping[Work, Receipt], *, seconds: float) -> set[Work]:
        return queue.promise(self._database, receipts, seconds=seconds)

    def settle(self, verdicts_: Mapping[Work, Verdict]) -> set[Work]:
        return verdicts.settle(self._database, self._me, verdicts_)

    def next_wake(self, route: Route) -> float | None:
        if self._database.doubtful:
            queue.free_doubtful(self._database, self._me)
        return queue.next_wake(self._database, route)

    # start

    def reclaim(self, alive: Callable[[Worker], bool | None]) -> int:
        return queue.reclaim(self._database, self._me, self._policy, alive)

    def live_tokens(self) -> set[str]:
        return queue.live_tokens(self._database)

    # outbox

    def notices(self, *, limit: int, audience: str = JOURNAL.name) -> Sequence[Notice]:
        return events.unsent(self._database, limit, audience)

    def sent(self, notices: Sequence[Notice]) -> None:
        events.mark_sent(self._database, notices)

    # itself and places

    def identity(self) -> str:
        return letters.who(self._database)

    def note_place(self, name: str, root: str) -> None:
        places.note(self._database, name, root)

    def report(self, health: Health) -> None:
        places.report(self._database, health)

    # operators

    def requeue(self, copies: Sequence[Copy]) -> int:
        return repair.requeue(self._database, self._me, copies)

    def ignore(self, copies: Sequence[Copy], reason: str) -> int:
        return repair.ignore(self._database, self._me, copies, reason)

    def renumber(self, copy: Copy, path: PurePosixPath) -> None:
        repair.renumber(self._database, self._me, copy, path)

    def audited(self, copy: Copy, step: Step, text: str) -> None:
        repair.audited(self._database, self._me, copy, step, text)

    def retired(self, *dossiers: Dossier) -> None:
        if dossiers:
            repair.retired(self._database, self._me, dossiers)

    def removed(self, copies: Sequence[Copy], reason: str) -> int:
        return repair.removed(self._database, self._me, copies, reason)

    # windows

    def find(self, name: str | bytes) -> Sequence[int]:
        return inquiry.find(self._database, name)

    def dossier(self, arrival: int) -> Dossier | None:
        return inquiry.dossier(self._database, arrival)

    def latest(self, source: str, origins: Sequence[PurePosixPath]) -> Mapping[PurePosixPath, Dossier]:
        return inquiry.latest(self._database, source, origins)

    def copies(
        self, *, after: int, limit: int, state: State, destination: str | None = None, source: str | None = None
    ) -> Sequence[Copy]:
        return inquiry.copies(
            self._database, after=after, limit=limit, state=state, destination=destination, source=source
        )

    def retirable(self, source: str, *, older_than: float, after: int, limit: int) -> Sequence[Dossier]:
        return inquiry.retirable(self._database, source, older_than=older_than, after=after, limit=limit)

    def counts(self) -> Sequence[Counts]:
        return inquiry.counts(self._database)

    def now(self) -> datetime:
        with self._database.looking() as connection:
            return moment(self._database.now(connection))

    def tally(self, routes: Sequence[Route], since: datetime) -> Sequence[Counts]:
        return inquiry.tally(self._database, routes, since)

    def glimpse(self, route: Route, *, last: int) -> Glimpse:
        return inquiry.glimpse(self._database, route, last)

    def healths(self) -> Sequence[Health]:
        return places.healths(self._database)

    def places(self) -> Mapping[str, str]:
        return places.roots(self._database)

    # the image door

    @property
    def talks(self) -> SqlTalks:
        return SqlTalks(self._database)

    def posted(self) -> SqlTalks:
        """Talks whose messages wait in outboxes, for a broker."""
        return SqlTalks(self._database, broker=True)

    def mail(self, sender: str, read: Read) -> EmbeddedBus:
        """The bus of one component, which understands what `read` does."""
        return EmbeddedBus(self._database, sender, read)

    @property
    def bus(self) -> EmbeddedBus:
        return EmbeddedBus(self._database)

    @property
    def board(self) -> EmbeddedBoard:
        return EmbeddedBoard(self._database)

    @property
    def catalogue(self) -> SqlCatalogue:
        return SqlCatalogue(self._database)

    def close(self) -> None:
        self._database.close()
