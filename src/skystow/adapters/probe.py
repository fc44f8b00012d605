"""`skystow check` for local stores: a probe file is really written, synced, linked, read back and removed."""

from __future__ import annotations

import errno
import os
import secrets
import stat as stat_bits
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from skystow.adapters.syscalls import rename_noreplace
from skystow.adapters.tree import Directory, LocalTree
from skystow.errors import Unreachable
from skystow.ports import Finding, Tree

_HOME = b".skystow"
_CONTENT = b"skystow was here\n"


def try_out(tree: LocalTree, upstream: Tree | None, min_free: float, directory_mode: int) -> Iterator[Finding]:
    """Findings in the order in which a person would look; stops at the first that makes the others moot."""
    tree.forget()
    try:
        root = tree.directory(b"")
        yield Finding("root", True, f"{tree} is a directory")
        if isinstance(upstream, LocalTree):
            upstream.directory(b"")  # not `present`: before the first file an empty root is lawful
    except Unreachable as gone:
        yield Finding("root", False, gone.message, gone.remedy)
        return
    user = f"as uid {os.geteuid()}"
    try:
        with _probe_directory(tree) as area:
            yield Finding("permission", True, f"{tree} can be written to {user}")
            yield from _try_file(area)
            yield _try_mode(area, directory_mode)
    except OSError as error:
        remedy = "let the user that skystow runs as write there"
        yield Finding("permission", False, f"{tree} cannot be used {user}: {error.strerror}", remedy)
    found = os.fstatvfs(root.fd)
    free = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
    text = f"{free:.1%} of {tree} is free, {min_free:.1%} must stay free"
    yield Finding("space", free > min_free, text, "" if free > min_free else "free some space or lower min_free")


def try_link(upstream: LocalTree, tree: LocalTree) -> Finding:
    """A hard link from a probe file in the upstream tree to this one."""
    subject = f"link from {upstream.place}"
    try:
        with _probe_directory(upstream) as there, _probe_directory(tree) as here:
            with _file(there, b"probe"):
                os.link(b"probe", b"probe", src_dir_fd=there.fd, dst_dir_fd=here.fd, follow_symlinks=False)
            os.unlink(b"probe", dir_fd=here.fd)
    except (OSError, Unreachable) as error:
        why = "they are on different devices" if getattr(error, "errno", 0) == errno.EXDEV else str(error)
        return Finding(subject, False, f"no hard link from {upstream} to {tree}: {why}", "put both on one file system")
    return Finding(subject, True, f"hard links from {upstream} to {tree} work")


def _try_file(area: Directory) -> Iterator[Finding]:
    with _file(area, b"probe") as fd:
        start = time.monotonic()
        os.fsync(fd)
        yield Finding("sync", True, f"a small file was synced in {(time.monotonic() - start) * 1e3:.1f} ms")
        how = _give_name(fd, area)
        if how is None:
            yield Finding("name", False, "neither hard links nor renameat2(RENAME_NOREPLACE) work", "use another disk")
            return
        back = os.open(b"final", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=area.fd)
        try:
            whole = os.read(back, 4096) == _CONTENT
        finally:
            os.close(back)
            os.unlink(b"final", dir_fd=area.fd)
        yield Finding("name", whole, f"published by {how} and read back {'whole' if whole else 'damaged'}")


def _give_name(fd: int, area: Directory) -> str | None:
    try:
        os.link(b"/proc/self/fd/%d" % fd, b"final", dst_dir_fd=area.fd, follow_symlinks=True)
    except OSError:
        try:
            rename_noreplace(b"probe", b"final", old_dir=area.fd, new_dir=area.fd)
        except OSError:
            return None
        return "rename"
    return "hard link"


def _try_mode(area: Directory, wanted: int) -> Finding:
    os.mkdir(b"mode", 0o700, dir_fd=area.fd)
    try:
        made = Directory(os.open(b"mode", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=area.fd))
        os.fchmod(made.fd, wanted)
        got = stat_bits.S_IMODE(os.fstat(made.fd).st_mode)
    finally:
        os.rmdir(b"mode", dir_fd=area.fd)
    remedy = "" if got == wanted else "run as a member of the directory's group, or configure another directory mode"
    return Finding("directory mode", got == wanted, f"directories become {got:04o}, wanted {wanted:04o}", remedy)


@contextmanager
def _probe_directory(tree: LocalTree) -> Iterator[Directory]:
    name = b"probe-" + secrets.token_hex(8).encode()
    root = tree.directory(b"")
    with ExitStack() as undo:
        undo.callback(tree.forget)  # also where the probe fails: what is kept is gone by then
        with suppress(FileExistsError):
            os.mkdir(_HOME, 0o755, dir_fd=root.fd)
            undo.callback(_rmdir, _HOME, root)
        home = tree.directory(_HOME)
        os.mkdir(name, 0o700, dir_fd=home.fd)
        undo.callback(_rmdir, name, home)
        yield tree.directory(_HOME + b"/" + name)


def _rmdir(name: bytes, above: Directory) -> None:
    with suppress(OSError):  # not empty: a store has begun to use it meanwhile
        os.rmdir(name, dir_fd=above.fd)


@contextmanager
def _file(area: Directory, name: bytes) -> Iterator[int]:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=area.fd)
    try:
        os.write(fd, _CONTENT)
        yield fd
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):  # renamed
            os.unlink(name, dir_fd=area.fd)
