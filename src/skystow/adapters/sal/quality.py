"""Quality of service, by what a topic is: what we offer, what we ask, and what keeps two ends from matching.

The table is the observatory's (public copy of QoS.xml, profiles of ackcmd, command and event), with our changes:
writers keep all that is not delivered yet and are ordered by source; events are TRANSIENT_LOCAL, unless the site says
TRANSIENT; nothing of commands is kept, so that no old command is obeyed by a component that starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cyclonedds.core import Policy, Qos
from cyclonedds.util import duration

from skystow.adapters.sal.environment import BLOCKING

KEPT = 100
"""Samples of an event that a late joiner may have (durability service)."""


class Category(Enum):
    COMMAND = "command"
    ACK = "ackcmd"
    EVENT = "event"

    @classmethod
    def of(cls, topic: str) -> Category:
        """Of a SAL topic's name."""
        if topic == "ackcmd":
            return cls.ACK
        return cls.COMMAND if topic.startswith("command_") else cls.EVENT


@dataclass(frozen=True, slots=True)
class Quality:
    """`transient`: events offer TRANSIENT; `shared`: ackcmd's ownership is SHARED, not EXCLUSIVE; `blocking`: seconds
    for which a writer waits."""

    transient: bool = False
    shared: bool = False
    blocking: float = BLOCKING

    def offered(self, category: Category) -> Qos:
        """A writer's. Of two writers of acknowledgements, one of which was killed and is not missed yet, the younger
        one owns: its strength is its birth, in Unix seconds."""
        kept = Policy.Durability.Transient if self.transient else Policy.Durability.TransientLocal
        policies = [
            Policy.Durability.Volatile if category is not Category.EVENT else kept,
            Policy.DestinationOrder.BySourceTimestamp,
            self._ownership(category),
        ]
        if category is Category.EVENT:
            policies.append(Policy.DurabilityService(0, Policy.History.KeepLast(KEPT), -1, -1, -1))
        if category is Category.ACK and not self.shared:
            policies.append(Policy.OwnershipStrength(int(time.time()) % 2**31))
        return Qos(*policies, *self._common())

    def asked(self, category: Category, *, history: bool, foreign: bool = False) -> Qos:
        """A reader's. `history`: what was said before it came is wanted too; `foreign`: nothing of our own process."""
        return Qos(
            Policy.IgnoreLocal.Participant if foreign else Policy.IgnoreLocal.Nothing,
            Policy.Durability.TransientLocal if history else Policy.Durability.Volatile,
            Policy.DestinationOrder.ByReceptionTimestamp,
            self._ownership(category),
            *self._common(),
        )

    def _ownership(self, category: Category) -> Any:
        return Policy.Ownership.Exclusive if category is Category.ACK and not self.shared else Policy.Ownership.Shared

    def _common(self) -> tuple[Any, ...]:
        return Policy.Reliability.Reliable(duration(milliseconds=int(self.blocking * 1000))), Policy.History.KeepAll


_DURABILITY = ("Volatile", "TransientLocal", "Transient", "Persistent")
_LIVELINESS = ("Automatic", "ManualByParticipant", "ManualByTopic")


def differences(offered: Qos, asked: Qos) -> Iterator[str]:
    """What keeps a reader from matching a writer, in words; nothing: they match (OMG DDS 1.4, 2.2.3, table of RxO)."""
    durable, wanted = _name(offered, "Durability"), _name(asked, "Durability")
    if _DURABILITY.index(durable) < _DURABILITY.index(wanted):
        yield f"durability: {_loud(durable)} is offered, {_loud(wanted)} is asked"
    if _name(offered, "Reliability") == "BestEffort" and _name(asked, "Reliability") == "Reliable":
        yield "reliability: BEST_EFFORT is offered, RELIABLE is asked"
    ours, theirs = _name(offered, "Ownership"), _name(asked, "Ownership")
    if ours != theirs:
        yield f"ownership: {_loud(ours)} is offered, {_loud(theirs)} is asked"
    ours, theirs = _name(offered, "DestinationOrder"), _name(asked, "DestinationOrder")
    if ours == "ByReceptionTimestamp" and theirs == "BySourceTimestamp":
        yield "destination order: BY_RECEPTION_TIMESTAMP is offered, BY_SOURCE_TIMESTAMP is asked"
    if _LIVELINESS.index(_name(offered, "Liveliness")) < _LIVELINESS.index(_name(asked, "Liveliness")):
        yield f"liveliness: {_name(offered, 'Liveliness')} is offered, {_name(asked, 'Liveliness')} is asked"
    offers, asks = _representations(offered), _representations(asked)
    if not offers & asks:
        yield f"data representation: {_listed(offers)} is offered, {_listed(asks)} is asked"
    yield from _presentations(offered, asked)
    for what, field in (("Deadline", "deadline"), ("LatencyBudget", "budget")):
        ours_, theirs_ = _number(offered, what, field), _number(asked, what, field)
        if ours_ is not None and theirs_ is not None and ours_ > theirs_:
            yield f"{what}: {ours_ / 1e9:g} s is offered, {theirs_ / 1e9:g} s is asked"


_SCOPES = ("Instance", "Topic", "Group")


def _presentations(offered: Qos, asked: Qos) -> Iterator[str]:
    ours, theirs = _policy(offered, "PresentationAccessScope"), _policy(asked, "PresentationAccessScope")
    scopes = [
        _SCOPES.index(type(each).__name__.rpartition(".")[2]) if each is not None else 0 for each in (ours, theirs)
    ]
    if scopes[0] < scopes[1]:
        yield f"presentation: {_SCOPES[scopes[0]].upper()} is offered, {_SCOPES[scopes[1]].upper()} is asked"
    for what in ("coherent_access", "ordered_access"):
        if getattr(theirs, what, False) and not getattr(ours, what, False):
            yield f"presentation: no {what.replace('_', ' ')} is offered, it is asked"


def _representations(qos: Qos) -> frozenset[str]:
    """Where it is not said it is XCDR1 (DDS-XTypes 1.3, 7.6.3.1.1)."""
    policy = _policy(qos, "DataRepresentation")
    if policy is None:
        return frozenset({"XCDR1"})
    said = {"XCDR1": policy.use_cdrv0_representation, "XCDR2": policy.use_xcdrv2_representation}
    return frozenset(name for name, used in said.items() if used)


def _listed(names: frozenset[str]) -> str:
    return " or ".join(sorted(names)) or "none that we know"


def partitions(qos: Qos) -> tuple[str, ...]:
    policy = _policy(qos, "Partition")
    return tuple(policy.partitions) if policy is not None else ("",)


def _policy(qos: Qos, what: str) -> Any:
    scope = getattr(Policy, what)
    if scope in qos:
        return qos[scope]
    return None


_USUAL = {
    "Durability": "Volatile",
    "Reliability": "BestEffort",
    "Ownership": "Shared",
    "DestinationOrder": "ByReceptionTimestamp",
    "Liveliness": "Automatic",
}


def _name(qos: Qos, what: str) -> str:
    """`TransientLocal`; the specification's default where it is not said."""
    policy = _policy(qos, what)
    return _USUAL[what] if policy is None else type(policy).__name__.rpartition(".")[2]


def _number(qos: Qos, what: str, field: str) -> int | None:
    policy = _policy(qos, what)
    return None if policy is None else int(getattr(policy, field))


def _loud(name: str) -> str:
    """`TransientLocal` → `TRANSIENT_LOCAL`"""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper()
