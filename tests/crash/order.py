"""Says where, in the calls of a run (`tests.crash.trace`), something became visible, or was written down as done, too
early.

What is durable when the power goes: the content of a file that was synced (or whose file system was) after its last
change, and a name whose directory was synced after it was made. The rules, for each file that gets a final name:

    content     it was durable before the ledger's promise and before the name was given, and nothing changes it
                afterwards
    promise     the ledger's commit before the name is durable before the name is given
    names       its name, and that of each directory made on the way, are durable before the ledger's commit of the
                verdict: the next one of the same thread
    verdict     that commit is synced before the thread does anything else
    ledger      the ledger's own name is durable before anything is written into it
    answer      of a remote store, whose helper gives the names and syncs: it does not answer before that is done, and
                the commits of the promise and of the verdict begin after its answers
    told        of a table: a transaction that says where a file is now begins after its verdict is durable
    sent        and is durable itself before the same thread writes anything more into the ledger; which it does
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.crash.trace import Call

_THROUGH_FD = re.compile(r"/proc/self/fd/(\d+)")
_REQUEST = re.compile(rb'^\d+\n\{"op": "(\w+)"')
_FRAME_HEADER = 24
_SYNCS = ("fsync", "fdatasync")


@dataclass
class Named:
    """Something got a name."""

    path: str
    call: Call
    inode: int = -1
    changed: int = -1
    """The line of the last change of its content before."""

    @property
    def directory(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass
class Disk:
    """What the calls of a run did to the names, files and syncs below `root`."""

    root: str
    inodes: dict[str, int] = field(default_factory=dict)
    changes: dict[int, list[int]] = field(default_factory=dict)
    names: dict[str, Named] = field(default_factory=dict)
    published: list[Named] = field(default_factory=list)
    syncs: list[tuple[Call, str, int]] = field(default_factory=list)
    """(call, path, inode); the path is empty for a whole file system."""
    commits: list[Call] = field(default_factory=list)
    descriptors: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of processes: (process, number) → inode."""
    working: dict[str, str] = field(default_factory=dict)
    """The directory that a process was last seen to work in."""

    def see(self, call: Call) -> None:
        if call.result < 0:
            return
        if call.args.startswith("AT_FDCWD<"):
            self.working[call.process] = call.fds[0]
        match call.name:
            case "openat":
                self._open(call)
            case "close":
                self.descriptors.pop((call.process, call.fd), None)
            case "mkdir" | "mkdirat":
                self._name(self._paths(call)[0], call)
            case "link" | "linkat" | "rename" | "renameat" | "renameat2":
                self._link(call)
            case "unlink" | "unlinkat":
                self.inodes.pop(self._paths(call)[0], None)
            case "write" | "pwrite64" | "ftruncate" | "fchmod" | "fchown" | "utimensat":
                self._change(call)
            case "fsync" | "fdatasync":
                self.syncs.append((call, call.fds[0], self._inode(call)))
            case "syncfs":
                self.syncs.append((call, "", -1))

    def _paths(self, call: Call) -> list[str]:
        return call.paths(self.working.get(call.process, ""))

    def _inode(self, call: Call) -> int:
        """Of its first descriptor, or of the name below it."""
        if call.name == "utimensat" and call.texts:
            return self.inodes.get(self._paths(call)[0], -1)
        known = self.descriptors.get((call.process, call.fd))
        return self.inodes.get(call.fds[0], -1) if known is None else known

    def _open(self, call: Call) -> None:
        new = "O_CREAT" in call.args and call.opened.startswith(self.root) and call.opened not in self.inodes
        if new:
            self.inodes[call.opened] = len(self.changes)
            self.changes[self.inodes[call.opened]] = [call.end]
            self._name(call.opened, call)
        self.descriptors.pop((call.process, str(call.result)), None)
        if call.opened in self.inodes:
            self.descriptors[call.process, str(call.result)] = self.inodes[call.opened]

    def _link(self, call: Call) -> None:
        old, new = self._paths(call)
        if not new.startswith(self.root):
            return
        through = _THROUGH_FD.fullmatch(old)
        inode = self.descriptors[call.process, through[1]] if through else self.inodes[old]
        if "rename" in call.name:
            del self.inodes[old]
        self.inodes[new] = inode
        self._name(new, call)
        if "/.skystow/" not in new:
            self.published.append(Named(new, call, inode, self.changes[inode][-1]))

    def _name(self, path: str, call: Call) -> None:
        if path.startswith(self.root):
            self.names[path] = Named(path, call)

    def _change(self, call: Call) -> None:
        path = call.fds[0] if call.fds else ""
        if path.endswith("ledger.db-wal") and _commits(call):
            self.commits.append(call)
        if (inode := self._inode(call) if call.fds else -1) >= 0:
            self.changes[inode].append(call.end)

    def synced(self, *, path: str = "", inode: int = -1, after: int, before: int) -> bool:
        """Whether it was synced as a whole between two lines."""
        return any(
            after < call.start and call.end < before and (not where or where == path or (which == inode >= 0))
            for call, where, which in self.syncs
        )


def _commits(call: Call) -> bool:
    """A frame of SQLite's log says in its header that it is the last of a transaction: bytes 4 to 7 are not 0."""
    if call.name != "pwrite64" or f", {_FRAME_HEADER}, " not in call.args:
        return False
    return any(call.texts[0][4:8])


