"""What is in deploy/ fits together, and to the program; the stack itself is played by `deploy/run-stack`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from skystow.adapters.secrets import password
from skystow.config import load
from skystow.errors import ConfigError
from skystow.wiring.image import component_names
from tests.system.cli_kit import until
from tests.system.night_kit import settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
EXAMPLE = DEPLOY.parent / "examples/observatory.yaml"
SITE = "/etc/skystow/site.yaml"
LIMIT = 60.0


def _stages() -> dict[str, str]:
    """Of the Containerfile, by name: its lines, each whole."""
    text = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    parts = re.split(r"^FROM (?:\S+) AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _said(stage: str, word: str) -> list[str]:
    """The arguments of the last such instruction, which is in exec form."""
    line = re.findall(rf"^{word}\b.*?(\[.*\])$", _stages()[stage], re.MULTILINE)[-1]
    return [str(each) for each in json.loads(line)]


TARGETS = [stage for stage in _stages() if stage.startswith("skystow-")]


def _components() -> dict[str, str]:
    """The name of the component in each image."""
    return {target: [*_said(target, "ENTRYPOINT"), *_command(target)][-1] for target in TARGETS}


def _command(target: str) -> list[str]:
    return _said(target, "CMD") if re.search(r"^CMD", _stages()[target], re.MULTILINE) else []


def _compose(name: str = "compose.yaml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text("utf-8"))
    return loaded


# ── images ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_there_is_an_image_for_each_component_of_the_example() -> None:
    assert sorted(_components().values()) == sorted(component_names(load(str(EXAMPLE))))


def test_every_image_is_an_ordinary_users_and_is_asked_how_it_is() -> None:
    stages = _stages()
    for target, component in _components().items():
        users = re.findall(r"^USER (\S+)$", stages["skystow"] + stages[target], re.MULTILINE)
        assert users[-1] == "10001:10001"
        assert _said(target, "ENTRYPOINT")[:3] == ["skystow", "run", SITE]
        health = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", stages[target], re.MULTILINE)
        assert [json.loads(each) for each in health] == [["skystow", "control", SITE, component, "state"]]
    assert re.findall(r"^STOPSIGNAL (\S+)$", stages["skystow"], re.MULTILINE) == ["SIGTERM"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The components of the images, on a ledger in a file."""
    written = tmp_path / "site.yaml"
    written.write_text(json.dumps(settings(tmp_path)))
    return written


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=LIMIT)


def test_entrypoints_and_health_checks_are_commands_of_the_program(site: Path, skystow_bin: Path) -> None:
    """Healthy while it runs, not when it does not; SIGTERM and exitControl end it well."""

    def here(words: list[str]) -> list[str]:
        return [{"skystow": str(skystow_bin), SITE: str(site)}.get(word, word) for word in words]

    def control(component: str, verb: str) -> int:
        command = here(["skystow", "control", SITE, component, verb])
        return subprocess.run(command, capture_output=True, timeout=LIMIT, check=False).returncode

    with contextlib.ExitStack() as stack:
        started = {
            component: stack.enter_context(_running(here([*_said(target, "ENTRYPOINT"), *_command(target)])))
            for target, component in _components().items()
        }
        for component, process in started.items():
            until(lambda component=component: control(component, "state") == 0, process)  # type: ignore[misc]
        assert control("archiver", "exit") == 0, "it began in STANDBY"
        assert started["archiver"].wait(LIMIT) == 0, "so that nobody starts it again"
        for component in started.keys() - {"archiver"}:
            started[component].send_signal(signal.SIGTERM)
            assert started[component].wait(LIMIT) == 0
        assert {control(component, "state") for component in started} == {5}


# ── compose ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_stack_has_every_component_in_a_container_of_its_own() -> None:
    services = {name: each for name, each in _compose()["services"].items() if each["image"].startswith("skystow-")}
    assert sorted(each["image"] for each in services.values()) == sorted(TARGETS)
    for each in services.values():
        assert each["build"]["target"] == each["image"]
        assert each["restart"] == "on-failure", "exitControl stays out"
        assert [volume.rpartition("}")[2] for volume in each["volumes"]] == [f":{SITE}:ro", "/data:/data"]
        assert "depends_on" not in each, "it waits by itself"


def test_all_trees_that_share_files_are_below_the_one_mount() -> None:
    image = load(str(EXAMPLE)).image
    assert image is not None
    assert image.backbone is not None
    assert image.oods is not None
    roots = [image.staging.root, image.backbone.root, image.oods.root, image.oods.bad_files, image.forwarders[0].work]
    assert {os.path.dirname(root) for root in roots} == {"/data"}, "and what is above them is there"


def test_overrides_are_of_services_that_there_are() -> None:
    services = _compose()["services"]
    assert _compose("compose.debian.yaml")["services"].keys() <= services.keys()
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "servers/Containerfile").read_text(), re.MULTILINE)
    for name, each in _compose("compose.debian.yaml")["services"].items():
        assert each["build"]["target"] in targets
        assert each["image"] == f"skystow-{name}"
    camera = _compose("compose.night.yaml")["services"]["camera"]
    assert camera["image"] in TARGETS
    assert set(camera["secrets"]) <= _compose()["secrets"].keys()


