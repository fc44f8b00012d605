"""A remote host that a person must look at (its key, ours, its tools) rests alone; `check` names it before a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sshd import Sshd, keygen, sshd
from tests.system.cli_kit import Bench


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("SKYSTOW_SSH_CONFIG", str(server.here / "ssh_config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one = Bench(tmp_path, skystow_bin)
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
    host: {{name: {name}, config_file: {here}/ssh_config, known_hosts: {base}/other_hosts}}
    root: {base}/src2
    quiet_for: 0
destinations:
  - {{name: archive, kind: posix, root: dst, min_free: 0}}
  - name: away
    kind: remote
    of: archive
    host: {{name: {name}, config_file: {here}/ssh_config, identity_file: {base}/stranger}}
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
    (bench.here / "it/ssh_config").write_text((bench.here / "it/ssh_config").read_text().replace("IdentityFile", "#"))
    site = bench.here / "site.yaml"
    text = SITE.format(name=server.name, here=server.here, base=bench.here)
    ours = f"{server.name}, config_file: {server.here}/ssh_config, identity_file: {server.here}/client_key"
    text = text.replace(f"{server.name}, config_file: {server.here}/ssh_config}}", ours + "}")
    text = text.replace(f"{server.name}, config_file: {server.here}/ssh_config, known", ours + ", known")
    site.write_text(text)

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
