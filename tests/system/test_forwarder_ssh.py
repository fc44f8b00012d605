"""A Forwarder that sends over rsync/SSH: the location that it is told, the way there, and a host that goes away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skystow.config import Site, read
from skystow.errors import ConfigError
from skystow.model.acts import Milestone, Say
from skystow.model.lifecycle import Verb
from skystow.model.messages import ImageInOODS, ImageRetrieval, Message
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.service.talk import Talk
from skystow.simulate.comcam import ComCam, HeaderService, Observe, Programme
from skystow.wiring import House, build
from skystow.wiring.image import component_names
from tests.sshd import Sshd, sshd

CCDS = ("R22_S00", "R22_S01", "R22_S02")
LIMIT = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


def image(root: Path, **forwarder: Any) -> dict[str, Any]:
    return {
        "ledger": f"sqlite:///{root}/ledger.db",
        "image": {
            "detectors": list(CCDS),
            "staging": {"root": str(root / "staging"), "min_free": 0},
            "backbone": {"root": str(root / "backbone")},
            "oods": {"root": str(root / "oods"), "bad_files": str(root / "bad")},
            "forwarders": [{"name": "f99", "work": str(root / "work"), "camera": {"kind": "simulated"}, **forwarder}],
        },
    }


def remote(root: Path, server: Sshd) -> dict[str, Any]:
    known = server.host()
    host = {"name": server.name, "user": known.user, "config_file": f"{server.here}/ssh_config", "timeout": 5}
    return image(root, send="remote", host=host)


def site(document: dict[str, Any], root: Path) -> Site:
    return read(json.dumps(document), directory=str(root))


def problems(document: dict[str, Any], root: Path) -> str:
    with pytest.raises(ConfigError) as error:
        site(document, root)
    return "; ".join(error.value.problems)


@dataclass
class Observatory:
    house: House
    observe: Callable[[int], None]
    told: list[Message]
    archiver: Talk


@contextmanager
def observatory(config: Site, root: Path) -> Iterator[Observatory]:
    """All components at work in this process, ENABLED, with a simulated camera."""
    halt, told, camera = Halt(), list[Message](), ComCam("COMCAM", names=CCDS)
    with build(config, tell=told.append) as house, HeaderService(camera).serving() as headers:
        imaging = house.imaging
        assert imaging is not None
        imaging.cameras = lambda _config, _image: camera
        components = house.components(component_names(config))
        archiver = components["archiver"].talk
        assert archiver is not None

        def publish(says: Any) -> None:
            imaging.ledger.bus.publish(list[Say](says))
            imaging.bells.ring()

        def observe(count: int) -> None:
            programme = Programme(exposures=count, cadence=0.1, exposure_time=0.05, readout_time=0.05)
            Observe(camera, headers, publish, programme).run(halt)

        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(lambda: asyncio.run(run_together(components, halt, str(root / "control"))))
            try:
                until(lambda: archiver._open)
                for verb in (Verb.START, Verb.ENABLE):
                    archiver.command(verb)
                yield Observatory(house, observe, told, archiver)
            finally:
                halt.set()
                running.result(LIMIT)


def until(condition: Callable[[], object]) -> None:
    over = threading.Event()
    for _ in range(int(LIMIT / 0.05)):
        if condition():
            return
        over.wait(0.05)
    raise AssertionError("waited in vain")


def published(root: Path, place: str) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((root / place).rglob("*.fits"))}


def ingested(at: Observatory) -> list[ImageInOODS]:
    return [each for each in at.told if isinstance(each, ImageInOODS) and each.status_code == 0]


def test_a_night_over_ssh(tmp_path: Path, server: Sshd) -> None:
    root = tmp_path / "site"
    root.mkdir()
    config = site(remote(root, server), root)
    with observatory(config, root) as at:
        at.observe(2)
        until(lambda: len(ingested(at)) == 2 * len(CCDS))
        until(lambda: not [*(root / "staging").rglob("*.fits"), *(root / "work").rglob("*.fits")])
        assert server.children()  # that it went over it
        located = {
            line.text
            for line in at.house.imaging.ledger.talks.lines(day_obs=20210304)  # type: ignore[union-attr]
            if line.what is Milestone.LOCATED
        }
        assert located == {f"{root}/staging/2021-03-04/"}
    frames = published(root, "oods")
    assert len(frames) == 2 * len(CCDS)
    assert published(root, "backbone") == frames
    manifest = (root / "oods/2021-03-04/CC_O_20210304_000001.sha256").read_text().split()
    assert {name: frames[name] for name in manifest[1::2]} == dict(zip(manifest[1::2], manifest[::2], strict=True))
    assert len(manifest) == 2 * len(CCDS)


def test_a_host_that_is_away_costs_no_file(tmp_path: Path, server: Sshd) -> None:
    root = tmp_path / "site"
    root.mkdir()
    config = site(remote(root, server), root)
    server.stop()
    with observatory(config, root) as at:
        at.observe(1)
        until(lambda: len([*(root / "work").rglob("*.fits")]) == len(CCDS))
        until(lambda: [each for each in at.house.progress.healths.values() if not each.well])
        assert not at.told
        server.start()
        until(lambda: len(ingested(at)) == len(CCDS))
        assert not [each for each in at.told if isinstance(each, ImageRetrieval) and each.status_code]
    assert len(published(root, "oods")) == len(CCDS)


@pytest.mark.parametrize("forwarder", [{"send": "remote"}, {"host": "archive"}, {"send": "copy", "host": "archive"}])
def test_a_host_and_remote_go_together(tmp_path: Path, forwarder: dict[str, Any]) -> None:
    assert "send: remote needs a host:, and nothing else does" in problems(image(tmp_path, **forwarder), tmp_path)


def test_all_forwarders_send_to_one_host(tmp_path: Path) -> None:
    document = image(tmp_path, send="remote", host="archive")
    first = document["image"]["forwarders"][0]
    document["image"]["forwarders"].append(first | {"name": "f98", "host": "data@archive"})
    assert "the forwarders must all send to the same host" in problems(document, tmp_path)
    document["image"]["forwarders"][1]["host"] = "archive"
    found = site(document, tmp_path).image
    assert found is not None
    assert str(found.host) == "archive"
