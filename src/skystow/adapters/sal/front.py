"""A commandable component on DDS: hears its commands, acknowledges them, publishes its events. See `ports.sal.Front`.

States and acknowledgements leave by one thread, so that a state is published before the acknowledgement of the command
that led to it. All other events leave by another one: who reads those and takes nothing holds up no command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import partial
from typing import Any

from skystow.adapters.sal.definitions import Definitions
from skystow.adapters.sal.node import PLACE, Node, Sample, Writer
from skystow.adapters.sal.tai import tai
from skystow.adapters.sal.twin import Twin
from skystow.errors import ConfigError, Unreachable
from skystow.ports.sal import Code, Command

HEARTBEAT, LOG = "heartbeat", "logMessage"

PATIENCE = 15.0
"""Seconds for which a reader that takes nothing is waited for; DDS gives up one that is frozen after ten."""

FLEETING = (HEARTBEAT, LOG)
"""Events that are not waited for: the next one comes soon, or the log has them."""

WAITING = 1000
"""Lines of the log that wait for a reader; more are not said."""

READ = {"setLogLevel": ("level",), "setAuthList": ("authorizedUsers", "nonAuthorizedCSCs")}
"""Fields of commands that are looked at whatever the version."""

RESULT = 256
"""Characters of an acknowledgement's sentence."""

STATES = (
    "softwareVersions",
    "settingVersions",
    "settingsApplied",
    "appliedSettingsMatchStart",
    "configurationsAvailable",
    "configurationApplied",
    "simulationMode",
    "authList",
    "logLevel",
    "errorCode",
    "summaryState",
)
"""Events that say how we are: whoever comes later must know them too."""


