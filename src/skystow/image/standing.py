"""What every component but the Archiver does with commands: it enables itself, and obeys at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from skystow.model.acts import Become, Effect, Reply
from skystow.model.lifecycle import Summary, Verb, obey
from skystow.model.messages import Message

STATE = "state"
"""The field of what is kept of a component that holds its state's name."""


class Standing:
    """A component that is ENABLED from the start (`initial_state: standby` or `last` say otherwise) and hears the bus
    only while it is: what is said to it meanwhile waits there. The base of a `Conversation`, and one by itself."""

    def __init__(self, name: str, *addresses: str, initial_state: str = "enabled") -> None:
        self.name, self.addresses, self.initial_state = name, addresses, initial_state
        self.state = Summary.STANDBY if initial_state == "standby" else Summary.ENABLED
        self._new = True

    def hears(self, address: str) -> bool:
        return address in self.addresses and self.state is Summary.ENABLED

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        return []

    def due(self, now: datetime) -> list[Effect]:
        return []

    def next_due(self) -> datetime | None:
        return None

    def command(self, verb: Verb, now: datetime) -> list[Effect]:
        """Raises `Refused` where it is unlawful."""
        self.state = obey(self.state, verb)
        return [Become(self.state), Reply()]

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        """Only the state, that of what was written down last; who talks replays its steps after this."""
        new, self._new = self._new, False
        if not new:
            self.state = Summary.__members__.get(kept.get(STATE, ""), self.state)
        elif self.initial_state == "last" and (last := kept.get(STATE)) in (
            Summary.DISABLED.name,
            Summary.STANDBY.name,
        ):
            self.state = Summary[last]
