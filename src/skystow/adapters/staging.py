"""What every local store has in common: the staging area, the final name, and the syncs.

The line that makes a file visible is `os.link` in `LocalStore._name`; the lines that make it survive a power cut are
in `_make_durable`. Nothing in this module removes or overwrites a final name.

    <root>/.skystow/staging/<token of the claim>/<id of the transfer>      directories 0700
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_bits
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from skystow.adapters import probe
from skystow.adapters.blame import Side, blame
from skystow.adapters.options import StoreOptions
from skystow.adapters.syscalls import rename_noreplace, syncfs, syncs_whole
from skystow.adapters.tree import Directory, LocalTree, held, raise_open_files
from skystow.errors import BadName, ClaimLost, ConfigError, FileFault, NameTaken, Stopped, UnfitPlace
from skystow.model.records import shown
from skystow.model.transfer import Work
from skystow.ports import Finding, Room, Staged, Stop, Tree

HOME = b".skystow"
STAGING = HOME + b"/staging"
_TOKEN = re.compile(r"[0-9a-f]{1,128}")
_MANY = 16
"""So many syncs cost more than one of the whole file system."""
_LARGEST = 2**63 - 1
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class LocalStore:
    """Everything of the `Store` port but how bytes come (`stage`), are proven (`prove`) and sealed (`seal`)."""

    def __init__(self, name: str, tree: LocalTree, origins: Mapping[str, LocalTree], options: StoreOptions) -> None:
        self.name = name
        self._origins = origins
        self._tree = tree
        self.tree: Tree = tree
        self.options = options
        self._owner, self._group = options.owner_id(), options.group_id()
        self._areas: dict[str, Directory] = {}
        self._live: dict[int, Staged] = {}
        self._links: bool | None = None
        self._whole: bool | None = None
        # Two streams may hold a group each, besides sockets, databases and the kept directories of a few trees.
        self.max_group = max(1, min(1_000, (raise_open_files() - 600) // 4))

    # staging

    def origin(self, place: str) -> LocalTree:
        """The tree that `Work.source.place` names. Raises `ConfigError`."""
        try:
            return self._origins[place]
        except KeyError:
            raise ConfigError(f"{self.name} takes nothing from {place!r}") from None

    def one_by_one(
        self, works: Sequence[Work], bring: Callable[[Work], Staged], stop: Stop
    ) -> Iterator[tuple[Work, Staged | FileFault]]:
        """`stage`, by `bring` for each work: its fault is its own."""
        try:
            for place in {work.source.place for work in works}:
                self.origin(place).forget()
            for work in works:
                if stop.is_set():
                    raise Stopped("stopped between two files")
                outcome: Staged | FileFault
                try:
                    outcome = bring(work)
                except FileFault as fault:
                    outcome = fault
                    if work.token in self._areas:
                        self._remove_area(work.token)  # it may have been the only file there
                yield work, outcome
                del outcome  # its traceback holds this frame, and so directories open, until garbage is collected
        finally:
            self._let_go()

    def area(self, token: str) -> Directory:
        """The staging directory of a claim, made when needed. Raises `OSError`, `Unreachable`."""
        kept = self._areas.get(token)
        if kept is None:
            if not _TOKEN.fullmatch(token):
                raise BadName(f"{token!r} is not the token of a claim")
            path = STAGING + b"/" + token.encode()
            kept = self._areas.setdefault(token, self._tree.directory(path, make_private))
        return kept

    def in_area(self, work: Work, act: Callable[[bytes, Directory], int]) -> int:
        """Make a new staged name by `act(name, directory)`; what an earlier try of this very claim left is removed."""
        name = b"%d" % work.id
        for _ in range(3):
            area = self.area(work.token)
            try:
                return act(name, area)
            except FileExistsError:
                os.unlink(name, dir_fd=area.fd)
            except FileNotFoundError:  # swept or dropped meanwhile: what it was for is not ours to judge here
                if os.fstat(area.fd).st_nlink:
                    raise
                self._areas.pop(work.token, None)
                self._tree.forget()
        raise ClaimLost(f"the staging area of {work.token} does not last")

    def unstage(self, work: Work) -> None:
        area = self._areas.get(work.token)
        if area is None:
            return  # an area is let go of when it is empty
        try:
            os.unlink(b"%d" % work.id, dir_fd=area.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise blame(error, Side.STAGING, f"staging area {work.token}", place=self.name) from error

    def hold(self, staged: Staged) -> Staged:
        """Remember a descriptor that `drop` will close, once."""
        self._live[staged.handle] = staged
        return staged

    # the final name

    def publish(self, group: Sequence[Staged]) -> Iterator[tuple[Staged, FileFault | ClaimLost | None]]:
        for staged in group:
            outcome: FileFault | ClaimLost | None = None
            try:
                if not staged.adopted:
                    self.give_name(staged)
            except (FileFault, ClaimLost) as fault:
                outcome = fault
            yield staged, outcome
            del outcome  # its traceback holds this frame until garbage is collected

    def give_name(self, staged: Staged) -> None:
        """`publish` for one. Raises `NameTaken`, `BadName`, `ClaimLost`, `PlaceFault`, `UnfitPlace`."""
        work = staged.work
        try:
            parent, name = held(work.target)
            if parent.split(b"/", 1)[0] == HOME or (not parent and name == HOME):
                raise BadName(f"{shown(work.target)}: {HOME.decode()} is skystow's own")
            self._name(staged, self._tree.directory(parent, self._make_public), name)
        except OSError as error:
            raise self._publish_fault(error, staged) from error

    def _name(self, staged: Staged, directory: Directory, name: bytes) -> None:
        try:
            if self._links is False:
                area = self.area(staged.work.token)
                rename_noreplace(b"%d" % staged.work.id, name, old_dir=area.fd, new_dir=directory.fd)
            else:
                self.link(staged, name, directory)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOENT) and _same_inode(staged.handle, name, directory):
                return
            if self._links is not None or error.errno not in _NO_LINKS:
                raise
            self._links = self._can_link(staged)
            if self._links:
                raise
            self._name(staged, directory, name)

    def link(self, staged: Staged, name: bytes, directory: Directory) -> None:
        """Link through the descriptor: the very inode that was proven, whatever its staged name is by now. Without
        any name left (its area was swept) the kernel refuses, which is the fence against late writers."""
        proven = b"/proc/self/fd/%d" % staged.handle
        os.link(proven, name, dst_dir_fd=directory.fd, follow_symlinks=True)

    def _can_link(self, staged: Staged) -> bool:
        """Whether the file system refuses links altogether, or only that one directory did."""
        area, trial = self.area(staged.work.token), b"%d.link" % staged.work.id
        try:
            self.link(staged, trial, area)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        os.unlink(trial, dir_fd=area.fd)
        return True

    def _publish_fault(self, error: OSError, staged: Staged) -> Exception:
        what = shown(staged.work.target)
        if error.errno == errno.ENOENT and self._swept(staged):
            return ClaimLost(f"{what}: its staging area was swept")
        if error.errno == errno.ENOENT:
            self._tree.forget()  # its directory was removed under us; the next try makes it again
        if error.errno == errno.EEXIST:
            return NameTaken(f"{what}: the name is taken")
        if self._links is False and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return UnfitPlace(f"{self.name}: neither hard links nor renameat2(RENAME_NOREPLACE) work in {self._tree}")
        if error.errno == errno.EXDEV:
            return UnfitPlace(f"{self.name}: {what} is on another device than {self._tree}/{STAGING.decode()}")
        refused = error.errno in (errno.EACCES, errno.EPERM) and self._root_refuses(staged)
        return blame(error, Side.STAGING if refused else Side.PUBLISH, what, place=self.name)

    def _root_refuses(self, staged: Staged) -> bool:
        """Whether the root itself takes no new names: everybody's fault, that of a directory below is one file's."""
        root, first = self._tree.directory(b""), held(staged.work.target)[0].split(b"/", 1)[0]
        below = os.access(first, os.F_OK, dir_fd=root.fd)
        return not below and not os.access(b".", os.W_OK | os.X_OK, dir_fd=root.fd, effective_ids=True)

    def _swept(self, staged: Staged) -> bool:
        area = self._areas.get(staged.work.token)
        return area is None or not _same_inode(staged.handle, b"%d" % staged.work.id, area)

    def _make_public(self, above: Directory, name: bytes) -> None:
        try:
            os.mkdir(name, self.options.directory_mode & 0o777, dir_fd=above.fd)
        except FileExistsError:
            return  # another stream was faster, and sets its mode
        made = Directory(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above.fd))
        if (self._owner, self._group) != (-1, -1):
            os.fchown(made.fd, self._owner, self._group)
        os.fchmod(made.fd, self.options.directory_mode)

    # durability

    def _use_syncfs(self, fd: int, count: int) -> bool:
        if self._whole is None:
            self._whole = self.options.sync == "syncfs" or (self.options.sync == "auto" and syncs_whole(fd))
        return self._whole and (count >= _MANY or self.options.sync == "syncfs")

    def _make_durable(self, group: Sequence[Staged], descriptors: Sequence[int]) -> None:
        """One `syncfs`, through the oldest descriptor of the group (groups are in the order of staging): it was opened
        before anything of the group was written, and is the group's own, so that no failure is reported to another
        thread instead. Or an `fsync` of each."""
        oldest = self.witness(next((staged for staged in group if not staged.adopted), group[0]))
        try:
            if self._use_syncfs(oldest, len(descriptors)):
                syncfs(oldest)
            else:
                for fd in descriptors:
                    os.fsync(fd)
        except OSError as error:
            raise blame(error, Side.STAGING, f"syncing {self._tree}", place=self.name) from error

    def witness(self, staged: Staged) -> int:
        """A descriptor that was opened before this file was written, and is asked by nobody else."""
        return staged.handle

    def sync(self, group: Sequence[Staged]) -> None:
        """The directories of the group, and each directory above whose entry for the one below is not known to be
        durable. Known is what this process has synced itself since it opened the directory: one that was there
        already may have been made a moment ago, by another stream, another process, or one that was killed."""
        if not group:
            return
        try:
            named, open_chain = self._chains({held(staged.work.target)[0] for staged in group})
        except OSError as error:
            raise blame(error, Side.STAGING, f"syncing {self._tree}", place=self.name) from error
        self._make_durable(group, [directory.fd for directory in named.values()])
        for directory in open_chain:
            directory.anchored = True

    def _chains(self, parents: Iterable[bytes]) -> tuple[dict[bytes, Directory], list[Directory]]:
        """What to sync, by path, and the directories whose entries are durable once that is done."""
        wanted = {path: self._tree.directory(path) for path in parents}
        below: list[Directory] = []
        for path, directory in list(wanted.items()):
            while not directory.anchored:
                below.append(directory)
                path = path.rpartition(b"/")[0]
                if path in wanted:
                    break  # its own chain is walked on its own turn, or was
                directory = wanted[path] = self._tree.directory(path)
        return wanted, below

    # afterwards

    def drop(self, group: Sequence[Staged]) -> None:
        ours = [staged for staged in group if self._live.get(staged.handle) is staged]
        for staged in ours:  # what was dropped before is left out: its number may be another file's by now
            del self._live[staged.handle]
            os.close(staged.handle)
        for staged in ours:
            if not staged.adopted:
                self.unstage(staged.work)
        for token in {staged.work.token for staged in group}:
            self._remove_area(token)

    def _remove_area(self, token: str) -> None:
        try:
            staging = self._tree.directory(STAGING)
            os.rmdir(token.encode(), dir_fd=staging.fd)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return  # other groups of the claim
            if error.errno != errno.ENOENT:
                raise blame(error, Side.STAGING, f"staging area {token}", place=self.name) from error
        self._areas.pop(token, None)
        self._let_go()

    def _let_go(self) -> None:
        """An idle pump keeps no disk from being unmounted."""
        for tree in (self._tree, *self._origins.values()):
            tree.forget()

    def adopt(self, work: Work) -> Staged | None:
        """`source` of what is returned is the work's own fingerprint. None also where something stands that cannot
        be read as a file: a person must look."""
        try:
            if self._tree.look(work.target) is None:
                return None
            fd, found = self._tree.open_file(work.target)
        except FileFault:
            return None
        return self.hold(Staged(work, None, found.st_size, work.fingerprint, fd, adopted=True))

    def tokens(self, *, idle: float = 0.0) -> Sequence[str]:
        found: list[str] = []
        try:
            staging, before = self._tree.directory(STAGING), time.time() - idle
            for token in filter(_TOKEN.fullmatch, sorted(os.listdir(staging.fd))):
                with suppress(FileNotFoundError):  # dropped meanwhile
                    if not idle or os.stat(token, dir_fd=staging.fd, follow_symlinks=False).st_mtime < before:
                        found.append(token)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise blame(error, Side.STAGING, STAGING.decode(), place=self.name) from error
        return found

    def sweep(self, token: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise BadName(f"{token!r} is not the token of a claim")
        try:
            directory = self._tree.directory(STAGING + b"/" + token.encode())
            empty(directory)
        except FileNotFoundError:
            pass  # somebody else sweeps it too
        except OSError as error:
            raise blame(error, Side.STAGING, f"staging area {token}", place=self.name) from error
        self._remove_area(token)

    def room(self) -> Room:
        """Looks anew: a disk that went and came back is found again, and one that went is not written to."""
        self._tree.forget()
        return self.measure()

    def measure(self) -> Room:
        """`room` of the root that is open already. Raises `PlaceFault`."""
        try:
            root = self._tree.directory(b"")
            found = os.fstatvfs(root.fd)
        except OSError as error:
            raise blame(error, Side.STAGING, str(self._tree), place=self.name) from error
        total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        if total == 0:  # a file system that does not tell (FUSE): whether there is room is known when it is written to
            return Room(total=0, free=0, spare=_LARGEST)
        return Room(total=total, free=free, spare=int(free - self.options.min_free * total))

    def check(self, upstream: Tree | None) -> Iterator[Finding]:
        yield from probe.try_out(self._tree, upstream, self.options.min_free, self.options.directory_mode)


def make_private(above: Directory, name: bytes) -> None:
    try:
        os.mkdir(name, 0o755 if name == HOME else 0o700, dir_fd=above.fd)
    except FileExistsError:
        return  # another stream was faster


def empty(directory: Directory) -> None:
    """Remove all that is in a directory of ours, whatever it is. Raises `OSError`."""
    for name in map(os.fsencode, os.listdir(directory.fd)):
        try:
            os.unlink(name, dir_fd=directory.fd)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            below = Directory(os.open(name, _ENTER, dir_fd=directory.fd))
            empty(below)
            os.rmdir(name, dir_fd=directory.fd)


def _same_inode(handle: int, name: bytes, directory: Directory) -> bool:
    try:
        there = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat_bits.S_ISREG(there.st_mode) and os.path.samestat(there, os.fstat(handle))
