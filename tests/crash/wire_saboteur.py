"""Stands between the components and what carries their messages, as `Saboteur` does between them and the disk.

publish NEW_CC_ARCHIVE_ITEM     `before`: it is in the outbox; `after`: the broker has confirmed it
ack NEW_CC_ARCHIVE_ITEM         `before`: what follows is committed; `after`: it is said on the connection
redis SETEX                     a command that changes something there; a script by its name: `redis POP`
commit accept outbox oods       what was confirmed is taken out of the outbox
commit lay_aside                a message that cannot be used is a dead letter
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from skystow.adapters.rabbitmq import speech
from skystow.adapters.rabbitmq.broker import RabbitBus
from skystow.adapters.rabbitmq.forms import FORMS
from skystow.adapters.rabbitmq.inbox import Inbox
from skystow.adapters.redis import board
from skystow.adapters.redis.link import Link
from skystow.model.messages import Message
from tests.crash.image_kit import NightSaboteur

SCRIPTS = {board.REGISTER: "REGISTER", board.POP: "POP"}
READS = {"EXISTS", "HMGET"}


def wire_name(message: Message | None) -> str:
    """Its MSG_TYPE; of what cannot be read, none."""
    return next((form.type.format("CC") for form in FORMS if form.message is type(message)), "?")


class WireSaboteur(NightSaboteur):
    """Knows the acts above, too."""

    def install(self) -> None:
        super().install()
        self._watch_publishing()
        self._watch_acknowledging()
        self._watch_redis()

    def _watch_publishing(self) -> None:
        speaking: Any = speech
        plain = speaking._send

        async def send(channel: Any, letter: speech.Letter) -> str:
            with self._acting("publish", wire_name(letter.say.message)):
                why: str = await plain(channel, letter)
            return why

        speaking._send = send

    def _watch_acknowledging(self) -> None:
        """One acknowledgement can be of several messages: it is an act of each sort that is among them."""
        inboxes, buses = Inbox, RabbitBus
        take, tell = inboxes.take, buses._tell
        sorts: dict[int, list[str]] = {}

        def taken(inbox: Inbox, numbers: Any) -> Any:
            with inbox._lock:
                waiting = [inbox._waiting[number].delivery for number in numbers if number in inbox._waiting]
            acks = take(inbox, numbers)
            sorts[id(acks)] = sorted({wire_name(each.message if each else None) for each in waiting})
            return acks

        async def told(bus: RabbitBus, acks: Any) -> None:
            with ExitStack() as acts:
                for sort in sorts.pop(id(acks)):
                    acts.enter_context(self._acting("ack", sort))
                await tell(bus, acks)

        vars_of: Any = inboxes
        vars_of.take = taken
        vars_of = buses
        vars_of._tell = told

    def _watch_redis(self) -> None:
        links: Any = Link
        plain = links.ask

        def ask(link: Link, *words: Any, key: str) -> Any:
            if words[0] in READS:
                return plain(link, *words, key=key)
            name = SCRIPTS[words[1]] if words[0] == "EVAL" else words[0]
            return self._act("redis", name, lambda: plain(link, *words, key=key))

        links.ask = ask
