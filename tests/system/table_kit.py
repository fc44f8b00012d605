"""What the tests of tables share: a site with one, and the table as its monitor sees and writes it."""

from __future__ import annotations

import getpass
import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.sshd import Sshd
from tests.system.cli_kit import Bench

TABLE = "pysmurf_files_v1"
AT = "2019-08-03 02:27:30"
"""Of the rows, unless a test says otherwise; its first five digits are 15647."""

SITE = """\
ledger: sqlite:///ledger.db
sources:
  - name: smurf
    kind: pysmurf_files
    table: {{url: "{url}", password_env: TABLE_PASSWORD}}
    version: {version}
    targets: [monitor]
    root: {root}
    poll: 100ms
    {more}
destinations:
  - {{name: archive, kind: posix, root: dst, min_free: 0}}
{destinations}
retry: {{first: 20ms, factor: 1, max_attempts: {attempts}}}
"""

ORIGINAL = """\
CREATE TABLE pysmurf_files_v1 (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, path VARCHAR(260) NOT NULL,
action VARCHAR(32), timestamp TIMESTAMP NULL, action_timestamp INT, format VARCHAR(32), plot TINYINT(1),
site VARCHAR(32), pub_id VARCHAR(32), script_id VARCHAR(32), instance_id VARCHAR(32), copied TINYINT(1),
failed_copy_attempts INT, md5sum BINARY(16) NOT NULL, pysmurf_version VARCHAR(64), socs_version VARCHAR(64))"""
"""As the original made it: without an index."""

HOST = """\
host:
      name: 127.0.0.1
      port: {0.port}
      user: {1}
      identity_file: {0.here}/client_key
      known_hosts: {0.here}/known_hosts
      config_file: /dev/null
      timeout: 10s"""


def said_of(host: Sshd) -> str:
    """For a site file: how a host is reached."""
    return HOST.format(host, getpass.getuser())


@dataclass
class Desk:
    """A site over one table; `connect` is somebody else's session with it."""

    bench: Bench
    url: str
    connect: Callable[[], Any]
    mark: str
    """How a value is written in a statement: ? or %s."""
    password: str = ""
    version: str = "v1"
    far: bool = False
    """The files are on a host of `more`."""
    ids: list[int] = field(default_factory=list)

    @property
    def table(self) -> str:
        return f"pysmurf_files_{self.version}"

    @property
    def site(self) -> Path:
        return self.bench.here / "site.yaml"

    def write_site(self, more: str = "", destinations: str = "", attempts: int = 2) -> None:
        for name in ("src", "dst", "oods"):
            (self.bench.here / name).mkdir(exist_ok=True)
        places = {"root": self.bench.src if self.far else "src", "destinations": destinations}
        text = SITE.format(url=self.url, version=self.version, more=more, attempts=attempts, **places)
        self.site.write_text(text)

    # ── the program ─────────────────────────────────────────────────────────────────────────────────────────────

    def sign_in_with(self, password: str) -> None:
        self.password = password

    @property
    def env(self) -> dict[str, str]:
        return {"TABLE_PASSWORD": self.password}

    def run(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        return self.bench.run(*args, env=self.env)

    def json(self, *args: str | Path, code: int = 0) -> dict[str, Any]:
        done = self.run(*args, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def once(self, code: int = 0, *options: str) -> dict[str, Any]:
        return self.json("run", self.site, "--once", *options, code=code)

    # ── the table ───────────────────────────────────────────────────────────────────────────────────────────────

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as session:
            cursor = session.cursor()
            cursor.execute(statement.replace("?", self.mark), tuple(values))
            rows = list(cursor.fetchall()) if cursor.description else []
            session.commit()
            if cursor.lastrowid:
                self.ids.append(cursor.lastrowid)
            return rows

    def register(self, path: str | None, content: bytes | None = b"starlight", **row: Any) -> int:
        """As the monitor does it: nones are left out. Returns the row's id."""
        md5 = hashlib.md5(content or b"", usedforsecurity=False).digest()
        values = {"path": path, "timestamp": AT, "instance_id": "monitor", "copied": 0, "failed_copy_attempts": 0}
        values |= {"action": "tune_band"} if self.version == "v1" else {"type": "tuning"}
        values |= {"md5sum": md5} | row
        values = {name: value for name, value in values.items() if value is not None}
        marks = ", ".join("?" for _ in values)
        self.execute(f"INSERT INTO {self.table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))  # noqa: S608
        return self.ids[-1]

    def write(self, name: str, content: bytes = b"starlight", **row: Any) -> int:
        """A file, and the row that registers it."""
        self.bench.write(name, content)
        return self.register(str(self.bench.src / name), content, **row)

    def row(self, number: int) -> Mapping[str, Any]:
        names = ("path", "copied", "failed_copy_attempts", "timestamp")
        found = self.execute(f"SELECT {', '.join(names)} FROM {self.table} WHERE id = ?", [number])  # noqa: S608
        return dict(zip(names, found[0], strict=True))

    def verdict(self, number: int) -> tuple[str, int | None, int | None]:
        """Path, copied, failed_copy_attempts."""
        row = self.row(number)
        return row["path"], row["copied"], row["failed_copy_attempts"]

    def archived(self) -> dict[str, bytes]:
        dst = self.bench.dst
        found = (path for path in dst.rglob("*") if path.is_file() and ".skystow" not in path.parts)
        return {str(path.relative_to(dst)): path.read_bytes() for path in found}

    def untouched(self, number: int, name: str) -> bool:
        """Nothing was done with a file, nor said of it."""
        return self.verdict(number) == (str(self.bench.src / name), 0, 0) and self.archived() == {}

    def comes_home(self, number: int, name: str = "a.txt", content: bytes = b"starlight") -> None:
        """Nothing was lost: the next run brings it."""
        assert self.once()["archived"] == 1
        where = f"15647/tune_band/{name}"
        assert self.archived() == {where: content}
        assert self.verdict(number) == (str(self.bench.dst / where), 1, 0)

    def dead(self) -> dict[str, str]:
        """Reasons by key."""
        letters = self.json("dead-letters", "list", self.site)["dead_letters"]
        return {each["key"]: each["reason"] for each in letters}


def sqlite_desk(bench: Bench) -> Desk:
    path = bench.here / "smurf.db"
    desk = Desk(bench, "sqlite:///smurf.db", lambda: sqlite3.connect(path, timeout=30), "?")
    desk.write_site()
    return desk


def server_desk(bench: Bench, url: sa.URL, password: str) -> Iterator[Desk]:
    import pymysql

    def connect() -> Any:
        return pymysql.connect(
            host=url.host, port=url.port or 3306, user=url.username, password=password, database=url.database
        )

    address = url._replace(password=None, drivername="mysql").render_as_string()
    desk = Desk(bench, address, connect, "%s", password)
    desk.write_site()
    yield desk
