"""The part of the composition root that knows the image door: from `image:` in the site file to its components."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from skystow.config import Site, load
from skystow.config.image import ForwarderConfig, Image, SimulatedCamera
from skystow.engine.deliver import Rules
from skystow.engine.retire import release
from skystow.errors import ConfigError
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
from skystow.model.messages import Message
from skystow.model.records import Notice
from skystow.model.reports import Dropped, HandedOff, HandoffFailed
from skystow.model.transfer import Audience, Destination, RetryPolicy, Route, Step
from skystow.ports import Clock, Ledger, Stop, Store, Tree
from skystow.ports.image import Camera
from skystow.ports.talk import Conversation, Talks
from skystow.service.pump import Lane
from skystow.service.talk import POLL, Bells, Skill, Talk
from skystow.wiring import ledgers

if TYPE_CHECKING:
    from skystow.adapters.ledger import SqlLedger
    from skystow.adapters.tree import LocalTree
    from skystow.service.status import Progress

FILES = "files"
"""The file archiver, as a component."""

STAGING, BACKBONE, OODS = "staging", "backbone", "oods"
ALGORITHM = "sha256"

TOGETHER = 2.0
"""Seconds between two looks at the bus where every component of the site is in this process: the bell rings."""

STEPS = frozenset({Step.DELIVERED, Step.QUARANTINED})


@dataclass(frozen=True, slots=True)
class Part:
    """What one component of the image door adds to a `Component`."""

    talk: Talk
    lanes: Sequence[Lane] = ()


# ── names and places ────────────────────────────────────────────────────────────────────────────────────────────


def component_names(site: Site) -> list[str]:
    names = [FILES] if site.sources else []
    if site.image is not None:
        names += ["archiver", "controller", *(each.name for each in site.image.forwarders)]
        names += [OODS] if site.image.oods else []
    return names


def control_directory(path: str, site: Site) -> str:
    """Where the control sockets of a site file are, on this host."""
    if site.control is not None:
        return site.control
    mark = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]
    run = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(run, "skystow", mark) if run else f"{tempfile.gettempdir()}/skystow-{os.geteuid()}-{mark}"


def audiences(site: Site) -> tuple[Audience, ...]:
    """Conversations that must hear what became of their files."""
    if site.image is None:
        return ()
    forwarders = (Audience(each.name, STEPS, each.name) for each in site.image.forwarders)
    return (Audience("controller", STEPS, STAGING), *forwarders)


def roots(image: Image) -> dict[str, str]:
    """Every place of the image door, as the ledger remembers it."""
    found = {STAGING: image.staging.root}
    found |= {BACKBONE: image.backbone.root} if image.backbone else {}
    found |= {OODS: image.oods.root} if image.oods else {}
    return found | {each.name: finished(each) for each in image.forwarders}


def finished(forwarder: ForwarderConfig) -> str:
    """Where a forwarder has its finished files, until the Controller has them."""
    return os.path.join(forwarder.work, "fits")


def trees(image: Image) -> dict[str, LocalTree]:
    from skystow.adapters.tree import LocalTree

    return {name: LocalTree(root, place=name) for name, root in roots(image).items()}


@contextmanager
def open_talks(path: str) -> Iterator[Talks]:
    """For windows: what conversations have written down. Raises `ConfigError` and other `OperatorFault`s."""
    from skystow.adapters.clock import SystemClock

    site = _imaging(load(path))
    url = ledgers.existing_ledger(path)
    with ledgers.open_at(url, SystemClock(), site.retry.policy(), audiences(site)) as ledger:
        yield ledger.talks


def _imaging(site: Site) -> Site:
    if site.image is None:
        raise ConfigError("this site has no image:", remedy="only an image archiver has exposures")
    return site


# ── the components ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Imaging:
    """The image door of one site, opened: makes the parts of its components."""

    section: Image | None
    ledger: SqlLedger
    clock: Clock
    policy: RetryPolicy
    progress: Progress
    tell: Callable[[Message], None]
    together: bool

    def __post_init__(self) -> None:
        self.bells = Bells()
        self.trees = trees(self.section) if self.section else {}
        for forwarder in self.section.forwarders if self.section else ():
            for below in ("fits", "header"):
                os.makedirs(os.path.join(forwarder.work, below), mode=0o750, exist_ok=True)

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
                return Part(self._talk(Standing(FILES), {}, {}))
        for each in self.image.forwarders:
            if each.name == name:
                return self._forwarder(each)
        raise ConfigError(f"this site has no component {name}")

    def _talk(
        self,
        conversation: Conversation,
        skills: Mapping[type, Skill],
        destinations: Mapping[str, tuple[Destination, ...]],
        filename: Callable[[Notice], str] = lambda _: "",
    ) -> Talk:
        return Talk(
            conversation,
            bus=self.ledger.bus,
            talks=self.ledger.talks,
            ledger=self.ledger,
            clock=self.clock,
            progress=self.progress,
            bells=self.bells,
            skills=skills,
            destinations=destinations,
            translate=partial(_translated, filename),
            tell=self.tell,
            poll=TOGETHER if self.together else POLL,
        )

    def _archiver(self) -> Part:
        from skystow.adapters.presence import Presences

        image, own = self.image, self.image.archiver
        settings = ArchiverSettings(
            name=image.name,
            short_name=image.short_name,
            camera=image.camera,
            detectors=image.detectors,
            session_id=_session(self.clock),
            ack_timeout=timedelta(seconds=own.ack_timeout),
            heartbeat=timedelta(seconds=own.heartbeat),
            patience=timedelta(seconds=own.patience),
            deadline=timedelta(seconds=own.deadline),
            catch_up=own.catch_up,
            association_key=_association(image),
            initial_state=own.initial_state,
        )
        hand = Skill(Presences(self.ledger.board))
        skills: dict[type, Skill] = dict.fromkeys((acts.PopForwarder, acts.Register, acts.Beat, acts.Look), hand)
        return Part(self._talk(Archiver(settings), skills, {}))

    def _controller(self) -> Part:
        from skystow.adapters import fits
        from skystow.adapters.landing import Landing, Manifests

        image, own, staging = self.image, self.image.controller, self.trees[STAGING]
        links = {name: root for name, root in roots(image).items() if name in (BACKBONE, OODS)}
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
            inspect=fits.inspect,
            day_mode=image.staging.directory_mode,
            sweep_after=own.sweep_after,
        )
        manifests = Manifests([self.trees[name] for name in links])
        skills: dict[type, Skill] = {
            acts.MakeDay: Skill(landing.make_day),
            acts.Adopt: Skill(landing.adopt, threads=2),
            acts.DropStaged: Skill(partial(_release, self.ledger, STAGING, staging)),
            acts.SweepStaging: Skill(landing.sweep),
            acts.WriteManifest: Skill(manifests.write),
        }
        targets = (Destination(BACKBONE, owned=False), Destination(OODS))
        destinations = {STAGING: tuple(each for each in targets if each.name in links)}
        lanes = [self._link_lane(STAGING, each.name) for each in destinations[STAGING]]
        return Part(self._talk(Controller(settings), skills, destinations), lanes)

    def _link_lane(self, source: str, name: str) -> Lane:
        from skystow.adapters.hardlink import HardlinkStore
        from skystow.adapters.options import StoreOptions

        section = {STAGING: self.image.staging, BACKBONE: self.image.backbone, OODS: self.image.oods}[name]
        options = StoreOptions(directory_mode=section.directory_mode if section else 0o2775)
        store = HardlinkStore(name, self.trees[name], {source: self.trees[source]}, options)
        return self._lane(source, store)

    def _lane(self, source: str, store: Store) -> Lane:
        return Lane(Route(source, store.name), store, Rules(self.policy, ALGORITHM), streams=1)

    def _forwarder(self, config: ForwarderConfig) -> Part:
        from skystow.adapters.fits import Assembler
        from skystow.adapters.headers import Headers
        from skystow.adapters.presence import Presences

        image, tree = self.image, self.trees[config.name]
        settings = ForwarderSettings(
            target_root=image.staging.root,
            locations=locations(image.detectors),
            detectors=image.detectors,
            name=config.name,
            component=f"127.0.0.1:{socket.gethostname()}",
            association_key=_association(image),
            ack_timeout=timedelta(seconds=config.ack_timeout),
            initial_state=config.initial_state,
        )
        camera = _camera(config, image)
        board = Skill(Presences(self.ledger.board, config.name, settings.address, settings.presence_key))
        headers = Headers(
            os.path.join(config.work, "header"), timeout=config.header_timeout, max_size=config.header_size
        )
        assembler = Assembler(camera, finished(config))
        skills: dict[type, Skill] = {
            acts.Register: board,
            acts.Beat: board,
            acts.Look: board,
            acts.FetchHeader: Skill(headers.fetch, threads=2),
            acts.Assemble: Skill(assembler.assemble, threads=config.threads),
            acts.DropLocal: Skill(partial(_release, self.ledger, config.name, tree)),
        }
        destinations = {config.name: (Destination(STAGING, owned=False),)}
        lane = self._link_lane(config.name, STAGING) if config.send == "link" else self._copy_lane(config.name)
        return Part(self._talk(Forwarder(settings), skills, destinations), [lane])

    def _copy_lane(self, source: str) -> Lane:
        from skystow.adapters.options import StoreOptions
        from skystow.adapters.posix import PosixStore

        staging = self.image.staging
        options = StoreOptions(
            directory_mode=staging.directory_mode, min_free=staging.min_free, algorithm=ALGORITHM, file_mode=0o444
        )
        return self._lane(source, PosixStore(STAGING, self.trees[STAGING], {source: self.trees[source]}, options))

    def _oods(self) -> Part:
        from skystow.adapters.shelf import Shelf

        config = self.image.oods
        if config is None:
            raise ConfigError("this site has no oods")
        expire = config.expire
        settings = OodsSettings(
            expire_every=timedelta(seconds=expire.every) if expire else None, initial_state=config.initial_state
        )
        shelf = Shelf(self.trees[OODS], config.bad_files, self.ledger.catalogue, hook=config.hook)
        skills: dict[type, Skill] = {acts.Ingest: Skill(shelf.ingest, threads=2)}
        return Part(self._talk(Oods(settings), skills, {}))


def locations(detectors: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The camera's, each with its detectors: `R22_S01` is at bay 22, board 0, as the DAQ counts them (`22/0`)."""
    found: dict[str, list[str]] = {}
    for each in detectors:
        found.setdefault(f"{each[1:3]}/{each[5]}", []).append(each)
    return {place: tuple(those) for place, those in found.items()}


