"""`skystow check` of an image site: what it finds before a night does."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Unprivileged
from tests.nursery import Nursery
from tests.system.cli_kit import Bench
from tests.system.landing_kit import DAY, NAME
from tests.system.night_kit import settings


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    return Bench(tmp_path, skystow_bin, nursery)


def site(here: Path, **more: Any) -> Path:
    path = here / "site.yaml"
    path.write_text(json.dumps(settings(here, **more)))
    return path


def failures(bench: Bench, path: Path, **env: str) -> dict[str, str]:
    done = bench.run("check", path, "--json", env=env)
    assert done.returncode in (0, 2), done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] == (done.returncode == 0)
    return {each["subject"]: f"{each['text']}; {each['remedy']}" for each in document["findings"] if not each["ok"]}


def test_a_site_that_is_well(bench: Bench) -> None:
    path = site(bench.here)
    done = bench.run("check", path)
    assert done.returncode == 0, done.stdout
    said = done.stdout
    for link in ("backbone, link from staging", "oods, link from staging", "staging, link from f99", "link from oods"):
        assert f"{link}: hard links from" in said
    for subject in ("staging, owners", "staging, space", "FITS files", "control"):
        assert f"ok    {subject}: " in said
    assert "All well." in said
    left = {each.relative_to(bench.here).parts[0] for each in bench.here.rglob("probe*")}
    assert left == set()


@pytest.mark.parametrize(
    ("section", "subject"),
    [
        ("backbone", "backbone, link from staging"),
        ("oods", "oods, link from staging"),
        ("bad", "bad files, link from oods"),
        ("work", "staging, link from f99"),
    ],
)
def test_another_file_system(bench: Bench, section: str, subject: str) -> None:
    memory = Path("/dev/shm")  # noqa: S108 - another file system, wherever tests run
    assert memory.stat().st_dev != bench.here.stat().st_dev
    there = Path(tempfile.mkdtemp(dir=memory))
    try:
        elsewhere: dict[str, dict[str, Any]] = {
            "backbone": {"backbone": {"root": str(there)}},
            "oods": {"oods": {"root": str(there), "bad_files": str(there / "bad")}},
            "bad": {"oods": {"root": str(bench.here / "oods"), "bad_files": str(there)}},
            "work": {"forwarders": [{"name": "f99", "work": str(there), "camera": {"kind": "simulated"}}]},
        }
        found = failures(bench, site(bench.here, **elsewhere[section]))
    finally:
        shutil.rmtree(there)
    assert list(found) == [subject]
    assert "they are on different devices; put both on one file system" in found[subject]


def test_copies_need_no_common_file_system(bench: Bench) -> None:
    forwarder = {"name": "f99", "work": str(bench.here / "work"), "camera": {"kind": "simulated"}, "send": "copy"}
    done = bench.run("check", site(bench.here, forwarders=[forwarder]))
    assert done.returncode == 0
    assert "link from f99" not in done.stdout


def test_a_hook_that_cannot_be_had(bench: Bench) -> None:
    oods = {"root": str(bench.here / "oods"), "bad_files": str(bench.here / "bad"), "hook": "night_butler:ingest"}
    path = site(bench.here, oods=oods)
    assert "No module named 'night_butler'" in failures(bench, path)["ingest hook"]
    (bench.here / "night_butler.py").write_text("def ingest(frame): pass\n")
    before = os.environ.get("PYTHONPATH", "")
    assert failures(bench, path, PYTHONPATH=f"{bench.here}:{before}") == {}


def test_a_control_directory_into_which_others_reach(bench: Bench) -> None:
    path = site(bench.here)
    (bench.here / "control").mkdir()
    (bench.here / "control").chmod(0o777)
    assert "it must be a directory of this user, mode 0700" in failures(bench, path)["control"]


def test_no_room(bench: Bench) -> None:
    path = site(bench.here, staging={"root": str(bench.here / "staging"), "min_free": "99.9%"})
    assert "must stay free" in failures(bench, path)["staging, space"]


def test_raw_frames_that_are_not_there(bench: Bench) -> None:
    camera = {"kind": "raw", "root": str(bench.here / "frames")}
    path = site(bench.here, forwarders=[{"name": "f99", "work": str(bench.here / "work"), "camera": camera}])
    assert "No such file or directory" in failures(bench, path)["f99, camera"]
    (bench.here / "frames").mkdir()
    assert failures(bench, path) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_files_of_other_users_that_cannot_be_linked(bench: Bench, unprivileged: Unprivileged) -> None:
    path = site(bench.here)
    day = bench.here / "staging" / DAY
    day.mkdir()
    for number in range(7):
        file = day / f"{number}{NAME}"
        file.write_bytes(b"x")
        os.chown(file, 4321, 4321)
    done = unprivileged([bench.program, "check", path, "--json"])
    document = json.loads(done.stdout)
    (held,) = [each for each in document["findings"] if not each["ok"]]
    assert held["subject"] == "staging, owners"
    assert f"{DAY}/0{NAME} belongs to user 4321 and cannot be linked by user 0" in held["text"]
    assert held["text"].endswith(", and 2 more")
    assert "let forwarders write as the Controller's user" in held["remedy"]
