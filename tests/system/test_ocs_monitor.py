"""PysmurfMonitor under OCS's own launcher and client: real crossbar, real MariaDB, real datagrams; with the archiver
beside it, from the publisher's datagram to the archive."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.publisher import Publisher
from tests.router import Router
from tests.servers import Server, free_port
from tests.system.cli_kit import until
from tests.system.ocs_kit import ARCHIVER, LIMIT, MONITOR, Station, archiver_entry, content, names, ocs, station
from tests.system.table_kit import TABLE

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def here(tmp_path: Path, router: Router, mariadb: Server) -> Iterator[Station]:
    with station(tmp_path / "s", router, mariadb) as made:
        yield made


@pytest.fixture
def speaker(here: Station) -> Publisher:
    port = free_port()
    here.configure(archiver_entry(here), monitor_entry(here, port))
    return Publisher(port)


def monitor_entry(here: Station, port: int, *more: Any) -> dict[str, Any]:
    arguments = [["--udp-port", str(port)], ["--udp-host", "127.0.0.1"], ["--root", str(here.src)], *more]
    return {"agent-class": "PysmurfMonitor", "instance-id": MONITOR, "arguments": arguments}


def write(here: Station, those: list[str]) -> list[Path]:
    for name in those:
        (here.src / name).parent.mkdir(parents=True, exist_ok=True)
        (here.src / name).write_bytes(content(name))
    return [here.src / name for name in those]


def count(here: Station) -> int:
    return int(here.ask(f"SELECT COUNT(*) FROM {TABLE}")[0][0])  # noqa: S608


def test_a_thousand_files_from_datagram_to_archive(here: Station, speaker: Publisher) -> None:
    """Both are killed in the middle, and the database is."""
    paths = write(here, names(1_000))
    here.start(MONITOR)
    here.start(ARCHIVER)
    monitor, archiver = here.client(MONITOR), here.client(ARCHIVER)
    here.until(monitor, lambda session: session["status"] == "running" and bool(session["data"]))
    for path in paths[:400]:
        speaker.register(path)
    here.until(monitor, lambda session: session["data"]["counts"].get("received", 0) >= 400)
    here.until(monitor, lambda session: session["data"]["spool"]["held"] == 0)
    here.stop(MONITOR, signal.SIGKILL)
    here.start(MONITOR)
    monitor = here.client(MONITOR)
    here.until(monitor, lambda session: session["status"] == "running" and bool(session["data"]))
    here.server.kill()
    try:
        for path in paths[400:800]:
            speaker.register(path)
        session = here.until(monitor, lambda session: session["data"]["counts"].get("files", 0) >= 400)
        here.until(monitor, lambda session: session["degraded"] and session["op_code"] == 8)
        assert session["data"]["spool"]["waiting"] >= 400
        here.stop(ARCHIVER, signal.SIGKILL)
    finally:
        here.server.start()
    here.start(ARCHIVER)
    for path in paths[800:]:
        speaker.register(path)
    until(lambda: count(here) == 1_000)
    here.until(monitor, lambda session: not session["degraded"] and session["data"]["spool"]["waiting"] == 0)
    archiver = here.client(ARCHIVER)
    here.until(archiver, lambda session: session["data"].get("backlog") == 0 and here.copied() == 1_000)
    here.has_all(names(1_000))
    assert here.ask("SELECT COUNT(*), MIN(size), MIN(deletable) FROM skystow_pysmurf_extra")[0][0] == 1_000
    found = here.data(monitor)["data"]
    assert found["counts"].get("lost", 0) == 0
    assert here.stop(MONITOR) == 0
    row = here.ask(f"SELECT timestamp, action_timestamp, site, pub_id, instance_id FROM {TABLE} LIMIT 1")[0]  # noqa: S608
    assert (str(row[0]), *row[1:]) == ("2019-08-03 02:27:30", 1564799249, "observatory", "crate1slot2", MONITOR)


def test_news_reach_feeds_and_feeds_are_bounded(here: Station, speaker: Publisher) -> None:
    here.configure(monitor_entry(here, speaker.port, ["--max-feeds", "2"]))
    here.start(MONITOR)
    client = here.client(MONITOR)
    here.until(client, lambda session: bool(session["data"]))
    speaker.id = "STREAMER:ufm-one"
    for poison in ("\ud800", 2**63):
        speaker.publish("metadata", {"path": "AMCc.x[1", "value": poison})
        speaker.publish("session_data", {"stage": poison})
    listen = [ocs("ocs-client-cli"), "--site-file", str(here.home / "config/default.yaml"), "listen", "--json"]
    heard: list[Any] = []
    with subprocess.Popen(
        [*listen, f"observatory.{MONITOR}.feeds."], stdout=subprocess.PIPE, text=True
    ) as listener:  # fmt: skip
        lines: Queue[str] = Queue()
        threading.Thread(target=lambda: deque(map(lines.put, listener.stdout or ()), 0), daemon=True).start()

        def both() -> bool:
            _speak(speaker, client, here)
            with suppress(Empty):
                while True:
                    heard.append(json.loads(lines.get(timeout=0.3)))
            return {"ufm_one_meta", "pysmurf_session_data"} <= {each["topic"].rpartition(".")[2] for each in heard}

        try:
            until(both)
        finally:
            listener.kill()
    reading = next(each["message"] for each in heard if each["topic"].endswith(".ufm_one_meta"))
    assert reading[0]["AMCc_x_1"]["data"] == {"AMCc_x_1": [1.5]}
    assert reading[1]["record"] is True
    session = next(each["message"][0] for each in heard if each["topic"].endswith(".pysmurf_session_data"))
    assert (session["id"], session["payload"]) == ("STREAMER:ufm-one", {"stage": "tuned"})
    found = here.until(client, lambda session: session["data"]["feeds_refused"] > 0)
    assert found["data"]["counts"]["malformed"] == 4
    assert found["data"]["feeds_failed"] == 0


def _speak(speaker: Publisher, client: Any, here: Station) -> bool:
    for stream in ("ufm-one", "ufm-two", "ufm-three"):
        speaker.id = f"STREAMER:{stream}"
        speaker.publish("metadata", {"path": "AMCc.x[1", "value": 1.5, "type": "double"})
    speaker.id = "STREAMER:ufm-one"
    speaker.publish("session_data", {"stage": "tuned"})
    return bool(here.data(client)["data"]["counts"].get("sessions"))


def test_a_monitor_without_a_table_makes_it_if_it_may(here: Station, speaker: Publisher) -> None:
    here.ask(f"DROP TABLE {TABLE}")
    (path,) = write(here, names(1))
    here.start(MONITOR)
    client = here.client(MONITOR)
    here.until(client, lambda session: bool(session["data"]))
    speaker.register(path)
    session = here.until(client, lambda session: session["degraded"])
    assert "there is no such table" in session["data"]["faults"]["table"]
    here.stop(MONITOR, signal.SIGKILL)
    here.configure(monitor_entry(here, speaker.port, ["--create-table", "True"], ["--test-mode"]))
    here.start(MONITOR)
    client = here.client(MONITOR)
    here.until(client, lambda session: session["data"].get("spool", {}).get("waiting") == 0)
    speaker.publish("log", {})
    ended = here.until(client, lambda session: session["status"] == "done")
    assert ended["success"] is True, "a test ends when all that was received is registered"
    assert count(here) == 1


def test_what_an_operator_got_wrong_is_named(here: Station, speaker: Publisher) -> None:
    def refused(*more: Any, env: dict[str, str | None] | None = None) -> str:
        here.configure(monitor_entry(here, speaker.port, *more))
        assert here.start(MONITOR, env=env).wait(LIMIT) == 2
        said = here.said(MONITOR)
        assert "Traceback" not in said
        return said

    assert "no MYSQL_HOST" in refused(env={"MYSQL_HOST": None})
    assert "--udp-port: 77777 is no port" in refused(["--udp-port", "77777"])
    assert "by their whole paths" in refused(["--root", "here"])
    here.configure(monitor_entry(here, speaker.port, ["--spool", f"{here.home}/config/default.yaml/x"]))
    here.start(MONITOR)
    session = here.until(here.client(MONITOR), lambda session: session["degraded"])
    assert "no directory for the spool" in session["data"]["faults"]["monitor"]
