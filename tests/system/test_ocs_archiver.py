"""PysmurfArchiverAgent under OCS's own launcher, client and HostManager, on a real crossbar and a real MariaDB."""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.router import Router
from tests.servers import Server
from tests.sshd import Sshd
from tests.system.cli_kit import until
from tests.system.ocs_kit import ARCHIVER, LIMIT, MONITOR, Station, archiver_entry, instead, names, ocs, station

pytestmark = pytest.mark.timeout(300)
BOXED = ["bwrap", "--die-with-parent"]


@pytest.fixture
def here(tmp_path: Path, router: Router, mariadb: Server) -> Iterator[Station]:
    with station(tmp_path / "s", router, mariadb) as made:
        made.configure(archiver_entry(made))
        yield made


def home() -> Path:
    """As ssh sees it: by the list of users, whatever HOME says."""
    return Path(f"~{getpass.getuser()}").expanduser()


def test_from_the_documents_own_entry(here: Station) -> None:
    """`/data` is the station's: files in `/data/smurf_data`, the archive in `/data/pysmurf`."""
    here.configure(
        {
            "agent-class": "PysmurfArchiverAgent",
            "instance-id": ARCHIVER,
            "arguments": [["--data-dir", "/data/pysmurf"], ["--target", "pysmurf-monitor"]],
        }
    )
    data = here.home / "data"
    data.mkdir()
    here.src.rename(data / "smurf_data")
    here.dst.rename(data / "pysmurf")
    here.src.symlink_to(data / "smurf_data")
    here.dst.symlink_to(data / "pysmurf")
    here.register(names(50), seen_in=Path("/data/smurf_data"))
    here.start(ARCHIVER, prefix=[*BOXED, *instead(Path("/"), {"data": data})])
    client = here.client(ARCHIVER)
    session = here.until(client, lambda session: session["data"].get("archived") == 50)
    assert (session["status"], session["degraded"], session["op_code"]) == ("running", False, 3)
    assert (session["data"]["backlog"], session["data"]["oldest_waiting"], session["data"]["fault"]) == (0, None, "")
    last = session["data"]["last_files"]
    assert len(last) == 10
    assert all(each["file"].startswith("/data/pysmurf/15647/tune_band/") and each["size"] for each in last)
    here.until(client, lambda session: session["data"]["rates"]["files_per_s"] > 0)
    until(lambda: here.copied() == 50)
    assert {path.name for path in (data / "pysmurf/15647/tune_band").iterdir()} == here.archived().keys()
    here.has_all(names(50))


def test_from_another_host_by_ssh(here: Station, tmp_path: Path) -> None:
    """By what `~/.ssh` says, as in a container whose home is a volume. The arguments are a flat list."""
    host = Sshd(tmp_path / "it", name="smurf-srv")
    host.prepare()
    host.start()
    ssh = here.home / "ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "config").write_text((host.here / "ssh_config").read_text())
    flat = ["--data-dir", here.dst, "--host", f"{getpass.getuser()}@smurf-srv", "--mode", "run", "--target", MONITOR]
    entry = archiver_entry(here) | {"arguments": [*map(str, flat), "--smurf-root", str(here.src)]}
    here.configure(entry)
    here.register(names(50))
    try:
        box = [*instead(Path("/"), {}), *instead(home(), {".ssh": ssh})]
        here.start(ARCHIVER, prefix=[*BOXED, *box])
        client = here.client(ARCHIVER)
        here.until(client, lambda session: session["data"].get("archived") == 50)
        until(lambda: here.copied() == 50)
        here.has_all(names(50))
        host.stop()
        here.register(names(10, 50))
        session = here.until(client, lambda session: session["degraded"])
        assert session["op_code"] == 8
        assert session["data"]["places"]["smurf"]["well"] is False
        host.start()
        here.until(client, lambda session: not session["degraded"] and session["data"]["archived"] == 60)
    finally:
        host.stop()
    until(lambda: here.copied() == 60)
    here.has_all(names(60))


def test_stopped_and_started_again_while_files_come(here: Station) -> None:
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    for n in range(3):
        here.register(names(40, 40 * n))
        here.until(client, lambda session: session["data"].get("archived", 0) > 0)
        assert client.run.stop()[0] == 0
        ended = client.run.wait(timeout=30)
        assert (ended[0], ended[2]["status"], ended[2]["success"]) == (0, "done", True)
        here.register(names(10, 1000 + 10 * n))
        assert client.run.start()[0] == 0
    until(lambda: here.copied() == 150)
    assert client.run.start()[0] == -1, "it runs already"
    here.has_all([*names(120), *names(30, 1000)])
    assert here.stop(ARCHIVER) == 0, "SIGTERM ends it in order"


