"""The part of the composition root that makes the components of the image door, each with its hands and lanes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from skystow.config.image import Expiry, ForwarderConfig, Image
from skystow.engine import expire as expiry
from skystow.engine.deliver import Rules
from skystow.engine.retire import discard, release
from skystow.errors import BadName, ConfigError, FileFault, PlaceFault, Unreachable, Unreadable
from skystow.image.archiver import Archiver
from skystow.image.archiver import Settings as ArchiverSettings
from skystow.image.controller import Controller
from skystow.image.controller import Settings as ControllerSettings
from skystow.image.forwarder import Forwarder
from skystow.image.forwarder import Settings as ForwarderSettings
from skystow.image.oods import Oods
from skystow.image.oods import Settings as OodsSettings
from skystow.image.standing import Standing
from skystow.model import acts
from skystow.model.messages import Message, named_by
from skystow.model.records import Notice, shown
from skystow.model.reports import Dropped, HandedOff, HandoffFailed, IngestFailed, NotDropped, PassEnded
from skystow.model.transfer import Destination, RetryPolicy, Route, Step
from skystow.ports import Clock, Ledger, Passage, Stop, Store
from skystow.ports.image import Camera
from skystow.ports.talk import Conversation, Hand, outside
from skystow.service.halt import Bells
from skystow.service.hands import Joint, Skill
from skystow.service.pump import Lane
from skystow.service.talk import POLL, Log, Talk, nobody
from skystow.wiring.ends import Ends
from skystow.wiring.image import (
    BACKBONE,
    FILES,
    OODS,
    STAGING,
    association,
    locations,
    make_camera,
    make_places,
    roots,
    trees,
)
from skystow.wiring.wires import Job, Wires

if TYPE_CHECKING:
    from skystow.adapters.ledger import SqlLedger
    from skystow.adapters.shelf import Shelf
    from skystow.adapters.tree import LocalTree
    from skystow.service.status import Progress
    from skystow.service.view import View

ALGORITHM = "sha256"

TOGETHER = 2.0
"""Seconds between two looks at the bus where every component of the site is in this process: the bell rings."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one component of the image door adds to a `Component`."""

    talk: Talk
    lanes: Sequence[Lane] = ()
    jobs: Sequence[Job] = ()


