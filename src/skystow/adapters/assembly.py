"""The hands that make a FITS file of one CCD (`Assemble`), and remove it when it is not ours to keep (`DropLocal`).

<work>/fits/<day>/<obsid>-R22S00.fits      the directory of finished files is `fits`, a source place of the spine
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import PurePosixPath

from skystow.adapters import header_yaml
from skystow.adapters.fits import Contents, build, read_frame
from skystow.adapters.header_yaml import Card, Header
from skystow.adapters.work import WorkDirectory
from skystow.errors import BadName, Changed, FileFault, Missing, NameTaken, Unreadable
from skystow.model.acts import Act, Assemble, DropLocal
from skystow.model.messages import Message, day_and_number, digest_of, file_name, lawful_obsid, raft_and_sensor
from skystow.model.records import Fingerprint, shown
from skystow.model.reports import Assembled, AssemblyFailed, Dropped, HandoffFailed
from skystow.ports import Stop
from skystow.ports.image import Camera, segments

FITS = PurePosixPath("fits")
_KEPT_HEADERS = 4


class Assembler:
    """A `Hand`. Best with as many threads as there are processors: hashing, swapping and writing let others run."""

    def __init__(self, work: WorkDirectory, camera: Camera) -> None:
        self.work, self.camera = work, camera
        work.tidy()
        self._headers: dict[str, Header] = {}
        self._lock = threading.Lock()

    def __call__(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        if not isinstance(act, Assemble):
            raise TypeError(f"no act of this hand: {act}")
        hopeless = True  # a bad name, or a bad header, stays one; pixels may still come
        try:
            path = PurePosixPath(act.day) / file_name(lawful_obsid(act.obsid), *raft_and_sensor(act.detector))
            contents = contents_of(self._header(act.header), act.obsid, act.detector)
            hopeless = False
            found = self._finished(act, path, stop) or self._make(act, path, contents, stop)
        except FileFault as fault:
            final = hopeless or isinstance(fault, BadName)
            return [AssemblyFailed(act.obsid, act.detector, str(fault), final)]
        return [found]

    def _finished(self, act: Assemble, path: PurePosixPath, stop: Stop) -> Assembled | None:
        """An earlier run, which was killed before it could say so, may have made it."""
        tree = self.work.tree
        if tree.look(FITS / path) is None:
            return None
        fd, found = tree.open_file(FITS / path)
        try:
            read = read_frame(fd)
        except Unreadable as fault:
            where = shown(self.work.absolute(FITS / path))
            raise Unreadable(f"{where} is not what we write: {fault}", remedy="look at it, then remove it") from fault
        finally:
            os.close(fd)
        if (read.obsid, read.detector) != (act.obsid, act.detector):
            raise Unreadable(f"{shown(path)} is of {shown(read.obsid)} {read.detector}", remedy="remove it")
        digest = tree.digest(FITS / path, "sha256", stop=stop)
        return Assembled(act.obsid, act.detector, str(path), found.st_size, str(digest), found.st_mtime_ns)

    def _make(self, act: Assemble, path: PurePosixPath, contents: Contents, stop: Stop) -> Assembled:
        amplifiers = self.camera.read(act.obsid, act.detector, stop=stop)
        if (names := tuple(each.name for each in amplifiers)) != segments(act.detector):
            raise Unreadable(f"{self.camera.name} gave the amplifiers {shown(' '.join(names))} of {act.detector}")
        whole = build(amplifiers, contents)
        digest = hashlib.sha256(whole).hexdigest()
        try:
            found = self.work.write(FITS / path, whole)
        except NameTaken:  # a thread of a run that was cut off, and finished nevertheless
            if (made := self._finished(act, path, stop)) is None:
                raise Changed(f"{shown(path)} came and went while it was written") from None
            return made
        return Assembled(act.obsid, act.detector, str(path), len(whole), f"sha256:{digest}", found.st_mtime_ns)

    def _header(self, path: str) -> Header:
        """Parsed once for all CCDs of an exposure. Raises `Missing`, `Unreadable`, `BadName`."""
        with self._lock:
            if (kept := self._headers.get(path)) is None:
                kept = self._headers[path] = header_yaml.parse(self._read(path))
                if len(self._headers) > _KEPT_HEADERS:
                    del self._headers[next(iter(self._headers))]
            return kept

    def _read(self, path: str) -> bytes:
        try:
            below = self.work.relative(path)
        except ValueError as error:
            raise BadName(f"{shown(path)} is no header of ours") from error
        fd, found = self.work.tree.open_file(below)
        try:
            return os.pread(fd, found.st_size, 0)
        except OSError as error:
            raise self.work.tree.fault(error, below) from error
        finally:
            os.close(fd)


def contents_of(header: Header, obsid: str, detector: str) -> Contents:
    """What the header says of one CCD, and what any reader needs. Raises `Unreadable` for that of another image."""
    raft, sensor = raft_and_sensor(detector)
    ccd = f"R{raft}S{sensor}"
    said = [*header.get("PRIMARY", ()), *header.get(f"{ccd}_PRIMARY", ())]
    known = {card.keyword.strip().upper(): card.value for card in said}
    needed = {"OBSID": (obsid, "image name"), "RAFTBAY": (f"R{raft}", "raft"), "CCDSLOT": (f"S{sensor}", "sensor")}
    for keyword, (value, comment) in needed.items():
        if known.get(keyword) in (None, ""):
            said.append(Card(keyword, value, comment))
        elif known[keyword] != value:
            raise Unreadable(f"the header is not of {obsid} {detector}: {keyword} is {shown(str(known[keyword]))[:80]}")
    if (named := day_and_number(obsid)) is not None:
        for keyword, number, comment in zip(("DAYOBS", "SEQNUM"), named, ("observing day", "number"), strict=True):
            if known.get(keyword) in (None, ""):
                said.append(Card(keyword, number, comment))
    return Contents(said, {name: header.get(f"{ccd}_{name}", ()) for name in segments(detector)})


class LocalDropper:
    """A `Hand`. Removes a file by proof that it is the one that was sent. `name` is the forwarder's."""

    def __init__(self, work: WorkDirectory, name: str) -> None:
        self.work, self.name = work, name

    def __call__(self, act: Act, *, stop: Stop) -> Sequence[Message]:
        if not isinstance(act, DropLocal):
            raise TypeError(f"no act of this hand: {act}")
        try:
            self._drop(act, stop)
        except Missing:
            return [Dropped(act.obsid, act.path)]  # an earlier run did it
        except FileFault as fault:
            return [HandoffFailed(act.obsid, act.path, self.name, str(fault))]
        return [Dropped(act.obsid, act.path)]

    def _drop(self, act: DropLocal, stop: Stop) -> None:
        tree = self.work.tree
        if not act.digest:
            tree.remove(self._header(act.path), Fingerprint())
            return
        path = FITS / act.path
        if (found := tree.stat(path)) is None:
            raise Missing(f"{shown(path)}: no such file")
        if not act.mtime_ns and tree.digest(path, "sha256", stop=stop) != digest_of(act.digest):
            raise Changed(f"{shown(path)} is not the file that was sent")
        tree.remove(path, Fingerprint(act.size, act.mtime_ns) if act.mtime_ns else found)

    def _header(self, path: str) -> PurePosixPath:
        try:
            return self.work.relative(path)
        except ValueError as error:
            raise BadName(f"{shown(path)} is no header of ours") from error
