"""What is promised of transfers over SSH, looked at from outside: the command lines, the connections, the digests.

The spies are scripts in front of the real programs; they note what they were called with, or spoil what was brought.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pytest
from tests.contract.remote_kit import RemoteDepot
from tests.sshd import Sshd, sshd

from skystow.adapters.options import StoreOptions
from skystow.adapters.remote.pull import PullStore
from skystow.adapters.remote.rsync import Run, Tuning
from skystow.adapters.remote.ssh import Link
from skystow.adapters.remote.tree import RemoteTree
from skystow.adapters.tree import LocalTree
from skystow.errors import DigestMismatch, PlaceFault, Unreachable
from skystow.model.records import Digest
from skystow.model.remote import RemoteHost
from skystow.ports import Staged
from skystow.testing.store_contract import CLAIM, OTHER_CLAIM, SOURCE, Flag, finish, stage, work_for

BOTH = pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
NOTE = """\
#!/bin/sh
call=$(mktemp {log}/XXXXXXXX)
printf '%s\\0' "$@" > "$call"
[ ! -f /proc/self/fd/0 ] || cat /proc/self/fd/0 > "$call.names"
exec {program} "$@"
"""
SPOIL = """\
#!/bin/sh
said=$({program} "$@") || exit
for into; do :; done
into=${{into#remote:}}
[ ! -f "$into/a" ] || printf LIGHT > "$into/a"
echo "$said"
"""
LIE = """\
#!/bin/sh
{program} "$@" | sed 's/^[0-9a-f]\\{{32\\}} /00000000000000000000000000000000 /'
"""


@dataclass
class Spy:
    """Of one program; each call has a file in `log`."""

    log: Path

    def calls(self) -> list[list[bytes]]:
        """The arguments of each, in no order."""
        return [path.read_bytes().split(b"\0")[:-1] for path in self.log.iterdir() if not path.suffix]

    def names(self) -> list[set[bytes]]:
        """What each was told to carry."""
        return [set(path.read_bytes().split(b"\0")[:-1]) for path in self.log.glob("*.names")]


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spy]:
    def put(name: str, script: str = NOTE) -> Spy:
        real, log, programs = shutil.which(name), tmp_path / f"{name}-calls", tmp_path / f"{name}-bin"
        for directory in (log, programs):
            directory.mkdir()
        (programs / name).write_text(script.format(log=log, program=real))
        (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        return Spy(log)

    return put


@pytest.fixture
def connect() -> Iterator[Callable[[RemoteHost], Link]]:
    links: list[Link] = []

    def make(host: RemoteHost) -> Link:
        links.append(Link(host))
        return links[-1]

    yield make
    for link in links:
        link.close()


Connect = Callable[[RemoteHost], Link]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "it", "LogLevel DEBUG1") as one:
        yield one


def log_of(server: Sshd) -> str:
    return (server.here / "log").read_text(errors="replace")


# ── one rsync for many files ─────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_one_rsync_carries_a_batch_and_no_name_is_on_its_command_line(
    server: Sshd, connect: Connect, tmp_path: Path, spy: Callable[..., Spy], pull: bool
) -> None:
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull)
    rsync = spy("rsync")
    names = [f"d{n % 5}/-e$(touch pwned)`{n}`" for n in range(60)]
    for name in names:
        depot.put(PurePosixPath(name), name.encode())
    works = [work_for(name, f"elsewhere/{n}") for n, name in enumerate(names)]  # source and final names differ
    finish(depot.store, stage(depot.store, *works))
    assert [depot.read(PurePosixPath(f"elsewhere/{n}")) for n in range(60)] == [name.encode() for name in names]
    [words] = [words for words in rsync.calls() if b"--version" not in words]
    [carried] = rsync.names()
    assert carried == {b"./" + name.encode() for name in names}
    assert not [word for word in words if b"pwned" in word]
    assert {b"--whole-file", b"--no-compress", b"--files-from=-", b"--from0"} <= set(words)
    assert not {b"--compress", b"-z", b"--inplace", b"--append"} & set(words)
    source, target = words[words.index(b"--") + 1 :]
    assert [end.startswith(b"remote:/") for end in (source, target)] == [pull, not pull]


@BOTH
def test_only_a_large_file_goes_on_from_a_part(
    server: Sshd, connect: Connect, tmp_path: Path, spy: Callable[..., Spy], pull: bool
) -> None:
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull, large=1000)
    rsync = spy("rsync")
    for name, size in (("small", 999), ("large", 1000)):
        depot.put(PurePosixPath(name), bytes(size))
    finish(depot.store, stage(depot.store, work_for("small"), work_for("large")))
    ways = {frozenset(words) & {b"--whole-file", b"--no-whole-file", b"--partial-dir=.part"} for words in rsync.calls()}
    assert ways - {frozenset()} == {
        frozenset({b"--whole-file"}),
        frozenset({b"--no-whole-file", b"--partial-dir=.part"}),
    }
    assert sorted(rsync.names(), key=str) == [{b"./large"}, {b"./small"}]


def test_a_batch_of_unknown_size_goes_in_parts(
    server: Sshd, connect: Connect, tmp_path: Path, spy: Callable[..., Spy]
) -> None:
    """As a table's rows are, which do not say how large their files are."""
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=True)
    origin = RemoteTree(depot.link, str(depot.source), place=SOURCE)
    tree = LocalTree(os.fsencode(depot.target), place="store")
    options = StoreOptions(sync="fsync", min_free=0)
    depot.store = PullStore("store", tree, {SOURCE: origin}, options, most=1000)
    rsync = spy("rsync")
    names = [str(n) for n in range(7)]
    for name in names:
        depot.put(PurePosixPath(name), bytes(300))
    depot.put(PurePosixPath("big"), bytes(2000))
    finish(depot.store, stage(depot.store, *map(work_for, [*names, "big"])))
    assert sorted(map(len, rsync.names())) == [1, 1, 3, 3]
    assert set.union(*rsync.names()) == {f"./{name}".encode() for name in [*names, "big"]}
    assert all(depot.read(PurePosixPath(name)) == bytes(300) for name in names)
    assert depot.store.tokens() == []


@BOTH
def test_a_root_that_a_shell_could_misread(server: Sshd, connect: Connect, tmp_path: Path, pull: bool) -> None:
    base = tmp_path / "a b; touch $(echo pwned) `id` * 'q"
    base.mkdir()
    depot = RemoteDepot(base, connect(server.host()), pull=pull)
    depot.put(PurePosixPath("a"), b"light")
    finish(depot.store, stage(depot.store, work_for("a")))
    assert depot.read(PurePosixPath("a")) == b"light"
    assert not (server.here / "home/pwned").exists()


# ── one connection ───────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_two_streams_share_one_connection_that_was_opened_before_them(
    server: Sshd, connect: Connect, tmp_path: Path, spy: Callable[..., Spy], pull: bool
) -> None:
    ssh = spy("ssh")
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull, streams=2)
    names = [f"{n}" for n in range(20)]
    for name in names:
        depot.put(PurePosixPath(name), name.encode())
    depot.store.room()
    both = threading.Barrier(2, timeout=30)

    def carry(token: str, some: list[str]) -> None:
        both.wait()
        finish(depot.store, stage(depot.store, *(work_for(name, token=token) for name in some)))

    streams = [threading.Thread(target=carry, args=each) for each in ((CLAIM, names[:10]), (OTHER_CLAIM, names[10:]))]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    assert [depot.read(PurePosixPath(name)) for name in names] == [name.encode() for name in names]
    assert log_of(server).count("Accepted publickey") == 1
    calls = ssh.calls()
    [master] = [words for words in calls if b"ControlMaster=yes" in words]
    others = [words for words in calls if words is not master]
    assert len(others) >= 2
    for words in others:  # where the master is gone they have no connection of their own to fall back to
        assert {b"ControlMaster=no", b"ProxyCommand=false"} <= set(words)
    assert {b"StrictHostKeyChecking=yes", b"BatchMode=yes", b"UpdateHostKeys=no"} <= set(master)
    assert words_after(master, b"--")[0] == b"127.0.0.1"
    assert log_of(server).count("aes128-gcm@openssh.com MAC: <implicit>") >= 2  # each way


