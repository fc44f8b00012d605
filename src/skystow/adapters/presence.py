"""Hands on the scoreboard: who is there, who is free, and that we are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skystow.model.acts import Act, Beat, Look, PopForwarder, Register
from skystow.model.messages import Message
from skystow.model.reports import ForwarderFound, NoForwarder, Presence
from skystow.ports import Stop
from skystow.ports.talk import Scoreboard


@dataclass(frozen=True, slots=True)
class Presences:
    """Of one component. `name`, `address` and `presence_key` are a forwarder's, as `Register` puts them on the list."""

    board: Scoreboard
    name: str = ""
    address: str = ""
    presence_key: str = ""

    def __call__(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        match act:
            case PopForwarder():
                if (found := self.board.pop()) is None:
                    return [NoForwarder("no forwarder is on the scoreboard's list")]
                return [ForwarderFound(*found)]
            case Register():
                self.board.register(self.name, self.address, self.presence_key)
            case Beat(key, value, seconds) if seconds > 0:
                self.board.beat(key, value, seconds)
            case Beat(key):
                self.board.forget(key)
            case Look(key):
                return [Presence(key, self.board.alive(key))]
        return []
