"""The composition root: from a site file, or two directories, to a house that works.

The only module that knows every adapter. It imports them inside functions, so that a command pays for what it uses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from skystow.config import Directory as DirectoryConfig
from skystow.config import HardLink, Posix, PysmurfFiles, Site, load, refuse_places
from skystow.engine.deliver import Rules
from skystow.engine.retire import Policy
from skystow.model.layout import Layout
from skystow.model.records import ALGORITHMS
from skystow.model.transfer import JOURNAL, Destination, RetryPolicy, Route
from skystow.ports import Announcer, Clock, Finding, Ledger, Source, Store, Tree
from skystow.service.component import Component
from skystow.service.intake import Inlet
from skystow.service.pump import Lane
from skystow.service.status import Progress
from skystow.wiring import ledgers, pysmurf

if TYPE_CHECKING:
    from skystow.adapters.directory import DirectorySource
    from skystow.adapters.pysmurf_files import PysmurfFilesSource
    from skystow.adapters.tree import LocalTree

ARCHIVE = "archive"
"""The one destination of `skystow archive`, and the default name space of files."""

PATIENCE = 60.0
"""Seconds beyond a source's quiet time that a single pass waits for files that are still written to."""


@dataclass
class House:
    """Everything of one site that a command may need. `destinations` and `origins` are trees by the place's name."""

    ledger: Ledger
    clock: Clock
    destinations: Mapping[str, Tree]
    origins: Mapping[str, Tree]
    roots: Mapping[str, str]
    """Where each place is, as a path."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    stores: Mapping[str, Store] = field(default_factory=dict)
    inlets: Sequence[Inlet] = ()
    lanes: Sequence[Lane] = ()
    policies: Mapping[str, Policy] = field(default_factory=dict)
    announcers: Mapping[str, Announcer] = field(default_factory=dict)
    """By the audience that they serve."""
    doctors: Sequence[Callable[[], Iterator[Finding]]] = ()
    """What else `skystow check` looks at."""
    config: Site | None = None
    progress: Progress = field(default_factory=Progress)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What keeps a source from being told of changes, or makes it doubtful; they grow while the house is at work."""

    @property
    def primary(self) -> frozenset[Route]:
        """For each source the route of a file's first copy: what decides whether a file counts as archived."""
        return frozenset(
            Route(inlet.source.name, next(d.name for d in inlet.destinations if d.upstream is None))
            for inlet in self.inlets
        )

    def component(self) -> Component:
        from skystow.adapters.process import alive, this_worker

        return Component(
            ledger=self.ledger,
            clock=self.clock,
            inlets=self.inlets,
            lanes=self.lanes,
            announcers=self.announcers,
            worker_alive=partial(alive, me=this_worker()),
            progress=self.progress,
        )


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Of `skystow archive`; `bwlimit` in bytes per second, `ledger` a URL (None: below the destination)."""

    digest: str = ALGORITHMS[0]
    streams: int = 2
    bwlimit: int | None = None
    exclude: tuple[str, ...] = ()
    follow: bool = False
    ledger: str | None = None


# ── a site ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def build(site: Site) -> Iterator[House]:
    """A site, ready to run. Raises `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.announce import JournalAnnouncer
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.tree import LocalTree

    clock = SystemClock()
    origins = {each.name: LocalTree(each.root, place=each.name, marker=each.marker) for each in site.sources}
    destinations = {each.name: LocalTree(each.root, place=each.name, marker=each.marker) for each in site.destinations}
    stores = {each.name: _store(each, destinations, origins) for each in site.destinations}
    policy = site.retry.policy()
    with ledgers.open_at(ledgers.site_ledger(site), clock, policy, pysmurf.audiences(site)) as ledger:
        tables = pysmurf.open_tables(site, origins, ledger)
        directories = (each for each in site.sources if isinstance(each, DirectoryConfig))
        swept = {each.name: _source(each, origins[each.name], site.archive, clock) for each in directories}
        sources: dict[str, DirectorySource | PysmurfFilesSource] = {**swept, **tables.sources}
        journal = {JOURNAL.name: JournalAnnouncer(Path(site.journal))} if site.journal else {}
        roots = {each.name: each.root for each in (*site.sources, *site.destinations)}
        for name, root in roots.items():
            ledger.note_place(name, root)
        try:
            yield House(
                ledger=ledger,
                clock=clock,
                destinations=destinations,
                origins=origins,
                roots=roots,
                sources=sources,
                stores=stores,
                inlets=[_inlet(each, sources[each.name], site) for each in site.sources],
                lanes=list(_lanes(site, stores, policy)),
                policies={e.name: Policy(e.retire.after, frozenset(e.retire.keep)) for e in site.sources if e.retire},
                announcers={**journal, **tables.announcers},
                doctors=tables.doctors,
                config=site,
                notes={name: source.notes for name, source in swept.items()},
            )
        finally:
            for source in sources.values():
                source.close()


def _source(config: DirectoryConfig, tree: LocalTree, archive: str, clock: Clock) -> DirectorySource:
    from skystow.adapters.directory import DirectoryOptions, DirectorySource

    options = DirectoryOptions(
        follow=True,  # in a site somebody is always writing: even a single pass takes finished files only
        quiet_for=config.quiet_for,
        finished_on=config.finished_on,
        temporary=config.temporary,
        exclude=config.exclude,
        order=config.order,
        priority=config.priority,
    )
    return DirectorySource(config.name, tree, archive=archive, layout=config.layout, options=options, clock=clock)


def _store(config: Posix | HardLink, destinations: Mapping[str, LocalTree], origins: Mapping[str, LocalTree]) -> Store:
    from skystow.adapters.hardlink import HardlinkStore
    from skystow.adapters.posix import PosixStore
    from skystow.adapters.staging import StoreOptions

    tree = destinations[config.name]
    if isinstance(config, HardLink):
        options = StoreOptions(directory_mode=config.directory_mode, sync=config.sync)
        return HardlinkStore(config.name, tree, {config.of: destinations[config.of]}, options)
    options = StoreOptions(
        file_mode=config.file_mode,
        directory_mode=config.directory_mode,
        owner=config.owner,
        group=config.group,
        min_free=config.min_free,
        sync=config.sync,
        bwlimit=config.bwlimit,
        algorithm=config.digest,
    )
    return PosixStore(config.name, tree, origins, options)


def _inlet(config: DirectoryConfig | PysmurfFiles, source: Source, site: Site) -> Inlet:
    destinations = tuple(
        Destination(
            name=each.name,
            upstream=each.of if isinstance(each, HardLink) else None,
            required=each.required,
            owned=each.owned,
        )
        for each in site.served(config)
    )
    if isinstance(config, PysmurfFiles):
        return Inlet(source, destinations, config.poll, place=pysmurf.place(config))
    return Inlet(source, destinations, config.sweep_every, patience=config.quiet_for + PATIENCE)


def _lanes(site: Site, stores: Mapping[str, Store], policy: RetryPolicy) -> Iterator[Lane]:
    """A queue for each pair of places between which files travel."""
    routes: dict[Route, Posix | HardLink] = {}
    for source in site.sources:
        for each in site.served(source):
            routes[Route(each.of if isinstance(each, HardLink) else source.name, each.name)] = each
    for route, config in routes.items():
        algorithm = config.digest if isinstance(config, Posix) else ALGORITHMS[0]
        rules = Rules(policy, algorithm, number_conflicts=site.on_conflict == "number")
        yield Lane(route, stores[config.name], rules, config.streams, config.batch.files, config.batch.size)


# ── two directories ─────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def build_archive(source: str, dest: str, options: ArchiveOptions) -> Iterator[House]:
    """`skystow archive SOURCE DEST`. DEST is made where it is missing (its parents are not).
    Raises `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.posix import PosixStore
    from skystow.adapters.staging import StoreOptions
    from skystow.adapters.tree import LocalTree

    refuse_places(source, dest)
    ledgers.make(dest)
    clock, name = SystemClock(), source_name(source)
    origin = LocalTree(os.path.abspath(source), place=name)
    target = LocalTree(os.path.abspath(dest), place=ARCHIVE)
    store_options = StoreOptions(bwlimit=options.bwlimit, algorithm=options.digest)
    store = PosixStore(ARCHIVE, target, {name: origin}, store_options)
    policy = RetryPolicy(first=0.5, factor=2.0)
    with ledgers.open_at(options.ledger or ledgers.home(dest), clock, policy) as ledger:
        roots = {name: os.path.realpath(source), ARCHIVE: os.path.realpath(dest)}
        for place, root in roots.items():
            ledger.note_place(place, root)
        inlet = _archive_source(name, origin, options, clock)
        try:
            yield House(
                ledger=ledger,
                clock=clock,
                destinations={ARCHIVE: target},
                origins={name: origin},
                roots=roots,
                sources={name: inlet},
                stores={ARCHIVE: store},
                inlets=[Inlet(inlet, (Destination(ARCHIVE),))],
                lanes=[Lane(Route(name, ARCHIVE), store, Rules(policy, options.digest), options.streams)],
                notes={name: inlet.notes},
            )
        finally:
            inlet.close()