@dataclass
class Imaging:
    """The image door of one site, opened: makes the parts of its components."""

    section: Image | None
    ledger: SqlLedger
    clock: Clock
    policy: RetryPolicy
    progress: Progress
    ends: Ends
    tell: Callable[[Message], None]
    together: bool
    others: Mapping[str, str] = field(default_factory=dict)
    """Roots of the file archiver's destinations; those on other hosts are no directory here."""
    log: Log = nobody
    cameras: Callable[[ForwarderConfig, Image], Camera] = make_camera
    """A demonstration gives its own, which it also exposes."""

    def __post_init__(self) -> None:
        self.bells = Bells()
        self.wires = Wires(self.section, self.ledger, self.clock, self.progress, self.bells.ring)
        if self.section is not None:
            make_places(self.section)
        self.trees = trees(self.section) if self.section else {}

    @property
    def image(self) -> Image:
        """Raises `ConfigError`."""
        if self.section is None:
            raise ConfigError("this site has no image:")
        return self.section

    def part(self, name: str) -> Part:
        """Of one component. Raises `ConfigError`."""
        match name:
            case "archiver":
                return self._archiver()
            case "controller":
                return self._controller()
            case "oods":
                return self._oods()
            case "files":
                return self._part(Standing(FILES), {}, {})
        for each in self.image.forwarders:
            if each.name == name:
                return self._forwarder(each)
        raise ConfigError(f"this site has no component {name}")

    def _part(
        self,
        conversation: Conversation,
        skills: Mapping[type, Skill | Joint],
        destinations: Mapping[str, tuple[Destination, ...]],
        lanes: Sequence[Lane] = (),
        view: View | None = None,
    ) -> Part:
        wire = self.wires.wire(conversation)
        talk = Talk(
            conversation,
            bus=wire.bus,
            talks=wire.talks,
            ledger=self.ledger,
            clock=self.clock,
            progress=self.progress,
            bells=self.bells,
            skills=skills,
            destinations=destinations,
            translate=_translated,
            tell=self.tell,
            keep=view.keep if view is not None else _unseen,
            said=wire.said,
            log=self.log,
            poll=TOGETHER if self.together else POLL,
        )
        return Part(talk, lanes, (*wire.jobs, *([view.run] if view is not None else [])))

    def _archiver(self) -> Part:
        from skystow.adapters.presence import Presences

        image, own = self.image, self.image.archiver
        login, _, host = str(image.host or "").rpartition("@")
        settings = ArchiverSettings(
            name=image.name,
            short_name=image.short_name,
            camera=image.camera,
            detectors=image.detectors,
            session_id=_session(self.clock),
            ack_timeout=own.ack_timeout,
            heartbeat=own.heartbeat,
            patience=own.patience,
            deadline=own.deadline,
            catch_up=own.catch_up,
            association_key=association(image),
            login=login,
            host=host,
            initial_state=own.initial_state,
            outside=outside(image.name) if image.sal else "",
        )
        board = Skill(Presences(self.wires.board()))
        skills = dict.fromkeys((acts.PopForwarder, acts.Register, acts.Beat, acts.Look), board)
        return self._part(Archiver(settings), skills, {}, view=self.wires.view(settings.session_id))

    def _controller(self) -> Part:
        from skystow.adapters.landing import Landing
        from skystow.adapters.manifest import Manifests

        image, own, staging = self.image, self.image.controller, self.trees[STAGING]
        # Real names: what is told must be what the other side's tree is known by.
        links = {name: os.fsdecode(self.trees[name].root) for name in roots(image) if name in (BACKBONE, OODS)}
        settings = ControllerSettings(
            links=links,
            camera=image.camera,
            archiver=image.name,
            oods=OODS if image.oods else None,
            detectors=image.detectors,
            sweep_every=timedelta(seconds=own.sweep_every),
            initial_state=own.initial_state,
        )
        landing = Landing(
            staging,
            self.ledger,
            inspect=_inspect,
            day_mode=image.staging.directory_mode,
            sweep_after=own.sweep_after,
        )
        manifests = Manifests([self.trees[name] for name in links])
        skills: dict[type, Skill | Joint] = {
            acts.MakeDay: Skill(landing.make_day),
            acts.Adopt: Joint(landing.adopt, threads=2, most=32),
            acts.DropStaged: Joint(partial(_release, self.ledger, STAGING, staging)),
            acts.SweepStaging: Skill(landing.sweep),
            acts.WriteManifest: Skill(manifests.write),
        }
        targets = (Destination(BACKBONE, owned=False), Destination(OODS))
        destinations = {STAGING: tuple(each for each in targets if each.name in links)}
        lanes = [self._link_lane(STAGING, each.name) for each in destinations[STAGING]]
        return self._part(Controller(settings), skills, destinations, lanes)

    def _link_lane(self, source: str, name: str) -> Lane:
        from skystow.adapters.hardlink import HardlinkStore
        from skystow.adapters.options import StoreOptions

        section = {STAGING: self.image.staging, BACKBONE: self.image.backbone, OODS: self.image.oods}[name]
        options = StoreOptions(directory_mode=section.directory_mode if section else 0o2775)
        store = HardlinkStore(name, self.trees[name], {source: self.trees[source]}, options)
        return self._lane(source, store)

    def _lane(self, source: str, store: Store, streams: int = 1) -> Lane:
        return Lane(Route(source, store.name), store, Rules(self.policy, ALGORITHM), streams)

    def _forwarder(self, config: ForwarderConfig) -> Part:
        from skystow.adapters.assembly import Assembler, LocalDropper
        from skystow.adapters.headers import FetchOptions, HeaderFetcher
        from skystow.adapters.presence import Presences
        from skystow.adapters.work import WorkDirectory

        image, tree, work = self.image, self.trees[config.name], WorkDirectory(config.work, place=config.name)
        settings = ForwarderSettings(
            target_root=os.fsdecode(self.trees[STAGING].root),
            target_host=str(image.host or ""),
            locations=locations(image.detectors),
            detectors=image.detectors,
            name=config.name,
            component=f"127.0.0.1:{socket.gethostname()}",
            association_key=association(image),
            ack_timeout=timedelta(seconds=config.ack_timeout),
            initial_state=config.initial_state,
            shared_presence=self.wires.shared_presence,
        )
        board = Skill(Presences(self.wires.board(), config.name, settings.address, settings.presence_key))
        fetcher = HeaderFetcher(work, FetchOptions(seconds=config.header_timeout, most_bytes=config.header_size))
        skills: dict[type, Skill | Joint] = {
            acts.Register: board,
            acts.Beat: board,
            acts.Look: board,
            acts.FetchHeader: Skill(fetcher, threads=2),
            acts.Assemble: Skill(Assembler(work, self.cameras(config, image)), threads=config.threads),
            acts.DropLocal: Joint(partial(_drop_local, self.ledger, tree, LocalDropper(work, config.name))),
        }
        destinations = {config.name: (Destination(STAGING, owned=False),)}
        lane = self._link_lane(config.name, STAGING) if config.send == "link" else self._copy_lane(config)
        return self._part(Forwarder(settings), skills, destinations, [lane])

    def _copy_lane(self, config: ForwarderConfig) -> Lane:
        """To another file system of this host, or to another host."""
        from skystow.adapters.options import StoreOptions

        staging, host = self.image.staging, config.host.remote() if config.host else None
        options = StoreOptions(
            directory_mode=staging.directory_mode, min_free=staging.min_free, algorithm=ALGORITHM, file_mode=0o444
        )
        tree = self.ends.tree(staging.root, place=STAGING, host=host) if host else self.trees[STAGING]
        streams = config.streams if host else 1
        store = self.ends.store(STAGING, tree, {config.name: self.trees[config.name]}, options, streams=streams)
        return self._lane(config.name, store, streams)

    def _oods(self) -> Part:
        from skystow.adapters.fits import read_frame
        from skystow.adapters.shelf import Shelf, load_hook
        from skystow.adapters.tree import LocalTree

        config, tree = self.image.oods, self.trees.get(OODS)
        if config is None or tree is None:
            raise ConfigError("this site has no oods")
        settings = OodsSettings(
            expire_every=timedelta(seconds=config.expire.every) if config.expire else None,
            initial_state=config.initial_state,
        )
        os.makedirs(config.bad_files, mode=0o755, exist_ok=True)
        bad = LocalTree(config.bad_files, place="bad files")
        shelf = Shelf(tree, bad, self.ledger.catalogue, self.ledger, read=read_frame, hook=load_hook(config.hook))
        skills: dict[type, Skill | Joint] = {acts.Ingest: Joint(partial(_ingest, shelf, self.ledger, tree), threads=2)}
        if config.expire:
            skills[acts.Expire] = Skill(partial(self._expire, config.expire, tree))
        return self._part(Oods(settings), skills, {})

    def _expire(self, config: Expiry, tree: LocalTree, act: acts.Act, *, stop: Stop) -> Sequence[Message]:
        def crowded() -> bool:
            found = os.statvfs(tree.root)
            return found.f_bavail < (config.keep_free or 0.0) * found.f_blocks

        def names(path: PurePosixPath) -> int:
            found = tree.look(path)
            return found.st_nlink if found else 0

        policy = expiry.Policy(config.older_than, config.requires)
        try:
            device = os.stat(tree.root).st_dev
            elsewhere = {
                name: not os.path.isdir(root) or os.stat(root).st_dev != device for name, root in self.others.items()
            }
            root = os.fsdecode(tree.root)
            shelf = expiry.Shelf(OODS, root, tree, names, crowded if config.keep_free else None, elsewhere)
            done = expiry.expire(shelf, self.ledger.catalogue, self.ledger, policy, stop=stop)
        except OSError as error:
            raise Unreachable(f"{tree}: {error.strerror}", place=OODS) from error
        if done.removed or done.stopped:
            said = f"expiry: {done.removed} removed, {done.freed} freed {done.bytes:,} bytes; {done.stopped}"
            self.log(OODS, said.removesuffix("; "))
        return [PassEnded()]