def violations(calls: Sequence[Call], root: str, *, table: str = "") -> tuple[int, list[str]]:
    """How many files got a final name below `root`, and every breach of the rules. `table`: the path of an SQLite file
    whose rows are to be told."""
    disk = Disk(root)
    for call in calls:
        disk.see(call)
    found: list[str] = list(_ledger(disk, calls))
    for file in disk.published:
        found += _file(file, disk, calls)
        if table:
            found += _told(file, disk, calls, table)
    return len(disk.published), found


def writer(file: Named, disk: Disk, calls: Sequence[Call]) -> str:
    """The thread that writes the promise and the verdict of a file: that which gave the name, or asked for it."""
    if file.call.process in {commit.process for commit in disk.commits}:
        return file.call.thread
    asked = [call.thread for call in calls if call.start < file.call.start and _op(call, "write") == "publish"]
    return asked[-1]


def verdict_of(file: Named, disk: Disk, calls: Sequence[Call]) -> Call | None:
    ours = [commit for commit in disk.commits if commit.thread == writer(file, disk, calls)]
    return min((c for c in ours if c.start > file.call.end), key=lambda c: c.start, default=None)


def answer_to(op: str, process: str, calls: Sequence[Call], *, after: int) -> Call | None:
    """The first answer to a request of a kind that a helper gave after a line."""
    asked = ""
    for call in calls:
        if call.process == process:
            asked = _op(call, "read") or asked
            if asked == op and call.start > after and call.name == "write" and b'{"ok"' in call.texts[0]:
                return call
    return None


def _op(call: Call, name: str) -> str:
    """What is asked in a request to a helper that goes out (`write`) or comes in (`read`)."""
    found = _REQUEST.match(call.texts[0]) if call.name == name and call.texts else None
    return found[1].decode() if found else ""


def _file(file: Named, disk: Disk, calls: Sequence[Call]) -> list[str]:
    found = []
    verdict = verdict_of(file, disk, calls)
    ours = [commit for commit in disk.commits if commit.thread == writer(file, disk, calls)]
    promise = max((c for c in ours if c.end < file.call.start), key=lambda c: c.end, default=None)
    if promise is None or verdict is None:
        return [f"promise: {file.path} has none, or no verdict"]
    sealed, named = promise.start, verdict.start
    if file.call.process != verdict.process:
        answers = [answer_to(op, file.call.process, calls, after=line)
                   for op, line in (("seal", file.changed), ("sync", file.call.end))]  # fmt: skip
        for answer, commit in zip(answers, (promise, verdict), strict=True):
            if answer is None or answer.start > commit.start:
                found.append(f"answer: {file.path}: the ledger's commit did not wait for it")
        sealed, named = (answer.start if answer else 0 for answer in answers)
    if not disk.synced(inode=file.inode, after=file.changed, before=min(sealed, file.call.start)):
        found.append(f"content: {file.path} was not synced before it was promised and got its name")
    if disk.changes[file.inode][-1] > file.call.end:
        found.append(f"content: {file.path} was changed after it got its name")
    found += [f"{what}: {file.path}: not synced" for what, commit in (("promise", promise), ("verdict", verdict))
              if _synced_at_once(commit, calls) is None]  # fmt: skip
    path = file.path
    while at := disk.names.get(path):
        if not disk.synced(path=at.directory, after=at.call.end, before=named):
            found.append(f"names: {path} was not durable before the verdict")
        path = at.directory
    return found


def _synced_at_once(commit: Call, calls: Sequence[Call]) -> Call | None:
    """The next thing that the thread does, but for the frame's page, is to sync the log."""
    for call in calls:
        if call.thread == commit.thread and call.start > commit.end and call.name != "pwrite64":
            return call if call.name in _SYNCS and call.fds[0].endswith("ledger.db-wal") else None
    return None


def _told(file: Named, disk: Disk, calls: Sequence[Call], table: str) -> Iterator[str]:
    verdict = verdict_of(file, disk, calls)
    told = next((c for c in calls if c.name == "pwrite64" and c.fds[0] == table and _says(c, file.path)), None)
    if told is None or verdict is None:
        yield f"told: {file.path}: the table says nothing of it, or the ledger"
        return
    theirs = [call for call in calls if call.thread == told.thread]
    journal = f"{table}-journal"
    begun = [c for c in theirs if c.name == "openat" and c.opened == journal and c.start < told.start]
    durable = _synced_at_once(verdict, calls)
    if durable is None or begun[-1].start < durable.end:
        yield f"told: {file.path}: the table was told before the verdict was durable"
    done = next((c for c in theirs if c.name == "unlink" and journal in c.paths() and c.start > told.end), None)
    if done is None or not disk.synced(path=table, after=told.end, before=done.start):
        yield f"told: {file.path}: the table's own transaction was not synced"
        return
    marks = [c for c in disk.commits if c.thread == told.thread and c.start > begun[-1].start]
    if not marks or marks[0].start < done.end:
        yield f"sent: {file.path}: the notice was not marked after the table was told, or before"


def _says(call: Call, path: str) -> bool:
    """Whether a page of the table has a path."""
    return path.encode() in call.texts[0]


def _ledger(disk: Disk, calls: Sequence[Call]) -> list[str]:
    (named,) = [name for name in disk.names.values() if name.path.endswith("/ledger.db")]
    first = next(call for call in calls if call.name == "pwrite64" and call.fds[0].startswith(named.path))
    found = []
    path = named.path
    while at := disk.names.get(path):
        if not disk.synced(path=at.directory, after=at.call.end, before=first.start):
            found.append(f"ledger: {path} was not durable before something was written into it")
        path = at.directory
    return found
