"""A local tree: what proves its root, and what may be done below it."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.blame import TABLE, Side, blame
from skystow.adapters.digests import hasher
from skystow.adapters.tree import LocalTree, held
from skystow.errors import (
    BadName,
    Changed,
    ConfigError,
    FileFault,
    Missing,
    NoSpace,
    NotAFile,
    PlaceFault,
    ReadOnly,
    SkystowError,
    Unreachable,
    Unreadable,
)
from skystow.model.records import ALGORITHMS, Fingerprint, path_text
from skystow.testing.store_contract import Flag


@pytest.fixture
def tree(tmp_path: Path) -> LocalTree:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"light")
    return LocalTree(str(tmp_path), place="there")


# ── the root ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_root_with_something_in_it_is_present(tree: LocalTree) -> None:
    tree.present()
    assert tree.stat(PurePosixPath("d/a")) is not None


@pytest.mark.parametrize("kind", ["nothing", "empty", "file"])
def test_what_is_no_root(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "empty":
        root.mkdir()
    if kind == "file":
        root.write_bytes(b"")
    with pytest.raises(Unreachable) as gone:
        LocalTree(str(root), place="there").present()
    assert gone.value.place == "there"


def test_what_must_be_there_below_a_root_and_is_empty_or_gone_is_away(tmp_path: Path) -> None:
    """Each may be a disk of its own, whatever stands in the root."""
    (tmp_path / "d").mkdir()
    (tmp_path / "e/f").mkdir(parents=True)
    tree = LocalTree(str(tmp_path), place="there", parts=[b"d", b"e/f"])
    with pytest.raises(Unreachable, match="/d is empty"):
        tree.present()
    (tmp_path / "d/a").touch()
    with pytest.raises(Unreachable, match="e/f is empty"):
        tree.open_file(PurePosixPath("d/missing"))
    (tmp_path / "e/f").rmdir()
    with pytest.raises(Unreachable, match="No such file"):
        tree.present()
    (tmp_path / "e/f").mkdir()
    (tmp_path / "e/f/b").touch()
    tree.present()
    with pytest.raises(Missing):
        tree.open_file(PurePosixPath("d/missing"))


def test_a_marker_proves_the_root_and_its_absence_disproves_it(tmp_path: Path) -> None:
    tree = LocalTree(str(tmp_path), place="there", marker="mounted")
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(Unreachable, match="marker mounted"):
        tree.present()
    (tmp_path / "mounted").write_bytes(b"")
    tree.present()
    (tmp_path / "mounted").unlink()
    tree.forget()
    with pytest.raises(Unreachable):
        tree.stat(PurePosixPath("a"))


def test_another_device_is_another_root(tmp_path: Path) -> None:
    """What an unmounted disk leaves behind, without the privilege to mount: the root's name leads elsewhere."""
    link = tmp_path / "root"
    link.mkdir()
    (link / "a").write_bytes(b"")
    tree = LocalTree(str(link), place="there")
    tree.present()
    link.rename(tmp_path / "unmounted")
    link.symlink_to("/proc/self")
    with pytest.raises(Unreachable, match="another device"):
        tree.present()
    tree.forget()
    with pytest.raises(Unreachable):
        tree.open_file(PurePosixPath("a"))


def test_missing_is_said_only_of_a_root_that_is_there(tree: LocalTree, tmp_path: Path) -> None:
    gone = PurePosixPath("d/b")
    assert tree.stat(gone) is None
    with pytest.raises(Missing):
        tree.digest(gone, "md5", stop=Flag())
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    with pytest.raises(Unreachable):
        tree.stat(gone)
    with pytest.raises(Unreachable):
        tree.digest(gone, "md5", stop=Flag())
    tmp_path.with_name("elsewhere").rename(tmp_path)


def test_a_linked_root_is_resolved_once(tmp_path: Path, tree: LocalTree) -> None:
    link = tmp_path.with_name("link-to-root")
    link.symlink_to(tmp_path)
    linked = LocalTree(str(link), place="there")
    link.unlink()
    assert linked.stat(PurePosixPath("d/a")) == tree.stat(PurePosixPath("d/a"))


# ── below it ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["..", "../a", "d/../../a", "d/..", "/etc/passwd", ".", "a\0b"])
def test_no_path_leads_out(tree: LocalTree, path: str) -> None:
    for use in (tree.stat, tree.open_file):
        with pytest.raises(BadName):
            use(PurePosixPath(path))


@pytest.mark.parametrize("path", ["..a", "a..", "d/...", "a..b/c", "-rf", path_text(b"\xff")])
def test_dots_in_names_are_just_dots(path: str) -> None:
    parent, name = held(PurePosixPath(path))
    assert os.path.join(os.fsdecode(parent), os.fsdecode(name)) == path


def test_links_are_not_followed(tree: LocalTree, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "file").symlink_to("d/a")
    for path in ("link/a", "file", "d"):
        with pytest.raises(NotAFile):
            tree.open_file(PurePosixPath(path))
        assert tree.stat(PurePosixPath(path)) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 5, (1 << 20) - 1, 1 << 20, 2_500_000])
