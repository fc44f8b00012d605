"""A front to SAL in memory: what was said and acknowledged is a list, in order."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future
from threading import RLock

from skystow.ports.sal import Code, Command


class MemoryFront:
    """See `skystow.ports.sal.Front`. `lacks`: events that its definitions have not. `fault`: raised by what is said."""

    def __init__(self, name: str = "CCArchiver", *, lacks: Collection[str] = ()) -> None:
        self.name, self._lacks, self._lock = name, frozenset(lacks), RLock()
        self.fault: Exception | None = None
        self.trouble: Exception | None = None
        """What `check` raises."""
        self.log: list[tuple[str, dict[str, object]]] = []
        """Events by name with their fields, and acknowledgements as `ack <command>`."""
        self.hear: Callable[[Command], None] = lambda _: None
        self._count = 0

    def open(self, hear: Callable[[Command], None]) -> None:
        self.hear = hear

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def has(self, event: str) -> bool:
        return event not in self._lacks

    def say(self, event: str, **values: object) -> Future[None]:
        done: Future[None] = Future()
        with self._lock:
            if self.fault is not None:
                done.set_exception(self.fault)
                return done
            if self.has(event):
                self.log.append((event, values))
        done.set_result(None)
        return done

    def ack(self, command: Command, code: Code, text: str = "", *, seconds: float = 0.0, number: int = 0) -> None:
        with self._lock:
            values: dict[str, object] = {"code": code, "text": text, "seconds": seconds, "number": number}
            self.log.append((f"ack {command.name}", values | {"of": command.seq_num}))

    def flush(self, seconds: float) -> None:
        """All has left."""

    def close(self) -> None:
        """Nothing to leave."""

    # ── for tests ───────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, name: str, *, identity: str = "operator@console", wrong: str = "", **values: object) -> int:
        """Somebody commands; its number."""
        with self._lock:
            self._count += 1
            number = self._count
        self.hear(Command(name, values, identity, 1, number, wrong))
        return number

    def acks(self, number: int) -> list[tuple[Code, str]]:
        with self._lock:
            found = [values for what, values in self.log if what.startswith("ack ") and values["of"] == number]
        return [(code, str(values["text"])) for values in found if isinstance(code := values["code"], Code)]

    def said(self, *events: str) -> list[tuple[str, dict[str, object]]]:
        with self._lock:
            return [(what, values) for what, values in self.log if what in events]
