"""The composition of what speaks SAL: the Archiver's front and its ears, and the other side, for people and rehearsals."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skystow import __version__
from skystow.config import load
from skystow.config.image import Image
from skystow.config.wire import Sal
from skystow.errors import ConfigError
from skystow.model.acts import Say
from skystow.model.authority import Authority
from skystow.model.messages import Message
from skystow.ports.sal import Front
from skystow.wiring.wires import needed

if TYPE_CHECKING:
    from skystow.adapters.sal.definitions import Definitions
    from skystow.adapters.sal.environment import Environment
    from skystow.adapters.sal.node import Node
    from skystow.adapters.sal.remote import Remote

EVENTS = "archiver/events"

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Dressed:
    """What the host of a component needs. `say` publishes an outcome; `greeting`: events that are said at first."""

    front: Front
    say: Callable[[Message], Future[None]]
    greeting: Mapping[str, Mapping[str, object]]
    authority: Authority
    authorised: bool


@contextmanager
def dressed(image: Image, config: Sal, publish: Callable[[Sequence[Say]], None], log: Log) -> Iterator[Dressed]:
    """The front of a site's Archiver, not yet open, and its ears, which listen while the block runs.
    Raises `ConfigError`."""
    environment, node = _joined(config, identity=image.name, log=log)
    from skystow.adapters.sal.ears import Ears
    from skystow.adapters.sal.front import SalFront
    from skystow.adapters.sal.sense import outcome

    try:
        own = _definitions(image.name, config)
        front = SalFront(node, own, service=config.durability_service)
        camera = _definitions(config.camera or f"{image.short_name}Camera", config)
        headers = _definitions(config.header_service or f"{image.short_name}HeaderService", config)
        ears = Ears(node, camera, headers, publish, EVENTS, first=config.image_index)
        for note in environment.notes:
            log(note)

        def say(message: Message) -> Future[None]:
            event, values = outcome(message, camera=image.camera, archiver=image.name)
            return front.say(event, **values)

        ears.open()
        try:
            mine = frozenset({image.name, _person()})
            yield Dressed(front, say, _greeting(own), Authority(mine), environment.authorised)
        finally:
            ears.close()
    finally:
        node.close()


@contextmanager
def remote(name: str, site: str | None, definitions: str | None, log: Log) -> Iterator[tuple[Remote, Node, Definitions]]:
    """The other side of the component `name`. `site`: a site file that says how SAL is spoken; `definitions`: a
    directory, before what the site says. Raises `ConfigError`."""
    config = _said(site) if site is not None else Sal(kind="dds")
    if definitions is not None:
        config = config.model_copy(update={"definitions": os.path.abspath(definitions)})
    _, node = _joined(config, identity=_person(), log=log)
    from skystow.adapters.sal.remote import Remote

    try:
        found = _definitions(name, config)
        yield Remote(node, found), node, found
    finally:
        node.close()


def _joined(config: Sal, *, identity: str, log: Log) -> tuple[Environment, Node]:
    with needed("sal", "SAL"):
        from skystow.adapters.sal.node import Node
    from skystow.adapters.sal.environment import Environment
    from skystow.adapters.sal.quality import Quality

    environment = Environment.of(os.environ)
    quality = Quality(config.durability == "transient", config.ack_ownership == "shared", environment.blocking)
    return environment, Node(environment, quality, identity=identity, log=log)


def _definitions(component: str, config: Sal) -> Definitions:
    from skystow.adapters.sal.definitions import load as read

    return read(component, config.definitions)


def _said(site: str) -> Sal:
    image = load(site).image
    if image is None or image.sal is None:
        raise ConfigError("this site does not speak SAL", remedy="image.sal in a site file says how")
    return image.sal


def _person() -> str:
    """`user@host`, as SAL identifies who is no component."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _greeting(own: Definitions) -> dict[str, dict[str, object]]:
    """How a component introduces itself; `SalFront.say` leaves out what its definitions do not have."""
    from importlib.metadata import version

    return {
        "softwareVersions": {
            "salVersion": own.sal_version,
            "xmlVersion": own.xml_version,
            "openSpliceVersion": f"cyclonedds {version('cyclonedds')}",
            "cscVersion": __version__,
            "subsystemVersions": "",
        },
        "simulationMode": {"mode": 0},
        "settingVersions": {
            "recommendedSettingsVersion": __version__,
            "recommendedSettingsLabels": "",
            "settingsUrl": "",
        },
        "settingsApplied": {"settingsVersion": __version__, "otherSettingsEvents": ""},
        "appliedSettingsMatchStart": {"appliedSettingsMatchStartIsTrue": True},
        "configurationsAvailable": {"overrides": "", "version": __version__, "url": "", "schemaVersion": ""},
        "configurationApplied": {
            "configurations": "",
            "version": __version__,
            "url": "",
            "schemaVersion": "",
            "otherInfo": "",
        },
    }