def words_after(words: list[bytes], mark: bytes) -> list[bytes]:
    return words[words.index(mark) + 1 :]


def test_another_cipher_where_the_other_side_has_not_ours(tmp_path: Path, connect: Connect) -> None:
    with sshd(tmp_path / "it", "LogLevel DEBUG1\nCiphers aes256-ctr") as server:
        RemoteTree(connect(server.host()), str(tmp_path), place="far").present()
        assert "cipher: aes256-ctr" in log_of(server)


# ── claims and proofs ────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_what_lands_is_read_back_and_not_taken_from_rsyncs_word(
    server: Sshd, connect: Connect, tmp_path: Path, spy: Callable[..., Spy], pull: bool
) -> None:
    """The bytes are spoilt after rsync has written and digested them; its digest of the stream is right."""
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull)
    depot.put(PurePosixPath("a"), b"light")
    spy("rsync", SPOIL)
    assert "landed in store" in str(mismatch(depot))
    assert depot.read(PurePosixPath("a")) is None


@BOTH
def test_rsyncs_digest_of_the_stream_is_the_claim_where_there_is_no_other(
    server: Sshd, connect: Connect, tmp_path: Path, spy: Callable[..., Spy], pull: bool
) -> None:
    """What landed is right, and another digest is claimed: it is refused."""
    depot = RemoteDepot(tmp_path, connect(server.host()), pull=pull)
    depot.put(PurePosixPath("a"), b"light")
    spy("rsync", LIE)
    assert "0" * 32 in str(mismatch(depot))
    assert depot.read(PurePosixPath("a")) is None


