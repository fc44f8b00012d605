"""The other side: who commands a SAL component and hears its events. See `ports.sal.Remote`."""

from __future__ import annotations

import os
import queue
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from skystow.adapters.sal.definitions import Definitions, Field
from skystow.adapters.sal.node import PLACE, Node, Sample, Writer
from skystow.errors import ConfigError, Refused, Unreachable
from skystow.model.records import shown
from skystow.ports.sal import Acknowledgement, Code, Event

THERE = 5.0
"""Seconds that a component has to be found."""

LONGEST = 86400.0
"""Seconds for which a component is waited for, whatever it asks for."""

BOTH_WAYS = 0.2
"""Seconds from our finding whoever obeys until he has found us, too: until then he hears nothing."""

LOOK = 0.02
NUMBERS = 2**31 - 1

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class SalRemote:
    def __init__(self, node: Node, definitions: Definitions) -> None:
        """Raises `ConfigError` where the definitions have no acknowledgements."""
        self._node, self._definitions = node, definitions
        self.commands: Sequence[str] = definitions.commands
        self.events: Sequence[str] = definitions.events
        self._acks: queue.SimpleQueue[Sample] = queue.SimpleQueue()
        self._writers: dict[str, Writer] = {}
        self._met: set[Writer] = set()
        acks = definitions.topic("ackcmd")
        acks.must_have("ack", "error", "result", "identity", "origin", "timeout")
        node.reader(acks, self._acks.put)

    # ── commanding ──────────────────────────────────────────────────────────────────────────────────────────────

    def given(self, command: str, texts: Sequence[str]) -> Mapping[str, object]:
        topic = self._definitions.topic(f"command_{self._known(command)}")
        fields = {field.name: field for field in topic.public}
        found: dict[str, object] = {}
        for each in texts:
            name, equals, text = each.partition("=")
            if not equals or name not in fields:
                known = ", ".join(fields) or "none"
                raise ConfigError(f"‘{shown(each)}’ is no FIELD=VALUE of {command}", remedy=f"its fields: {known}")
            found[name] = _value(fields[name], text)
        return found

    def command(self, name: str, values: Mapping[str, object], *, seconds: float) -> Iterator[Acknowledgement]:
        writer = self._writer(self._known(name))
        self._found(writer)
        number = writer.write(values)
        due, answered = time.monotonic() + seconds, False
        while True:
            self.check()
            try:
                sample = self._acks.get(timeout=min(1.0, max(0.0, due - time.monotonic())))
            except queue.Empty:
                if time.monotonic() < due:
                    continue
                code = Code.TIMEOUT if answered else Code.NO_ACK
                yield Acknowledgement(code, f"no answer within {seconds:g} s", 0.0, 0)
                return
            if (found := self._ours(sample, number)) is None:
                continue
            answered = True
            if found.code is Code.IN_PROGRESS:
                due = max(due, time.monotonic() + min(found.seconds, LONGEST))
            yield found
            if found.code.final:
                return

    def check(self) -> None:
        if self._node.died is not None:
            raise Unreachable(f"DDS has died: {self._node.died}", place=PLACE) from self._node.died

    def _known(self, name: str) -> str:
        if name not in self.commands:
            has = f"it has {', '.join(self.commands)}"
            raise ConfigError(f"{self._definitions.component} has no command ‘{shown(name)}’", remedy=has)
        return name

    def _writer(self, name: str) -> Writer:
        if name not in self._writers:
            # A slice of the numbers for each command, and a start by chance in it, as salobj counts.
            width = NUMBERS // len(self.commands)
            first = 1 + width * self.commands.index(name) + random.randrange(width // 2)  # noqa: S311 - not a secret
            self._writers[name] = self._node.writer(self._definitions.topic(f"command_{name}"), first=first)
        return self._writers[name]

    def _found(self, writer: Writer) -> None:
        if writer in self._met and writer.matched():
            return
        due = time.monotonic() + THERE
        acks = self._definitions.topic("ackcmd")
        while not (writer.matched() and self._node.writers_of(acks)):
            self.check()
            if time.monotonic() > due:
                raise Unreachable(
                    f"no {self._definitions.component} is there to obey",
                    place=PLACE,
                    remedy="does it run, with the same LSST_DDS_PARTITION_PREFIX and SAL interface definitions?",
                )
            time.sleep(LOOK)
        time.sleep(BOTH_WAYS)
        self._met.add(writer)

    def _ours(self, sample: Sample, number: int) -> Acknowledgement | None:
        said = sample.values
        if said["private_seqNum"] != number or said["origin"] != os.getpid():
            return None
        if said["identity"] and said["identity"] != self._node.identity:
            return None
        try:
            code = Code(int(said["ack"]))
        except ValueError as error:
            strange = f"{self._definitions.component} answers with a code that SAL has not: {said['ack']}"
            raise Refused(strange) from error
        return Acknowledgement(code, str(said["result"]), float(said["timeout"]), int(said["error"]))

    # ── listening ───────────────────────────────────────────────────────────────────────────────────────────────

    def listen(self, events: Sequence[str], hear: Callable[[Event], None]) -> None:
        if unknown := sorted(set(events) - set(self.events)):
            has = f"it has {', '.join(self.events)}"
            raise ConfigError(f"{self._definitions.component} has no event ‘{shown(unknown[0])}’", remedy=has)

        def heard(sample: Sample) -> None:
            values = {field.name: sample.values[field.name] for field in sample.topic.public}
            hear(Event(sample.topic.name.removeprefix("logevent_"), values, sample.said))

        for each in events:
            before = self._node.environment.history
            self._node.reader(self._definitions.topic(f"logevent_{each}"), heard, history=before)


def _value(field: Field, text: str) -> object:
    try:
        match field.kind:
            case "string" | "char":
                return text
            case "boolean":
                return _BOOLEANS[text.lower()]
            case "float" | "double":
                return float(text)
            case _:
                return int(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"‘{shown(text)}’ is no {field.kind}, which {field.name} is") from error
