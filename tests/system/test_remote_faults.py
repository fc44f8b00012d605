"""What can go wrong between two hosts: each has a clear error, the right one to blame, and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.options import StoreOptions
from skystow.adapters.remote.ssh import Link
from skystow.adapters.remote.tree import RemoteTree
from skystow.errors import (
    Changed,
    Missing,
    NotAFile,
    SkystowError,
    Stopped,
    UnfitHost,
    Unreachable,
    Unreadable,
)
from skystow.model.remote import RemoteHost
from skystow.ports import Staged
from skystow.testing.store_contract import CLAIM, OTHER_CLAIM, Flag, finish, stage, work_for
from tests.contract.remote_kit import RemoteDepot, midway
from tests.sshd import Sshd, keygen, sshd

BOTH = pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it") as one:
        yield one


@pytest.fixture
def connect() -> Iterator[Callable[[RemoteHost], Link]]:
    links: list[Link] = []

    def make(host: RemoteHost) -> Link:
        links.append(Link(host))
        return links[-1]

    yield make
    for link in links:
        link.close()


def refusal(link: Link, root: Path) -> SkystowError:
    with pytest.raises(SkystowError) as refused:
        RemoteTree(link, str(root), place="far").present()
    return refused.value


# ── who is there ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_host_key(server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    fault = refusal(connect(server.host(known_hosts=str(tmp_path / "empty"))), tmp_path)
    assert isinstance(fault, UnfitHost)
    assert "not known here" in fault.message
    assert "known_hosts" in fault.remedy


def test_a_changed_host_key(server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    (tmp_path / "other").write_text(f"[127.0.0.1]:{server.port} {keygen(tmp_path / 'another')}")
    fault = refusal(connect(server.host(known_hosts=str(tmp_path / "other"))), tmp_path)
    assert isinstance(fault, UnfitHost)
    assert "not the one that we know" in fault.message


def test_a_refused_key(server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    keygen(tmp_path / "stranger")
    fault = refusal(connect(server.host(identity_file=str(tmp_path / "stranger"))), tmp_path)
    assert isinstance(fault, UnfitHost)
    assert "refuses our key" in fault.message


def test_nobody_there(server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    host = server.host()
    server.stop()
    fault = refusal(connect(host), tmp_path)
    assert isinstance(fault, Unreachable)
    assert fault.place == "far"


def test_a_name_that_does_not_resolve(connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    fault = refusal(connect(RemoteHost("no-such-host.invalid", config_file="/dev/null", timeout=5)), tmp_path)
    assert isinstance(fault, Unreachable)


# ── what answers ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_login_banner_is_no_trouble(tmp_path: Path, connect: Callable[[RemoteHost], Link]) -> None:
    (tmp_path / "banner").write_text("Keep out!\n" * 100)
    with sshd(tmp_path / "it", f"Banner {tmp_path}/banner") as server:
        depot = RemoteDepot(tmp_path, connect(server.host()), pull=True)
        depot.put(PurePosixPath("a"), b"light")
        finish(depot.store, stage(depot.store, work_for("a")))
        assert depot.read(PurePosixPath("a")) == b"light"


def test_a_noisy_shell(server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    (server.here / "home/.bashrc").write_text("echo Welcome to the instrument\n")
    fault = refusal(connect(server.host()), tmp_path)
    assert isinstance(fault, UnfitHost)
    assert "Welcome to the instrument" in fault.message
    assert ".bashrc" in fault.remedy


@pytest.mark.parametrize("tool", ["python3", "rsync"])
def test_a_remote_end_without(tool: str, tmp_path: Path, connect: Callable[[RemoteHost], Link]) -> None:
    (tmp_path / "bin").mkdir()
    if tool == "rsync":
        (tmp_path / "bin/python3").symlink_to("/usr/bin/python3")
    with sshd(tmp_path / "it", path=str(tmp_path / "bin")) as server:
        depot = RemoteDepot(tmp_path, connect(server.host()), pull=True)
        depot.put(PurePosixPath("a"), b"light")
        with pytest.raises(UnfitHost, match=f"no {tool}") as unfit:
            list(depot.store.stage([work_for("a")], stop=Flag()))
        assert "install" in unfit.value.remedy
        assert depot.store.tokens() == []
        (tmp_path / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
        if tool == "python3":
            (tmp_path / "bin/rsync").symlink_to("/usr/bin/rsync")
        finish(depot.store, stage(depot.store, work_for("a")))  # without a restart


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_each_file_has_its_own_fault(
    server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path, pull: bool
) -> None:
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull)
    for name in ("good", "real"):
        depot.put(PurePosixPath(name), b"light")
    os.mkfifo(depot.source / "fifo")
    (depot.source / "link").symlink_to("real")
    (depot.source / "dir").mkdir()
    (depot.source / "out").symlink_to("/etc")
    works = [work_for(name) for name in ("missing", "fifo", "link", "dir", "out/passwd", "good")]
    outcomes = {str(work.source.path): outcome for work, outcome in depot.store.stage(works, stop=Flag())}
    assert isinstance(outcomes["missing"], Missing)
    assert all(isinstance(outcomes[name], NotAFile) for name in ("fifo", "link", "dir", "out/passwd")), outcomes
    landed = outcomes["good"]
    assert isinstance(landed, Staged)
    finish(depot.store, [landed])
    assert depot.store.tokens() == []


@BOTH
def test_a_file_that_changes_while_it_is_copied(
    server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path, pull: bool
) -> None:
    options = StoreOptions(bwlimit=2_000_000, min_free=0)
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull, options=options)
    depot.put(PurePosixPath("a"), bytes(4_000_000))
    writer = midway(depot, lambda: os.utime(depot.source / "a"))
    [(_, outcome)] = depot.store.stage([work_for("a")], stop=Flag())
    writer.join()
    assert isinstance(outcome, Changed)
    assert depot.store.tokens() == []


def test_an_unreadable_source_file(server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path) -> None:
    """Root reads everything, so what cannot be read is a file that rsync alone is refused."""
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=True)
    depot.put(PurePosixPath("a"), b"light")
    if os.geteuid() != 0:
        (depot.source / "a").chmod(0)
        [(_, outcome)] = depot.store.stage([work_for("a")], stop=Flag())
        assert isinstance(outcome, Unreadable)
    else:
        tree = RemoteTree(depot.link, "/proc/self", place="source")
        assert isinstance(tree.probe([PurePosixPath("mem")])[0], Unreadable)


# ── places ──────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_a_stalled_network_is_noticed(
    server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path, pull: bool
) -> None:
    options = StoreOptions(bwlimit=1_000_000, min_free=0)
    depot = RemoteDepot(tmp_path, connect(server.host(timeout=2.0)), pull=pull, options=options)
    depot.put(PurePosixPath("a"), os.urandom(30_000_000))
    depot.store.room() if not pull else None
    stall = midway(depot, lambda: server.signal_all(signal.SIGSTOP))
    began = time.monotonic()
    with pytest.raises(Unreachable):
        list(depot.store.stage([work_for("a")], stop=Flag()))
    assert time.monotonic() - began < 15
    stall.join()
    server.signal_all(signal.SIGCONT)


@BOTH
def test_sshd_killed_in_the_middle_and_back(
    server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path, pull: bool
) -> None:
    options = StoreOptions(bwlimit=2_000_000, min_free=0, sync="fsync")
    depot = RemoteDepot(tmp_path, connect(server.host(timeout=5.0)), pull=pull, options=options, large=1 << 20)
    content = os.urandom(8_000_000)
    depot.put(PurePosixPath("a/big"), content)
    kill = midway(depot, server.stop, 5_000_000)
    with pytest.raises(Unreachable):
        list(depot.store.stage([work_for("a/big")], stop=Flag()))
    kill.join()
    parts = [path for path in (depot.target / ".skystow/partial").rglob("*") if path.is_file()]
    assert parts
    length = max(path.stat().st_size for path in parts)
    assert 4_000_000 < length < len(content)
    inodes = {path.stat().st_ino for path in parts}
    server.start()
    if not pull:
        depot.store.sweep(CLAIM)
    began = time.monotonic()
    [staged] = stage(depot.store, work_for("a/big", token=OTHER_CLAIM))
    took = time.monotonic() - began
    assert took < len(content) / 2_000_000 - 0.5, "it did not go on where it stopped"
    finish(depot.store, [staged])
    assert depot.read(PurePosixPath("a/big")) == content
    assert (depot.target / "a/big").stat().st_ino not in inodes
    assert not [path for path in (depot.target / ".skystow/partial").rglob("*") if path.is_file()]


@BOTH
def test_a_full_disk_is_the_fault_of_the_place_that_is_full(tmp_path: Path, pull: bool) -> None:
    """In a mount namespace of its own, with an sshd of its own in it."""
    done = subprocess.run(
        [*small_disk(tmp_path / "small"), sys.executable, "-c", FULL, str(tmp_path), str(int(pull))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "NoSpace store" in done.stdout


def small_disk(where: Path, size: str = "2m") -> list[str]:
    """Runs the rest of a command line where a tmpfs (of 2 MB) is mounted, as the user that we are: sshd wants to be
    root either truly or not at all."""
    where.mkdir()
    mount = [
        "--propagation",
        "private",
        "sh",
        "-c",
        f'mount -t tmpfs -o size={size},mode=777 tmpfs {where} && exec "$@"',
        "sh",
    ]
    if os.geteuid() == 0:
        return ["unshare", "-m", *mount]
    again = ["unshare", "-U", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
    return ["unshare", "-rm", *mount, *again]


FULL = """
import sys
from pathlib import Path, PurePosixPath
from skystow.adapters.remote.ssh import Link
from skystow.errors import PlaceFault
from skystow.testing.store_contract import Flag, work_for
from tests.contract.remote_kit import RemoteDepot, midway
from tests.sshd import sshd

