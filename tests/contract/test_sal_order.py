"""What came by several topics is given out in the order in which it was said."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from uuid import uuid4

from skystow.adapters.sal.definitions import load
from skystow.adapters.sal.environment import Environment
from skystow.adapters.sal.node import Node, Sample
from skystow.adapters.sal.quality import Quality
from skystow.testing.front_contract import until

EVENTS = ("endReadout", "startIntegration")
PAIRS = 1500
"""So many that some are taken between our looks at the one topic and at the other."""


def test_across_topics_and_bursts() -> None:
    camera, environment = load("CCCamera", None), Environment(f"t{uuid4().hex[:12]}")
    heard: list[Sample] = []
    whole = threading.Event()

    def hear(sample: Sample) -> None:
        heard.append(sample)
        if len(heard) == 2 * PAIRS:
            whole.set()

    with ExitStack() as stack:
        here, there = (Node(environment, Quality(), identity=each, log=lambda _: None) for each in ("we", "CCCamera"))
        stack.callback(here.close)
        stack.callback(there.close)
        topics = {each: camera.topic(f"logevent_{each}") for each in EVENTS}
        for topic in topics.values():
            here.reader(topic, hear)
        start, end = there.writer(topics["startIntegration"]), there.writer(topics["endReadout"])
        until(lambda: start.matched() and end.matched())
        until(lambda: all(here.writers_of(topic) for topic in topics.values()))
        for number in range(PAIRS):
            start.write({"imageName": f"{number}"})
            end.write({"imageName": f"{number}"})
        assert whole.wait(60), f"{len(heard)} of {2 * PAIRS}"
    said = [(sample.topic.name.removeprefix("logevent_"), sample.values["imageName"]) for sample in heard]
    assert said == [(event, f"{number}") for number in range(PAIRS) for event in ("startIntegration", "endReadout")]
