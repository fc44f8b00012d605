"""What a monitor passes on, without a router."""

from __future__ import annotations

from typing import Any

import pytest
from ocs.ocs_feed import Feed

from skystow.hosts.ocs_feeds import SESSIONS, Feeds
from skystow.model.datagram import Reading, Session


class Agent:
    """As OCS's: what is published goes to `sent`, unless it cannot be put into bytes."""

    realm_joined, agent_address, agent_session_id, class_name = True, "observatory.m", "1", "PysmurfMonitor"

    def __init__(self) -> None:
        self.feeds: dict[str, Feed] = {}
        self.sent: list[Any] = []

    def register_feed(self, name: str, **more: Any) -> None:
        self.feeds[name] = Feed(self, name, **more)

    def publish_to_feed(self, name: str, message: dict[str, Any]) -> None:
        self.feeds[name].publish_message(message)

    def publish(self, address: str, message: Any) -> None:
        if "poison" in str(message):
            raise ValueError("it cannot be put into bytes")
        self.sent.append((address.rpartition(".")[2], message[0]))


def test_a_message_that_cannot_be_sent_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocs.ocs_feed.in_reactor_context", lambda: True)
    agent = Agent()
    feeds = Feeds(agent, 3)
    for value in (1.0, "poison", 2.0):
        feeds._publish(Reading("ufm", "x", value, 7.0))
        feeds._publish(Session({"payload": value}))
    assert feeds.failed == 2
    assert [message["x"]["data"]["x"] for name, message in agent.sent if name == "ufm_meta"] == [[1.0], [2.0]]
    assert [message["payload"] for name, message in agent.sent if name == SESSIONS] == [1.0, 2.0]
