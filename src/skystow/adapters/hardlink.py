"""The store that hands files off by hard link: archive to OODS, to Data Backbone. It never copies.

Mode, owner, times and content are the inode's, and the inode is the upstream copy's, sealed and synced by its own
store: only names are made here.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterator, Mapping, Sequence

from skystow.adapters import probe
from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file
from skystow.adapters.options import StoreOptions
from skystow.adapters.staging import LocalStore
from skystow.adapters.tree import Directory, LocalTree, held
from skystow.errors import (
    DigestMismatch,
    FileFault,
    NotAFile,
    SkystowError,
    UnfitPlace,
)
from skystow.model.records import Digest, Fingerprint, shown
from skystow.model.transfer import Work
from skystow.ports import Finding, Staged, Stop, Tree

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class HardlinkStore(LocalStore):
    """The `Store` port by links from `upstreams`, the trees that `Work.source.place` may name."""

    def __init__(self, name: str, tree: LocalTree, upstreams: Mapping[str, LocalTree], options: StoreOptions) -> None:
        super().__init__(name, tree, upstreams, options)
        self._links = True  # without links this store is nothing: no rename, no copy

    def stage(self, works: Sequence[Work], *, stop: Stop) -> Iterator[tuple[Work, Staged | FileFault]]:
        yield from self.one_by_one(works, self._link_in, stop)

    def prove(self, staged: Staged, algorithm: str, *, stop: Stop) -> Digest:
        """The upstream copy was proven when it was archived; the same inode is the same bytes. Only what stands under
        the final name already, as another inode, is read."""
        work = staged.work
        upstream = self.origin(work.source.place)
        there = upstream.look(work.source.path)
        if there is not None and os.path.samestat(os.fstat(staged.handle), there):
            return work.claimed or upstream.digest(work.source.path, algorithm, stop=stop)
        if not staged.adopted:
            raise DigestMismatch(
                f"{shown(work.target)}: not the inode of {shown(work.source.path)} at {upstream.place}"
            )
        try:
            return digest_file(staged.handle, staged.size, algorithm, stop)
        except OSError as error:
            raise blame(error, Side.SOURCE, shown(work.target), place=self.name) from error

    def seal(self, group: Sequence[Staged]) -> None:
        """What is linked was sealed with the upstream copy. What stands there already is somebody else's writing."""
        if adopted := [staged for staged in group if staged.adopted]:
            self._make_durable(adopted, [staged.handle for staged in adopted])

    def link(self, staged: Staged, name: bytes, directory: Directory) -> None:
        """Link by the staged name: the inode keeps its upstream name, so that only the name in the claim's area can
        be the fence against late writers. Nobody but us can enter that area."""
        area = self.area(staged.work.token)
        os.link(b"%d" % staged.work.id, name, src_dir_fd=area.fd, dst_dir_fd=directory.fd, follow_symlinks=False)

    def check(self, upstream: Tree | None) -> Iterator[Finding]:
        yield from super().check(upstream)
        if isinstance(upstream, LocalTree):
            yield probe.try_link(upstream, self._tree)

    def _link_in(self, work: Work) -> Staged:
        held(work.target)
        upstream = self.origin(work.source.place)
        parent, source_name = held(work.source.path)
        try:
            source = upstream.directory(parent)
        except OSError as error:
            raise upstream.fault(error, work.source.path) from error

        def link(name: bytes, area: Directory) -> int:
            os.link(source_name, name, src_dir_fd=source.fd, dst_dir_fd=area.fd, follow_symlinks=False)
            return 0

        try:
            self.in_area(work, link)
        except OSError as error:
            raise self._link_fault(error, work, upstream) from error
        landed: Staged | None = None
        handle = -1
        try:
            area = self.area(work.token)
            handle = os.open(b"%d" % work.id, _LOOK, dir_fd=area.fd)
            found = os.fstat(handle)
            if not stat_bits.S_ISREG(found.st_mode):
                raise NotAFile(f"{shown(work.source.path)}: not a regular file")
            looks = Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino)  # the ctime tells of links, ours too
            landed = self.hold(Staged(work, None, found.st_size, looks, handle))
        except OSError as error:
            raise blame(error, Side.SOURCE, shown(work.source.path), place=upstream.place) from error
        finally:
            if landed is None:
                if handle >= 0:
                    os.close(handle)
                self.unstage(work)
        return landed

    def _link_fault(self, error: OSError, work: Work, upstream: LocalTree) -> SkystowError:
        """A link fails on either side; what is said of the source is said by the source."""
        if error.errno == errno.EXDEV:
            return UnfitPlace(
                f"{self._tree} ({self.name}) is on another device than {upstream} ({upstream.place})",
                remedy="hard links need one file system; use a posix store to copy",
            )
        if error.errno == errno.EPERM and upstream.look(work.source.path) is None:
            return NotAFile(f"{shown(work.source.path)}: not a regular file")  # directories cannot be linked
        if error.errno == errno.EPERM:
            return UnfitPlace(
                f"{self.name}: no hard link can be made of {shown(work.source.path)} at {upstream.place}",
                remedy="run as the owner of the upstream files (fs.protected_hardlinks), on a file system with links",
            )
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EMLINK, errno.EISDIR):
            return upstream.fault(error, work.source.path)
        return blame(error, Side.STAGING, shown(work.target), place=self.name)