@contextmanager
def preview(source: str, dest: str, options: ArchiveOptions) -> Iterator[tuple[Source, Tree | None]]:
    """For `--dry-run`: the source, and what is at the destination (None: nothing). Writes nothing anywhere."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.tree import LocalTree

    refuse_places(source, dest)
    name = source_name(source)
    inlet = _archive_source(name, LocalTree(os.path.abspath(source), place=name), options, SystemClock())
    try:
        yield inlet, LocalTree(os.path.abspath(dest), place=ARCHIVE) if os.path.isdir(dest) else None
    finally:
        inlet.close()


def _archive_source(name: str, tree: LocalTree, options: ArchiveOptions, clock: Clock) -> DirectorySource:
    from skystow.adapters.directory import DirectoryOptions, DirectorySource

    looks = DirectoryOptions(follow=options.follow, exclude=options.exclude)
    layout = Layout("{relative_path}")
    return DirectorySource(name, tree, archive=ARCHIVE, layout=layout, options=looks, clock=clock)


def source_name(source: str) -> str:
    """The same directory always has the same name, however it is written."""
    return f"src-{hashlib.sha256(os.fsencode(os.path.realpath(source))).hexdigest()[:12]}"


# ── what exists already, for operators ──────────────────────────────────────────────────────────────────────────


@contextmanager
def open_house(place: str, ledger_url: str | None = None) -> Iterator[House]:
    """The ledger and the trees behind a site file, or behind a DEST of `skystow archive`; nothing is made.
    Raises `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.tree import LocalTree

    url = ledgers.existing_ledger(place, ledger_url)
    clock, site = SystemClock(), None if os.path.isdir(place) else load(place)
    policy = site.retry.policy() if site else RetryPolicy(first=0.5, factor=2.0)
    with ledgers.open_at(url, clock, policy, pysmurf.audiences(site)) as ledger:
        roots = dict(ledger.places())
        if site is None:
            names = {count.route.destination for count in ledger.counts()} | {ARCHIVE}
            real = os.path.realpath(place)
            noted = (name for name in names if name in roots and os.path.realpath(roots[name]) == real)
            roots[next(noted, ARCHIVE)] = real  # an archive that was moved still is what it was
        else:
            names = {each.name for each in site.destinations}
            roots |= {each.name: each.root for each in (*site.sources, *site.destinations)}
        markers = {each.name: each.marker for each in (*site.sources, *site.destinations)} if site else {}
        trees = {name: LocalTree(root, place=name, marker=markers.get(name)) for name, root in roots.items()}
        yield House(
            ledger=ledger,
            clock=clock,
            destinations={name: tree for name, tree in trees.items() if name in names},
            origins={name: tree for name, tree in trees.items() if name not in names},
            roots=roots,
            config=site,
        )