class SalFront:
    """`service`: a durability service keeps what is TRANSIENT, so that we need not say it again."""

    def __init__(self, node: Node, definitions: Definitions, *, service: bool = False) -> None:
        """Raises `ConfigError` where the definitions lack what no component can do without."""
        self.name, self._node, self._definitions = definitions.component, node, definitions
        self._again = node.quality.transient and not service
        self._ack_topic = definitions.topic("ackcmd")
        self._ack_topic.must_have("ack", "error", "result", "identity", "origin", "cmdtype", "timeout")
        for command, fields in READ.items():
            if command in definitions.commands:
                definitions.topic(f"command_{command}").must_have(*fields)
        self._writers: dict[str, Writer] = {}
        self._last: dict[str, Mapping[str, object]] = {}
        self._greeted: dict[str, frozenset[int]] = {}
        self._seen: dict[str, frozenset[int]] = {}
        self._twin = Twin(node, definitions.topic(f"logevent_{HEARTBEAT}"))
        self._broken: BaseException | None = None
        self._room = threading.Semaphore(WAITING)
        self._closed = threading.Event()
        self._states, self._others = ThreadPoolExecutor(1, "sal states"), ThreadPoolExecutor(1, "sal events")

    def open(self, hear: Callable[[Command], None]) -> None:
        self._twin.look()
        if self._twin.alive:
            self._node.close()
            self.check()
        self._acks = self._node.writer(self._ack_topic)
        for event in self._definitions.events:
            self._writers[event] = self._node.writer(self._definitions.topic(f"logevent_{event}"))
        self._twin.begin(self._writers[HEARTBEAT])
        for name in self._definitions.commands:
            topic = self._definitions.topic(f"command_{name}")
            self._node.reader(topic, partial(self._command, name, hear), unfit=partial(self._unfit, name, hear))

    def check(self) -> None:
        if self._node.died is not None:
            raise Unreachable(f"DDS has died: {self._node.died}", place=PLACE) from self._node.died
        if self._broken is not None:
            raise self._broken
        if self._twin.alive:
            raise ConfigError(self._twin.alive, remedy="stop the other one, or give this one another name")
        if self._again:
            self._greet()

    def has(self, event: str) -> bool:
        return event in self._definitions.events

    def readers(self, event: str) -> int:
        """How many hear it."""
        return len(self._writers[event].matched())

    def say(self, event: str, **values: object) -> Future[None]:
        thread = self._states if event in STATES or event == HEARTBEAT else self._others
        if event != LOG:
            return self._submit(thread, self._write, event, values)
        if not self._room.acquire(blocking=False):
            return _refused(f"{WAITING} lines of the log wait for a reader")
        done = self._submit(thread, self._write, event, {"timestamp": tai(datetime.now(UTC)), **values})
        done.add_done_callback(lambda _: self._room.release())
        return done

    def ack(self, command: Command, code: Code, text: str = "", *, seconds: float = 0.0, number: int = 0) -> None:
        values = {
            "ack": int(code),
            "error": number,
            "result": text if len(text) <= RESULT else f"{text[: RESULT - 1]}…",
            "identity": command.identity,
            "origin": command.origin,
            "cmdtype": self._definitions.command_number(command.name),
            "timeout": seconds,
        }
        self._submit(self._states, self._written, self._acks, values, seq_num=command.seq_num)

    def flush(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        wait([self._submit(thread, _nothing) for thread in (self._states, self._others)], timeout=seconds)
        for each in (self._acks, *self._writers.values()):
            each.flush(max(0.001, due - time.monotonic()))

    def close(self) -> None:
        self._closed.set()
        for thread in (self._states, self._others):
            thread.shutdown(wait=True, cancel_futures=True)
        self._node.close()

    def _submit(
        self, thread: ThreadPoolExecutor, call: Callable[..., None], *args: object, **more: object
    ) -> Future[None]:
        try:
            done = thread.submit(call, *args, **more)
        except RuntimeError:  # it was shut down, perhaps just now
            return _refused(f"{self.name} has left SAL")
        done.add_done_callback(self._judge)
        return done

    def _judge(self, done: Future[None]) -> None:
        """Nobody waits for most of what is said: an error that nobody foresaw is told by `check`."""
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, Unreachable):
            self._broken = error

    # ── saying ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, event: str, values: Mapping[str, object]) -> None:
        if event not in self._writers:
            return  # this version of the interface does not have it
        if event in STATES:
            self._last[event] = values
        self._written(self._writers[event], values, patience=0.0 if event in FLEETING else PATIENCE)

    def _written(
        self, writer: Writer, values: Mapping[str, object], *, seq_num: int | None = None, patience: float = PATIENCE
    ) -> None:
        """A reader that takes nothing is waited for until DDS has given it up: what is said must reach the others."""
        due = time.monotonic() + patience
        while True:
            try:
                writer.write(values, seq_num=seq_num)
            except Unreachable as fault:
                if time.monotonic() >= due or self._closed.is_set():
                    self._node.say_once(str(fault))
                    raise
            else:
                return

    def _greet(self) -> None:
        """Nobody keeps what is TRANSIENT: whoever came since is told, and so is everybody else. But not before he has
        had the time from one look to the next to find us, too."""
        for event in list(self._last):
            there = self._writers[event].matched()
            found = there & self._seen.get(event, frozenset())
            if found - self._greeted.get(event, frozenset()):
                self._submit(self._states, self._repeat, event)
            self._greeted[event], self._seen[event] = found, there

    def _repeat(self, event: str) -> None:
        """What is the latest now: a newer one may have been said while this waited."""
        self._written(self._writers[event], self._last[event])

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _command(self, name: str, hear: Callable[[Command], None], sample: Sample) -> None:
        values = sample.values
        own = {field.name: values[field.name] for field in sample.topic.public}
        command = Command(
            name, own, str(values["private_identity"]), int(values["private_origin"]), int(values["private_seqNum"])
        )
        hear(command)

    def _unfit(self, name: str, hear: Callable[[Command], None], received: Any, wrong: str) -> None:
        """Whoever sent it is told why it is not obeyed, if it says who that is."""
        number, identity = getattr(received, "private_seqNum", None), getattr(received, "private_identity", None)
        if isinstance(number, int) and isinstance(identity, str):
            hear(Command(name, {}, identity[:128], int(received.private_origin), number, wrong))


def _refused(why: str) -> Future[None]:
    refused: Future[None] = Future()
    refused.set_exception(Unreachable(why, place=PLACE))
    return refused


def _nothing(*_: Any) -> None:
    """To be waited for."""
