"""The whole image archiver in one process, which a saboteur kills at a durable act; then once more; then compared.

    python -m tests.crash.image_kit      reads jobs from stdin, one JSON object a line: `root` and other fields of
                                         `made`, `url` (where headers are), `plan`, `out`; answers each with the
                                         number of its process, then with how that ended

An exposure is announced while the Archiver is ENABLED. What the Archiver has taken from the bus is in the diary and is
never said again, in no later run: it must be remembered.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial, wraps
from pathlib import Path
from types import FrameType
from typing import Any

from skystow.adapters.ledger import SqlLedger
from skystow.adapters.ledger.mail import EmbeddedBus
from skystow.config import load
from skystow.errors import PlaceFault, Refused, SkystowError
from skystow.model.acts import Say
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import EndReadout, LargeFileObjectAvailable, Message, StartIntegration
from skystow.ports.talk import Bus, Scoreboard, outbox
from skystow.service import talk as hosting
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.service.talk import Talk
from skystow.simulate.comcam import ADDRESS, ComCam, HeaderService
from skystow.simulate.proof import files
from skystow.testing.mischief import Mischief
from skystow.testing.nursery import warm_up
from skystow.testing.saboteur import Saboteur
from skystow.wiring import House, build
from skystow.wiring.image import component_names
from tests.crash.night_field import (
    ADDRESSES,
    COMPONENTS,
    LIMIT,
    NightField,
    Plan,
    watched,
)

# ── in the child: the night ─────────────────────────────────────────────────────────────────────────────────────


OVER = "over"
NEXT = {Summary.STANDBY: Verb.START, Summary.DISABLED: Verb.ENABLE}


class Diary:
    """What the Archiver has heard: said once, it must be remembered by it, not by the camera."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def heard(self) -> set[str]:
        return set(self.path.read_text().split()) if self.path.exists() else set()

    def write(self, *words: str) -> None:
        with self.path.open("a") as out:
            out.writelines(f"{word}\n" for word in words)


class Camera:
    """Commands the Archiver, and takes the exposures; returns when all of them are archived."""

    def __init__(self, made: NightField, url: str, bus: Bus, ring: Callable[[], None]) -> None:
        self.made, self.url, self.bus, self.ring = made, url, bus, ring
        self.diary = Diary(made.own / "diary")
        self.due = time.monotonic() + LIMIT

    def command(self, talk: Talk, board: Scoreboard) -> None:
        self.wait_until(lambda: board.alive("f99_association"), "that there is a forwarder")
        while talk.state is not Summary.ENABLED:
            try:
                talk.command(NEXT[talk.state])
            except (Refused, PlaceFault) as fault:
                self.in_time(str(fault))
                time.sleep(0.02)

    def events(self, obsid: str) -> Iterator[Message]:
        yield StartIntegration(obsid, exposure_time=1.0, image_date=obsid.split("_")[2])
        yield EndReadout(obsid)
        with closing(HeaderService(ComCam(names=self.made.detectors, shape=self.made.shape))) as service:
            said = service.announced(obsid)
        yield LargeFileObjectAvailable(obsid, f"{self.url}/{obsid}.yaml", said.size, said.checksum, said.generator)

    def observe(self) -> None:
        for obsid in self.made.obsids:
            for event in self.events(obsid):
                word = f"{type(event).__name__}:{obsid}"
                if word not in self.diary.heard():
                    self.wait_until(partial(self._said, event), f"{word} is said")
                    self.wait_until(lambda: not self.bus.receive(ADDRESS, limit=1), f"{word} is heard")
                    self.diary.write(word)

    def _said(self, event: Message) -> bool:
        self.bus.publish([Say(ADDRESS, event)])
        self.ring()
        return True

    def wait_until(self, true: Callable[[], object], what: str) -> None:
        """Somebody may have killed what we ask."""
        away: PlaceFault | None = None
        while True:
            try:
                if true():
                    return
            except PlaceFault as fault:
                away = fault
            self.in_time(what if away is None else f"{what} ({away})")
            time.sleep(0.01)

    def in_time(self, what: str) -> None:
        if time.monotonic() > self.due:
            raise TimeoutError(f"in vain: {what}")


def archived(made: NightField, ledger: SqlLedger) -> bool:
    """Whether everybody has done what was to be done; whether it is right, others judge."""
    wanted = made.truth.paths()
    if not all((tree / path).exists() for tree in made.trees.values() for path in wanted):
        return False
    if files(made.staging) or files(made.work):
        return False
    return all(not ledger.talks.steps(name) for name in COMPONENTS) and all(
        not ledger.bus.receive(outbox(name), limit=1) for name in COMPONENTS
    )


