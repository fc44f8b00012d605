"""Which message goes into which queue, by which exchange (PROTOCOLS of CCArchiver 3.1, forwarder 2.3, OODS 5.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skystow.model.messages import ImageInOODS, ImageRetrieval, Message

DEFAULT = ""
"""The default exchange: towards and from forwarders."""

STRANGER = "queue/"
"""Before the name of a queue that only a stranger's message named."""


@dataclass(frozen=True, slots=True)
class Queues:
    """Names of queues. `forwarders`: by their names; `exchange`: a durable direct one, bound by the queues' names."""

    exchange: str = "message"
    controller: str = "archive_ctrl_consume"
    controller_failures: str = "archive_ctrl_publish"
    acks: str = "cc_foreman_ack_publish"
    oods: str = "cc_publish_to_oods"
    oods_answers: str = "oods_publish_to_cc"
    telemetry: str = "telemetry_queue"
    forwarders: Mapping[str, str] = field(default_factory=dict)

    def consumed(self, address: str) -> tuple[str, ...]:
        """The queues in which messages for a component lie; none for what never comes over a broker."""
        match address:
            case "archiver":
                return (self.acks, self.oods_answers, self.telemetry, self.controller_failures)
            case "controller":
                return (self.controller,)
            case "oods":
                return (self.oods,)
        name = address.removeprefix("forwarder/")
        return (self.forwarders[name],) if name != address and name in self.forwarders else ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every queue of the site, once."""
        ours = [each for address in ("archiver", "controller", "oods") for each in self.consumed(address)]
        return tuple(dict.fromkeys([*ours, *self.forwarders.values()]))

    def target(self, address: str, message: Message, sender: str) -> tuple[str, str] | None:
        """(exchange, queue) of what the component `sender` says to `address`; None: nobody has that address."""
        if address.startswith(STRANGER):
            return DEFAULT, address.removeprefix(STRANGER)
        by = DEFAULT if address.startswith("forwarder/") or sender in self.forwarders else self.exchange
        if address == "archiver":
            return by, self._of_archiver(message, sender)
        queues = self.consumed(address)
        return (by, queues[0]) if queues else None

    def _of_archiver(self, message: Message, sender: str) -> str:
        match message:
            case ImageRetrieval():
                return self.telemetry
            case ImageInOODS():
                return self.controller_failures if sender == "controller" else self.oods_answers
            case _:
                return self.acks

    def queue_of(self, address: str) -> str:
        """Where an answer to `address` is to go: what REPLY_QUEUE says."""
        if address.startswith(STRANGER):
            return address.removeprefix(STRANGER)
        queues = self.consumed(address)
        return queues[0] if queues else ""

    def address_of(self, queue: str) -> str:
        """Whose a queue is: the reverse."""
        for address in ("archiver", "controller", "oods"):
            if queue in self.consumed(address):
                return address
        name = next((name for name, own in self.forwarders.items() if own == queue), None)
        return f"forwarder/{name}" if name is not None else f"{STRANGER}{queue}"
