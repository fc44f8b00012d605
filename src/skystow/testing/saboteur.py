"""Runs the real program and kills it, freezes it, or takes a sync away from it, at an exact durable act.

    python -m skystow.testing.saboteur '{"kill": {"at": 17, "when": "before"}}' archive SOURCE DEST

A durable act is a call that changes a disk or makes a change durable: mkdir, open(O_CREAT), write, chmod, utime, fsync,
syncfs, link, rename, unlink, rmdir, and each commit of a transaction that changed something; over ssh, each request
that changes the other end (`ask publish`; `after`: it was sent) and each start of ssh or rsync (`spawn rsync`). They
are numbered from 0 in the order in which the process makes them, and named `link a.fits`, `fsync directory`,
`commit events` (the table that was written last), ….

The plan is a JSON object; each key is optional:

    count    a file to which the acts are written, one per line, when the program ends
    kill     {"at": N, "when": "before"|"after"}          SIGKILL to ourselves; "act": "link" counts only those acts,
             "act": "commit events" only those of that name
    freeze   the same keys; SIGSTOP: the test does something, then SIGCONT. Not while another thread is within a
             transaction: it would hold SQLite's lock all the while, and nobody else could work
    without  ["fsync", …]                                  acts that are left out, as a careless programmer would:
             all of a kind ("syncfs"), of one sort ("fsync file", "fsync directory"), one ("fsync #2": the third), or
             "ledger sync", which leaves the ledger's own syncs out
    clock    {"at": N, "seconds": -3600}                   the wall clock jumps at that act
    lease    2.0                                           seconds, instead of 60: a test cannot wait so long
    rest     0.05                                          seconds of a pump's first rest, instead of 1
    pace     60                                            seconds in which files share a sync and a commit, not 1:
             a busy machine would make two groups of them
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from skystow.adapters import syscalls
from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger.database import Database
from skystow.adapters.remote.session import Session
from skystow.engine import deliver
from skystow.service import pump

_OS = ("mkdir", "link", "unlink", "rmdir", "rename", "replace", "fsync", "fchmod", "utime")
_ASKED = {"make", "area", "part", "land", "landed", "seal", "publish", "sync", "drop", "sweep", "remove", "trial"}
"""The requests to a remote end that change something there."""
_WRITES = re.compile(r"\s*(?:INSERT(?: IGNORE)? INTO|UPDATE|DELETE FROM|CREATE TABLE|ALTER TABLE)\s+[`\"]?(\w+)", re.I)


class Saboteur:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.acts: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.transaction = threading.RLock()
        self.skew = timedelta()

    def install(self) -> None:
        """Stand between the program and the operating system."""
        tempfile.gettempdir()  # now, with the trial that it makes: it is no act of the program
        for name in _OS:
            setattr(os, name, self._around(name, getattr(os, name)))
        plain_open, plain_write = os.open, os.write

        @wraps(plain_write)
        def write(fd: int, data: Any) -> int:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return plain_write(fd, data)  # to a pipe: the other end's acts are what counts
            return int(self._act("write", "", lambda: plain_write(fd, data)))

        os.write = write

        @wraps(plain_open)
        def opened(path: Any, flags: int, *args: Any, **named: Any) -> int:
            if not flags & os.O_CREAT:
                return plain_open(path, flags, *args, **named)
            return int(self._act("open", _name(path), lambda: plain_open(path, flags, *args, **named)))

        os.open = opened
        # Modules that are imported later take them from `syscalls`; the others have them already.
        for name in ("syncfs", "rename_noreplace"):
            plain = getattr(syscalls, name)
            stand_in = self._around(name, plain)
            for module in list(sys.modules.values()):
                if getattr(module, name, None) is plain:
                    setattr(module, name, stand_in)
        self._watch_commits()
        self._watch_ssh()
        self._know_transactions()
        self._hold_the_clock()
        if "ledger sync" in self.plan.get("without", ()):
            event.listen(Engine, "connect", _unsynced)
        if "lease" in self.plan:
            vars(deliver)["LEASE"] = vars(pump)["LEASE"] = self.plan["lease"]
        if "pace" in self.plan:
            vars(deliver)["PACE"] = self.plan["pace"]
        if "rest" in self.plan:
            vars(pump)["FIRST_REST"] = self.plan["rest"]

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def stand_in(*args: Any, **named: Any) -> Any:
            return self._act(name, _label(name, args), lambda: call(*args, **named))

        return stand_in

    def _act(self, kind: str, label: str, call: Callable[[], Any]) -> Any:
        with self._acting(kind, label) as left_out:
            return None if left_out else call()

    @contextmanager
    def _acting(self, kind: str, label: str) -> Iterator[bool]:
        """Around an act; whether it is to be left out. One that raises has no `after`."""
        what = f"{kind} {label}".strip()
        with self.lock:
            at = {"": len(self.acts), kind: self.kinds[kind], what: self.kinds[what]}
            self.acts.append(what)
            self.kinds.update({kind, what})
        self._strike("before", at)
        yield bool({kind, what, f"{kind} #{at[kind]}"}.intersection(self.plan.get("without", ())))
        self._strike("after", at)

    def _strike(self, when: str, at: dict[str, int]) -> None:
        """`at`: which act this is; of its kind; of those of its very name."""
        for key, number in (("kill", signal.SIGKILL), ("freeze", signal.SIGSTOP)):
            blow = self.plan.get(key)
            if blow is None or blow.get("when", "before") != when:
                continue
            if at.get(blow.get("act", "")) == blow["at"]:
                with self.transaction if number == signal.SIGSTOP else nullcontext():
                    # To this very thread: it goes no step further, as it might if another thread took the signal.
                    signal.pthread_kill(threading.get_ident(), number)
        jump = self.plan.get("clock")
        if jump is not None and when == "before" and jump["at"] == at[""]:
            self.skew = timedelta(seconds=jump["seconds"])

    def _watch_commits(self) -> None:
        dialects: Any = DefaultDialect
        plain, seen, wrote = dialects.do_commit, dict[int, int](), dict[int, str]()

        @event.listens_for(Engine, "after_cursor_execute")
        def executed(connection: Any, cursor: Any, statement: str, *_: object) -> None:
            if (found := _WRITES.match(statement)) and cursor.rowcount != 0:
                wrote[id(connection.connection.driver_connection)] = found[1]

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            driver = connection.driver_connection
            table = wrote.pop(id(driver), None)
            changes = getattr(driver, "total_changes", None)
            # SQLite counts what changed; of a server we know what was said to it.
            if table is None if changes is None else seen.get(id(driver), 0) == changes:
                plain(dialect, connection)  # it only read
                return
            seen[id(driver)] = changes or 0
            self._act("commit", table or "", lambda: plain(dialect, connection))

        dialects.do_commit = do_commit

    def _watch_ssh(self) -> None:
        sessions: Any = Session
        processes: Any = subprocess.Popen
        ask, start = sessions._ask, processes.__init__

        def asked(session: Session, request: dict[str, Any], stop: Any) -> None:
            if request["op"] in _ASKED:
                self._act("ask", request["op"], lambda: ask(session, request, stop))
            else:
                ask(session, request, stop)

        def started(process: Any, argv: Any, *args: Any, **named: Any) -> None:
            # rsync is started by a guard, so its name is not the first word; `rsync --version` changes nothing.
            program = "ssh" if argv[0] == "ssh" else "rsync" if "rsync" in argv[1:] else None
            if program is None:
                start(process, argv, *args, **named)
            else:
                self._act("spawn", program, lambda: start(process, argv, *args, **named))

        sessions._ask, processes.__init__ = asked, started

    def _know_transactions(self) -> None:
        databases: Any = Database
        plain = databases.writing

        @contextmanager
        def writing(database: Database) -> Iterator[object]:
            with self.transaction, plain(database) as connection:
                yield connection

        databases.writing = writing

    def _hold_the_clock(self) -> None:
        clocks: Any = SystemClock
        plain = clocks.now

        def now(clock: SystemClock) -> datetime:
            read: datetime = plain(clock)
            return read + self.skew

        clocks.now = now

    def write_count(self) -> None:
        if path := self.plan.get("count"):
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.writelines(f"{act}\n" for act in self.acts)


def _label(kind: str, args: tuple[Any, ...]) -> str:
    """The last argument that names something: link(source, FINAL), unlink(NAME); of an fsync, what is synced."""
    if kind == "fsync":
        return "directory" if stat.S_ISDIR(os.fstat(args[0]).st_mode) else "file"
    names = [_name(arg) for arg in args if isinstance(arg, str | bytes | os.PathLike)]
    return names[-1] if names else ""


def _unsynced(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _name(path: Any) -> str:
    return os.fsdecode(path).rpartition("/")[2] if isinstance(path, str | bytes | os.PathLike) else ""


def main() -> None:
    sabotage(json.loads(sys.argv[1]), sys.argv[2:])


def sabotage(plan: dict[str, Any], arguments: list[str]) -> None:
    """Run the program with these arguments; it ends this process."""
    saboteur = Saboteur(plan)
    sys.argv = ["skystow", *arguments]
    saboteur.install()
    try:
        runpy.run_module("skystow", run_name="__main__")  # as python -m skystow does
    finally:
        saboteur.write_count()


if __name__ == "__main__":
    main()
