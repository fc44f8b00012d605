"""System calls that Python's `os` does not have. Raises `OSError` like `os` does; releases the GIL like `os`."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1

_WHOLE = {
    0xEF53,  # ext2, ext3, ext4
    0x58465342,  # xfs
    0x9123683E,  # btrfs
    0xF2F52010,  # f2fs
    0x01021994,  # tmpfs
}
"""File systems (`statfs.f_type`) on which one `syncfs` makes as much durable as an `fsync` of each file and
directory. FUSE and network file systems answer without having asked their server."""


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def syncfs(fd: int) -> None:
    """Write back the file system that `fd` is on. Reports what failed since `fd` was opened, or since this very
    descriptor was last asked: use one that was opened before the writing, and do not share it between threads."""
    _checked(_libc.syncfs(fd))


def rename_noreplace(old: bytes, new: bytes, *, old_dir: int, new_dir: int) -> None:
    """`renameat2(RENAME_NOREPLACE)`: never overwrites, EEXIST instead; EINVAL or ENOSYS where it is not supported."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _checked(call(old_dir, old, new_dir, new, _RENAME_NOREPLACE))


def allocate(fd: int, size: int) -> None:
    """Claim the space for `size` bytes now, so that a full disk is known before they are written. Does nothing where
    that is not supported; glibc's `posix_fallocate` (and so `os.posix_fallocate`) would write to every block there."""
    if _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(code, os.strerror(code))


def syncs_whole(fd: int) -> bool:
    """Whether `syncfs` can be trusted here: it tells of failures (Linux 5.8), on a file system that honours it."""
    release = os.uname().release.split(".")
    if not all(part.isdigit() for part in release[:2]) or tuple(map(int, release[:2])) < (5, 8):
        return False
    result = ctypes.create_string_buffer(256)  # struct statfs: 120 bytes, f_type first
    _checked(_libc.fstatfs(fd, result))
    return int.from_bytes(result.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF in _WHOLE
