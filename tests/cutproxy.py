"""A TCP proxy that understands enough of AMQP 0-9-1 to cut the line at a given message."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

HEADER = 8
"""Bytes that a client says first: `AMQP`, and the version."""

METHOD = 1
NAMES = {
    (10, 10): "connection.start",
    (10, 11): "connection.start-ok",
    (10, 30): "connection.tune",
    (10, 31): "connection.tune-ok",
    (10, 40): "connection.open",
    (10, 41): "connection.open-ok",
    (10, 50): "connection.close",
    (10, 60): "connection.blocked",
    (20, 10): "channel.open",
    (20, 11): "channel.open-ok",
    (20, 40): "channel.close",
    (40, 10): "exchange.declare",
    (50, 10): "queue.declare",
    (50, 20): "queue.bind",
    (60, 10): "basic.qos",
    (60, 20): "basic.consume",
    (60, 21): "basic.consume-ok",
    (60, 30): "basic.cancel",
    (60, 40): "basic.publish",
    (60, 50): "basic.return",
    (60, 60): "basic.deliver",
    (60, 80): "basic.ack",
    (60, 120): "basic.nack",
    (85, 10): "confirm.select",
}

TALK = frozenset({"basic.publish", "basic.return", "basic.deliver", "basic.ack", "basic.nack"})
"""Messages and their acknowledgements."""

Counts = Callable[[str], bool]


def talk(passing: str) -> bool:
    return passing[1:] in TALK


class CutProxy:
    """`passed` has each message that went by: `>basic.publish` to the broker, `<basic.deliver` from it."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._ends: set[socket.socket] = set()
        self._lines: list[threading.Thread] = []
        self._left: int | None = None
        self._counts: Counts = talk
        self.cuts = 0
        self.passed: list[str] = []
        self._listener = self._bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    # ── what a test does ────────────────────────────────────────────────────────────────────────────────────────

    def cut(self) -> None:
        """All connections, at once; new ones are taken."""
        with self._lock:
            self._cut()

    def cut_at(self, n: int, counts: Counts = talk) -> None:
        """Cut all connections in place of the n-th message from now on, of those that count, whichever way it goes."""
        with self._lock:
            self._left, self._counts = n, counts

    @property
    def armed(self) -> bool:
        """Whether the cut that was asked for has not come yet."""
        return self._left is not None

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens here; what is connected is cut."""
        _close(self._listener)
        self._acceptor.join(10)
        self._listener = self._bound(self.port)  # held, so that nobody else gets it
        self.cut()
        try:
            yield
        finally:
            self._listen()

    @contextlib.contextmanager
    def stalling(self) -> Iterator[None]:
        """Connections stand, new ones are taken, and nothing comes through."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def close(self) -> None:
        self._flowing.set()
        _close(self._listener)
        self._acceptor.join(10)
        self.cut()
        for line in self._lines:
            line.join(10)

    # ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _bound(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def _listen(self) -> None:
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), 10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            line = threading.Thread(target=self._carry, args=(client, server), daemon=True)
            self._lines.append(line)
            line.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways; closed when neither is used any more, for a number of a socket is soon given to another."""
        with client, server:
            with self._lock:
                self._ends |= {client, server}
            ways = ((">", client, server), ("<", server, client))
            pumps = [threading.Thread(target=self._pump, args=way, daemon=True) for way in ways]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()
            with self._lock:
                self._ends -= {client, server}

    def _pump(self, arrow: str, source: socket.socket, sink: socket.socket) -> None:
        try:
            with source.makefile("rb") as reader:
                if arrow == ">":
                    sink.sendall(reader.read(HEADER))
                while len(head := reader.read(7)) == 7:
                    kind, _channel, size = struct.unpack(">BHI", head)
                    frame = head + reader.read(size + 1)
                    self._flowing.wait()
                    if kind == METHOD and not self._passes(arrow, frame):
                        return
                    sink.sendall(frame)
        except OSError:
            pass  # cut
        finally:
            _hang_up(source, sink)

    def _passes(self, arrow: str, frame: bytes) -> bool:
        family, method = struct.unpack(">HH", frame[7:11])
        name = arrow + NAMES.get((family, method), f"{family}.{method}")
        with self._lock:
            if self._left is not None and self._counts(name):
                self._left -= 1
                if self._left == 0:
                    self._left = None
                    self._cut()
                    return False
            self.passed.append(name)
        return True

    def _cut(self) -> None:
        self.cuts += 1
        _hang_up(*self._ends)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _close(listener: socket.socket) -> None:
    """A thread that waits in `accept` wakes only by a shutdown."""
    _hang_up(listener)
    listener.close()