def _session(clock: Clock) -> str:
    return clock.now().astimezone(UTC).replace(tzinfo=None).isoformat(sep="_", timespec="microseconds")


def _release(ledger: Ledger, source: str, tree: Passage, drops: Sequence[acts.Act], *, stop: Stop) -> list[Message]:
    """The only crew that removes what files came by: the engine decides."""
    paths = {PurePosixPath(each.path): each for each in drops if isinstance(each, acts.DropStaged | acts.DropLocal)}
    try:
        gone = release(ledger, source, tree, *paths, stop=stop)
    except FileFault as fault:
        raise PlaceFault(str(fault), place=source) from fault  # it may go later: again, and seen until then
    left = [each for path, each in paths.items() if path not in gone and isinstance(each, acts.DropStaged)]
    dropped = [Dropped(paths[path].obsid, paths[path].path) for path in gone]
    return [*dropped, *(NotDropped(each.obsid, each.path) for each in left)]


def _drop_local(
    ledger: Ledger, tree: LocalTree, dropper: Hand, drops: Sequence[acts.Act], *, stop: Stop
) -> Sequence[Message]:
    """A finished file goes as everything does that came by somewhere; a header, which was not admitted, by its hand."""
    files = [each for each in drops if isinstance(each, acts.DropLocal) and each.digest]
    reports = _release(ledger, tree.place, tree, files, stop=stop)
    gone = {each.path for each in reports if isinstance(each, Dropped)}
    for each in drops:
        if isinstance(each, acts.DropLocal) and each.path not in gone:
            reports += dropper(each, stop=stop)
    return reports


