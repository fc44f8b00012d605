"""The other side: who commands a SAL component and hears its events, for people at a terminal and for rehearsals."""

from __future__ import annotations

import os
import queue
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from skystow.adapters.sal.definitions import Definitions
from skystow.adapters.sal.node import PLACE, Node, Sample, Writer
from skystow.errors import ConfigError, Refused, Unreachable
from skystow.ports.sal import Code

THERE = 5.0
"""Seconds that a component has to be found."""

LOOK = 0.02
NUMBERS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`seconds`: from now, within which the next one comes at the latest; `number`: of an error."""

    code: Code
    text: str
    seconds: float
    number: int


class Remote:
    """Of one component."""

    def __init__(self, node: Node, definitions: Definitions) -> None:
        self._node, self._definitions = node, definitions
        self._acks: queue.SimpleQueue[Sample] = queue.SimpleQueue()
        self._commands: dict[str, Writer] = {}
        node.reader(definitions.topic("ackcmd"), self._acks.put)

    def command(self, name: str, values: Mapping[str, object], *, seconds: float) -> Iterator[Acknowledgement]:
        """Each acknowledgement as it comes, the final one last; one of our own (NO_ACK, TIMEOUT) where none came within
        `seconds`, or within what the component asked for. Raises `ConfigError` for a command that there is not, or a
        field that it has not, and `Unreachable` where nobody of that name is there."""
        writer = self._writer(name, values)
        self._found(writer)
        number = writer.write(values)
        due, answered = time.monotonic() + seconds, False
        while True:
            try:
                sample = self._acks.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                yield Acknowledgement(Code.TIMEOUT if answered else Code.NO_ACK, f"no answer within {seconds:g} s", 0.0, 0)
                return
            if (found := self._ours(sample, number)) is None:
                continue
            answered = True
            if found.code is Code.IN_PROGRESS:
                due = max(due, time.monotonic() + found.seconds)
            yield found
            if found.code.final:
                return

    def _writer(self, name: str, values: Mapping[str, object]) -> Writer:
        known = self._definitions.commands
        if name not in known:
            raise ConfigError(f"{self._definitions.component} has no command ‘{name}’", remedy=f"it has {', '.join(known)}")
        topic = self._definitions.topic(f"command_{name}")
        fields = {field.name for field in topic.public}
        if unknown := sorted(set(values) - fields):
            raise ConfigError(f"{name} has no field {unknown[0]}", remedy=f"it has {', '.join(sorted(fields)) or 'none'}")
        if name not in self._commands:
            # A slice of the numbers for each command, and a start by chance in it, as salobj counts.
            width = NUMBERS // len(known)
            first = 1 + width * known.index(name) + random.randrange(width // 2)  # noqa: S311 - not a secret
            self._commands[name] = self._node.writer(topic, first=first)
        return self._commands[name]

    def _found(self, writer: Writer) -> None:
        due = time.monotonic() + THERE
        acks = self._definitions.topic("ackcmd")
        while not (writer.matched() and self._node.writers_of(acks)):
            if time.monotonic() > due:
                raise Unreachable(
                    f"no {self._definitions.component} is there to obey",
                    place=PLACE,
                    remedy="does it run, with the same LSST_DDS_PARTITION_PREFIX and SAL interface definitions?",
                )
            time.sleep(LOOK)

    def _ours(self, sample: Sample, number: int) -> Acknowledgement | None:
        said = sample.values
        if said["private_seqNum"] != number or said["origin"] != os.getpid():
            return None
        if said["identity"] and said["identity"] != self._node.identity:
            return None
        try:
            code = Code(int(said["ack"]))
        except ValueError as error:
            raise Refused(f"{self._definitions.component} answers with a code that SAL has not: {said['ack']}") from error
        return Acknowledgement(code, str(said["result"]), float(said["timeout"]), int(said["error"]))
