"""What `skystow check` looks at where a site has an image door: really tried out, as the user that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from skystow.config import Site
from skystow.config.image import Image, RawCamera
from skystow.errors import ConfigError, PlaceFault
from skystow.ports import Finding, Ledger
from skystow.wiring import sal
from skystow.wiring.image import BACKBONE, OODS, STAGING, component_names, control_directory, trees
from skystow.wiring.wires import reached

if TYPE_CHECKING:
    from skystow.adapters.tree import LocalTree

NAMED = 5
"""Files that are named; the others are counted."""


def image_doctors(site: Site, ledger: Ledger) -> list[Callable[[], Iterator[Finding]]]:
    """None where the site has no image door."""
    image = site.image
    if image is None:
        return []
    return [
        lambda: _places(image),
        lambda: _foreign(image, ledger),
        lambda: _imports(image),
        lambda: reached(image),
        lambda: sal.reached(image),
    ]


def control_finding(path: str, site: Site) -> Iterator[Finding]:
    """Whether components of the site file `path` can be commanded on this host."""
    from skystow.service.control import prepare, socket_path

    directory = control_directory(path, site)
    try:
        prepare(directory)
        for component in component_names(site):
            socket_path(directory, component)
    except ConfigError as fault:
        yield Finding("control", False, fault.message, fault.remedy)
    else:
        yield Finding("control", True, f"{directory} is ours alone")


def _places(image: Image) -> Iterator[Finding]:
    """Each place alone, then the links between them: all on one file system."""
    from skystow.adapters import probe
    from skystow.adapters.tree import LocalTree

    found = trees(image)
    staging = found[STAGING]
    for name, tree in found.items():
        room = image.staging.min_free if name == STAGING else 0.0
        yield from _of(name, probe.try_out(tree, None, room, _mode(image, name)))
    for name in (BACKBONE, OODS):
        if name in found:
            yield from _of(name, iter([probe.try_link(staging, found[name])]))
    for each in image.forwarders:
        if each.send == "link":
            yield from _of(STAGING, iter([probe.try_link(found[each.name], staging)]))
    if image.oods is not None:
        bad = LocalTree(image.oods.bad_files, place="bad files")
        yield from _of("bad files", probe.try_out(bad, None, 0.0, image.oods.directory_mode))
        yield from _of("bad files", iter([probe.try_link(found[OODS], bad)]))


def _mode(image: Image, name: str) -> int:
    sections = {STAGING: image.staging, BACKBONE: image.backbone, OODS: image.oods}
    section = sections.get(name)
    return section.directory_mode if section is not None else 0o755


def _of(place: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    for each in findings:
        yield Finding(f"{place}, {each.subject}", each.ok, each.text, each.remedy)


def _foreign(image: Image, ledger: Ledger) -> Iterator[Finding]:
    """Files of other users in staging: the Controller holds those that it cannot link."""
    from skystow.adapters.landing import Landing

    subject, tree = f"{STAGING}, owners", trees(image)[STAGING]
    landing = Landing(tree, ledger, inspect=lambda *_: None)
    try:
        held = list(landing.held())
    except PlaceFault as fault:
        yield Finding(subject, False, fault.message, fault.remedy)
        return
    if not held:
        yield Finding(subject, True, "every file there can be linked")
        return
    more = f", and {len(held) - NAMED} more" if len(held) > NAMED else ""
    said = "; ".join(fault.message for fault in held[:NAMED]) + more
    yield Finding(subject, False, said, held[0].remedy)


def _imports(image: Image) -> Iterator[Finding]:
    from skystow.adapters.shelf import load_hook

    for name in ("numpy", "yaml", "astropy.io.fits"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield Finding("FITS files", False, str(error), "pip install 'skystow[fits]'")
            break
    else:
        yield Finding("FITS files", True, "what makes and reads them is installed")
    if image.oods is not None and image.oods.hook is not None:
        try:
            load_hook(image.oods.hook)
        except ConfigError as fault:
            yield Finding("ingest hook", False, fault.message, fault.remedy)
        else:
            yield Finding("ingest hook", True, f"{image.oods.hook} can be called")
    for each in image.forwarders:
        if isinstance(each.camera, RawCamera):
            yield from _camera(each.name, each.camera.root)


def _camera(name: str, root: str) -> Iterator[Finding]:
    from skystow.adapters.tree import LocalTree

    try:
        tree: LocalTree = LocalTree(root, place=name)
        tree.directory(b"")
    except PlaceFault as fault:
        yield Finding(f"{name}, camera", False, fault.message, "mount it, or name another root: for the raw frames")
    else:
        yield Finding(f"{name}, camera", True, f"{tree} is a directory")
