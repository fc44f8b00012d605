"""What a monitor hears and only passes on: OCS's feeds of session data and of metadata."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor

from skystow.model.datagram import Reading, Session, lawful

SESSIONS = "pysmurf_session_data"
FIELDS = 1_000
"""Of one feed of metadata; anybody may invent some."""


class Feeds:
    """Publishes from any thread; what comes while the router is away is nobody's. At most `most` feeds of metadata."""

    def __init__(self, agent: Any, most: int) -> None:
        self.agent, self.most = agent, most
        self.refused = self.unheard = self.failed = 0
        self._fields: dict[str, set[str]] = {}
        agent.register_feed(SESSIONS, record=False)

    def publish(self, news: Reading | Session) -> None:
        reactor.callFromThread(self._publish, news)

    def _publish(self, news: Reading | Session) -> None:
        if not self.agent.realm_joined:
            self.unheard += 1
        elif isinstance(news, Session):
            self._give(SESSIONS, dict(news.body))
        else:
            self._record(news)

    def _give(self, feed: str, message: dict[str, Any]) -> None:
        """OCS keeps a reading that it could not send, and would choke on it at each of those that come after."""
        try:
            self.agent.publish_to_feed(feed, message)
        except Exception:  # noqa: BLE001 - of whatever it dies, it is of one message
            self.failed += 1
            for block in self.agent.feeds[feed].blocks.values():
                block.clear()

    def _record(self, reading: Reading) -> None:
        feed, field = f"{lawful(reading.stream)}_meta", lawful(reading.name)
        known = self._fields.get(feed)
        if known is None and len(self._fields) < self.most:
            known = self._fields[feed] = set()
            self.agent.register_feed(feed, record=True, buffer_time=0)
        if known is None or (field not in known and len(known) >= FIELDS):
            self.refused += 1
            return
        known.add(field)
        at = reading.time if reading.time is not None else time.time()
        self._give(feed, {"block_name": field, "timestamp": at, "data": {field: reading.value}})
