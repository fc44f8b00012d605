"""The composition root: from a site file, or two directories, to a house that works.

The only module that knows every adapter. It imports them inside functions, so that a command pays for what it uses.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from skystow.config import Directory as DirectoryConfig
from skystow.config import Rows, Site, load, refuse_places
from skystow.engine.deliver import Rules
from skystow.engine.retire import Policy
from skystow.errors import ConfigError
from skystow.model.layout import Layout
from skystow.model.messages import Message
from skystow.model.records import ALGORITHMS
from skystow.model.transfer import JOURNAL, Audience, Destination, RetryPolicy, Route
from skystow.ports import Announcer, Clock, Finding, Ledger, Source, Store, Tree
from skystow.service.component import Component
from skystow.service.intake import Inlet
from skystow.service.pump import Lane
from skystow.service.status import Progress
from skystow.service.talk import Log, Talk, nobody
from skystow.wiring import image, ledgers, rows
from skystow.wiring.components import Imaging
from skystow.wiring.doctor import image_doctors
from skystow.wiring.ends import (
    REMOTE_BATCH,
    Ends,
    end_name,
    far,
    prove_remote,
    site_lanes,
    site_root,
    site_tree,
    there_or_above,
)
from skystow.wiring.opened import place
from skystow.wiring.wires import Job

if TYPE_CHECKING:
    from skystow.adapters.directory import DirectorySource
    from skystow.adapters.rows.source import RowSource
    from skystow.wiring.ends import AnyTree

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
    imaging: Imaging | None = None
    """The image door, and whatever else can be commanded."""
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
        """The file archiver alone, which nobody commands."""
        return self._component(None, self.inlets, self.lanes, self.announcers)

    def components(self, names: Sequence[str]) -> dict[str, Component]:
        """Those of a site that are named, each of which can be commanded."""
        if self.imaging is None:
            raise ConfigError("there is nothing here that runs for ever", remedy="name a site file")
        made = {}
        for name in names:
            part = self.imaging.part(name)
            announcers: dict[str, Announcer] = {name: part.talk} if part.lanes else {}
            if name == image.FILES:
                made[name] = self._component(part.talk, self.inlets, self.lanes, self.announcers)
                continue
            if name == "controller" and not self.inlets and JOURNAL.name in self.announcers:
                announcers[JOURNAL.name] = self.announcers[JOURNAL.name]  # else the file archiver keeps it
            made[name] = self._component(part.talk, (), part.lanes, announcers, part.jobs)
        return made

    def _component(
        self,
        talk: Talk | None,
        inlets: Sequence[Inlet],
        lanes: Sequence[Lane],
        announcers: Mapping[str, Announcer],
        jobs: Sequence[Job] = (),
    ) -> Component:
        from skystow.adapters.process import alive, this_worker

        return Component(
            ledger=self.ledger,
            clock=self.clock,
            inlets=inlets,
            lanes=lanes,
            announcers=announcers,
            worker_alive=partial(alive, me=this_worker()),
            progress=self.progress,
            talk=talk,
            extras=jobs,
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
def build(
    site: Site,
    *,
    together: bool = True,
    tell: Callable[[Message], None] = lambda _: None,
    log: Log = nobody,
    only_look: bool = False,
) -> Iterator[House]:
    """A site, ready to run. `together`: all of its components in this process; `tell` hears what the Archiver says to
    the outside, `log` what a person should see; `only_look`: a sweep changes nothing in somebody else's table. Raises
    `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.announce import JournalAnnouncer
    from skystow.adapters.clock import SystemClock

    clock, ends = SystemClock(), Ends()
    trees = {each.name: site_tree(each, ends) for each in (*site.sources, *site.destinations)}
    origins = {each.name: trees[each.name] for each in site.sources}
    destinations = {each.name: trees[each.name] for each in site.destinations}
    policy = site.retry.policy()
    lanes = list(site_lanes(site, ends, trees, policy))
    where = ledgers.site_ledger(site)
    with closing(ends), ledgers.open_at(where, clock, policy, everybody(site)) as ledger:
        tables = rows.open_tables(site, origins, ledger, clock, only_look=only_look)
        directories = (each for each in site.sources if isinstance(each, DirectoryConfig))
        swept = {each.name: _source(each, ends, origins[each.name], site.archive, clock) for each in directories}
        sources: dict[str, DirectorySource | RowSource] = {**swept, **tables.sources}
        journal = {JOURNAL.name: JournalAnnouncer(Path(site.journal))} if site.journal else {}
        roots = {each.name: site_root(each) for each in (*site.sources, *site.destinations)}
        roots |= image.roots(site.image) if site.image else {}
        for name, root in roots.items():
            ledger.note_place(name, root)
        progress, others = Progress(), {each.name: each.root for each in site.destinations}
        imaging = Imaging(site.image, ledger, clock, policy, progress, ends, tell, together, others, log)
        try:
            yield House(
                ledger=ledger,
                clock=clock,
                destinations=destinations,
                origins=origins,
                roots=roots,
                sources=sources,
                stores={lane.store.name: lane.store for lane in lanes},
                inlets=[_inlet(each, sources[each.name], site, tables) for each in site.sources],
                lanes=lanes,
                policies={e.name: tables.policy(e.name, e.retire) for e in site.sources if e.retire},
                announcers={**journal, **tables.announcers},
                doctors=[*tables.doctors, *image_doctors(site, ledger)],
                config=site,
                notes={name: source.notes for name, source in sources.items()},
                progress=progress,
                imaging=imaging,
            )
        finally:
            imaging.wires.close()
            for source in sources.values():
                source.close()


def everybody(site: Site | None) -> tuple[Audience, ...]:
    """Who is to be told of what happens to files."""
    return () if site is None else (*rows.audiences(site), *image.audiences(site))


def _source(config: DirectoryConfig, ends: Ends, tree: AnyTree, archive: str, clock: Clock) -> DirectorySource:
    from skystow.adapters.directory import DirectoryOptions

    options = DirectoryOptions(
        follow=True,  # in a site somebody is always writing: even a single pass takes finished files only
        quiet_for=config.quiet_for,
        finished_on=config.finished_on,
        temporary=config.temporary,
        exclude=config.exclude,
        order=config.order,
        priority=config.priority,
    )
    return ends.source(config.name, tree, archive=archive, layout=config.layout, options=options, clock=clock)


def _inlet(config: DirectoryConfig | Rows, source: Source, site: Site, tables: rows.Tables) -> Inlet:
    destinations = tuple(
        Destination(name=each.name, upstream=each.upstream, required=each.required, owned=each.owned)
        for each in site.served(config)
    )
    if isinstance(config, Rows):
        return Inlet(source, destinations, config.poll, place=place(config), ailing=partial(tables.ailing, config.name))
    return Inlet(source, destinations, config.sweep_every, patience=config.quiet_for + PATIENCE)


# ── two directories ─────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def build_archive(source: str, dest: str, options: ArchiveOptions) -> Iterator[House]:
    """`skystow archive SOURCE DEST`. DEST is made where it is missing (its parents are not).
    Raises `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.options import StoreOptions

    refuse_places(source, dest)
    clock, name, ends = SystemClock(), source_name(source), Ends()
    origin, target = ends.tree(source, place=name), ends.tree(dest, place=ARCHIVE)
    remote = far(origin) or far(target)
    store_options = StoreOptions(bwlimit=options.bwlimit, algorithm=options.digest)
    policy = RetryPolicy(first=0.5, factor=2.0)
    with closing(ends):
        if remote:
            _import_meanwhile()
        prove_remote(origin, "SOURCE")
        prove_remote(target, "DEST", make=True)
        if not far(target):
            ledgers.make(dest)
        store = ends.store(ARCHIVE, target, {name: origin}, store_options, streams=options.streams)
        lane = Lane(Route(name, ARCHIVE), store, Rules(policy, options.digest), options.streams)
        with ledgers.open_at(options.ledger or ledgers.dest_ledger(dest), clock, policy) as ledger:
            roots = {name: end_name(source), ARCHIVE: end_name(dest)}
            for place, root in roots.items():
                ledger.note_place(place, root)
            inlet = _archive_source(name, ends, origin, options, clock)
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
                    lanes=[replace(lane, files=REMOTE_BATCH) if remote else lane],
                    notes={name: inlet.notes},
                )
            finally:
                inlet.close()


