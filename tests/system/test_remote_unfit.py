"""A remote host that a person must look at (its key, ours, its tools) rests alone; `check` names it before a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nursery import Nursery
from tests.sshd import Sshd, keygen, sshd
from tests.system.cli_kit import Bench


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery, server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("SKYSTOW_SSH_CONFIG", str(server.here / "ssh_config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one = Bench(tmp_path, skystow_bin, nursery)
    one.write("a.fits", b"light")
    return one


SITE = """\
ledger: sqlite:///ledger.db
sources:
  - name: good
    kind: directory
    host: {{name: {name}, config_file: {here}/ssh_config}}
    root: {base}/src
    quiet_for: 0
  - name: strange
    kind: directory
    host: {{name: 127.0.0.1, port: {port}, identity_file: {here}/client_key, known_hosts: {base}/other_hosts}}
    root: {base}/src2
    quiet_for: 0
destinations:
  - {{name: archive, kind: posix, root: dst, min_free: 0}}
  - name: away
    kind: remote
    of: archive
    host: {{name: 127.0.0.1, port: {port}, identity_file: {base}/stranger, known_hosts: {here}/known_hosts}}
    root: {base}/away
    min_free: 0
"""


def test_changed_and_refused_keys_stop_only_their_own_routes(bench: Bench, server: Sshd) -> None:
    for name in ("dst", "away", "src2"):
        (bench.here / name).mkdir()
    (bench.here / "src2/b.fits").write_bytes(b"more light")
    keygen(bench.here / "stranger")
    keys = bench.here / "other_hosts"
    keys.write_text(f"[127.0.0.1]:{server.port} {keygen(bench.here / 'another')}")
    site = bench.here / "site.yaml"
    site.write_text(SITE.format(name=server.name, port=server.port, here=server.here, base=bench.here))

    checked = bench.json("check", site, code=2)
    told = {finding["subject"]: finding for finding in checked["findings"] if not finding["ok"]}
    assert any("not the one that we know" in finding["text"] for finding in told.values())
    assert any("refuses our key" in finding["text"] for finding in told.values())

    began = time.monotonic()
    done = bench.json("run", site, "--once", code=5)
    assert time.monotonic() - began < 30
    assert done["archived"] == 1
    assert (bench.dst / "a.fits").read_bytes() == b"light"
    resting = {each["place"]: each["reason"] for each in done["resting"]}
    assert "not the one that we know" in resting["strange"]
    assert "ssh-keygen -R" in resting["strange"]
    assert "refuses our key" in resting["away"]
    places = bench.json("status", site)["places"]
    assert (places["strange"]["well"], places["away"]["well"]) == (False, False)
    assert "authorized_keys" in places["away"]["reason"]

    server.stop()  # a person lets our key in, and takes the new host key
    accepted = (server.here / "authorized_keys").read_text() + (bench.here / "stranger.pub").read_text()
    (server.here / "authorized_keys").write_text(accepted)
    keys.write_text((server.here / "known_hosts").read_text())
    server.start()
    assert bench.json("run", site, "--once")["archived"] == 1
    assert (bench.here / "away/a.fits").read_bytes() == b"light"
    assert (bench.here / "away/b.fits").read_bytes() == b"more light"


def test_where_there_is_one_end_alone_the_command_ends_with_its_fault(bench: Bench, server: Sshd) -> None:
    (server.here / "known_hosts").write_text("")
    done = bench.run("archive", f"{server.name}:{bench.src}", bench.dst)
    assert (done.returncode, done.stdout) == (2, "")
    assert "not known here" in done.stderr
    assert "ssh-keyscan" in done.stderr


def findings(document: dict[str, Any]) -> dict[str, str]:
    """Subjects and texts; those that are not well have their remedy too."""
    found = {each["subject"]: f"{each['text']} → {each['remedy']}" for each in document["findings"]}
    assert len(found) == len(document["findings"])
    return found


def test_check_of_two_ends_pulling(bench: Bench, server: Sshd) -> None:
    bench.dst.mkdir()
    found = findings(bench.json("check", f"{server.name}:{bench.src}", bench.dst))
    assert "1 entries" in found["SOURCE"]
    assert "python 3." in found["SOURCE → DEST, remote SOURCE"]
    assert "rsync 3." in found["SOURCE → DEST, remote SOURCE"]
    assert "may be written" in found["SOURCE → DEST, room"]
    assert "can be written to" in found["SOURCE → DEST, permission"]
    assert list(bench.dst.iterdir()) == []


def test_check_of_two_ends_pushing_to_what_is_not_there_yet(bench: Bench, server: Sshd) -> None:
    (bench.here / "vault").mkdir()
    dest = f"{server.name}:{bench.here}/vault/new"
    found = findings(bench.json("check", bench.src, dest))
    assert f"archive makes it in {server.name}:{bench.here}/vault" in found["DEST"]
    assert "can be written to" in found["SOURCE → DEST, permission"]
    assert list((bench.here / "vault").iterdir()) == []
    assert not (bench.here / "state").exists()
    if "SOURCE → DEST, remote DEST, digest" in found:  # the other python has no blake3
        assert "sha256 instead" in found["SOURCE → DEST, remote DEST, digest"]
    found = findings(bench.json("check", bench.src, dest, "--digest", "sha256"))
    assert "SOURCE → DEST, remote DEST, digest" not in found


@pytest.mark.parametrize(
    ("how", "told"),
    [("unknown", "not known here"), ("changed", "not the one that we know"), ("refused", "refuses our key")],
)
@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
def test_check_names_what_is_wrong_with_keys(bench: Bench, server: Sshd, how: str, told: str, pull: bool) -> None:
    if how == "refused":
        (server.here / "authorized_keys").write_text("")
    else:
        other = f"[127.0.0.1]:{server.port} {keygen(bench.here / 'another')}" if how == "changed" else ""
        (server.here / "known_hosts").write_text(other)
    bench.dst.mkdir()
    ends = (f"{server.name}:{bench.src}", bench.dst) if pull else (bench.src, f"{server.name}:{bench.dst}")
    document = bench.json("check", *ends, code=2)
    wrong = [each for each in document["findings"] if not each["ok"]]
    assert wrong
    assert all(told in each["text"] and each["remedy"] for each in wrong)


def test_check_of_two_ends_without_tools(bench: Bench, server: Sshd, tmp_path: Path) -> None:
    server.stop()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to("/usr/bin/python3")
    server.path = str(tmp_path / "bin")
    server.start()
    bench.dst.mkdir()
    found = findings(bench.json("check", bench.src, f"{server.name}:{bench.dst}", code=2))
    assert "it has no rsync" in found["SOURCE → DEST, remote DEST"]
    assert "install rsync" in found["SOURCE → DEST, remote DEST"]


@pytest.mark.parametrize(
    ("source", "dest", "told"),
    [
        ("{0}:{1}/src", "{0}:{1}/dst", "both remote"),
        ("nope", "dst", "does not exist"),
        ("{0}:{1}/nope", ".", "No such file"),
        ("src", "{0}:{1}/no/parent", "No such file"),
        ("src", "no/parent", "there is no directory"),
    ],
)
def test_check_of_ends_that_make_no_sense(bench: Bench, server: Sshd, source: str, dest: str, told: str) -> None:
    ends = [end.format(server.name, bench.here) for end in (source, dest)]
    document = bench.json("check", *ends, code=2)
    assert told in "\n".join(each["text"] for each in document["findings"] if not each["ok"])
