"""`make run`: from a checkout without an environment to a compared archive; and the tools that it calls."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from skystow.simulate.demo import compare
from skystow.simulate.instrument import CORRUPTED, EPOCH
from skystow.simulate.proof import Truth, files

BUILT = shutil.ignore_patterns(
    ".venv", ".git", "run", "build", "_build", ".*_cache", ".hypothesis", "*.egg-info", "__pycache__"
)


def _demo(into: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skystow.simulate.demo", "--into", str(into), "--seconds", "3", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.timeout(420)
def test_from_a_fresh_checkout(repository: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(repository, checkout, ignore=BUILT, symlinks=True)
    ran = _make(checkout, "run", "DURATION=3")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "all there, no byte differs" in ran.stdout
    assert re.search(r"rows copied +24 of 24$", ran.stdout, re.M)
    assert re.search(r"exposures complete +2 of 2$", ran.stdout, re.M)
    assert re.search(r"in the Data Backbone +18 of 18, 0 links left after proof in the vault$", ran.stdout, re.M)
    [scene] = (checkout / "run").iterdir()
    made = [json.loads(line) for line in (scene / "truth.jsonl").read_text().splitlines()]
    assert len(made) == 24
    assert compare(scene / "archive", {line["path"]: line for line in made}) == []
    truth = Truth(["CC_O_20210304_000001", "CC_O_20210304_000002"])
    assert [truth.differences(scene / place) for place in ("oods", "vault")] == [[], []]
    assert files(scene / "backbone") == set()
    before = (checkout / ".venv" / ".run").stat().st_mtime_ns
    again = _make(checkout, "-n", "run")
    assert "pip" not in again.stdout, "an environment that is up to date is built again"
    assert (checkout / ".venv" / ".run").stat().st_mtime_ns == before
    night = _make(checkout, "-n", "run", "NIGHT=full", "NIGHT_CADENCE=2", "NIGHT_DIR=run/that night").stdout
    [said] = [line for line in night.replace("\\\n", " ").splitlines() if "skystow" in line and "make" not in line]
    options = ["--exposures", "60", "--cadence", "2", "--directory", "run/that night"]
    assert shlex.split(said)[1:] == ["-m", "skystow.simulate.night", *options]


def _make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "-C", str(checkout), *arguments]
    return subprocess.run(command, env=plain, capture_output=True, text=True, timeout=400, check=False)


def test_a_spoilt_file_is_found_by_its_name(tmp_path: Path) -> None:
    ran = _demo(tmp_path / "run", "--corrupt")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    [scene] = (tmp_path / "run").iterdir()
    made = [json.loads(line)["path"] for line in (scene / "truth.jsonl").read_text().splitlines()]
    [spoilt] = [path for path in made if f"/{EPOCH + 61 * CORRUPTED}_" in path]
    wrong = [line for line in ran.stdout.splitlines() if "wrong bytes" in line]
    assert len(wrong) == 1
    assert spoilt in wrong[0]
    assert re.search(r"files that differ +1$", ran.stdout, re.M)
    assert re.search(r"exposures complete +2 of 2$", ran.stdout, re.M), "the image door is not well for that"


def test_the_comparison_names_what_is_missing_and_what_is_too_many(tmp_path: Path) -> None:
    (tmp_path / ".skystow" / "staging").mkdir(parents=True)
    (tmp_path / ".skystow" / "staging" / "part").write_bytes(b"not looked at")
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "extra").write_bytes(b"?")
    truth = {"day/gone": {"path": "day/gone", "size": 1, "sha256": "0" * 64}}
    assert compare(tmp_path, truth) == ["missing in the archive: day/gone", "too many in the archive: day/extra"]


def test_the_instrument_makes_the_same_files_from_the_same_seed(tmp_path: Path) -> None:
    truths = []
    for name in ("one", "two"):
        command = [sys.executable, "-m", "skystow.simulate.instrument", str(tmp_path / name)]
        command += ["--truth", str(tmp_path / f"{name}.jsonl"), "--seconds", "0.5", "--rate", "40", "--seed", "7"]
        subprocess.run(command, check=True, timeout=60)
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        truths.append({line["path"]: (line["size"], line["sha256"]) for line in lines})
        assert compare(tmp_path / name, {line["path"]: line for line in lines}) == []
    assert len(truths[0]) == 20
    assert truths[0] == truths[1]


def test_the_truth_is_kept_out_of_the_watched_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "skystow.simulate.instrument", str(tmp_path), "--truth", str(tmp_path / "truth")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert list(tmp_path.iterdir()) == []


# ── what installs Debian packages ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A PATH with an `apt-get` and a `sudo` that only write down how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "basename", "env"):
        (programs / name).symlink_to(shutil.which(name) or name)
    _program(programs / "apt-get", f'echo "apt-get $*" >> {tmp_path}/calls')
    _program(programs / "sudo", f'echo "sudo" >> {tmp_path}/calls; exec "$@"')
    return programs


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _tool(repository: Path, programs: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(repository / "tools" / name), *arguments]
    environment = {"PATH": str(programs)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def _calls(tmp_path: Path) -> Sequence[str]:
    return (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


@pytest.mark.parametrize(("uid", "sudo"), [(0, []), (1000, ["sudo"])], ids=["root", "not-root"])
def test_missing_packages_are_named_then_installed(
    repository: Path, debian: Path, tmp_path: Path, uid: int, sudo: list[str]
) -> None:
    _program(debian / "id", f"echo {uid}")
    ran = _tool(repository, debian, "need", "strace:strace", "sh:dash", "mount:mount", "umount:mount")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["installing the Debian package strace", "installing the Debian package mount"]
    update, install = [line for line in _calls(tmp_path) if line != "sudo"]
    assert update == "apt-get update -q"
    assert install.endswith(" strace mount")
    assert [line for line in _calls(tmp_path) if line == "sudo"] == sudo * 2


def test_nothing_is_done_or_said_when_all_is_there(repository: Path, debian: Path, tmp_path: Path) -> None:
    ran = _tool(repository, debian, "need", "sh:dash")
    assert (ran.returncode, ran.stdout, ran.stderr, _calls(tmp_path)) == (0, "", "", [])


def test_without_apt_it_says_what_to_install(repository: Path, debian: Path) -> None:
    (debian / "apt-get").unlink()
    _program(debian / "id", "echo 0")
    ran = _tool(repository, debian, "need", "strace:strace")
    assert ran.returncode == 1
    assert ran.stderr == "please install, as root: strace\n"


def test_a_python_without_ensurepip_gets_its_package(repository: Path, debian: Path, tmp_path: Path) -> None:
    _program(debian / "id", "echo 0")
    # A python3.11 as Debian has it: new enough, but `import ensurepip` fails.
    body = 'case "$*" in *ensurepip*) exit 1;; -V) echo "Python 3.11.2";; *venv*) mkdir -p "$4"; esac'
    _program(debian / "python3", body)
    (debian / "mkdir").symlink_to(shutil.which("mkdir") or "mkdir")
    ran = _tool(repository, debian, "venv", str(tmp_path / "environment"))
    assert ran.returncode == 0, ran.stderr
    assert "installing the Debian package python3-venv" in ran.stdout
    assert _calls(tmp_path)[-1].endswith(" python3-venv")
    assert (tmp_path / "environment").is_dir()


def test_a_python_that_is_too_old_is_refused(repository: Path, debian: Path, tmp_path: Path) -> None:
    _program(debian / "python3", "exit 1")
    ran = _tool(repository, debian, "venv", str(tmp_path / "environment"))
    assert ran.returncode == 1
    assert "needs Python 3.11 or newer" in ran.stderr