def test_killed_in_the_middle(here: Station) -> None:
    for n in range(3):
        here.register(names(100, 100 * n))
        here.start(ARCHIVER)
        until(lambda: len(here.archived()) > 100 * n + 10, here.running[ARCHIVER])  # type: ignore[arg-type]  # noqa: B023
        here.stop(ARCHIVER, signal.SIGKILL)
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    here.until(client, lambda session: session["data"].get("backlog") == 0 and here.copied() == 300)
    here.has_all(names(300))


def test_a_router_that_comes_later(here: Station) -> None:
    """It archives from boot, and can be ended, without one."""
    here.router.kill()
    try:
        for n in range(2):
            here.register(names(20, 20 * n))
            here.start(ARCHIVER)
            until(lambda: here.copied() == 20 + 20 * n, here.running[ARCHIVER])  # type: ignore[arg-type]  # noqa: B023
            if n == 0:
                assert here.stop(ARCHIVER) == 0
    finally:
        here.router.start()
    here.until(here.client(ARCHIVER), lambda session: session["data"]["archived"] == 20)
    here.has_all(names(40))


def test_one_that_the_router_will_not_have_goes_on_and_is_there_later(here: Station) -> None:
    """As after a restart while the router still knows the predecessor, whose name is taken."""
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    here.until(client, lambda session: session["status"] == "running")
    first = here.running[ARCHIVER]
    here.start(ARCHIVER)
    until(lambda: "Is this agent already running?" in here.said(ARCHIVER))
    until(lambda: "nobody asked: the work goes on" in here.said(ARCHIVER))
    first.kill()
    first.wait(LIMIT)
    here.register(names(20))
    until(lambda: here.copied() == 20, here.running[ARCHIVER])  # type: ignore[arg-type]
    session = here.until(client, lambda session: session["data"].get("archived") == 20)
    assert session["status"] == "running"
    here.has_all(names(20))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_without_a_router_it_archives_and_is_back_by_itself(here: Station, how: str) -> None:
    """Longer than OCS's own patience is with the site file's `crossbar_timeout: 1`."""
    here.configure(archiver_entry(here), crossbar_timeout=1)
    here.register(names(20))
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    before = here.until(client, lambda session: session["data"].get("archived") == 20)
    getattr(here.router, how)()
    try:
        until(lambda: "transport disconnected" in here.said(ARCHIVER))
        here.register(names(20, 20))
        until(lambda: here.copied() == 40, here.running[ARCHIVER])  # type: ignore[arg-type]
    finally:
        here.router.start()
    after = here.until(client, lambda session: session["data"].get("archived") == 40)
    assert after["session_id"] == before["session_id"], "the process was never stopped"
    here.alive(ARCHIVER)
    here.has_all(names(40))
    if how == "stop":
        return
    here.router.kill()
    try:
        until(lambda: here.said(ARCHIVER).count("transport disconnected") > 1)
        assert here.stop(ARCHIVER) == 0, "SIGTERM ends it in order without a router, too"
    finally:
        here.router.start()


def test_the_database_is_away_for_a_while(here: Station) -> None:
    here.register(names(20))
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    here.until(client, lambda session: session["data"].get("archived") == 20)
    until(lambda: here.copied() == 20)
    here.server.kill()
    try:
        session = here.until(client, lambda session: session["degraded"])
        assert (session["status"], session["op_code"]) == ("running", 8)
        table = session["data"]["places"]["smurf table"]
        assert table["well"] is False
        assert "Can't connect" in table["reason"] or "Lost connection" in table["reason"]
    finally:
        here.server.start()
    here.register(names(20, 20))
    here.until(client, lambda session: not session["degraded"] and session["data"]["archived"] == 40)
    until(lambda: here.copied() == 40)
    here.has_all(names(40))


