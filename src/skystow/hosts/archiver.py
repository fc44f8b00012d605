"""A site's Archiver, dressed as the site says: where it has `image.sal`, SAL commands it, besides `skystow control`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from skystow.hosts.csc import Csc
from skystow.hosts.obedience import Obedience
from skystow.hosts.voice import Voice
from skystow.model.acts import Effect, Say
from skystow.service.component import Component
from skystow.service.outside import Outside
from skystow.service.talk import Log
from skystow.wiring import House
from skystow.wiring.sal import dressed

ARCHIVER = "archiver"


class Tap(Protocol):
    """Our log: everybody in `listeners` is given the level and text of each line from the level on."""

    listeners: list[Callable[[int, str], None]]

    def set_level(self, level: int) -> None: ...


@contextmanager
def presented(house: House, components: Mapping[str, Component], tap: Tap) -> Iterator[None]:
    """While the block runs, who is to be commanded by SAL is. Raises `ConfigError`, before anything runs, where SAL
    cannot be spoken as the site says, or another Archiver of this name is alive there."""
    image = house.config.image if house.config is not None else None
    component = components.get(ARCHIVER)
    if image is None or image.sal is None or component is None or component.talk is None or house.imaging is None:
        yield
        return
    imaging, talk = house.imaging, component.talk

    def publish(says: Sequence[Say]) -> None:
        imaging.ledger.bus.publish(says)
        imaging.bells.ring()

    def note(text: str) -> None:
        log(image.name, f"SAL: {text}")

    log = talk.log
    with dressed(image, image.sal, publish, note) as dress:
        voice = Voice(dress.front, dress.greeting, dress.authority)
        outcomes = Outside(image.name, imaging.ledger.bus, dress.say)
        obedience = Obedience(dress.front, talk, voice, authorised=dress.authorised, set_level=tap.set_level)
        csc = Csc(talk, voice, obedience, outcomes, dress.leave)
        csc.open()
        dress.ears.begin()
        talk.log = _both(log, csc.heard)
        tap.listeners.append(voice.line)
        component.extras = (*component.extras, csc.run)
        try:
            yield
        finally:
            tap.listeners.remove(voice.line)
            talk.log = log


def _both(first: Log, second: Log) -> Log:
    def log(component: str, what: Effect | str) -> None:
        first(component, what)
        second(component, what)

    return log
