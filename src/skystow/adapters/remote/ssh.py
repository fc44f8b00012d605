"""One ssh connection to a remote host, shared by all that work there: helpers and rsyncs are sessions of it.

The first helper's session is the ControlMaster. It ends when its stdin does, so nothing outlives us, not even SIGKILL.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from skystow.adapters.remote.session import Broken, Session
from skystow.errors import ConfigError, SkystowError, UnfitHost, UnfitPlace, Unreachable
from skystow.model.records import shown
from skystow.model.remote import RemoteHost
from skystow.ports import Stop

_WHY: tuple[tuple[str, type[UnfitHost] | type[Unreachable] | type[ConfigError], str, str], ...] = (
    (
        r"IDENTIFICATION HAS CHANGED|host key .*has changed",
        UnfitHost,
        "its host key is not the one that we know",
        "find out why; if it was renewed, put the new key into known_hosts (ssh-keygen -R removes the old one)",
    ),
    (
        r"Host key verification failed|host key is known for",
        UnfitHost,
        "its host key is not known here",
        "compare its fingerprint with what its operator says, then add it to known_hosts (ssh-keyscan)",
    ),
    (
        r"Permission denied \(|Too many authentication failures|UNPROTECTED PRIVATE KEY",
        UnfitHost,
        "it refuses our key",
        "put our public key into its authorized_keys; a key with a passphrase needs an agent",
    ),
    (
        r"Bad configuration option|Unsupported option|bad configuration|Can't open user config|Bad SSH2 cipher",
        ConfigError,
        "ssh does not understand its configuration",
        "look at the ssh configuration file and options of this host",
    ),
    (r"Could not resolve hostname", Unreachable, "its name cannot be resolved", "is it spelt right? is DNS there?"),
    (r"Connection refused", Unreachable, "nobody answers at its port", "is sshd running there, on that port?"),
    (r"timed out|No route to host|unreachable", Unreachable, "it does not answer", "is it up, and the network?"),
)
"""What ssh says → whose fault it is, why, and what to do; the first that matches."""

_ALWAYS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
    "ControlPersist=no",
)


class Link:
    """The connection to one host, opened when first needed and again after it broke. Safe to share between threads."""

    def __init__(self, host: RemoteHost) -> None:
        self.host = host
        self._lock = threading.Lock()
        self._master: Session | None = None
        self._idle: list[Session] = []
        self._all: list[Session] = []
        self._socket = ""

    @contextmanager
    def session(self, place: str, stop: Stop | None = None) -> Iterator[Session]:
        """A helper of our own for a while. Raises `Unreachable`, `UnfitHost`, `ConfigError`, `Stopped`."""
        self._open(place, stop)
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is None:
            try:
                session = self._start(self._mux(), stop)
            except Broken as broken:
                self.close()
                raise self._blame(broken, place) from broken
        whole = False
        try:
            yield session
            whole = True
        except Broken as broken:
            self.close()  # what is silent here is silent everywhere on this connection
            raise self._blame(broken, place) from broken
        finally:
            with self._lock:
                known = session in self._all
                if whole and known:
                    self._idle.append(session)
            if not whole and known:
                self._forget(session)

    def facts(self, place: str, stop: Stop | None = None) -> dict[str, Any]:
        """What the helper said of its host: `python`, `algorithms`, `rsync` (its `--version`, None without one)."""
        with self.session(place, stop) as session:
            return session.facts

    def shell(self, place: str, stop: Stop | None = None) -> str:
        """For `rsync -e`: a session of this connection or none at all. The host name that rsync adds means nothing."""
        self._open(place, stop)
        return shlex.join(self._mux())

    @property
    def up(self) -> bool:
        """Whether the connection is open and has not been seen to break."""
        master = self._master
        return master is not None and master.alive

    def close(self) -> None:
        """End every session, and so the connection; the next use opens it again."""
        with self._lock:
            sessions, self._all, self._idle, self._master = self._all, [], [], None
        for session in reversed(sessions):  # the master last
            session.end()

    # inside

    def _open(self, place: str, stop: Stop | None) -> None:
        if self._master is not None and not self._master.alive:
            self.close()
        with self._lock:
            if self._master is not None:
                return
            self._socket = os.path.join(_socket_directory(), secrets.token_hex(8))
            try:
                master = self._master_session(stop)
            except Broken as broken:
                raise self._blame(broken, place) from broken
            self._master = master
            self._all, self._idle = [master], [master]

    def _master_session(self, stop: Stop | None) -> Session:
        host = self.host
        argv = ["ssh", "-T", "-x", "-a"]
        for option in (
            *_ALWAYS,
            f"ControlPath={self._socket}",
            "ControlMaster=yes",
            f"Ciphers={host.ciphers}",
            f"ConnectTimeout={max(1, round(min(30.0, host.timeout)))}",
            f"ServerAliveInterval={max(1, round(host.timeout / 3))}",
            "ServerAliveCountMax=3",
        ):
            argv += ["-o", option]
        if host.known_hosts:
            argv += ["-o", f"UserKnownHostsFile={_quoted(host.known_hosts)}", "-o", "GlobalKnownHostsFile=/dev/null"]
        if host.identity_file:
            argv += ["-o", "IdentitiesOnly=yes", "-i", host.identity_file]
        argv += ["-F", host.config_file] if host.config_file else []
        argv += ["-p", str(host.port)] if host.port else []
        argv += ["-l", host.user] if host.user else []
        return self._begin([*argv, "--", host.host], stop)

    def _mux(self) -> list[str]:
        """Never a connection of its own: where the master is gone, the proxy command fails at once."""
        options = ("ControlMaster=no", f"ControlPath={self._socket}", "ProxyCommand=false", "BatchMode=yes")
        argv = ["ssh", "-F", "/dev/null", "-T", "-x", "-a"]
        for option in (*options, "LogLevel=ERROR"):
            argv += ["-o", option]
        return argv

    def _start(self, argv: list[str], stop: Stop | None) -> Session:
        session = self._begin([*argv, "--", "remote"], stop)
        with self._lock:
            self._all.append(session)
        return session

    def _begin(self, argv: list[str], stop: Stop | None) -> Session:
        session = Session(argv, self.host.timeout)
        done = False
        try:
            session.greet(stop)
            done = True
        finally:
            if not done:
                session.end()
        return session

    def _forget(self, session: Session) -> None:
        if session is self._master:
            self.close()
            return
        with self._lock:
            if session in self._all:
                self._all.remove(session)
        session.end()

    def _blame(self, broken: Broken, place: str) -> SkystowError:
        """Whose fault it is that we cannot talk, with a remedy."""
        said = broken.said
        for pattern, kind, why, remedy in _WHY:
            if re.search(pattern, said):
                message = f"{place}: {self.host}: {why} ({shown(said.splitlines()[-1])})"
                if issubclass(kind, ConfigError):
                    return kind(message, remedy=remedy)
                return kind(message, place=place, remedy=remedy)
        if broken.code in (126, 127):
            return self.unfit(place, "it has no python3", "install python3 (3.6 or later) there", said)
        if broken.heard and not broken.heard.startswith(b"{"):
            noise = shown(broken.heard.split(b"\n")[0][:80].decode("utf-8", "surrogateescape"))
            return self.unfit(
                place,
                f"its shell says ‘{noise}’ before our protocol begins",
                "let its start-up files (.bashrc, .profile) write nothing where no terminal is",
                said,
            )
        text = f"{place}: {self.host}: {broken}" + (f" ({shown(said.splitlines()[-1])})" if said else "")
        return Unreachable(text, place=place)

    def unfit(self, place: str, why: str, remedy: str, said: str = "") -> UnfitHost:
        tail = f" ({shown(said.splitlines()[-1])})" if said else ""
        return UnfitHost(f"{place}: {self.host}: {why}{tail}", place=place, remedy=remedy)


def _quoted(path: str) -> str:
    return '"' + path + '"' if " " in path else path


def _socket_directory() -> str:
    """A directory of ours alone, with a short name: a Unix socket's path ends at 107 bytes, and ssh adds 17."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    path = os.path.join(base, "skystow")
    if not base or len(os.fsencode(path)) > 60 or not os.access(base, os.W_OK | os.X_OK):
        path = f"/tmp/skystow-{os.geteuid()}"  # noqa: S108 - its owner and mode are checked below
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise UnfitPlace(f"{path} is not a directory of ours alone", remedy=f"remove it, or chmod 700 {path}")
    return path