def _camera(config: ForwarderConfig, image: Image) -> Camera:
    if isinstance(config.camera, SimulatedCamera):
        from skystow.simulate.comcam import SimulatedComCam

        return SimulatedComCam(image.detectors, width=config.camera.width, height=config.camera.height)
    from skystow.adapters.camera import RawFrames

    return RawFrames(config.camera.root, image.detectors)


def _association(image: Image) -> str:
    return f"{image.name.lower()}_association"


def _session(clock: Clock) -> str:
    return clock.now().astimezone(UTC).replace(tzinfo=None).isoformat(sep="_", timespec="microseconds")


def _release(
    ledger: Ledger,
    source: str,
    tree: Tree,
    act: acts.Act,
    *,
    stop: Stop,  # noqa: ARG001 - the port's
) -> Sequence[Message]:
    """The only hand that removes what a file came by: the engine decides."""
    assert isinstance(act, acts.DropStaged | acts.DropLocal)  # noqa: S101
    if release(ledger, source, tree, PurePosixPath(act.path)):
        return [Dropped(act.obsid, act.path)]
    return []


def _translated(filename: Callable[[Notice], str], notice: Notice) -> Message | None:
    """What became of a file, for the conversation whose it is."""
    obsid = PurePosixPath(notice.path).name.rpartition("-")[0]
    path, destination = str(notice.path), str(notice.body["destination"])
    if not obsid:
        return None
    if notice.kind == Step.DELIVERED:
        digest, size = str(notice.body["digest"]), int(notice.body["size"] or 0)
        return HandedOff(obsid, path, destination, digest, size, filename(notice))
    return HandoffFailed(obsid, path, destination, str(notice.body["text"]))
