"""`skystow archive` with a remote end, and a site with remote places, as a person runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.sshd import Sshd, sshd
from tests.system.cli_kit import Bench

NAMES = [b"a.fits", b"d/line\nbreak", b"d/\xff\xfe", b"-rf", b"e/f/g/h"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery, server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("SKYSTOW_SSH_CONFIG", str(server.here / "ssh_config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one = Bench(tmp_path, skystow_bin, nursery)
    for name in NAMES:
        one.write(name, b"light of " + name)
    return one


def content(root: Path) -> dict[bytes, bytes]:
    found = {}
    for where, directories, names in os.walk(os.fsencode(root)):
        directories[:] = [each for each in directories if each != b".skystow"]
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, os.fsencode(root))] = file.read()
    return found


def test_from_a_remote_end_twice(bench: Bench, server: Sshd) -> None:
    source = f"{server.name}:{bench.src}"
    first = bench.json("archive", source, bench.dst)
    assert (first["archived"], first["failed"]) == (len(NAMES), 0)
    assert content(bench.dst) == content(bench.src)
    assert bench.json("archive", f"{source}/", bench.dst)["already"] == len(NAMES)
    assert bench.json("verify", bench.dst)["verified"] == len(NAMES)


def test_to_a_remote_end_twice_and_what_operators_ask(bench: Bench, server: Sshd) -> None:
    dest = f"{server.name}:{bench.dst}"
    assert bench.json("archive", bench.src, dest, "--dry-run")["would_archive"] == len(NAMES)
    assert not bench.dst.exists()
    assert bench.json("archive", bench.src, dest)["archived"] == len(NAMES)
    assert content(bench.dst) == content(bench.src)
    assert not (bench.dst / ".skystow/ledger.db").exists()
    assert len(list((bench.here / "state/skystow").glob("*.db"))) == 1
    assert bench.json("archive", bench.src, f"{dest}/")["already"] == len(NAMES)
    assert bench.json("status", dest)["waiting"] == 0
    assert bench.json("trace", dest, "a.fits")["state"] == "done"
    assert bench.json("trace", dest, f"{dest}/a.fits")["state"] == "done"
    (bench.dst / "a.fits").chmod(0o644)
    (bench.dst / "a.fits").write_bytes(b"Light of a.fits")
    damaged = bench.json("verify", dest, code=4)
    assert (damaged["verified"], len(damaged["damaged"])) == (len(NAMES) - 1, 1)


def test_a_conflict_at_a_remote_end(bench: Bench, server: Sshd) -> None:
    dest = f"{server.name}:{bench.dst}"
    bench.json("archive", bench.src, dest)
    bench.write("a.fits", b"something else")
    assert bench.json("archive", bench.src, dest, code=3)["conflicts"] == 1
    assert (bench.dst / "a.fits").read_bytes() == b"light of a.fits"


@pytest.mark.parametrize(
    ("source", "dest", "told"),
    [
        ("{0}:{1}/nope", "dst", "no such file or directory"),
        ("{0}:{1}/src", "{0}:{1}/dst", "both remote"),
        ("{0}:{1}/src/a.fits", "dst", "directory"),
        ("src", "{0}:{1}/no/parent", "cannot be made"),
        ("a b:/x", "dst", "is no host name"),
    ],
)
def test_ends_that_make_no_sense(bench: Bench, server: Sshd, source: str, dest: str, told: str) -> None:
    done = bench.run("archive", source.format(server.name, bench.here), dest.format(server.name, bench.here))
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr.lower()
    assert "Traceback" not in done.stderr


SITE = """\
ledger: sqlite:///ledger.db
sources:
  - name: instrument
    kind: directory
    host: {{name: {name}, config_file: {here}/ssh_config, timeout: 10}}
    root: {base}/src
    quiet_for: 0
destinations:
  - {{name: archive, kind: posix, root: dst, min_free: 0}}
  - {{name: oods, kind: hardlink, of: archive, root: oods, owned: false}}
  - name: away
    kind: remote
    of: archive
    host: {{name: {name}, config_file: {here}/ssh_config}}
    root: {base}/away
    min_free: 0
    digest: sha256
"""


def test_a_site_from_one_host_to_another_by_way_of_here(bench: Bench, server: Sshd) -> None:
    for name in ("dst", "oods", "away"):
        (bench.here / name).mkdir()
    site = bench.here / "site.yaml"
    site.write_text(SITE.format(name=server.name, here=server.here, base=bench.here))
    checked = bench.json("check", site)
    assert {"remote instrument", "remote away"} <= {
        finding["subject"].split(", ")[1] for finding in checked["findings"] if ", " in finding["subject"]
    }
    assert bench.json("run", site, "--once")["archived"] == len(NAMES)
    assert content(bench.dst) == content(bench.src) == content(bench.here / "away") == content(bench.here / "oods")
    assert bench.json("verify", site)["verified"] == 3 * len(NAMES)


@pytest.mark.parametrize("how", ["ro", "rw"])
def test_behind_a_gate_that_shows_one_directory(bench: Bench, server: Sshd, how: str) -> None:
    """`examples/skystow-gate`: reading works behind `ro`, writing only behind `rw`, and nothing else is seen."""
    server.stop()
    bench.dst.mkdir()
    key = (server.here / "client_key.pub").read_text()
    gate = f"{ROOT}/examples/skystow-gate {how}"
    seen = bench.src if how == "ro" else bench.dst
    (server.here / "authorized_keys").write_text(f'restrict,command="{gate} {seen}" {key}')
    server.start()
    if how == "ro":
        assert bench.json("archive", f"{server.name}:{seen}", bench.dst)["archived"] == len(NAMES)
        assert content(bench.dst) == content(bench.src)
        done = bench.run("archive", bench.here / "it/home", f"{server.name}:{seen}/below", "--give-up-after", "1")
        assert done.returncode != 0
        assert not (bench.src / "below").exists()
    else:
        assert bench.json("archive", bench.src, f"{server.name}:{seen}")["archived"] == len(NAMES)
        done = bench.run("archive", f"{server.name}:{bench.src}", bench.here / "other")
        assert done.returncode == 2
