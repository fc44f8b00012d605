"""The composition of what speaks SAL: the Archiver's front and ears; the other side, for people and rehearsals."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skystow import __version__
from skystow.config import load
from skystow.config.image import Image
from skystow.config.wire import Sal
from skystow.errors import ConfigError
from skystow.model.acts import Say
from skystow.model.authority import Authority
from skystow.model.messages import ImageInOODS, ImageRetrieval, Message
from skystow.ports import Finding
from skystow.ports.sal import Front, Remote
from skystow.wiring.wires import needed

if TYPE_CHECKING:
    from skystow.adapters.sal.definitions import Definitions
    from skystow.adapters.sal.ears import Ears
    from skystow.adapters.sal.environment import Environment
    from skystow.adapters.sal.instrument import Instrument
    from skystow.adapters.sal.node import Node
    from skystow.adapters.sal.topic import Topic

EVENTS = "archiver/events"
SAL = "SAL"
EARS = (("startIntegration", "endReadout"), ("largeFileObjectAvailable",))
"""Events that the Archiver hears, of the camera and of the Header Service."""

LOOK = 3.0
"""Seconds in which `check` looks who is there."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Dressed:
    """What the host of a component needs. `ears`: hear at once, and write down what they hear from `begin` on; `say`
    publishes an outcome; `greeting`: events that are said at first; `leave`: ends all of it, once."""

    front: Front
    ears: Ears
    leave: Callable[[], None]
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
    from skystow.adapters.sal.sense import told

    with ExitStack() as leaving:
        leaving.callback(node.close)
        own = _definitions(image.name, config)
        front = SalFront(node, own, service=config.durability_service)
        camera, headers = (_definitions(each, config) for each in _sources(image, config))
        ears = Ears(node, camera, headers, publish, EVENTS, first=config.image_index)
        for note in environment.notes:
            log(note)

        def say(message: Message) -> Future[None]:
            if not isinstance(message, ImageRetrieval | ImageInOODS):
                raise TypeError(f"{type(message).__name__} is no outcome")  # nobody says anything else to the outside
            event, values = told(message, camera=image.camera, archiver=image.name)
            return front.say(event, **values)

        ears.open()
        mine = frozenset({image.name, _person()})
        leaving.callback(ears.close)  # the last: nothing comes any more that would have to be written down
        leaving.callback(front.close)
        yield Dressed(front, ears, leaving.close, say, _greeting(own), Authority(mine), environment.authorised)


@dataclass(frozen=True, slots=True)
class Speech:
    """How somebody at a terminal speaks SAL: as the site file `site` says, with the topic definitions in the directory
    `definitions` (before what the site says of them)."""

    site: str | None = None
    definitions: str | None = None

    def config(self) -> Sal:
        """Raises `ConfigError`."""
        image = load(self.site).image if self.site is not None else None
        said = image.sal if image is not None else None
        if self.site is not None and said is None:
            raise ConfigError("this site does not speak SAL", remedy="image.sal in a site file says how")
        config = said or Sal(kind="dds")
        if self.definitions is None:
            return config
        return config.model_copy(update={"definitions": os.path.abspath(self.definitions)})


@contextmanager
def remote(name: str, speech: Speech, log: Log) -> Iterator[Remote]:
    """The other side of the component `name`. Raises `ConfigError`."""
    config = speech.config()
    _, node = _joined(config, identity=_person(), log=log)
    from skystow.adapters.sal.remote import SalRemote

    try:
        yield SalRemote(node, _definitions(name, config))
    finally:
        node.close()


@contextmanager
def instrument(image: Image, log: Log) -> Iterator[Instrument]:
    """A camera and a Header Service that speak SAL as the site's Archiver hears it. Raises `ConfigError`."""
    if (config := image.sal) is None:
        raise ConfigError("this site does not speak SAL", remedy="image.sal in a site file says how")
    camera, headers = _sources(image, config)
    with ExitStack() as stack:
        ends = []
        for name in (camera, headers):
            _, node = _joined(config, identity=name, log=log)
            stack.callback(node.close)
            ends.append((node, _definitions(name, config)))
        from skystow.adapters.sal.instrument import Instrument

        yield Instrument(ends[0], ends[1], _definitions(image.name, config), first=config.image_index)


def reached(image: Image) -> Iterator[Finding]:
    """Whether SAL can be spoken as the site says, and who of those whose events the Archiver hears is there."""
    if (config := image.sal) is None:
        return
    differences: list[str] = []
    try:
        environment, node = _joined(config, identity=_person(), log=differences.append)
    except ConfigError as fault:
        yield Finding(SAL, False, fault.message, fault.remedy)
        return
    try:
        own = _definitions(image.name, config)
        topics = {name: _events(name, config, which) for name, which in zip(_sources(image, config), EARS, strict=True)}
        for those in topics.values():
            for topic in those:
                node.reader(topic, _unheard)
        due = time.monotonic() + LOOK
        while not all(node.writers_of(each) for those in topics.values() for each in those) and time.monotonic() < due:
            time.sleep(0.05)
        where = f"partition {environment.partition(image.name, commands=False)} of domain {environment.domain}"
        yield Finding(SAL, True, f"{image.name} in {where}, its topics by {own.where}")
        for name, those in topics.items():
            there = all(node.writers_of(each) for each in those)
            yield Finding(name, True, "its events are heard" if there else f"it was not there within {LOOK:g} s")
    except ConfigError as fault:
        yield Finding(SAL, False, fault.message, fault.remedy)
    finally:
        node.close()
    for each in differences:
        yield Finding(SAL, False, each, "speak the same SAL interface definitions, and see image.sal in the site file")


def _events(name: str, config: Sal, events: Sequence[str]) -> list[Topic]:
    found = _definitions(name, config)
    return [found.topic(f"logevent_{each}") for each in events]


def _unheard(_: object) -> None:
    """We only look who is there."""


def _sources(image: Image, config: Sal) -> tuple[str, str]:
    """The SAL names of camera and Header Service."""
    short = image.short_name
    return config.camera or f"{short}Camera", config.header_service or f"{short}HeaderService"


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


def _person() -> str:
    """`user@host`, as SAL identifies who is no component."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container users have no names
        user = f"uid{os.geteuid()}"
    return f"{user}@{socket.gethostname()}"


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