base, pull = Path(sys.argv[1]), sys.argv[2] == "1"
with sshd(base / "it") as server:
    link = Link(server.host())
    depot = RemoteDepot(base, link, pull=pull, target=base / "small")
    depot.put(PurePosixPath("a"), bytes(100))
    names = ["a", *"bcde"]  # each too small to be asked whether there is room for it
    for name in names[1:]:
        depot.put(PurePosixPath(name), bytes(1_000_000))
    try:
        list(depot.store.stage([work_for(name) for name in names], stop=Flag()))
    except PlaceFault as full:
        print(type(full).__name__, full.place, full)
    link.close()
"""


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_stops_within_two_seconds_and_leaves_no_process(
    server: Sshd, connect: Callable[[RemoteHost], Link], tmp_path: Path, pull: bool
) -> None:
    options = StoreOptions(bwlimit=1_000_000, min_free=0)
    link = connect(server.host())
    depot = RemoteDepot(tmp_path, link, pull=pull, options=options)
    depot.put(PurePosixPath("a"), os.urandom(30_000_000))
    stop = Flag()
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.monotonic())
        stop.asked = True

    asking = midway(depot, ask)
    with pytest.raises(Stopped):
        list(depot.store.stage([work_for("a")], stop=stop))
    asking.join()
    assert time.monotonic() - asked[0] < 2
    assert depot.store.tokens() == []
    link.close()
    assert ours(str(tmp_path)) == []
    gone(server)


def test_nothing_outlives_a_killed_program(server: Sshd, tmp_path: Path, skystow_bin: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_bytes(os.urandom(30_000_000))
    source = f"{server.name}:{tmp_path}/src"
    program = subprocess.Popen(
        [sys.executable, "-m", "skystow", "archive", source, tmp_path / "dst", "--bwlimit", "1MB/s", "--quiet"],
        env={**os.environ, "SKYSTOW_SSH_CONFIG": str(server.here / "ssh_config")},
    )
    due = time.monotonic() + 20
    while not any("--server" in line for line in commands(server)):
        assert program.poll() is None
        assert time.monotonic() < due
        time.sleep(0.05)
    program.kill()
    program.wait()
    gone(server)
    due = time.monotonic() + 5
    while left := ours(str(tmp_path)):
        assert time.monotonic() < due, left
        time.sleep(0.05)


def commands(server: Sshd) -> list[str]:
    lines = []
    for pid in server.children():
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


def gone(server: Sshd) -> None:
    """Everything that a connection started at the other end has ended."""
    due = time.monotonic() + 5
    while left := [line for line in commands(server) if "sshd -D" not in line and line.strip()]:
        assert time.monotonic() < due, left
        time.sleep(0.05)


def ours(mark: str) -> list[str]:
    """Our own processes (rsync, ssh) that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line and line.startswith(("ssh ", "rsync ")):
            found.append(line)
    return found


# ── the helper ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_helper_needs_no_more_than_python_3_6() -> None:
    import ast

    text = Path(sys.modules[RemoteTree.__module__].__file__ or "").with_name("helper.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= sys.stdlib_module_names