def mismatch(depot: RemoteDepot) -> DigestMismatch:
    [(_, outcome)] = depot.store.stage([work_for("a")], stop=Flag())
    if isinstance(outcome, Staged):
        with pytest.raises(DigestMismatch) as found:
            depot.store.prove(outcome, "blake3", stop=Flag())
        depot.store.drop([outcome])
        return found.value
    assert isinstance(outcome, DigestMismatch)
    return outcome


# ── the other side ───────────────────────────────────────────────────────────────────────────────────────────────


def remote_tool(where: Path, name: str, script: str) -> None:
    where.mkdir(exist_ok=True)
    (where / name).write_text(f"#!/bin/sh\n{script}\n")
    (where / name).chmod(0o755)


def test_a_digest_that_the_other_side_lacks_becomes_sha256_and_check_says_so(tmp_path: Path, connect: Connect) -> None:
    remote_tool(tmp_path / "bin", "python3", 'exec /usr/bin/python3 -S "$@"')  # the standard library alone
    with sshd(tmp_path / "it", path=f"{tmp_path}/bin:/usr/bin:/bin") as server:
        options = StoreOptions(algorithm="blake3", min_free=0, sync="fsync")
        depot = RemoteDepot(tmp_path, connect(server.host()), pull=False, options=options)
        found = {finding.text: finding.remedy for finding in depot.store.check(None)}
        told = f"blake3 is not to be had on {depot.link.host}: sha256 instead"
        assert "install python3-blake3" in found[told]
        depot.put(PurePosixPath("a"), b"light")
        [staged] = stage(depot.store, work_for("a"))
        assert depot.store.prove(staged, "blake3", stop=Flag()) == Digest("sha256", sha256(b"light").hexdigest())
        depot.store.drop([staged])


def pythons() -> list[str]:
    """Those that are on the PATH here, from 3.6 on; the system's is always one of them."""
    found = {"/usr/bin/python3"}
    for name in (f"python3.{n}" for n in range(6, 20)):
        ask = [name, "-c", "import sys; print(sys.executable)"]
        if shutil.which(name) and (said := subprocess.run(ask, capture_output=True, text=True, check=False)).stdout:
            found.add(said.stdout.strip())
    return sorted(found)


@pytest.mark.parametrize("python", pythons())
def test_pythons_of_the_other_side(python: str, tmp_path: Path, connect: Connect) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(python)
    with sshd(tmp_path / "it", path=f"{tmp_path}/bin:/usr/bin:/bin") as server:
        depot = RemoteDepot(tmp_path, connect(server.host()), pull=False)
        names = [f"d{n % 3}/{n}" for n in range(20)]
        for name in names:
            depot.put(PurePosixPath(name), name.encode())
        staged = stage(depot.store, *map(work_for, names))
        for each in staged:
            proof = depot.store.prove(each, "sha256", stop=Flag())
            assert proof.hex == sha256(str(each.work.target).encode()).hexdigest()
        finish(depot.store, staged)
        assert [depot.read(PurePosixPath(name)) for name in names] == [name.encode() for name in names]


def test_an_rsync_that_is_too_old(tmp_path: Path, connect: Connect) -> None:
    remote_tool(tmp_path / "bin", "rsync", "echo 'rsync  version 3.0.9  protocol version 30'")
    with sshd(tmp_path / "it", path=f"{tmp_path}/bin:/usr/bin:/bin") as server:
        depot = RemoteDepot(tmp_path, connect(server.host()), pull=True)
        depot.put(PurePosixPath("a"), b"light")
        with pytest.raises(PlaceFault, match="its rsync is too old") as unfit:
            list(depot.store.stage([work_for("a")], stop=Flag()))
        assert "install rsync 3.1 or later" in unfit.value.remedy


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("size", "least", "most"), [(0, 0.5, 2.4), (65_536, 2.5, 10.0)])
def test_how_long_an_rsync_may_take_follows_from_its_size(
    tmp_path: Path, spy: Callable[..., Spy], size: int, least: float, most: float
) -> None:
    """Ten times the silence that is allowed, and the bytes at 32 KiB/s; then it is the network's fault."""
    spy("rsync", "#!/bin/sh\nexec sleep 60\n")
    tuning = Tuning(0.05)
    run = Run(b"/nowhere", b"remote:/nowhere", [b"a"], size, shell="false", tuning=tuning)  # noqa: S604
    began = time.monotonic()
    assert [line for lines in run.lines(Flag()) for line in lines] == []
    assert least < time.monotonic() - began < most
    fault = run.fault(RemoteHost("far"), remote="there", receiver="here")
    assert isinstance(fault, Unreachable)
    assert fault.place == "there"
    assert "it took longer than" in str(fault)
