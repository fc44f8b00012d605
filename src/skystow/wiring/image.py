"""The image door of a site file: its names, places and windows. `components` makes what runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skystow.config import Site, load
from skystow.config.image import ForwarderConfig, Image, SimulatedCamera
from skystow.errors import ConfigError
from skystow.model.transfer import Audience, Step
from skystow.ports.image import Camera, Catalogue
from skystow.ports.talk import Talks
from skystow.wiring import ledgers

if TYPE_CHECKING:
    from skystow.adapters.tree import LocalTree

FILES = "files"
"""The file archiver, as a component."""

STAGING, BACKBONE, OODS = "staging", "backbone", "oods"
STEPS = frozenset({Step.DELIVERED, Step.QUARANTINED})


# ── names and places ────────────────────────────────────────────────────────────────────────────────────────────


def component_names(site: Site) -> list[str]:
    names = [FILES] if site.sources else []
    if site.image is not None:
        names += ["archiver", "controller", *(each.name for each in site.image.forwarders)]
        names += [OODS] if site.image.oods else []
    return names


def control_directory(path: str, site: Site) -> str:
    """Where the control sockets of a site file are, on this host: the same for a service and for who logs in, whatever
    their environments say, so that they find each other, and that a site does not run twice."""
    if site.control is not None:
        return site.control
    mark = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]
    return f"/tmp/skystow-{os.geteuid()}-{mark}"  # noqa: S108 - refused where it is not this user's alone


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


@contextmanager
def open_catalogue(path: str) -> Iterator[Catalogue]:
    """For windows: the OODS's table of files."""
    from skystow.adapters.clock import SystemClock

    site = _imaging(load(path))
    url = ledgers.existing_ledger(path)
    with ledgers.open_at(url, SystemClock(), site.retry.policy(), audiences(site)) as ledger:
        yield ledger.catalogue


def _imaging(site: Site) -> Site:
    if site.image is None:
        raise ConfigError("this site has no image:", remedy="only an image archiver has exposures")
    return site


def locations(detectors: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The camera's, each with its detectors: `R22_S01` is at bay 22, board 0, as the DAQ counts them (`22/0`)."""
    found: dict[str, list[str]] = {}
    for each in detectors:
        found.setdefault(f"{each[1:3]}/{each[5]}", []).append(each)
    return {place: tuple(those) for place, those in found.items()}


def association(image: Image) -> str:
    """What the Archiver keeps alive on the scoreboard."""
    return f"{image.name.lower()}_association"


def make_camera(config: ForwarderConfig, image: Image) -> Camera:
    """Where a forwarder's pixels come from."""
    if isinstance(config.camera, SimulatedCamera):
        from skystow.simulate.comcam import ComCam

        return ComCam(image.camera, names=image.detectors, shape=(config.camera.width, config.camera.height))
    from skystow.adapters.camera import RawFrames

    return RawFrames(config.camera.root, name=image.camera, names=image.detectors)


def make_places(image: Image) -> None:
    """Directories of our own, where they are missing; those above them are not made. Raises `ConfigError`."""
    places = [*roots(image).values(), *(each.work for each in image.forwarders)]
    places += [image.oods.bad_files] if image.oods else []
    for place in sorted(places):
        ledgers.make(place)
