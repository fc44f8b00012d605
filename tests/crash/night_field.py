"""A site of the image archiver that is to be killed, and what must be true of it afterwards."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skystow.adapters.clock import SystemClock
from skystow.adapters.ledger import SqlLedger, open_ledger
from skystow.adapters.process import this_worker
from skystow.image.night import night
from skystow.model.transfer import State, Step
from skystow.simulate.proof import Truth, files, image_faults

DETECTORS = ("R22_S00", "R22_S11")
OBSIDS = ("CC_O_20210304_000001", "CC_O_20210304_000002")
SHAPE = (8, 4)
LIMIT = 60.0
"""Seconds that one run may take: a refusal of `start`, or a rest, is overcome in that time."""

COMPONENTS = ("CCArchiver", "controller", "f99", "oods")
ADDRESSES = ("archiver/events", "archiver", "controller", "forwarder/f99", "oods")

Plan = dict[str, Any]


# ── the site, and what must be true of it ───────────────────────────────────────────────────────────────────────


@dataclass
class NightField:
    """A site of one forwarder below `root`, and what is to be in it when the night is over. `home`: where its ledger
    is, and what we write ourselves; `works`: where its forwarder works (None: below `root`)."""

    root: Path
    obsids: Sequence[str] = OBSIDS
    detectors: Sequence[str] = DETECTORS
    shape: tuple[int, int] = SHAPE
    send: str = "link"
    home: Path | None = None
    works: Path | None = None
    hurried: bool = False
    """What is not acknowledged is said again after a second."""
    rubbish: int = 0
    """Messages that nobody can read."""
    talking: Sequence[str] = COMPONENTS
    """Components that have closed every conversation in the end."""

    def __post_init__(self) -> None:
        self.truth = Truth(self.obsids, self.detectors, self.shape)

    @property
    def trees(self) -> dict[str, Path]:
        return {"oods": self.root / "oods", "backbone": self.root / "backbone"}

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def work(self) -> Path:
        return self.works or self.root / "work"

    @property
    def own(self) -> Path:
        return self.home or self.root

    @property
    def site(self) -> Path:
        return self.own / "site.yaml"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.own}/ledger.db"

    def forwarder(self, name: str = "f99", work: Path | None = None) -> dict[str, Any]:
        camera = {"kind": "simulated", "width": self.shape[0], "height": self.shape[1]}
        hurried = {"ack_timeout": 1.0} if self.hurried else {}
        return {"name": name, "work": str(work or self.work), "camera": camera, "send": self.send, **hurried}

    def write(self, forwarders: Sequence[dict[str, Any]] = ()) -> None:
        """The site file."""
        self.root.mkdir(parents=True, exist_ok=True)
        image: dict[str, Any] = {
            "detectors": list(self.detectors),
            "staging": {"root": str(self.staging), "min_free": 0},
            "backbone": {"root": str(self.trees["backbone"])},
            "oods": {"root": str(self.trees["oods"]), "bad_files": str(self.root / "bad")},
            "archiver": {"ack_timeout": 1.0} if self.hurried else {},
            "forwarders": list(forwarders) or [self.forwarder()],
        }
        control = str(self.own / "control")
        self.site.write_text(json.dumps({"ledger": self.url, "control": control, "image": image}))

    @contextmanager
    def ledger(self) -> Iterator[SqlLedger]:
        opened = open_ledger(self.url, worker=this_worker(), clock=SystemClock())
        with closing(opened):
            yield opened

    def assert_whole(self) -> None:
        """Every exposure complete at both places, once, with the right bytes; everybody says so; nothing is left."""
        for tree in self.trees.values():
            assert self.truth.differences(tree) == []
        for path in self.truth.images():
            one, other = ((tree / path).stat() for tree in self.trees.values())
            assert (one.st_ino, one.st_nlink) == (other.st_ino, 2), f"{path}: the same inode, and no name too many"
        assert [*files(self.staging), *files(self.work), *files(self.root / "bad")] == []
        for place in (self.staging, *self.trees.values()):
            assert staged(place) == []
        with self.ledger() as ledger:
            self._assert_said(ledger)

    def _assert_said(self, ledger: SqlLedger) -> None:
        told = night(20210304, ledger.talks.lines(day_obs=20210304)).exposures
        assert [each.obsid for each in told if each.complete] == list(self.obsids)
        assert [fault for each in told for fault in each.faults if "acknowledged" not in fault[2]] == []
        frames = [frame for _, frame in ledger.catalogue.find(day_obs=20210304)]
        assert sorted(str(frame.path) for frame in frames) == sorted(
            str(self.trees["oods"] / path) for path in self.truth.images()
        )
        assert len(ledger.dead_letters(after=0, limit=10)) == self.rubbish
        assert {name: ledger.talks.steps(name) for name in self.talking if ledger.talks.steps(name)} == {}
        for path in self.truth.images():
            for number in ledger.find(path.encode()):
                dossier = ledger.dossier(number)
                assert dossier is not None
                assert {copy.state for copy in dossier.copies} == {State.DONE}, dossier
                done = [event.destination for event in dossier.events if event.step is Step.DELIVERED]
                assert sorted(map(str, done)) == sorted(copy.route.destination for copy in dossier.copies)


def staged(place: Path) -> list[Path]:
    """What claims have left in our own area of a place. (What is being made in a work directory is swept by the next
    process that makes something there.)"""
    return [each for each in (place / ".skystow").rglob("*") if each.is_file()]


class Watch:
    """Looks at what readers see; a file that was found right is read again only when its inode says that it changed."""

    def __init__(self, made: NightField) -> None:
        self.made = made
        self.images = made.truth.images()
        self.manifests = made.truth.manifests()
        self.known: dict[Path, tuple[int, int, int]] = {}

    def look(self) -> list[str]:
        wrong = []
        for tree in self.made.trees.values():
            for path in tree.glob("*-*-*/*"):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    looks = (found.st_ino, found.st_size, found.st_mtime_ns)
                    if self.known.get(path) != looks:
                        wrong += [f"{path}: {what}" for what in self._faults(str(path.relative_to(tree)), path)]
                        self.known[path] = looks
        return wrong

    def _faults(self, name: str, path: Path) -> list[str]:
        if (image := self.images.get(name)) is not None:
            return list(image_faults(path.read_bytes(), *image, self.made.truth))
        if name not in self.manifests:
            return ["is there, and should not be"]
        lines = path.read_text().splitlines()
        return [] if len(lines) == len(self.made.detectors) else [f"has {len(lines)} lines"]


@contextmanager
def watched(made: NightField) -> Iterator[list[str]]:
    """The list has whatever was visible and wrong."""
    seen: list[str] = []
    over, watch = threading.Event(), Watch(made)

    def look() -> None:
        while not over.is_set():
            began = time.monotonic()
            seen.extend(watch.look())
            over.wait(max(0.005, 2 * (time.monotonic() - began)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
    seen.extend(watch.look())
