"""A real sshd of the tests' own: its own keys, configuration and port, stopped by its pid. All in a directory.

`Sshd.host()` is a `RemoteHost` that reaches it; `Sshd.config(...)` gives one that says more, for faults on purpose.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from skystow.model.remote import RemoteHost

SSHD = "/usr/sbin/sshd"  # absolute: it starts itself again for each connection
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {here}/host_key
PidFile {here}/sshd.pid
AuthorizedKeysFile {here}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 200
MaxSessions {sessions}
AllowTcpForwarding no
{environment}
{more}
"""
CLIENT = """\
Host {name} {name}-again
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {here}/client_key
    IdentitiesOnly yes
    UserKnownHostsFile {here}/known_hosts
    GlobalKnownHostsFile /dev/null
"""


def keygen(path: Path) -> str:
    """Make a key; returns its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)
    return path.with_name(path.name + ".pub").read_text()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Sshd:
    """`here`: its directory; `home` in it is the home directory of whoever logs in."""

    here: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    path: str = "/usr/bin:/bin"
    name: str = "archive-host"
    sessions: int = 100
    """Of one connection; 10 is what sshd has by itself."""

    def prepare(self) -> None:
        (self.here / "home").mkdir(parents=True)
        host_key = keygen(self.here / "host_key")
        (self.here / "authorized_keys").write_text(keygen(self.here / "client_key"))
        (self.here / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        client = CLIENT.format(name=self.name, port=self.port, user=getpass.getuser(), here=self.here)
        (self.here / "ssh_config").write_text(client)

    def start(self, more: str = "") -> None:
        environment = f"SetEnv HOME={self.here}/home PATH={self.path}"
        text = CONFIG.format(port=self.port, here=self.here, more=more, environment=environment, sessions=self.sessions)
        (self.here / "sshd_config").write_text(text)
        argv = [SSHD, "-D", "-e", "-f", str(self.here / "sshd_config")]
        if os.geteuid() == 0:  # it wants /run/sshd: one in a mount namespace of its own
            script = 'mount -t tmpfs -o mode=755 tmpfs /run && mkdir -m 755 /run/sshd && exec "$@"'
            argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *argv]
        with open(self.here / "log", "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        due = time.monotonic() + 10
        while not self._answers():
            assert self.process.poll() is None, (self.here / "log").read_text()
            assert time.monotonic() < due, "sshd does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                return line.recv(8).startswith(b"SSH-2.0")
        except OSError:
            return False

    def children(self) -> list[int]:
        """Everything that runs below sshd at this moment."""
        assert self.process is not None
        found: list[int] = []
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            found += map(int, below)
            waiting += map(int, below)
        return found

    def signal_all(self, number: int) -> None:
        """To every process of every connection, not to sshd itself."""
        for pid in self.children():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self) -> None:
        """sshd and all its connections."""
        if self.process is None:
            return
        below = self.children()
        for number in (signal.SIGCONT, signal.SIGKILL):
            for pid in (*below, self.process.pid):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
        self.process.wait(10)
        self.process = None

    def host(self, **more: object) -> RemoteHost:
        said: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "identity_file": str(self.here / "client_key"),
            "known_hosts": str(self.here / "known_hosts"),
            "config_file": "/dev/null",
            "timeout": 10.0,
        }
        return RemoteHost(**{**said, **more})  # type: ignore[arg-type]


@contextmanager
def sshd(here: Path, more: str = "", *, path: str = "/usr/bin:/bin", sessions: int = 100) -> Iterator[Sshd]:
    one = Sshd(here, path=path, sessions=sessions)
    one.prepare()
    one.start(more)
    try:
        yield one
    finally:
        one.stop()
