"""The order of system calls with an end at another host: file, directory, ledger, then `copied=1`; and at the remote
side, where the helper gives the names, before its answers. With any one sync taken out, the checker finds the breach.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.crash.kit import LIMIT, Field, Plan
from tests.crash.order import Disk, answer_to, verdict_of, violations
from tests.crash.smurf_kit import make_far, make_smurf
from tests.crash.trace import Call, merged, parse, strace
from tests.sshd import Sshd, sshd

PAGE = 4096
_SPOKEN = '{\\"o'
"""In what goes to a helper and comes from it: {"op" and {"ok", as strace writes it."""
SYNCS = ("fsync", "fdatasync", "syncfs")

WRAPPER = """\
#!/bin/sh
[ "$1" = --version ] && exec {real} "$@"
PYTHONPATH={here} exec {strace} -o {here}/$$.trace {real} "$@"
"""
CARELESS = """\
import os, stat
plain, left_out = os.fsync, open({path!r}).read()
def fsync(fd):
    kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
    return None if kind == left_out else plain(fd)
os.fsync = fsync
"""
"""Makes a python3 leave syncs out, of files or of directories."""


Check = Callable[[list[Call]], tuple[int, list[str]]]


@dataclass
class TracedEnd:
    """A remote end where python3 and rsync run under strace. `here` has their traces, `known` the runs that were
    watched undisturbed."""

    here: Path
    server: Sshd
    known: dict[tuple[str, str], Run] = field(default_factory=dict)

    def prepare(self) -> None:
        for name in ("python3", "rsync"):
            command = " ".join(strace(64, ",read"))
            wrapper = self.here / "bin" / name
            wrapper.parent.mkdir(exist_ok=True)
            wrapper.write_text(WRAPPER.format(real=f"/usr/bin/{name}", here=self.here, strace=command))
            wrapper.chmod(0o755)
        (self.here / "sitecustomize.py").write_text(CARELESS.format(path=str(self.here / "without")))
        self.leave_out("nothing")

    def leave_out(self, what: str) -> None:
        (self.here / "without").write_text(what)
        for trace in self.here.glob("*.trace"):
            trace.unlink()

    def watch(self, made: Field, plan: Plan | None = None, without: str = "nothing") -> list[Call]:
        """The calls of a run, of both ends; all must be well."""
        self.leave_out(without)
        local = made.root / "local.trace"
        command = [*strace(PAGE), "-o", str(local), *made.command(plan)]
        done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr.decode()
        made.assert_whole()
        calls = parse(merged([local, *self.here.glob("*.trace")]))
        return [call for call in calls if str(made.root) in call.args + call.opened or _SPOKEN in call.args]


@dataclass(frozen=True)
class Run:
    """The calls of both ends, and who looks at them."""

    made: Field
    check: Check
    calls: list[Call]


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedEnd]:
    here = tmp_path_factory.mktemp("end")
    with sshd(here / "it", path=f"{here}/bin:/usr/bin:/bin") as server:
        made = TracedEnd(here, server)
        made.prepare()
        yield made


Maker = Callable[[Path, TracedEnd, str], tuple[Field, Check]]


def pulled(root: Path, end: TracedEnd, sync: str) -> tuple[Field, Check]:
    """Rows of a table, in two directories of the archive."""
    made = make_smurf(root, 2, pull=end.server, sync=sync)
    return made, lambda calls: violations(calls, f"{root}/", table=f"{root}/smurf.db")


def pushed(root: Path, end: TracedEnd, sync: str) -> tuple[Field, Check]:
    """One at the top, one in a directory of its own."""
    made = make_far(root, 0, push=end.server, sync=sync)
    made.write(b"a.fits", b"light")
    made.write(b"night/raft/b.fits", b"more light")
    return made, lambda calls: violations(calls, f"{root}/")


def undisturbed(end: TracedEnd, make: Maker, sync: str) -> Run:
    """Watched once, for all tests; its files go together, so that each sync is needed."""
    key = (make.__name__, sync)
    if key not in end.known:
        made, check = make(end.here / "-".join(key), end, sync)
        end.known[key] = Run(made, check, end.watch(made, {"pace": 60}))
    return end.known[key]


def rules(breaches: list[str]) -> set[str]:
    return {breach.split(":")[0] for breach in breaches}


def is_a_database(call: Call) -> bool:
    return any(part in os.path.basename(path) for path in call.fds for part in ("ledger.db", "smurf.db"))


@pytest.mark.parametrize("sync", ["fsync", "syncfs"])
@pytest.mark.parametrize("make", [pulled, pushed])
def test_the_order_and_that_each_sync_is_needed(end: TracedEnd, make: Maker, sync: str) -> None:
    run = undisturbed(end, make, sync)
    check, calls = run.check, run.calls
    assert check(calls) == (2, [])
    syncs = [call for call in calls if call.name in SYNCS and call.result == 0]
    broken: dict[str, set[str]] = {"ours": set(), "of databases": set()}
    for left_out in syncs:
        found = rules(check([call for call in calls if call is not left_out])[1])
        broken["of databases" if is_a_database(left_out) else "ours"] |= found
        made_by_sqlite = left_out.name == "fdatasync"  # of a database, or of the directory that it is in
        assert found or made_by_sqlite, f"nobody needs {left_out}"
    assert {"content", "names"} <= broken["ours"]
    assert {"promise", "verdict"} | ({"told"} if make is pulled else set()) <= broken["of databases"]


@pytest.mark.parametrize(("left_out", "broken"), [("file", {"content"}), ("directory", {"names"})])
def test_a_helper_that_leaves_syncs_out(tmp_path: Path, end: TracedEnd, left_out: str, broken: set[str]) -> None:
    made, check = pushed(tmp_path / "site", end, "fsync")
    assert rules(check(end.watch(made, without=left_out))[1]) == broken


def test_a_puller_that_leaves_syncs_out(tmp_path: Path, end: TracedEnd) -> None:
    made, check = pulled(tmp_path / "site", end, "fsync")
    breaches = check(end.watch(made, {"without": ["fsync", "ledger sync"]}))[1]
    assert rules(breaches) == {"content", "names", "ledger", "promise", "verdict", "told"}


# ── the same trace in another order ─────────────────────────────────────────────────────────────────────────────


def before(calls: list[Call], what: list[Call], when: Call) -> list[Call]:
    """As if these had been made all at once, before another."""
    moved = [replace(call, start=at, end=at) for at, call in enumerate(what, when.start - len(what))]
    return sorted([*moved, *(call for call in calls if call not in what)], key=lambda call: call.end)


def studied(calls: list[Call], root: Path) -> Disk:
    disk = Disk(f"{root}/")
    for call in calls:
        disk.see(call)
    return disk


def test_a_table_that_is_told_too_early_and_a_notice_that_is_marked_too_early(end: TracedEnd) -> None:
    run = undisturbed(end, pulled, "fsync")
    made, check, calls = run.made, run.check, run.calls
    disk, table = studied(calls, made.root), f"{made.root}/smurf.db"
    verdict = verdict_of(disk.published[0], disk, calls)
    assert verdict is not None
    (teller,) = {call.thread for call in calls if call.name == "pwrite64" and call.fds[0] == table}
    later = [call for call in calls if call.thread == teller and call.start > verdict.end]
    told = [call for call in later if table in call.args]
    assert rules(check(before(calls, told, verdict))[1]) == {"told"}
    marks = [commit for commit in disk.commits if commit.thread == teller and commit.start > verdict.end]
    assert rules(check(before(calls, marks, told[0]))[1]) == {"sent"}
    assert rules(check([call for call in calls if call not in marks])[1]) == {"sent"}


def test_a_ledger_that_does_not_wait_for_the_answers(end: TracedEnd) -> None:
    run = undisturbed(end, pushed, "fsync")
    check, calls = run.check, run.calls
    disk = studied(calls, run.made.root)
    for file in disk.published:
        verdict = verdict_of(file, disk, calls)
        answer = answer_to("sync", file.call.process, calls, after=file.call.end)
        assert verdict is not None
        assert answer is not None
        early = check(before(calls, [verdict], answer))[1]
        assert "answer" in rules(early)
        assert any(file.path in breach for breach in early)