def test_it_ends_in_time_while_the_database_takes_statements_and_answers_none(here: Station) -> None:
    here.register(names(20))
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    here.until(client, lambda session: session["data"].get("archived") == 20)
    until(lambda: here.copied() == 20)
    with here.server.frozen():
        begun = here.data(client)["data"]["timestamp"]
        here.until(client, lambda session: session["data"]["timestamp"] > begun + 7)  # a look at the table is stuck
        assert client.run.stop()[0] == 0
        assert client.run.wait(timeout=40)[0] == 0
        assert here.data(client)["success"] is True
    assert client.run.start()[0] == 0
    here.register(names(5, 20))
    until(lambda: here.copied() == 25)
    here.has_all(names(25))


def test_tasks_and_feed(here: Station) -> None:
    here.register(names(5))
    (here.src / names(1)[0]).write_bytes(b"moonlight")
    listen = [ocs("ocs-client-cli"), "--site-file", here.home / "config/default.yaml", "listen", "--json"]
    with subprocess.Popen(
        [*map(str, listen), f"observatory.{ARCHIVER}.feeds.archiver_stats"], stdout=subprocess.PIPE, text=True
    ) as listener:
        try:
            here.start(ARCHIVER)
            client = here.client(ARCHIVER)
            here.until(client, lambda session: session["data"].get("archived") == 4)
            assert listener.stdout is not None
            message, feed = json.loads(listener.stdout.readline())["message"]
        finally:
            listener.kill()
    block = message["archiver_stats"]
    assert (feed["record"], feed["agent_class"]) == (True, "PysmurfArchiverAgent")
    assert {len(values) for values in block["data"].values()} == {1} == {len(block["timestamps"])}
    assert {"archived", "backlog", "oldest_waiting_s", "files_per_s", "degraded"} <= block["data"].keys()

    wrong = here.src / names(1)[0]
    there = f"15647/tune_band/{wrong.name}"
    status, _, session = client.trace(file=there)
    assert (status, session["success"]) == (0, True)
    assert (session["data"]["state"], session["data"]["origin"]) == ("waiting", str(wrong))
    assert "digest" in session["data"]["copies"][0]["fault"]
    assert client.trace(file="nobody's")[2]["success"] is False
    assert client.trace()[0] == -1, "OCS names the parameter that is missing"
    assert client.retry()[2]["success"] is False
    found = client.verify()[2]
    assert (found["success"], found["data"]["verified"], found["data"]["damaged"]) == (True, 4, 0)
    archived = next(path for path in here.dst.rglob("*_tuning.txt"))
    archived.chmod(0o644)
    archived.write_bytes(b"eclipse")
    found = client.verify(destination="archive")[2]
    assert (found["success"], found["data"]["verified"], found["data"]["damaged"]) == (False, 3, 1)


def test_retry_brings_home_what_had_failed_too_often(here: Station) -> None:
    here.register(names(2))
    here.ask("UPDATE pysmurf_files_v1 SET failed_copy_attempts = 5 ORDER BY id LIMIT 1")
    here.start(ARCHIVER)
    client = here.client(ARCHIVER)
    session = here.until(client, lambda session: session["data"].get("archived") == 1)
    assert session["data"]["quarantined"] == 1
    assert client.retry(all=True)[2]["data"]["requeued"] == 1
    here.until(client, lambda session: session["data"]["archived"] == 2)
    until(lambda: here.copied() == 2)
    here.has_all(names(2))


def test_ocs_finds_it_and_its_host_manager_starts_and_stops_it(here: Station) -> None:
    manager = {"agent-class": "HostManager", "instance-id": "hm-station", "arguments": []}
    here.configure(manager, archiver_entry(here) | {"manage": "host/up"})
    here.register(names(10))
    here.start("hm-station")
    client = here.client(ARCHIVER)
    here.until(client, lambda session: session["data"].get("archived") == 10)
    options = ["--site-file", str(here.home / "config/default.yaml"), "scan", "--details"]
    scanned = subprocess.run(
        [ocs("ocs-client-cli"), *options], capture_output=True, text=True, timeout=LIMIT, check=True, env=None
    ).stdout
    for word in (ARCHIVER, "hm-station", "run", "retry", "trace", "verify"):
        assert word in scanned
    assert here.client("hm-station").update(requests=[(ARCHIVER, "down")])[0] == 0
    until(lambda: not _answers(here))
    here.has_all(names(10))
    here.stop("hm-station")


def _answers(here: Station) -> bool:
    from ocs.ocs_client import OCSClient

    try:
        OCSClient(ARCHIVER, args=["--site-file", str(here.home / "config/default.yaml")])
    except RuntimeError:
        return False
    return True
