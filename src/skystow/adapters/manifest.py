"""The Archive Controller's hand for manifests: `<obsid>.sha256` beside the files of a complete exposure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath

from skystow.adapters.blame import Side, blame
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import FileFault, PlaceFault
from skystow.model.acts import WriteManifest
from skystow.model.layout import RESERVED
from skystow.model.messages import Message
from skystow.model.records import shown
from skystow.model.reports import ManifestWritten
from skystow.ports import Stop

_HOME = RESERVED.encode()
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Manifests:
    """Writes one into each of some trees, as `sha256sum -c` reads it; what stands there is never overwritten."""

    def __init__(self, trees: Sequence[LocalTree]) -> None:
        self.trees = trees

    def write(self, act: WriteManifest, *, stop: Stop) -> Sequence[Message]:
        names = sorted(act.files, key=lambda path: PurePosixPath(path).name)
        text = "".join(f"{act.files[path]}  {PurePosixPath(path).name}\n" for path in names)
        path, problems = PurePosixPath(act.directory, f"{act.obsid}.sha256"), []
        for tree in self.trees:
            try:
                if not _stands(tree, path, text.encode()):
                    problems.append(f"{tree}/{shown(path)} says otherwise than the files; it is left as it is")
            except OSError as error:
                fault = blame(error, Side.PUBLISH, shown(path), place=tree.place)
                # No exposure is without its manifest for a fault that a person can mend: it is tried again.
                raise PlaceFault(str(fault), place=tree.place) if isinstance(fault, FileFault) else fault from error
        return [ManifestWritten(act.obsid, str(path), "; ".join(problems))]


def _stands(tree: LocalTree, path: PurePosixPath, content: bytes) -> bool:
    """Whether it stands there, with this content: made whole and durable under a private name, then linked."""
    parent, name = held(path)
    tree.forget()
    area = tree.directory(_HOME + b"/manifest", _make)
    directory = tree.directory(parent, _make)
    with suppress(FileNotFoundError):
        # Left by a crash after the link, it is the published file itself: never to be written to.
        os.unlink(name, dir_fd=area.fd)
    fd = os.open(name, _NEW, 0o600, dir_fd=area.fd)
    try:
        rest = content
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fchmod(fd, 0o444)
        os.fsync(fd)
    finally:
        os.close(fd)
    with suppress(FileExistsError):
        os.link(name, name, src_dir_fd=area.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
    os.unlink(name, dir_fd=area.fd)
    os.fsync(directory.fd)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory.fd)
    except OSError:
        return False  # no file of ours
    try:
        return os.read(fd, len(content) + 1) == content
    except OSError:
        return False
    finally:
        os.close(fd)


def _make(above: Directory, name: bytes) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=above.fd)
    os.fsync(above.fd)