def archive(made: NightField, url: str, mischief: int | None = None, only: Sequence[str] = ()) -> None:
    """One process's part of the night: until all is archived. `mischief`: a seed; the bus is not to be relied upon.
    `only`: these components; whoever has the Archiver has the camera, too, and says when the night is over. Raises what
    went wrong."""
    site, halt, failed = load(str(made.site)), Halt(), list[Exception]()
    with build(site) as house:
        components = house.components(only or component_names(site))
        ledger, imaging = house.ledger, house.imaging
        assert isinstance(ledger, SqlLedger)
        assert imaging is not None
        camera, board = Camera(made, url, ledger.bus, imaging.bells.ring), imaging.wires.board()
        if mischief is not None:
            bus = Mischief(ledger.bus, mischief)
            for each in components.values():
                assert each.talk is not None
                each.talk.bus = bus

        def drive() -> None:
            try:
                if "archiver" in components:
                    talk = components["archiver"].talk
                    assert talk is not None
                    camera.command(talk, board)
                    camera.observe()
                    camera.wait_until(lambda: archived(made, ledger), "all is archived")
                    camera.diary.write(OVER)
                else:
                    camera.wait_until(lambda: OVER in camera.diary.heard(), "the night is over")
            except (SkystowError, OSError) as error:
                failed.append(error)
                failed.append(TimeoutError(shown(house, made)))
            finally:
                halt.set()

        driver = threading.Thread(target=drive)
        driver.start()
        asyncio.run(run_together(components, halt, str(made.own / "control")))
        driver.join()
    if failed:
        raise ExceptionGroup("the night did not end", failed)


def shown(house: House, made: NightField) -> str:
    """For whoever must find out why."""
    ledger = house.ledger
    assert isinstance(ledger, SqlLedger)
    said = [f"{each}" for each in house.progress.healths.values()]
    said += [f"{name}: {step}" for name in COMPONENTS for step in ledger.talks.steps(name)]
    trays = [*ADDRESSES, *map(outbox, COMPONENTS)]
    said += [f"on the bus, {tray}: {each}" for tray in trays for each in ledger.bus.receive(tray, limit=9)]
    said += [str(line) for obsid in made.obsids for line in ledger.talks.lines(obsid=obsid)]
    said += [str(each.relative_to(made.root)) for each in sorted(made.root.rglob("*")) if each.is_file()]
    return "\n".join(said)


# ── in the child: the saboteur ──────────────────────────────────────────────────────────────────────────────────


