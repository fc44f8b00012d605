"""Reads what `strace` saw of a run, and says where something became visible, or was written down as done, too early.

What is durable when the power goes: the content of a file that was synced (or whose file system was) after its last
change, and a name whose directory was synced after it was made. The rules, for each file that gets a final name:

    content     it was durable before the name was given, and nothing changes it afterwards
    promise     the ledger's commit before the name is durable before the name is given
    names       its name, and that of each directory made on the way, are durable before the ledger's commit of the
                verdict: the next one of the same thread
    verdict     that commit is synced before the thread does anything else
    ledger      the ledger's own name is durable before anything is written into it
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

TRACED = (
    "fsync,fdatasync,syncfs,linkat,link,renameat2,mkdirat,mkdir,openat,write,pwrite64,fchmod,utimensat,"
    "unlinkat,unlink,close"
)
STRACE = ("strace", "-f", "-y", "-qq", "-s", "24", "-e", f"trace={TRACED}", "-e", "signal=none")

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?.*")
_FD = re.compile(r"(AT_FDCWD|\d+)<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_THROUGH_FD = re.compile(r"/proc/self/fd/(\d+)")
_FRAME_HEADER = 24


@dataclass(frozen=True)
class Call:
    """`start` and `end` are lines of the trace; `fds` the paths of its descriptors, `texts` its strings."""

    thread: str
    name: str
    start: int
    end: int
    args: str
    result: int
    opened: str

    @property
    def fds(self) -> list[str]:
        return [path for _, path in _FD.findall(self.args)]

    @property
    def texts(self) -> list[bytes]:
        return [ast.literal_eval(f'b"{text}"') for text in _TEXT.findall(self.args)]

    def paths(self) -> list[str]:
        """Absolute paths of what its arguments name."""
        found = []
        for match in re.finditer(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', self.args):
            found.append(match[2] if match[2].startswith("/") else f"{match[1]}/{match[2]}")
        return found


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
    descriptors: dict[str, str] = field(default_factory=dict)

    def see(self, call: Call) -> None:
        if call.result < 0:
            return
        match call.name:
            case "openat":
                self._open(call)
            case "mkdir" | "mkdirat":
                self._name(call.paths()[0], call)
            case "link" | "linkat" | "renameat2":
                self._link(call)
            case "write" | "pwrite64" | "fchmod" | "utimensat":
                self._change(call)
            case "fsync" | "fdatasync":
                self.syncs.append((call, call.fds[0], self.inodes.get(call.fds[0], -1)))
            case "syncfs":
                self.syncs.append((call, "", -1))

    def _open(self, call: Call) -> None:
        self.descriptors[str(call.result)] = call.opened
        if "O_CREAT" in call.args and call.opened.startswith(self.root) and call.opened not in self.inodes:
            self.inodes[call.opened] = len(self.inodes)
            self.changes[self.inodes[call.opened]] = [call.end]
            self._name(call.opened, call)

    def _link(self, call: Call) -> None:
        old, new = call.paths()
        if through := _THROUGH_FD.fullmatch(old):
            old = self.descriptors[through[1]]
        inode = self.inodes[new] = self.inodes[old]
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
        if path in self.inodes:
            self.changes[self.inodes[path]].append(call.end)

    def synced(self, *, path: str = "", inode: int = -1, after: int, before: int) -> bool:
        """Whether it was synced as a whole between two lines."""
        return any(
            after < call.start and call.end < before and (not where or where == path or (which == inode >= 0))
            for call, where, which in self.syncs
        )


def _commits(call: Call) -> bool:
    """A frame of SQLite's log says in its header that it is the last of a transaction: bytes 4 to 7 are not 0."""
    data = call.texts[0]
    return call.name == "pwrite64" and f", {_FRAME_HEADER}, " in call.args and any(data[4:8])


def parse(trace: str) -> list[Call]:
    calls, begun = [], dict[str, tuple[int, str]]()
    for number, line in enumerate(trace.splitlines()):
        found = _LINE.fullmatch(line)
        assert found is not None, line
        thread, text = found.groups()
        start = number
        if text.endswith("<unfinished ...>"):
            begun[thread] = (number, text.removesuffix("<unfinished ...>").rstrip())
            continue
        if rest := _RESUMED.fullmatch(text):
            start, head = begun.pop(thread)
            text = head + rest[1]
        if call := _CALL.fullmatch(text):
            calls.append(Call(thread, call[1], start, number, call[2], int(call[3]), call[4] or ""))
    return calls


def violations(trace: str, root: str) -> tuple[int, list[str]]:
    """How many files got a final name below `root`, and every breach of the rules."""
    calls, disk = parse(trace), Disk(root)
    for call in calls:
        disk.see(call)
    found: list[str] = list(_ledger(disk, calls))
    for file in disk.published:
        found += _file(file, disk, calls)
    return len(disk.published), found


def _file(file: Named, disk: Disk, calls: list[Call]) -> list[str]:
    found = []
    if not disk.synced(inode=file.inode, after=file.changed, before=file.call.start):
        found.append(f"content: {file.path} was not synced before it got its name")
    if disk.changes[file.inode][-1] > file.call.end:
        found.append(f"content: {file.path} was changed after it got its name")
    ours = [commit for commit in disk.commits if commit.thread == file.call.thread]
    promise = max((c for c in ours if c.end < file.call.start), key=lambda c: c.end, default=None)
    verdict = min((c for c in ours if c.start > file.call.end), key=lambda c: c.start, default=None)
    if promise is None or verdict is None:
        return [*found, f"promise: {file.path} has none, or no verdict"]
    found += [f"{what}: {file.path}: not synced" for what, commit in (("promise", promise), ("verdict", verdict))
              if not _synced_at_once(commit, calls)]  # fmt: skip
    path = file.path
    while named := disk.names.get(path):
        if not disk.synced(path=named.directory, after=named.call.end, before=verdict.start):
            found.append(f"names: {path} was not durable before the verdict")
        path = named.directory
    return found


def _synced_at_once(commit: Call, calls: list[Call]) -> bool:
    """The next thing that the thread does, but for the frame's page, is to sync the log."""
    next_calls = (call for call in calls if call.thread == commit.thread and call.start > commit.end)
    for call in next_calls:
        if call.name != "pwrite64":
            return call.name in ("fsync", "fdatasync") and call.fds[0].endswith("ledger.db-wal")
    return False


def _ledger(disk: Disk, calls: list[Call]) -> list[str]:
    (named,) = [name for name in disk.names.values() if name.path.endswith("/ledger.db")]
    first = next(call for call in calls if call.name == "pwrite64" and call.fds[0].startswith(named.path))
    found = []
    path = named.path
    while at := disk.names.get(path):
        if not disk.synced(path=at.directory, after=at.call.end, before=first.start):
            found.append(f"ledger: {path} was not durable before something was written into it")
        path = at.directory
    return found
