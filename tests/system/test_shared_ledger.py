"""The real program with its ledger on a database server: the server is killed under it, and several hosts share it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import open_ledger
from skystow.model.transfer import State, Step
from skystow.ports import Dossier
from skystow.testing.ledger_kit import ANNA
from tests.servers import PASSWORD, Server
from tests.system.cli_kit import LIMIT, until

SITE = """\
ledger:
  url: {url}
  password_file: password
sources:
  - {{name: instrument, kind: directory, root: src, quiet_for: 0}}
destinations:
  - {{name: archive, kind: posix, root: dst, min_free: 0, sync: fsync, batch: {{files: {files}}}}}
  - {{name: oods, kind: hardlink, of: archive, root: oods, batch: {{files: {files}}}}}
"""


class Site:
    """A tree of small files to archive and hand off, and a ledger on a server."""

    def __init__(self, server: Server, home: Path, *, files: int, batch: int) -> None:
        self.server, self.home, self.files = server, home, files
        self.database = server.database()
        for name in ("src", "dst", "oods"):
            (home / name).mkdir()
        for n in range(files):
            (home / f"src/{n % 7}").mkdir(exist_ok=True)
            (home / f"src/{n % 7}/{n:04}.fits").write_bytes(b"%d" % n * (n + 1))
        (home / "password").write_text(PASSWORD)
        (home / "password").chmod(0o600)
        url = server.url(self.database, **server.bare)._replace(password=None)
        self.file = home / "site.yaml"
        self.file.write_text(SITE.format(url=url.render_as_string(), files=batch))

    def start(self, *prefix: str) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, "-m", "skystow", "run", "--once", "--json", str(self.file)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def holds(self, files: int) -> bool:
        """So many are archived, at least."""
        return sum(len(names) for _, _, names in os.walk(self.home / "dst")) >= files

    def check_trees(self) -> None:
        """Every file in both trees, whole, once, and nothing else."""
        truth = contents(self.home / "src")
        assert len(truth) == self.files
        assert contents(self.home / "dst") == contents(self.home / "oods") == truth

    def dossiers(self) -> list[Dossier]:
        url = self.server.url(self.database).render_as_string(hide_password=False)
        ledger = open_ledger(url, worker=ANNA, clock=SystemClock())
        try:
            assert ledger.live_tokens() == set()
            ids = {n for path in contents(self.home / "src") for n in ledger.find(path)}
            return [found for n in sorted(ids) if (found := ledger.dossier(n)) is not None]
        finally:
            ledger.close()


def contents(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and ".skystow" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def ended(process: subprocess.Popen[str]) -> dict[str, int]:
    """What it said; all must be well, and no word of a password."""
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, (out, err)
    assert PASSWORD not in out + err
    said: dict[str, int] = json.loads(out)
    return said


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_the_server_is_killed_twice_and_nothing_is_lost_or_doubled(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(kind)
    site = Site(server, tmp_path, files=300, batch=8)
    process = site.start()
    for reached in (40, 160):
        until(partial(site.holds, reached), process)
        server.kill()
        try:
            time.sleep(0.7)  # while it is away the program goes on knocking
            assert process.poll() is None
        finally:
            server.start()
    said = ended(process)
    site.check_trees()
    assert (said["archived"], said["failed"], said["quarantined"], said["conflicts"]) == (300, 0, 0, 0)
    dossiers = site.dossiers()
    assert len(dossiers) == 300
    for dossier in dossiers:
        for copy in dossier.copies:
            steps = [event.step for event in dossier.events if event.destination == copy.route.destination]
            assert (copy.state, copy.attempts, copy.abandoned) == (State.DONE, 0, 0), (dossier.path, steps)
            assert steps.count(Step.DELIVERED) == 1


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_four_hosts_share_one_ledger(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each a process with a host name of its own, all of one source: every file is claimed once, and carried once."""
    site = Site(request.getfixturevalue(kind), tmp_path, files=400, batch=10)
    named = ["unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']
    for process in [site.start(*named, f"host{n}") for n in range(4)]:
        ended(process)
    site.check_trees()
    dossiers = site.dossiers()
    assert len(dossiers) == 400
    carriers = set()
    for dossier in dossiers:
        for copy in dossier.copies:
            events = [event for event in dossier.events if event.destination == copy.route.destination]
            assert [event.step for event in events] == [Step.CLAIMED, Step.DELIVERED]
            carriers |= {event.worker.split(":")[0] for event in events}
    assert len(carriers) > 1
    assert carriers <= {f"host{n}" for n in range(4)}
