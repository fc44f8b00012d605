"""The example of MariaDB and SSH together, `examples/smurf-site.yaml`, on this one machine: its tutorial's own commands
set it up, against a real MariaDB and a real sshd. Only hosts, ports, paths and users are other ones."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skystow.simulate import smurf
from skystow.simulate.smurf import INSERT, MONITOR, row, write
from tests.nursery import Nursery
from tests.servers import Server
from tests.sshd import Sshd, sshd

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/smurf-site.yaml"
TUTORIAL = ROOT / "docs/user-guide/smurf-tutorial.md"
BLOCK = re.compile(r"^```(?P<kind>sh|sql|text)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"(?P<command>.*?)\s*# exit (?P<code>\d+)")
LIMIT = 300.0
"""Seconds that a command may take."""

Told = tuple[str, "subprocess.CompletedProcess[str]"]
"""A command, and what came of it."""


def product(number: int) -> smurf.Product:
    """Names and sizes as a SMuRF server has them; the same bytes each time."""
    return smurf.product(number, seed=1)


def md5_of(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def on_host(name: str) -> list[str]:
    """Runs the rest of a command line on a host of another name, as the user that we are."""
    named = ["--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
    if os.geteuid() == 0:
        return ["unshare", *named]
    again = ["unshare", "-U", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
    return ["unshare", "-r", *named, *again]


def sections() -> dict[str, str]:
    """Of the tutorial, by the number in the heading."""
    parts = re.split(r"^## (\d)\. .*$", TUTORIAL.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@dataclass
class Observatory:
    """`home` holds what would be `/etc/skystow`, `/data/smurf_data` and `/archive/pysmurf`."""

    home: Path
    server: Server
    ssh: Sshd
    program: Path
    nursery: Nursery
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def archive(self) -> Path:
        return self.home / "archive"

    @property
    def site(self) -> Path:
        return self.home / "etc/smurf.yaml"

    # ── the tutorial ────────────────────────────────────────────────────────────────────────────────────────────

    def here(self, text: str) -> str:
        """What the tutorial or the example says, for this machine."""
        user = getpass.getuser()
        for theirs, ours in (
            ("dbhost:3306", f"127.0.0.1:{self.server.port}"),
            ("192.0.2.%", "127.0.0.1"),
            ("name: smurf-srv", "name: 127.0.0.1"),
            ("port: 22", f"port: {self.ssh.port}"),
            ("user: data", f"user: {user}"),
            ("-t ed25519 smurf-srv", f"-p {self.ssh.port} -t ed25519 127.0.0.1"),
            ("data@smurf-srv", f"-p {self.ssh.port} {user}@127.0.0.1"),
            ("/etc/skystow", str(self.home / "etc")),
            ("/data/smurf_data", str(self.data)),
            ("/archive/pysmurf", str(self.archive)),
            ("/usr/local/bin/skystow-gate", str(ROOT / "examples/skystow-gate")),
        ):
            text = text.replace(theirs, ours)
        return text

    def play(self, section: str) -> Iterator[Told]:
        """Do what a section of the tutorial says, but for what only root may do to a machine. Each command with what
        came of it, at once; its exit code is compared."""
        for block in BLOCK.finditer(sections()[section]):
            first, _, rest = block["text"].partition("\n")
            who = first.rpartition("as ")[2]
            if block["kind"] == "sql":
                self._sql(who, self.here(rest))
            elif block["kind"] == "text":
                line = block["text"].replace("ssh-ed25519 AAAA… skystow", (self.home / "etc/ssh_key.pub").read_text())
                (self.ssh.here / "authorized_keys").write_text(self.here(line))
            elif who != "root":
                for line in rest.splitlines():
                    yield self._command(line)

    def set_up(self) -> None:
        """Sections 1 to 5: everything is there, no file was registered yet."""
        for section in "12345":
            if section == "5":
                self.site.write_text(self.here(EXAMPLE.read_text("utf-8")))
            for _, done in self.play(section):
                self.shows_no_password(done.stdout + done.stderr)

    def _command(self, line: str) -> Told:
        found = EXPECTED.fullmatch(line)
        command, code = (found["command"], int(found["code"])) if found else (line, 0)
        path = f"{self.program.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", self.here(command)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            cwd=self.home,
            env={**os.environ, "PATH": path},
        )
        assert done.returncode == code, (command, done.stdout, done.stderr)
        return command, done

    def _sql(self, who: str, text: str) -> None:
        for name, password in re.findall(r"CREATE USER '(\w+)'@\S+ IDENTIFIED BY '([^']+)'", text):
            self.passwords[name] = password
        statements = [each for each in text.replace("%", "%%").split(";\n") if each.strip()]
        if who == "root":
            self.server.execute(*statements)
        else:
            self.tell(who, *statements)

    # ── as somebody ─────────────────────────────────────────────────────────────────────────────────────────────

    def connect(self, who: str, database: str = "files") -> Any:
        import pymysql

        password, port = self.passwords[who], self.server.port
        return pymysql.connect(
            host="127.0.0.1", port=port, user=who, password=password, database=database, ssl_disabled=True
        )

    def tell(self, who: str, *statements: str) -> None:
        with closing(self.connect(who)) as session:
            for statement in statements:
                session.cursor().execute(statement)
            session.commit()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(each) for each in self.server.execute(query)]

    # ── the program ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, command: str, *args: str, code: int = 0) -> dict[str, Any]:
        line = [*command.split(), str(self.site), *args, "--json"]
        done = self.nursery.ask(line, cwd=self.home, env=os.environ)
        assert done.returncode == code, (done.stdout[-2000:], done.stderr[-2000:])
        self.shows_no_password(done.stdout + done.stderr)
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def start(self, *prefix: str) -> subprocess.Popen[str]:
        """An archiver that ends when all is done."""
        line = [*prefix, str(self.program), "run", str(self.site), "--once", "--json"]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ended(self, archiver: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = archiver.communicate(timeout=LIMIT)
        assert archiver.returncode == 0, (out[-2000:], err[-2000:])
        self.shows_no_password(out + err)
        said: dict[str, Any] = json.loads(out)
        return said

    def shows_no_password(self, text: str) -> None:
        assert not any(password in text for password in self.passwords.values())

    # ── what the SMuRF server does ──────────────────────────────────────────────────────────────────────────────

    def observe(self, numbers: range) -> None:
        """Write the files of these numbers, and register them as the monitor does."""
        rows = []
        for made in map(product, numbers):
            write(self.data, made)
            rows.append(row(self.data, made))
        with closing(self.connect("monitor")) as session:
            session.cursor().executemany(INSERT.replace("?", "%s"), rows)
            session.commit()

    def archived(self) -> dict[str, Path]:
        """Every file of the archive, by its path there."""
        tops = [each for each in self.archive.iterdir() if each.name != ".skystow"]
        found = [path for top in tops for path in top.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.archive)): path for path in found}

    def compare(self, numbers: range) -> None:
        """Table, tree and ledger with what was registered: each row told, each file there, whole, once."""
        columns = "path, copied, failed_copy_attempts, md5sum, timestamp, instance_id"
        told = self.ask(f"SELECT {columns} FROM files.pysmurf_files_v1 ORDER BY id")  # noqa: S608
        archived = self.archived()
        assert len(told) == len(archived) == len(numbers)
        for (path, copied, failed, md5, at, target), made in zip(told, map(product, numbers), strict=True):
            assert (path, copied, failed) == (str(self.archive / made.archived_as), 1, 0)
            assert (md5, str(at), target) == (md5_of(made.content), row(self.data, made)[2], MONITOR)
            assert archived[made.archived_as].read_bytes() == made.content
        for area in ("staging", "partial"):
            assert not any(path.is_file() for path in self.archive.glob(f".skystow/{area}/**/*"))
        states = "SELECT state, attempts, count(done_at) FROM skystow.transfers GROUP BY state, attempts"
        assert [each[1:] for each in self.ask(states)] == [(0, len(numbers))]
        assert self.events("delivered") == {1: len(numbers)}

    def events(self, step: str) -> dict[int, int]:
        """How many transfers have so many events of a step."""
        each = f"SELECT count(*) n FROM skystow.events WHERE step = '{step}' GROUP BY transfer_id"  # noqa: S608
        return dict(self.ask(f"SELECT n, count(*) FROM ({each}) e GROUP BY n"))  # noqa: S608

    def carriers(self) -> dict[str, int]:
        """How many files each archiver brought."""
        return dict(
            self.ask(
                "SELECT w.host, count(*) FROM skystow.events e JOIN skystow.workers w ON w.id = e.worker_id"
                " WHERE step = 'delivered' GROUP BY w.host"
            )
        )


@contextmanager
def observatory(home: Path, server: Server, program: Path, nursery: Nursery) -> Iterator[Observatory]:
    server.execute("DROP DATABASE IF EXISTS files", "DROP DATABASE IF EXISTS skystow")
    for name in ("monitor", "archiver", "ledger"):
        server.execute(f"DROP USER IF EXISTS '{name}'@'127.0.0.1'")
    for directory in ("etc", "data", "archive"):
        (home / directory).mkdir(parents=True)
    with sshd(home / "it", sessions=10) as ssh:  # as it is by itself
        yield Observatory(home, server, ssh, program, nursery)
    shutil.rmtree(home)
