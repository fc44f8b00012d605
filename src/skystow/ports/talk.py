"""The doors of a conversation: the bus that carries messages, the ledger's part that remembers them, the scoreboard.

All calls block, may be called from any thread, and raise `PlaceFault` while the other side is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from skystow.errors import PlaceFault
from skystow.model.acts import Bury, Effect, Mark, Milestone, Note, Say
from skystow.model.lifecycle import Verb
from skystow.model.messages import Message
from skystow.ports import Stop


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that the bus gives us; it comes again until it is accepted. `id` is the bus's own: the ledger's are
    positive, a broker's negative. `to`: whom it is for."""

    id: int
    message: Message
    to: str = ""


def outbox(component: str) -> str:
    """Where what a component says lies, until a broker has it. Nobody is spoken to there."""
    return f"outbox/{component}"


OUTSIDE = "outside/"
"""What no broker carries: it is for the host of the component, which publishes it."""


def outside(component: str) -> str:
    """Where what a component says to the outside lies, until its host has published it."""
    return f"{OUTSIDE}{component}"


class Bus(Protocol):
    """Messages in, messages out, by address. At least once, in the order in which one sender said them."""

    @property
    def away(self) -> PlaceFault | None:
        """Why nothing comes or goes at present, though nothing is lost (None: it does). What the ledger itself
        carries is never away so: its calls raise."""
        ...

    def publish(self, says: Sequence[Say]) -> None:
        """Returns when the bus has them, durably. What has no address there is set aside by the bus, and named."""

    def receive(self, address: str, *, limit: int) -> Sequence[Delivery]:
        """What waits for `address`, oldest first, at most `limit`; empty at once where nothing does. What cannot be
        read as a message of ours is buried by the bus, named, and never given out."""
        ...

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """They are ours now: never given again."""


@dataclass(frozen=True, slots=True)
class Line:
    """One milestone, as it is kept. `detector` "" is the whole exposure."""

    obsid: str
    what: Milestone
    detector: str
    at: datetime
    number: int
    text: str


class Talks(Protocol):
    """The ledger's part for conversations."""

    def converse(
        self,
        component: str,
        *,
        notes: Sequence[Note] = (),
        says: Sequence[Say] = (),
        marks: Sequence[Mark] = (),
        buries: Sequence[Bury] = (),
        keep: Mapping[str, str] | None = None,
    ) -> None:
        """ONE TRANSACTION: steps, messages to send, milestones, dead letters, facts to `keep`. Milestones of a
        kind and detector that are known already are left as they are (the first counts), but FAULT, which is kept as
        often as it differs."""

    def steps(self, component: str) -> Sequence[tuple[datetime, Message]]:
        """Every step of the conversations of `component` that are not closed, oldest first."""
        ...

    def keep(self, component: str, values: Mapping[str, str]) -> None:
        """Small facts that outlive the process: state, session, jobnum, paired_forwarder."""

    def kept(self, component: str) -> Mapping[str, str]: ...

    def lines(self, *, day_obs: int | None = None, obsid: str | None = None) -> Sequence[Line]:
        """Milestones of one observing day (YYYYMMDD), or of one exposure, by exposure and time. The day is that of
        the exposure's name, else that of its first milestone, UTC − 12 h."""
        ...

    def days(self) -> Sequence[int]:
        """Observing days that have exposures, newest first."""
        ...


class Listed(NamedTuple):
    """A forwarder on the list. `host`: its `ip:hostname`, where the list says it."""

    name: str
    address: str
    presence_key: str
    host: str = ""


class Scoreboard(Protocol):
    """Who is there, as hints that expire: nothing on it is ever the only record of anything."""

    def register(self, name: str, address: str, presence_key: str) -> None:
        """Be on the list of forwarders, once, however often it is said; who is on it already keeps his turn."""

    def pop(self) -> Listed | None:
        """Take one from the list, the longest waiting first. What is no forwarder is set aside, and named."""

    def beat(self, key: str, value: str, seconds: float) -> None:
        """`key` is alive for `seconds` from now."""

    def alive(self, key: str) -> bool: ...

    def forget(self, key: str) -> None:
        """Not alive any more, at once."""


class Panel(Protocol):
    """What others may read of a component: a copy of what the ledger keeps, shown anew whenever it is not there."""

    def show(self, facts: Mapping[str, str]) -> None:
        """`facts`: state, session, jobnum, paired_forwarder, forwarders, as they are kept."""
        ...

    def shows(self, facts: Mapping[str, str]) -> bool:
        """Whether just these are there."""
        ...


class Conversation(Protocol):
    """One component's talk: without I/O, clocks, threads or chance. Rebuilt by hearing its steps again.

    The same message may come twice, late, or never: whatever changes nothing gives no `Note`.
    """

    @property
    def name(self) -> str:
        """The component's; steps are kept under it, and it is its audience for notices."""
        ...

    @property
    def addresses(self) -> Sequence[str]:
        """Where it is spoken to; heard in this order."""
        ...

    def hears(self, address: str) -> bool:
        """Whether messages for this address are taken from the bus in the present state."""
        ...

    def hear(self, message: Message, now: datetime) -> list[Effect]: ...

    def due(self, now: datetime) -> list[Effect]:
        """What time alone brings: repeats, deadlines, beats, and acts that are owed and not under way."""
        ...

    def next_due(self) -> datetime | None:
        """When `due` has something again; None: only after a message."""
        ...

    def command(self, verb: Verb, now: datetime) -> list[Effect]:
        """Obey; a `Reply` comes among these effects or among those of a later `hear` or `due`.
        Raises `Refused` where it is unlawful."""
        ...

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        """Be as after these; no act is under way."""


class Hand(Protocol):
    """Does one kind of act, in a thread. Whatever came of it, it reports; `PlaceFault` means: again later."""

    def __call__(self, act: Any, *, stop: Stop) -> Sequence[Message]:
        """`act`: of the one kind that is this hand's."""
        ...


class Crew(Protocol):
    """Does several acts of one kind at once, as a `Hand` does one; reports what came of each, in any order. Where it
    raises `PlaceFault`, each of them is done again later, alone."""

    def __call__(self, acts: Sequence[Any], *, stop: Stop) -> Sequence[Message]: ...