class NightSaboteur(Saboteur):
    """Names each durable act by what it is for (`link oods`, `unlink work/fits`, `commit settle`, …), so that a blow
    finds the same act in every run, whatever threads do. `plan["kill"]`: `act` is such a name, `at` counts those."""

    def __init__(self, root: Path, plan: Plan) -> None:
        super().__init__(plan)
        self.root = os.fspath(root) + "/"

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def stand_in(*args: Any, **named: Any) -> Any:
            if (where := self._where(args, named)) is None:
                return call(*args, **named)  # a pipe of asyncio's, or a file of somebody else
            return self._act(name, where, lambda: call(*args, **named))

        return stand_in

    def _act(self, kind: str, label: str, call: Callable[[], Any]) -> Any:
        if kind == "open":
            label = "part" if label.isdigit() else ""
        return super()._act(f"{kind} {_committer() if kind == 'commit' else label}".strip(), "", call)

    def _where(self, args: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        """`oods/*.fits`, `work/fits`, …: the last argument that is a file, without what differs from run to run."""
        given = [arg for arg in args if isinstance(arg, int | str | bytes) and not isinstance(arg, bool)]
        content = isinstance(given[0], int) and len(given) > 1  # write(fd, content), fchmod(fd, mode)
        last = given[0] if content else next((arg for arg in reversed(given) if isinstance(arg, str | bytes)), given[0])
        if isinstance(last, int):
            path = os.readlink(f"/proc/self/fd/{last}")
        else:
            above = named.get("dst_dir_fd", named.get("dir_fd"))
            path = os.path.join(os.readlink(f"/proc/self/fd/{above}") if above is not None else "", os.fsdecode(last))
        if not path.startswith(self.root):
            return None
        parts = path.removeprefix(self.root).removesuffix(" (deleted)").split("/")
        return "/".join(_plain(part) for part in parts)


def _plain(part: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", part):
        return "DAY"
    if part.startswith("CC_O_"):
        return "*" + os.path.splitext(part)[1]
    return "N" if re.fullmatch(r"#?\d+|[0-9a-f-]{8,}", part) else part


def _committer() -> str:
    """What is committed, by whom: the function of the ledger that had the transaction."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/adapters/ledger/" in name and not name.endswith("/database.py"):
            known = frame.f_locals.get("component") or frame.f_locals.get("route") or _posted(frame) or ""
            return f"{frame.f_code.co_name.lstrip('_')} {known}".strip()
        frame = frame.f_back
    return "of the schema"


def _posted(frame: FrameType) -> str:
    """Whose outbox is emptied; "": it is no outbox."""
    if frame.f_code.co_name != "_accept" or frame.f_locals["deliveries"][0].to == ADDRESS:
        return ""
    caller = frame.f_back
    while caller is not None:
        if isinstance(bus := caller.f_locals.get("self"), EmbeddedBus):
            return f"outbox {bus._sender}".removesuffix("outbox ")
        caller = caller.f_back
    return ""


# ── many runs ───────────────────────────────────────────────────────────────────────────────────────────────────


def jobs() -> dict[str, Any] | None:
    """In the parent: until there are no more jobs. In each child: its job."""
    for line in iter(sys.stdin.readline, ""):
        job: dict[str, Any] = json.loads(line)
        if (child := os.fork()) == 0:
            return job
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def become(job: dict[str, Any], sort: type[NightSaboteur] = NightSaboteur) -> None:
    out = os.open(job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(out, number)
    home, works = (Path(job[name]) if job[name] else None for name in ("home", "works"))
    made = NightField(Path(job["root"]), detectors=job["detectors"], send=job["send"], home=home, works=works)
    saboteur = sort(made.own, job["plan"])
    saboteur.install()
    vars(hosting)["GATHER"] = 0.01  # what is spared by sharing commits is not what is tried here
    try:
        archive(made, job["url"], job["plan"].get("mischief"), job["plan"].get("only", ()))
    finally:
        saboteur.write_count()


class Nights:
    """Runs nights, each in a fork of one process that has everything imported; one at a time. `kit`: whose saboteur
    there is."""

    def __init__(self, root: Path, url: str, kit: str = "tests.crash.image_kit") -> None:
        self.out, self.url = root / "out", url
        command = [sys.executable, "-m", kit]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(self, made: NightField, plan: Plan) -> int:
        """How it ended: 0, or -9. Anything else is raised with what it said."""
        return self.ended(self.started(made, plan))

    def started(self, made: NightField, plan: Plan) -> int:
        """The number of its process."""
        assert self.process.stdin is not None
        job = {"url": self.url, "plan": plan, "out": str(self.out), "send": made.send}
        job["detectors"] = list(made.detectors)
        job |= {name: str(path) if path else "" for name, path in _paths(made).items()}
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        return self._answer()

    def ended(self, child: int) -> int:
        try:
            ended = self._answer()
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise AssertionError(self.out.read_text(errors="replace")) from None
        assert ended in (0, -signal.SIGKILL), self.out.read_text(errors="replace")
        return ended

    def _answer(self) -> int:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], LIMIT + 15)[0]:
            raise TimeoutError
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def _paths(made: NightField) -> dict[str, Path | None]:
    return {"root": made.root, "home": made.home, "works": made.works}


def acts_of(nights: Nights, made: NightField) -> list[str]:
    """Every durable act of an undisturbed night, by name."""
    made.write()
    listed = made.root.parent / f"{made.root.name}.acts"
    assert nights.run(made, {"count": str(listed)}) == 0
    made.assert_whole()
    return listed.read_text().splitlines()


def kill_each(nights: Nights, root: Path, blows: Iterable[Plan]) -> list[Plan]:
    """For each a night of its own that is killed so, goes on in another process, and ends well. Returns those that
    missed: their act was not done as often, or not at all."""
    missed = []
    for n, blow in enumerate(blows):
        made = NightField(root / str(n))
        made.write()
        try:
            with watched(made) as seen:
                if nights.run(made, {"kill": blow}) == 0:
                    missed.append(blow)
                assert nights.run(made, {}) == 0
            assert seen == []
            made.assert_whole()
        except AssertionError as error:
            raise AssertionError(
                f"killed {blow['when']} {blow['act']} #{blow['at']} in {made.root}: {error}"
            ) from error
    return missed


def work(sort: type[NightSaboteur] = NightSaboteur) -> None:
    warm_up()
    if (mine := jobs()) is not None:
        become(mine, sort)


if __name__ == "__main__":
    work()
