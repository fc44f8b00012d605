"""What messages look like on the wire: YAML mappings with the originals' keys."""

from __future__ import annotations

from skystow.adapters.rabbitmq.queues import Queues
from skystow.model.messages import Message


class Dialect:
    """`short_name` prefixes the forwarder's message types, `CC_FWDR_…`."""

    def __init__(self, short_name: str, queues: Queues) -> None:
        self.short_name, self.queues = short_name, queues

    def encode(self, message: Message) -> bytes:
        """Raises `BadName` for a message that has no form on the wire."""
        raise NotImplementedError

    def decode(self, body: bytes) -> Message:
        """Raises `BadName` with a sentence for whatever is no message that we know."""
        raise NotImplementedError
