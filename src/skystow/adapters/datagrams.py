"""Datagrams from the network. The kernel holds what comes while nobody looks, as much as it lets us ask for."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from skystow.errors import ConfigError
from skystow.model.records import shown

BUFFER = 64 * 2**20
"""Bytes that we ask the kernel to hold."""

LARGEST = 65_535
_FORCE = getattr(socket, "SO_RCVBUFFORCE", 33)


class UdpDatagrams:
    """Implements `skystow.ports.monitor.Datagrams`. Raises `ConfigError` where the port cannot be had."""

    def __init__(self, host: str, port: int, *, buffer: int = BUFFER) -> None:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.socket(family, kind, protocol)
        except OSError as error:
            raise ConfigError(f"{shown(host)} is no address of this host: {error.strerror}") from error
        try:
            self._grow(buffer)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"UDP port {port} of {shown(host)} cannot be had: {error.strerror}",
                remedy="does another monitor listen there?",
            ) from error
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def _grow(self, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _FORCE, size)
        except PermissionError:  # as far as net.core.rmem_max allows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    @property
    def buffer(self) -> int:
        """Bytes that the kernel holds for us."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def receive(self, seconds: float, *, most: int) -> Sequence[tuple[str, bytes]]:
        if not select.select([self._socket], [], [], seconds)[0]:
            return []
        found: list[tuple[str, bytes]] = []
        receive = self._socket.recvfrom
        try:
            while len(found) < most:
                raw, address = receive(LARGEST)
                found.append((address[0], raw))
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        self._socket.close()
