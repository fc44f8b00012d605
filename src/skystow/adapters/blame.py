"""Whose fault an `OSError` is: one table, errno × where it happened → class of `skystow.errors`.

A full disk while we write is the place's fault, the same errno cannot happen while we read; "permission denied" is one
file's fault at the source and everybody's in the staging area. What the table does not name is the file's fault at the
source (it must not hold up the others) and the place's on the target (no attempt is spent on it).
"""

from __future__ import annotations

import errno
from enum import Enum, auto

from skystow.errors import (
    BadName,
    FileFault,
    Missing,
    NameTaken,
    NoSpace,
    NotAFile,
    PlaceFault,
    ReadOnly,
    SkystowError,
    UnfitPlace,
    Unreachable,
    Unreadable,
)


class Side(Enum):
    """Where the call was made."""

    SOURCE = auto()
    """Opening and reading what is there: a source, or a file under its final name."""
    STAGING = auto()
    """Everything in the staging area, and all syncs."""
    PUBLISH = auto()
    """Making directories and names that readers see."""


_GONE = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ESHUTDOWN}
_GONE |= {errno.ENETUNREACH, errno.ECONNRESET, errno.ENODEV, errno.EREMOTEIO}
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NAME = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK, errno.EINVAL}
_NAME |= {errno.EILSEQ}

Fault = type[FileFault] | type[PlaceFault] | type[UnfitPlace]

TABLE: dict[tuple[int, Side], Fault] = {
    **{(code, side): Unreachable for code in _GONE for side in Side},
    **{(code, side): PlaceFault for code in _OURS for side in Side},
    # at the source
    (errno.ENOENT, Side.SOURCE): Missing,  # `LocalTree` proves first that the root is there
    (errno.EACCES, Side.SOURCE): Unreadable,
    (errno.EPERM, Side.SOURCE): Unreadable,
    (errno.EIO, Side.SOURCE): Unreadable,
    (errno.ELOOP, Side.SOURCE): NotAFile,  # a symlink: O_NOFOLLOW
    (errno.ENOTDIR, Side.SOURCE): NotAFile,  # a file or a symlink where a directory of its path should be
    (errno.EISDIR, Side.SOURCE): NotAFile,
    (errno.ENXIO, Side.SOURCE): NotAFile,  # a socket
    (errno.ENAMETOOLONG, Side.SOURCE): BadName,
    (errno.EINVAL, Side.SOURCE): BadName,
    # in the staging area, whose names are ours and short
    **{(code, Side.STAGING): NoSpace for code in _FULL},
    (errno.EROFS, Side.STAGING): ReadOnly,
    (errno.EACCES, Side.STAGING): ReadOnly,
    (errno.EPERM, Side.STAGING): ReadOnly,
    (errno.EFBIG, Side.STAGING): FileFault,  # larger than the file system or ulimit takes
    (errno.ENOENT, Side.STAGING): Unreachable,
    (errno.ENOTDIR, Side.STAGING): UnfitPlace,  # somebody put a file or a symlink where `.skystow` should be
    (errno.ELOOP, Side.STAGING): UnfitPlace,
    (errno.EXDEV, Side.STAGING): UnfitPlace,
    # under final names, which come from outside
    **{(code, Side.PUBLISH): BadName for code in _NAME},
    **{(code, Side.PUBLISH): NoSpace for code in _FULL},
    (errno.EEXIST, Side.PUBLISH): NameTaken,
    (errno.EROFS, Side.PUBLISH): ReadOnly,
    (errno.ENOENT, Side.PUBLISH): Unreachable,
    (errno.EXDEV, Side.PUBLISH): UnfitPlace,
}

_UNNAMED: dict[Side, Fault] = {Side.SOURCE: Unreadable, Side.STAGING: PlaceFault, Side.PUBLISH: PlaceFault}

_REMEDY: dict[Fault, str] = {
    NoSpace: "free some space or raise the quota",
    ReadOnly: "let the user that skystow runs as write there",
    Unreadable: "let the user that skystow runs as read it",
}


def blame(error: OSError, side: Side, what: str, *, place: str) -> SkystowError:
    """The fault to raise `from` the error. `what` names the file, printable; `place` is the place's name."""
    code = error.errno or 0
    fault = TABLE.get((code, side), _UNNAMED[side])
    message = f"{what}: {error.strerror or error}"
    remedy = _REMEDY.get(fault, "")
    if code in (errno.EMFILE, errno.ENFILE):
        remedy = "raise the limit of open files (ulimit -n)"
    if issubclass(fault, PlaceFault):
        return fault(f"{place}: {message}", place=place, remedy=remedy)
    return fault(message, remedy=remedy)
