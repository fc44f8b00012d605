"""What can be wrong with the host that a table's rows tell of, and with what is there: each has an error that names the
culprit and the remedy, spends no attempt that is not the file's own, and is over once it is mended."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.sshd import Sshd, keygen, sshd
from tests.system.cli_kit import Bench
from tests.system.table_kit import Desk, said_of, sqlite_desk
from tests.system.test_remote_faults import small_disk


@pytest.fixture
def bench(tmp_path: Path, skystow_bin: Path, nursery: Nursery) -> Bench:
    return Bench(tmp_path, skystow_bin, nursery)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.fixture
def far(bench: Bench, host: Sshd) -> Desk:
    """A table here, in SQLite; its files there."""
    desk = sqlite_desk(bench)
    desk.far = True
    desk.write_site(more=said_of(host))
    desk.json("pysmurf-files", "create", desk.site)
    return desk


# ── the host ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a host, how it is told, and what must be proposed."""

    make: Callable[[Sshd], object]
    mend: Callable[[Sshd], object]
    told: str
    remedy: str


def emptied(name: str) -> dict[str, Callable[[Sshd], object]]:
    def make(host: Sshd) -> None:
        (host.here / name).rename(host.here / "kept")
        (host.here / name).write_text("")

    return {"make": make, "mend": lambda host: (host.here / "kept").replace(host.here / name)}


def another_key(host: Sshd) -> None:
    (host.here / "known_hosts").rename(host.here / "kept")
    (host.here / "known_hosts").write_text(f"[127.0.0.1]:{host.port} {keygen(host.here / 'other_key')}")


