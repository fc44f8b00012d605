"""The forwarder's hands, killed before and after every durable act: nothing half is seen, and the next run ends well.

The kills happen in forks of this module, run as a program: a fork is quicker than an interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.assembly import Assembler, LocalDropper
from skystow.adapters.headers import HeaderFetcher
from skystow.adapters.work import WorkDirectory
from skystow.model.acts import Assemble, DropLocal, FetchHeader
from skystow.model.reports import Assembled, Dropped, HeaderFetched
from skystow.simulate.comcam import ComCam, HeaderService, expected_header
from skystow.testing.saboteur import Saboteur

OBSID, DAY, DETECTOR = "CC_O_20210304_000001", "2021-03-04", "R22_S00"
STOP = threading.Event()


def make(root: Path, url: str) -> Assembled:
    work = WorkDirectory(str(root), place="f99")
    [fetched] = HeaderFetcher(work)(FetchHeader(OBSID, url, 0, ""), stop=STOP)
    assert isinstance(fetched, HeaderFetched), fetched
    [made] = Assembler(work, ComCam())(Assemble(OBSID, DETECTOR, fetched.path, DAY), stop=STOP)
    assert isinstance(made, Assembled), made
    return made


def drop(root: Path, made: Assembled) -> None:
    work = WorkDirectory(str(root), place="f99")
    dropper = LocalDropper(work, "f99")
    header = str(work.absolute(PurePosixPath("header") / f"{OBSID}.yaml"))
    for act in (DropLocal(OBSID, made.path, made.size, made.digest, made.mtime_ns), DropLocal(OBSID, header)):
        assert dropper(act, stop=STOP) == [Dropped(OBSID, act.path)]


def in_a_fork(job: Callable[[], object], plan: dict[str, object]) -> int:
    """How it ended: 0, or -9."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            saboteur = Saboteur(plan)
            saboteur.install()
            job()
            saboteur.write_count()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def visible(root: Path) -> dict[str, bytes]:
    files = (path for top in ("header", "fits") for path in (root / top).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def plans(count: Path) -> Iterator[tuple[str, dict[str, object]]]:
    for at, act in enumerate(count.read_text().splitlines()):
        for when in ("before", "after"):
            yield f"{when} {at} {act}", {"kill": {"at": at, "when": when}}


def main(base: Path, url: str) -> None:
    counted = base / "counted"
    counted.mkdir()
    assert in_a_fork(lambda: make(counted, url), {"count": str(base / "make")}) == 0
    wanted = visible(counted)
    report = make(counted, url)
    assert in_a_fork(lambda: drop(counted, report), {"count": str(base / "drop")}) == 0
    assert visible(counted) == {}
    tried = []
    for number, (name, plan) in enumerate(plans(base / "make")):
        root = base / str(number)
        root.mkdir()
        assert in_a_fork(lambda root=root: make(root, url), plan) == -signal.SIGKILL, name  # type: ignore[misc]
        assert visible(root).items() <= wanted.items(), f"{name}: what is visible is whole"
        assert in_a_fork(lambda root=root: make(root, url), {}) == 0, name  # type: ignore[misc]
        assert visible(root) == wanted, name
        made = make(root, url)
        private = [path for path in (root / ".skystow" / "making").rglob("*") if path.is_file()]
        assert private == [], f"{name}: {private} is swept"
        if number < len(list(plans(base / "drop"))):
            name, plan = list(plans(base / "drop"))[number]
            assert in_a_fork(lambda root=root, made=made: drop(root, made), plan) == -signal.SIGKILL, name  # type: ignore[misc]
            assert visible(root).items() <= wanted.items(), name
            assert in_a_fork(lambda root=root, made=made: drop(root, made), {}) == 0, name  # type: ignore[misc]
            assert visible(root) == {}, name
            tried.append(name)
        tried.append(name)
    sys.stdout.write(json.dumps(tried))


@pytest.mark.timeout(300)
def test_every_act_of_the_hands(tmp_path: Path) -> None:
    with HeaderService(ComCam()).serving() as service:
        url = f"{service.url}/{OBSID}.yaml"
        assert service.content(f"/{OBSID}.yaml") == expected_header(OBSID)
        command = [sys.executable, "-m", "tests.crash.test_forwarder_hands", str(tmp_path), url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout)
    acts = {name.split()[2] for name in tried}
    assert {"mkdir", "open", "write", "fchmod", "fsync", "link", "unlink"} <= acts
    assert len(tried) > 40


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