def test_digests_are_of_the_whole_file(tree: LocalTree, tmp_path: Path, algorithm: str, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    whole = hasher(algorithm)
    whole.update(content)
    digest = tree.digest(PurePosixPath("a"), algorithm, stop=Flag())
    assert (digest.algorithm, digest.hex) == (algorithm, whole.hexdigest())


def test_digests_are_what_others_compute() -> None:
    known = {
        "md5": "d41d8cd98f00b204e9800998ecf8427e",
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "blake3": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "xxh128": "99aa06d3014798d86001c324468d497f",
    }
    assert {algorithm: hasher(algorithm).hexdigest() for algorithm in ALGORITHMS} == known
    with pytest.raises(ConfigError, match="crc32"):
        hasher("crc32")


def test_removing_what_was_expected(tree: LocalTree, tmp_path: Path) -> None:
    path = PurePosixPath("d/a")
    expected = tree.stat(path)
    assert expected is not None
    (tmp_path / "d/a").write_bytes(b"other light")
    with pytest.raises(Changed):
        tree.remove(path, expected)
    now = tree.stat(path)
    assert now is not None
    with pytest.raises(Changed):
        tree.remove(path, Fingerprint(now.size, 1))
    tree.remove(path, now)
    assert list((tmp_path / "d").iterdir()) == []
    with pytest.raises(Missing):
        tree.remove(path, now)


def test_directories_are_kept_and_let_go(tree: LocalTree, tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / f"d{i}").mkdir()
        tree.directory(b"d%d" % i)
    here = str(tmp_path)
    held_open = [fd for fd in os.listdir("/proc/self/fd") if _link(fd).startswith(here)]
    assert 1 < len(held_open) <= 256
    tree.forget()
    assert [fd for fd in os.listdir("/proc/self/fd") if _link(fd).startswith(here)] == []


def _link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


# ── blame ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "side", "kind"),
    [
        (errno.ENOENT, Side.SOURCE, Missing),
        (errno.EACCES, Side.SOURCE, Unreadable),
        (errno.EIO, Side.SOURCE, Unreadable),
        (errno.EIO, Side.STAGING, PlaceFault),
        (errno.EIO, Side.PUBLISH, PlaceFault),
        (errno.ENOSPC, Side.STAGING, NoSpace),
        (errno.EDQUOT, Side.PUBLISH, NoSpace),
        (errno.EROFS, Side.STAGING, ReadOnly),
        (errno.EACCES, Side.STAGING, ReadOnly),
        (errno.EACCES, Side.PUBLISH, BadName),
        (errno.ESTALE, Side.SOURCE, Unreachable),
        (errno.EMFILE, Side.SOURCE, PlaceFault),
        (errno.EFBIG, Side.STAGING, FileFault),
        (errno.ECHILD, Side.SOURCE, Unreadable),
        (errno.ECHILD, Side.STAGING, PlaceFault),
        (errno.ECHILD, Side.PUBLISH, PlaceFault),
    ],
)
def test_whose_fault_it_is(code: int, side: Side, kind: type[SkystowError]) -> None:
    fault = blame(OSError(code, os.strerror(code)), side, "a", place="there")
    assert type(fault) is kind
    assert os.strerror(code) in str(fault)
    if isinstance(fault, PlaceFault):
        assert fault.place == "there"


def test_every_row_of_the_table_can_be_said() -> None:
    said = {key: blame(OSError(key[0], os.strerror(key[0])), key[1], "a", place="there") for key in TABLE}
    assert {key: type(fault) for key, fault in said.items()} == TABLE


@pytest.mark.parametrize("call", ["scandir", "fstat"])
def test_a_disk_that_breaks_in_the_middle_is_a_fault_not_a_bug(
    tree: LocalTree, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    tree.directory(b"d")

    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, stale)
        with pytest.raises(Unreachable):
            tree.present() if call == "scandir" else tree.open_file(PurePosixPath("d/a"))


def test_only_the_very_file_that_was_looked_at_is_removed(tree: LocalTree, tmp_path: Path) -> None:
    path, name = PurePosixPath("d/a"), tmp_path / "d/a"
    now, stamp = tree.stat(path), name.stat().st_mtime_ns
    assert now is not None
    (tmp_path / "new").write_bytes(b"LIGHT")
    os.utime(tmp_path / "new", ns=(stamp, stamp))
    (tmp_path / "new").replace(name)
    with pytest.raises(Changed):
        tree.remove(path, now)
    assert name.read_bytes() == b"LIGHT"


@pytest.mark.parametrize("dead", [False, True], ids=["a bad sector", "a dead disk"])
def test_a_disk_that_cannot_be_read_at_all_is_no_file_s_fault(
    tree: LocalTree, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", broken)
        if dead:
            patched.setattr(os, "scandir", broken)
        with pytest.raises(Unreachable if dead else Unreadable):
            tree.digest(PurePosixPath("d/a"), "md5", stop=Flag())