# ── passwords ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """What `deploy/prepare` makes; who owns it is written down, which only root may really say."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "chown").write_text(f'#!/bin/sh\necho "$1 $(basename "$2" .new)" >> {tmp_path}/owners\n')
    (programs / "chown").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    for _ in range(2):  # the second finds all there
        before = _contents(tmp_path / "home")
        command = [DEPLOY / "prepare", tmp_path / "home"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert before == _contents(tmp_path / "home")
    return tmp_path / "home"


def _contents(home: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in home.glob("secrets/*")}


def test_every_secret_is_made_and_is_its_readers_alone(prepared: Path) -> None:
    made, composed = _contents(prepared), _compose()
    assert made.keys() == composed["secrets"].keys()
    said = [line.split() for line in (prepared.parent / "owners").read_text().splitlines()]
    owners = {name: owner for owner, name in said}
    for name, service in composed["services"].items():
        uid = "10001" if service["image"].startswith("skystow-") else "999"
        for each in service["secrets"]:
            secret = each if isinstance(each, str) else each["source"]
            assert owners[f".{secret}"] == f"{uid}:{uid}", (name, secret)
    for name in made:
        assert stat.S_IMODE((prepared / "secrets" / name).stat().st_mode) == 0o600
    passwords = [made[name] for name in ("ledger", "bus", "scoreboard", "mariadb-root")]
    assert len(set(passwords)) == 4
    assert all(re.fullmatch("[0-9a-f]{48}", each) for each in passwords)
    assert made["mariadb-user"] == made["ledger"]
    assert f"default_pass = {made['bus']}\n" in made["rabbitmq.conf"]
    assert f"requirepass {made['scoreboard']}\n" in made["redis.conf"]


def test_the_example_finds_its_passwords_where_they_are_lent(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(prepared / "secrets"))
    image = load(str(EXAMPLE)).image
    assert image is not None
    assert image.bus is not None
    assert image.scoreboard is not None
    for each in (image.bus, image.scoreboard):
        assert re.fullmatch("[0-9a-f]{48}", password("the", file=each.password_file) or "")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    image = load(str(EXAMPLE)).image
    assert image is not None
    assert image.bus is not None
    with pytest.raises(ConfigError, match=r"\$CREDENTIALS_DIRECTORY/bus"):
        password("the", file=image.bus.password_file)


def test_what_root_lends_its_group_may_seem_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd does it, by an entry in the access list; what is not root's is refused even there."""
    secret = tmp_path / "ledger"
    secret.write_text("hidden")
    secret.chmod(0o440)
    with pytest.raises(ConfigError, match="may be read by others"):
        password("the", file=str(secret))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    if os.geteuid() == 0:
        assert password("the", file=str(secret)) == "hidden"
        secret.chmod(0o444)
    with pytest.raises(ConfigError, match="may be read by others"):
        password("the", file=str(secret))


# ── systemd ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def units(tmp_path: Path, skystow_bin: Path) -> Path:
    """As they are installed, with the program where it is here."""
    for unit in (DEPLOY / "systemd").glob("skystow*.*"):
        shutil.copy(unit, tmp_path / unit.name.replace("@", "@archiver"))
    service = tmp_path / "skystow@archiver.service"
    service.write_text(service.read_text().replace("/opt/skystow/bin/skystow", str(skystow_bin)))
    return tmp_path


def _analyzed(*arguments: str | Path) -> None:
    command = ["systemd-analyze", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_systemd_understands_the_units(units: Path) -> None:
    _analyzed("verify", "--man=no", units / "skystow@archiver.service", units / "skystow.target")


def test_the_units_are_hardened(units: Path) -> None:
    _analyzed("security", "--offline=yes", "--threshold=20", units / "skystow@archiver.service")


def test_a_unit_is_lent_what_the_example_asks_for() -> None:
    unit = (DEPLOY / "systemd/skystow@.service").read_text("utf-8")
    lent = re.findall(r"^LoadCredential=(\w+):/etc/skystow/secrets/(\w+)$", unit, re.MULTILINE)
    asked = re.findall(r"\$CREDENTIALS_DIRECTORY/(\w+)", EXAMPLE.read_text("utf-8"))
    assert lent == [(each, each) for each in asked]
    assert f"control: /run/{re.findall(r'^RuntimeDirectory=(.*)$', unit, re.MULTILINE)[0]}/" in EXAMPLE.read_text()


# ── the script ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_script_says_what_it_takes_and_what_it_lacks(tmp_path: Path) -> None:
    def ran(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(DEPLOY / "run-stack"), *options]
        variables = {**os.environ, **environment}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)

    usage = ran("--nonsense")
    assert usage.returncode == 2
    assert "--offline" in usage.stderr
    (tmp_path / "podman").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "podman").chmod(0o755)
    lacking = ran(ENGINE=str(tmp_path / "podman"), COMPOSE=str(tmp_path / "not-there"))
    assert lacking.returncode == 1
    assert "pip install podman-compose" in lacking.stderr