def with_path(*tools: str) -> dict[str, Callable[[Sshd], object]]:
    def make(host: Sshd) -> None:
        (host.here / "bin").mkdir()
        for tool in tools:
            (host.here / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
        restart(host, str(host.here / "bin"))

    return {"make": make, "mend": lambda host: restart(host, "/usr/bin:/bin")}


def restart(host: Sshd, path: str) -> None:
    host.stop()
    host.path = path
    host.start()


def noise(host: Sshd) -> Path:
    return host.here / "home/.bashrc"


TROUBLES = {
    "unknown host key": Trouble(**emptied("known_hosts"), told="its host key is not known here", remedy="ssh-keyscan"),
    "changed host key": Trouble(
        make=another_key,
        mend=emptied("known_hosts")["mend"],
        told="its host key is not the one that we know",
        remedy="ssh-keygen -R",
    ),
    "refused key": Trouble(**emptied("authorized_keys"), told="it refuses our key", remedy="its authorized_keys"),
    "noisy shell": Trouble(
        make=lambda host: noise(host).write_text("echo Welcome to the instrument\n"),
        mend=lambda host: noise(host).unlink(),
        told="its shell says ‘Welcome to the instrument’",
        remedy=".bashrc",
    ),
    "no python3": Trouble(**with_path("rsync"), told="it has no python3", remedy="install python3"),
    "no rsync": Trouble(**with_path("python3"), told="it has no rsync", remedy="install rsync"),
}


@pytest.mark.parametrize("which", TROUBLES)
def test_a_host_that_is_not_as_it_should_be(far: Desk, host: Sshd, which: str) -> None:
    trouble = TROUBLES[which]
    number = far.write("a.txt")
    trouble.make(host)
    for code, *command in ((2, "check", far.site), (5, "run", far.site, "--once")):
        done = far.run(*map(str, command))
        assert done.returncode == code, (done.stdout, done.stderr)
        for word in ("127.0.0.1", trouble.told, trouble.remedy):
            assert word in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert far.untouched(number, "a.txt")
    trouble.mend(host)
    far.comes_home(number)


def test_a_host_that_is_down_is_waited_for(far: Desk, host: Sshd) -> None:
    number = far.write("a.txt")
    host.stop()
    done = far.run("run", far.site, "--once", "--give-up-after", "1s")
    assert done.returncode == 5
    assert "nobody answers at its port" in done.stdout + done.stderr
    assert "is sshd running there" in far.run("check", far.site).stdout
    assert far.untouched(number, "a.txt")
    host.start()
    far.comes_home(number)


def test_a_login_banner_harms_nobody(far: Desk, host: Sshd) -> None:
    (host.here / "banner").write_text("Keep out!\n" * 100)
    host.stop()
    host.start(f"Banner {host.here}/banner")
    number = far.write("a.txt")
    assert far.run("check", far.site).returncode == 0
    far.comes_home(number)


@pytest.mark.parametrize(
    "said",
    [
        'host: "-oProxyCommand=touch${IFS}pwned"',
        'host: "-oProxyCommand=touch pwned"',
        'host: {name: "-oProxyCommand=touch${IFS}pwned"}',
        'host: {name: far, user: "-oProxyCommand=touch${IFS}pwned"}',
    ],
)
def test_a_host_that_looks_like_an_option(far: Desk, said: str) -> None:
    number = far.write("a.txt")
    far.write_site(more=said)
    done = far.run("run", far.site, "--once")
    assert done.returncode == 2
    assert "-oProxyCommand" in done.stderr
    assert "begin with ‘-’" in done.stderr
    assert not (far.bench.here / "pwned").exists()
    assert far.untouched(number, "a.txt")


@pytest.mark.parametrize("which", ["local", "remote"])
def test_a_full_disk_is_waited_for(tmp_path: Path, skystow_bin: Path, which: str) -> None:
    """At this end while files are pulled, and at the other where they are pushed on; with an sshd and a disk of 2 MB in
    a mount namespace of their own."""
    (tmp_path / "small").mkdir()
    script = f"from {__name__} import full; full({str(tmp_path)!r}, {str(skystow_bin)!r}, {which!r})"
    done = subprocess.run(
        [*small_disk(tmp_path / "small/disk"), sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (0, "well\n"), (done.stdout, done.stderr)


def full(base: str, program: str, which: str) -> None:
    """Runs inside."""
    home, disk = Path(base), Path(base, "small/disk")
    with sshd(home / "it") as host:
        desk = sqlite_desk(Bench(home, Path(program)))
        desk.far = True
        if which == "local":
            (home / "dst").rmdir()
            (home / "dst").symlink_to(disk)
            desk.write_site(more=said_of(host))
        else:
            away = f"{{name: away, kind: remote, of: archive, root: {disk}, min_free: 0, {said_of(host)}}}"
            flow = away.replace("host:\n", "host: {").replace("\n", ",").replace("10s}", "10s}}").replace("{,", "{")
            desk.write_site(more=f"{said_of(host)}\n    copied_when: [away]", destinations=f"  - {flow}")
        desk.json("pysmurf-files", "create", desk.site)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_900_000))
        light = os.urandom(1_000_000)
        number = desk.write("a.txt", light)
        done = desk.run("run", desk.site, "--once", "--give-up-after", "4s")
        said = done.stdout + done.stderr
        assert done.returncode == 5, said
        assert "space" in said.lower(), said
        assert desk.verdict(number)[1:] == (0, 0)
        assert not (disk / "15647/tune_band/a.txt").exists()
        ballast.unlink()
        desk.once()
        assert (disk / "15647/tune_band/a.txt").read_bytes() == light
        assert desk.verdict(number)[1:] == (1, 0)
    print("well")


# ── what is there ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_file_at_the_other_end(far: Desk) -> None:
    (far.bench.here / "secret").write_bytes(b"starlight")
    src = far.bench.src
    (src / "directory").mkdir()
    (src / "link").symlink_to(far.bench.here / "secret")
    (src / "inner").symlink_to("good")
    (src / "out").symlink_to(far.bench.here)
    os.mkfifo(src / "fifo")
    names = ["directory", "link", "inner", "fifo", "out/secret"]
    numbers = [far.register(str(src / name)) for name in names]
    far.write("good")
    assert far.once(3)["quarantined"] == len(names)
    assert set(far.archived()) == {"15647/tune_band/good"}
    for name, number in zip(names, numbers, strict=True):
        assert far.verdict(number) == (str(src / name), 0, 2)
        [copy] = far.json("trace", far.site, str(src / name))["copies"]
        assert (copy["fault"], name in copy["error"]) == ("not-a-file", True)
    (src / "directory").rmdir()
    for name in ("link", "inner", "out", "fifo"):
        (src / name).unlink()
    for name in names:
        far.bench.write(name)
    far.json("retry", far.site, "--all")
    assert far.once()["archived"] == len(names)
    assert {far.verdict(number)[1:] for number in numbers} == {(1, 0)}


def test_a_file_that_was_rewritten_after_it_was_registered(far: Desk) -> None:
    """The bytes that land are read, and are not those that the table claims."""
    number = far.write("a.txt", b"one")
    far.bench.write("a.txt", b"two")
    assert far.once(3)["quarantined"] == 1
    assert far.archived() == {}
    assert far.verdict(number) == (str(far.bench.src / "a.txt"), 0, 2)
    [copy] = far.json("trace", far.site, str(far.bench.src / "a.txt"))["copies"]
    assert copy["fault"] == "digest"
    for content in (b"one", b"two"):  # what was claimed, and what was found
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() in copy["error"]
    far.bench.write("a.txt", b"one")
    far.json("retry", far.site, "--all")
    far.comes_home(number, content=b"one")


def test_two_rows_of_one_path(far: Desk) -> None:
    """With the same digest both are told; with another one the second is a conflict, and the first file stays."""
    numbers = [far.write("a.txt") for _ in range(2)]
    far.once()
    where = str(far.bench.dst / "15647/tune_band/a.txt")
    assert {far.verdict(number) for number in numbers} == {(where, 1, 0)}
    other = far.write("a.txt", b"moonlight")
    assert far.once(3)["conflicts"] == 1
    assert far.verdict(other)[:2] == (str(far.bench.src / "a.txt"), 0)
    assert far.archived() == {"15647/tune_band/a.txt": b"starlight"}
