"""The part of the composition root that knows suprsync's database: from a section of the site file to a source, an
announcer and a doctor (see `skystow.wiring.rows`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from skystow.config import Site, SuprSync
from skystow.model.records import path_bytes
from skystow.model.transfer import State, Step
from skystow.ports import Clock, Dossier, Finding, Ledger, Tree
from skystow.wiring.opened import Opened, place, warn

if TYPE_CHECKING:
    from skystow.adapters.suprsync import Finalizer, SuprSyncDatabase
    from skystow.adapters.suprsync import Standing as Standing  # what `timecodes` gives

UNTOLD = 5_000
"""Notices among which orders of a person are looked for, at most."""


def opened(config: SuprSync, site: Site, tree: Tree, ledger: Ledger, clock: Clock, *, only_look: bool) -> Opened:
    from skystow.adapters.rows.source import RowSource
    from skystow.adapters.rows.tenancy import FileTenancy
    from skystow.adapters.suprsync import SuprSyncAnnouncer
    from skystow.adapters.suprsync.database import FILES
    from skystow.adapters.suprsync.rows import Reader
    from skystow.adapters.suprsync.upkeep import Upkeep

    database, root = _connect(config), PurePosixPath(config.root)
    finalizer = _finalizer(config, database, clock)
    within = [PurePosixPath(each) for each in config.within]
    if within and config.finalize:
        within.append(PurePosixPath(config.finalize.file_root))
    reader = Reader(config.name, site.archive, root, within, config.priority)
    held = FileTenancy(config.database, database, FILES, config.archives, ledger.identity(), what="archive")
    buried = partial(ledger.buried, config.name)
    withdraw, resume = (partial(each, ledger, config.name, root) for each in (_withdraw, _resume))
    upkeep = Upkeep(database, config.archives, withdraw, resume, partial(_untold, ledger, place(config)), finalizer)
    chore = None if only_look else upkeep
    source = RowSource(database, tree, reader, config.archives, held, buried, chore)
    counted = [each.name for each in site.counted(config)]
    announcer = SuprSyncAnnouncer(database, counted, dossier=ledger.dossier, warn=warn)

    return Opened(source, announcer, partial(_doctor, database, finalizer), database.keeps)


def _connect(config: SuprSync) -> SuprSyncDatabase:
    from skystow.adapters.suprsync import SuprSyncDatabase

    return SuprSyncDatabase(config.database, place=place(config))


def _finalizer(config: SuprSync, database: SuprSyncDatabase, clock: Clock) -> Finalizer | None:
    from skystow.adapters.suprsync import Finalizer

    said = config.finalize
    if said is None:
        return None
    return Finalizer(
        database,
        config.archives,
        root=said.file_root,
        instance=said.instance_id,
        settle=said.settle,
        clock=clock,
        place=f"{config.name} finalization",
    )


def _withdraw(ledger: Ledger, source: str, root: PurePosixPath, key: bytes, local: str) -> None:
    """Somebody has set a row aside in the table: what was admitted of it is given up."""
    from skystow.adapters.suprsync.announcer import SET_ASIDE

    if (origin := _origin(root, local)) is None:
        return  # it was never admitted
    for dossier in _all_of(ledger, source, origin):
        if dossier.key == key:
            _cancel(ledger, dossier, SET_ASIDE)


def _resume(ledger: Ledger, source: str, root: PurePosixPath, paths: Mapping[bytes, str]) -> None:
    """Rows wait that this process has not handed over yet, or had given up."""
    from skystow.adapters.suprsync.announcer import CORRECTED, SET_ASIDE
    from skystow.adapters.suprsync.rows import number_of

    origins = {key: origin for key, path in paths.items() if (origin := _origin(root, path)) is not None}
    last = ledger.latest(source, list(dict.fromkeys(origins.values())))
    for key, origin in origins.items():
        dossier = last.get(origin)
        if dossier is None:
            continue
        # Nearly always the only one of its path; where it is not ours, another row may have named the same file.
        for each in (dossier,) if dossier.key == key else _all_of(ledger, source, origin):
            if each.key == key:
                _requeue(ledger, each, SET_ASIDE)
            elif number_of(each.key) == number_of(key):
                _cancel(ledger, each, CORRECTED)


def _origin(root: PurePosixPath, local: str) -> PurePosixPath | None:
    path = PurePosixPath(local)
    return None if not path.is_relative_to(root) or path == root else path.relative_to(root)


def _all_of(ledger: Ledger, source: str, origin: PurePosixPath) -> list[Dossier]:
    found = (ledger.dossier(number) for number in ledger.find(path_bytes(origin)))
    return [each for each in found if each is not None and (each.source, each.origin) == (source, origin)]


def _cancel(ledger: Ledger, dossier: Dossier, reason: str) -> None:
    left = [copy for copy in dossier.copies if copy.state in (State.WAITING, State.QUARANTINED)]
    if left:
        ledger.ignore(left, reason)


def _requeue(ledger: Ledger, dossier: Dossier, reason: str) -> None:
    """What was cancelled last for this reason."""
    if all(copy.state is not State.CANCELLED for copy in dossier.copies):
        return
    story = ledger.dossier(dossier.id)  # with its events
    if story is None:
        return
    for copy in story.copies:
        said = [e.text for e in story.events if e.step is Step.IGNORED and e.destination == copy.route.destination]
        if copy.state is State.CANCELLED and said and said[-1] == reason:
            ledger.requeue([copy])


def _untold(ledger: Ledger, audience: str) -> set[bytes] | None:
    waiting = ledger.notices(limit=UNTOLD, audience=audience)
    return {each.key for each in waiting if each.kind == Step.REQUEUED} if len(waiting) < UNTOLD else None


def _doctor(database: SuprSyncDatabase, finalizer: Finalizer | None) -> Iterator[Finding]:
    yield from database.check()
    if finalizer is not None:
        yield finalizer.check()


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def databases(site: Site) -> list[SuprSync]:
    return [each for each in site.sources if isinstance(each, SuprSync)]


def index(site: Site) -> list[tuple[str, list[str]]]:
    """Add our indexes to the databases of a site; each with what was added."""
    added = []
    for config in databases(site):
        with _opened(config) as database:
            added.append((str(database), database.add_indexes()))
    return added


def timecodes(site: Site) -> list[tuple[str, list[Standing]]]:
    """The directories of a site's archives that a person may want to know of, by source."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.suprsync import standings

    at, found = SystemClock().now().timestamp(), []
    for config in databases(site):
        with _opened(config) as database:
            database.shape()
            settle = config.finalize.settle if config.finalize else 0.0
            of = [each for archive in config.archives for each in standings(database, archive, at, settle)]
            found.append((config.name, of))
    return found


@contextmanager
def _opened(config: SuprSync) -> Iterator[SuprSyncDatabase]:
    database = _connect(config)
    try:
        yield database
    finally:
        database.close()
