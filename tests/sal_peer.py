"""The other side of a SAL topic, in a process of its own: a camera that says `startIntegration`, well and badly.

    python -m tests.sal_peer DOMAIN DIRECTORY

Each sample has its number as imageNumber, from 1; the last one's imageName is `end`.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from typing import Any

from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from skystow.adapters.sal import types
from skystow.adapters.sal.definitions import load
from tests.sal_kit import RELIABLE, WITHIN


def main(domain: int, directory: str) -> int:
    topic = load("CCCamera", directory).topic("logevent_startIntegration")
    participant = DomainParticipant(domain)
    loose: Any = types.make(topic, bounds=False)
    writer: Any = DataWriter(participant, Topic(participant, topic.dds_name, loose, qos=RELIABLE), qos=RELIABLE)
    deadline = time.monotonic() + WITHIN
    while not writer.get_matched_subscriptions():
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.02)
    numbers = count(1)

    def say(old: bytes = b"", new: bytes = b"", **values: Any) -> None:
        number = next(numbers)
        sample = loose(**types.blank(topic) | {"imageName": "CC_O_20210304_000001", "imageNumber": number} | values)
        raw = sample.serialize().replace(old, new) if old else sample.serialize()
        sample.serialize = lambda **_: raw
        writer.write(sample)

    say(imageName="é" * 16)
    say(imageName="é" * 17)
    say(imageName="x" * 33)
    say(b"20210304\0", b"2021030\xe9\0", imageDate="20210304")
    say(imageDate="2021\x000304")
    say(exposureTime=float("nan"), timestampAcquisitionStart=float("inf"))
    say(private_sndStamp=float("nan"))
    say(imageIndex=-(2**31), imagesInSequence=2**31 - 1)
    say(additionalKeys="k" * 100_000)
    say(imageName="end")
    return 0 if writer.wait_for_acks(duration(seconds=WITHIN)) else 2


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