def _inspect(fd: int, obsid: str, detector: str) -> None:
    from skystow.adapters.fits import read_frame

    said = read_frame(fd)
    if (said.obsid, said.detector) != (obsid, detector):
        raise Unreadable(f"its headers say {shown(said.obsid)} {shown(said.detector)}, its name {obsid} {detector}")


def _ingest(
    shelf: Shelf, ledger: Ledger, tree: LocalTree, asked: Sequence[acts.Ingest], *, stop: Stop
) -> Sequence[Message]:
    """A bad file that was put aside goes from where readers look, by the engine's hand."""
    reports = shelf.ingest_all(asked, stop=stop)
    return [
        _removed(ledger, tree, each) if isinstance(each, IngestFailed) and each.moved_to else each for each in reports
    ]


def _removed(ledger: Ledger, tree: LocalTree, bad: IngestFailed) -> IngestFailed:
    try:
        discard(ledger, OODS, tree, PurePosixPath(bad.filename).relative_to(os.fsdecode(tree.root)), bad.reason)
    except FileFault as fault:
        return replace(bad, reason=f"{bad.reason}; it still stands in the OODS: {fault}")
    return bad


def _unseen(kept: Mapping[str, str]) -> None:
    """Nobody looks."""


def _translated(notice: Notice) -> Message | None:
    """What became of a file, for the conversation whose it is."""
    path, destination = str(notice.path), str(notice.body["destination"])
    try:
        obsid, _, _ = named_by(notice.path.name)
    except BadName:
        return None
    if notice.kind == Step.DELIVERED:
        digest, size = str(notice.body["digest"]), int(notice.body["size"] or 0)
        return HandedOff(obsid, path, destination, digest, size)
    return HandoffFailed(obsid, path, destination, str(notice.body["text"]))
