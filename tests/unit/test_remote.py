"""Remote ends as they are written, hosts that are refused, what a transfer may cost, and whom an exit code blames."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from skystow.adapters.remote.rsync import EXITS, Run, Tuning, Whose
from skystow.adapters.remote.session import BOOTSTRAP, program
from skystow.config import read
from skystow.errors import ConfigError, NoSpace, PlaceFault, ReadOnly, UnfitHost, Unreachable
from skystow.model.remote import RemoteHost, is_remote, remote_end


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "", "a\nb", "a@b", "h/x"])
def test_a_host_that_ssh_could_misread(host: str) -> None:
    with pytest.raises(ConfigError):
        RemoteHost(host)
    with pytest.raises(ConfigError):
        RemoteHost("fine", user=host)


def test_ends_are_told_apart() -> None:
    assert remote_end("me@far:/data/a:b") == (RemoteHost("far", user="me"), "/data/a:b")
    assert remote_end("[::1]:/x") == (RemoteHost("::1"), "/x")
    assert remote_end("far:") == (RemoteHost("far"), ".")
    assert not any(map(is_remote, ("/a:b", "./a:b", "a/b:c", "plain", "a/me@far:/x")))
    with pytest.raises(ConfigError):
        remote_end("-oProxyCommand=x:/y")


NEWER_ARGUMENTS = {"capture_output", "text", "dirs_exist_ok", "missing_ok", "strict", "usedforsecurity"}
NEWER_NAMES = {
    *("copy_file_range", "memfd_create", "posix_spawn", "pidfd_open", "waitstatus_to_exitcode"),
    *("time_ns", "monotonic_ns", "perf_counter_ns", "isascii", "removeprefix", "removesuffix", "fromisoformat"),
    *("cache", "cached_property", "dataclass", "nullcontext", "prod", "breakpoint", "file_digest", "bit_count"),
}
"""What came to the standard library after Python 3.6 and a helper could be tempted to use."""


def test_the_helper_uses_nothing_that_python_3_6_has_not() -> None:
    """Its grammar, its modules, and names that came later. hashlib's `usedforsecurity` is said only where md5 is
    forbidden, which a Python that has not the word cannot do."""
    tree = ast.parse(program(), feature_version=(3, 6))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & NEWER_NAMES
    arguments = {word.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords}
    assert arguments & NEWER_ARGUMENTS == {"usedforsecurity"}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_the_helper_is_sent_by_a_command_that_a_forced_command_can_compare() -> None:
    gate = (Path(__file__).parents[2] / "examples/skystow-gate").read_text()
    assert f'helper="{BOOTSTRAP}"' in gate


SITE = "sources: [{name: a, kind: directory, root: a}]\ndestinations: [{name: b, kind: posix, root: b%s}]"


def test_two_streams_and_batches_that_have_an_end(tmp_path: Path) -> None:
    [made] = read(SITE % "", directory=str(tmp_path)).destinations
    assert (made.streams, made.batch.size) == (2, 256 * 2**20)
    [most] = read(SITE % ", batch: {files: 5000}", directory=str(tmp_path)).destinations
    assert most.batch.files == 5000
    with pytest.raises(ConfigError):
        read(SITE % ", batch: {files: 5001}", directory=str(tmp_path))


@pytest.mark.parametrize("code", sorted(EXITS))
def test_every_exit_code_of_rsync_has_somebody_to_blame(code: int) -> None:
    """Only a file that rsync names is ever to blame for it; what a person must mend is said with a remedy."""
    run = Run(b"/a", b"remote:/b", [b"x"], 0, shell="false", tuning=Tuning(1.0))  # noqa: S604 - not subprocess's
    run.code = code
    fault = run.fault(RemoteHost("far"), remote="there", receiver="here")
    match EXITS[code]:
        case Whose.FILES:
            assert fault is None
        case Whose.OPERATOR:
            assert isinstance(fault, UnfitHost)
            assert fault.remedy
        case Whose.REMOTE:
            assert isinstance(fault, Unreachable)
            assert fault.place == "there"
        case Whose.RECEIVER | Whose.OURS:
            assert isinstance(fault, PlaceFault)
            assert fault.place == "here"


@pytest.mark.parametrize(("number", "kind"), [(28, NoSpace), (122, NoSpace), (30, ReadOnly), (5, PlaceFault)], ids=str)
def test_what_the_receiver_could_not_write(number: int, kind: type[PlaceFault]) -> None:
    run = Run(b"/a", b"remote:/b", [b"x"], 0, shell="false", tuning=Tuning(1.0))  # noqa: S604 - not subprocess's
    run.code, run.errors = 11, f'rsync: [receiver] write failed on "x": whatever ({number})\nrsync error: …'
    fault = run.fault(RemoteHost("far"), remote="there", receiver="here")
    assert type(fault) is kind
    assert fault is not None
    assert "write failed" in str(fault)
