"""The pages of the OCS agents and what is in deploy/ocs: each entry is understood, and is what the page says it is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.router import CONFIG

from skystow.config import read
from skystow.config.pysmurf_agent import AgentOptions, agent_site

ROOT = Path(__file__).resolve().parents[2]
ARCHIVER = ROOT / "docs/user-guide/pysmurf-archiver-agent.md"
MONITOR = ROOT / "docs/user-guide/pysmurf-monitor.md"
DEPLOY = ROOT / "deploy/ocs"
ENVIRON = {"MYSQL_HOST": "db", "MYSQL_USER": "archiver", "MYSQL_PASSWORD": "secret"}


def blocks(page: Path, begin: str) -> list[Any]:
    texts = re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(text) for text in texts if text.startswith(begin)]


def entries() -> list[dict[str, Any]]:
    shown = [entry for page in (ARCHIVER, MONITOR) for block in blocks(page, "- agent-class") for entry in block]
    site = yaml.safe_load((DEPLOY / "config/default.yaml").read_text())
    return [*shown, *site["hosts"]["localhost"]["agent-instances"]]


def options(entry: dict[str, Any]) -> Any:
    from skystow.hosts import ocs_parsers

    words = [w for each in entry["arguments"] for w in (each if isinstance(each, list) else [each])]
    made = {"PysmurfArchiverAgent": ocs_parsers.archiver_parser, "PysmurfMonitor": ocs_parsers.monitor_parser}
    return made[entry["agent-class"]]().parse_args(words)


def site_of(entry: dict[str, Any]) -> Any:
    said = options(entry)
    return agent_site(AgentOptions(said.data_dir, said.target, said.host, said.user, said.smurf_root), ENVIRON)


def test_each_entry_that_is_shown_is_understood() -> None:
    found = entries()
    assert [entry["agent-class"] for entry in found].count("PysmurfArchiverAgent") == 3
    assert [entry["agent-class"] for entry in found].count("PysmurfMonitor") == 2
    for entry in found:
        said = options(entry)
        if entry["agent-class"] == "PysmurfArchiverAgent":
            assert said.target == ["pysmurf-monitor"]
            site_of(entry)
        else:
            assert (said.udp_port, said.create_table.lower()) == (8200, "true")


def test_the_site_file_that_is_the_same() -> None:
    (block,) = blocks(ARCHIVER, "sources:")
    far = next(entry for entry in entries() if "data@smurf-srv" in str(entry))
    assert site_of(far) == read(yaml.safe_dump(block), directory="/")


def test_every_key_of_the_session_is_on_its_page() -> None:
    from skystow.wiring.attended import NOTHING

    page = ARCHIVER.read_text("utf-8")
    assert [key for key in (*NOTHING, "timestamp", "fault") if f"`{key}`" not in page] == []


def test_the_compose_entry_of_the_page_is_that_of_the_stack() -> None:
    stack = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    (shown,) = (block["ocs-pysmurf-archiver"] for block in blocks(ARCHIVER, "ocs-pysmurf-archiver:"))
    ours = stack["ocs-pysmurf-archiver"]
    assert {key: ours[key] for key in ("image", "user", "network_mode", "restart", "command")} == {
        key: shown[key] for key in ("image", "user", "network_mode", "restart", "command")
    }
    assert ours["environment"].keys() == shown["environment"].keys()
    assert [volume.partition(":/")[2] for volume in shown["volumes"]] == ["config:ro", "home/ocs", "data"]
    assert [volume.rpartition("}")[2].partition(":/")[2] for volume in ours["volumes"]] == [
        volume.partition(":/")[2] for volume in shown["volumes"]
    ]


def test_the_image_has_the_user_whose_home_ssh_looks_in() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert "useradd --uid 9000 --gid ocs --create-home --home-dir /home/ocs" in text
    assert re.search(r"^USER 9000:9000$", text, re.MULTILINE)
    assert "openssh-client" in text
    assert "rsync" in text


def test_the_router_listens_on_loopback_alone() -> None:
    (transport,) = json.loads(CONFIG.read_text())["workers"][0]["transports"]
    assert transport["endpoint"] == {"type": "tcp", "port": 8001, "interface": "127.0.0.1"}


@pytest.mark.parametrize("name", ["run-ocs", "ocs/prepare"])
def test_the_scripts_say_what_they_take(name: str) -> None:
    command = [str(ROOT / "deploy" / name), *(["--nonsense"] if name == "run-ocs" else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"deploy/{name}" in done.stderr


def test_the_monitor_listens_on_loopback_unless_told_otherwise() -> None:
    """Which the stack does: its publishers are on other hosts."""
    from skystow.hosts.ocs_parsers import monitor_parser

    assert monitor_parser().parse_args([]).udp_host == "127.0.0.1"
    text = (ROOT / "deploy/ocs/config/default.yaml").read_text()
    assert "['--udp-host', '0.0.0.0']" in text
    assert "['--udp-host', '0.0.0.0']" in (ROOT / "docs/user-guide/pysmurf-monitor.md").read_text()