@contextmanager
def preview(source: str, dest: str, options: ArchiveOptions) -> Iterator[tuple[Source, Tree | None]]:
    """For `--dry-run`: the source, and what is at the destination (None: nothing). Writes nothing anywhere."""
    from skystow.adapters.clock import SystemClock

    refuse_places(source, dest)
    name, ends = source_name(source), Ends()
    origin, target = ends.tree(source, place=name), ends.tree(dest, place=ARCHIVE)
    with closing(ends):
        prove_remote(origin, "SOURCE")
        there = os.path.isdir(dest)
        if far(target):
            with suppress(ConfigError):
                prove_remote(target, "DEST")
                there = True
        inlet = _archive_source(name, ends, origin, options, SystemClock())
        try:
            yield inlet, target if there else None
        finally:
            inlet.close()


@dataclass(frozen=True, slots=True)
class Survey:
    """For `skystow check SOURCE DEST`; where DEST is not there yet, `at` is the directory that it will be made in."""

    source: Source
    origin: Tree
    store: Store
    at: str


@contextmanager
def survey(source: str, dest: str, options: ArchiveOptions) -> Iterator[Survey]:
    """What `archive` would work with; nothing is made. Raises `ConfigError`, `PlaceFault`s of DEST."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.options import StoreOptions

    refuse_places(source, dest)
    ends = Ends()
    with closing(ends):
        at = there_or_above(dest, ends.tree(dest, place="DEST"))
        origin, target = ends.tree(source, place="SOURCE"), ends.tree(at, place="DEST")
        store = ends.store("DEST", target, {"SOURCE": origin}, StoreOptions(algorithm=options.digest), streams=1)
        inlet = _archive_source("SOURCE", ends, origin, options, SystemClock())
        try:
            yield Survey(inlet, origin, store, at)
        finally:
            inlet.close()


def _archive_source(name: str, ends: Ends, tree: AnyTree, options: ArchiveOptions, clock: Clock) -> DirectorySource:
    from skystow.adapters.directory import DirectoryOptions

    looks = DirectoryOptions(follow=options.follow, exclude=options.exclude)
    layout = Layout("{relative_path}")
    return ends.source(name, tree, archive=ARCHIVE, layout=layout, options=looks, clock=clock)


def _import_meanwhile() -> None:
    """What is needed next and takes long to import, while we wait for the answer of another host."""
    threading.Thread(target=importlib.import_module, args=("skystow.adapters.ledger",), daemon=True).start()


def source_name(source: str) -> str:
    """The same directory always has the same name, however it is written."""
    return f"src-{hashlib.sha256(os.fsencode(end_name(source))).hexdigest()[:12]}"


# ── what exists already, for operators ──────────────────────────────────────────────────────────────────────────


@contextmanager
def open_house(place: str, ledger_url: str | None = None) -> Iterator[House]:
    """The ledger and the trees behind a site file, or behind a DEST of `skystow archive`; nothing is made.
    Raises `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.clock import SystemClock

    url = ledgers.existing_ledger(place, ledger_url)
    clock, site, ends = SystemClock(), None if ledgers.is_dest(place) else load(place), Ends()
    policy = site.retry.policy() if site else RetryPolicy(first=0.5, factor=2.0)
    with closing(ends), ledgers.open_at(url, clock, policy, everybody(site)) as ledger:
        roots = dict(ledger.places())
        if site is None:
            names = {count.route.destination for count in ledger.counts()} | {ARCHIVE}
            real = end_name(place)
            noted = (name for name in names if name in roots and end_name(roots[name]) == real)
            roots[next(noted, ARCHIVE)] = real  # an archive that was moved still is what it was
        else:
            names = {each.name for each in site.destinations}
            roots |= {each.name: site_root(each) for each in (*site.sources, *site.destinations)}
            if site.image is not None:
                roots |= image.roots(site.image)
                names |= {image.STAGING, image.BACKBONE, image.OODS}
        known = {each.name: site_tree(each, ends) for each in (*site.sources, *site.destinations)} if site else {}
        trees = {name: known.get(name) or ends.tree(root, place=name) for name, root in roots.items()}
        yield House(
            ledger=ledger,
            clock=clock,
            destinations={name: tree for name, tree in trees.items() if name in names},
            origins={name: tree for name, tree in trees.items() if name not in names},
            roots=roots,
            config=site,
        )
