"""A tree of files at a remote end, seen through the helper."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import hasher
from skystow.adapters.remote.ssh import Link
from skystow.adapters.tree import held
from skystow.errors import Changed, FileFault, Missing, NotAFile, OperatorFault, SkystowError, Unreachable
from skystow.model.records import Digest, Fingerprint, path_bytes, shown
from skystow.ports import Stop


class Look(NamedTuple):
    """What the helper sees of a file; the names are those of `os.stat_result`."""

    st_mode: int
    st_size: int
    st_mtime_ns: int
    st_ino: int
    st_ctime_ns: int
    st_nlink: int

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.st_size, self.st_mtime_ns, self.st_ino, self.st_ctime_ns)


def wire(path: PurePosixPath | bytes) -> str:
    """A path as the helper reads it; raises `BadName` for one that could lead out."""
    if isinstance(path, bytes):
        return path.decode("latin-1")
    held(path)
    return path_bytes(path).decode("latin-1")


class RemoteTree:
    """The `Tree` port on a remote host. `root` may begin in the login directory. Safe to share between threads.

    A root on another device than at first is not our root any more, unless `marker` proves it.
    """

    def __init__(self, link: Link, root: str, *, place: str, marker: str | None = None) -> None:
        self.link, self.place = link, place
        self.root, self.marker = os.fsencode(root), marker
        self._device: int | None = None

    def __str__(self) -> str:
        return f"{self.link.host}:{shown(os.fsdecode(self.root))}"

    # the port

    def present(self) -> None:
        found = self.proof()
        if self.marker is None and found["empty"]:
            raise Unreachable(
                f"{self.place}: {self} is empty",
                place=self.place,
                remedy="mount it, or name a marker file that proves it",
            )

    def stat(self, path: PurePosixPath) -> Fingerprint | None:
        found = self.look(path)
        return found.fingerprint if found else None

    def digest(self, path: PurePosixPath, algorithm: str, *, stop: Stop) -> Digest:
        """Read there; an algorithm that only we have makes the bytes come here to be read."""
        if algorithm not in self.link.facts(self.place, stop)["algorithms"]:
            return self._fetched(path, algorithm, stop)
        [found] = self.call({"op": "digest", "paths": [wire(path)], "algorithms": [algorithm]}, stop)
        if isinstance(found, int):
            raise self.fault(OSError(found, os.strerror(found)), path)
        return Digest(algorithm, found[algorithm])

    def remove(self, path: PurePosixPath, expected: Fingerprint) -> None:
        request = {"op": "remove", "path": wire(path), "size": expected.size, "mtime": expected.mtime_ns}
        try:
            answer = self.ask(request)
        except FileNotFoundError as error:
            raise Missing(f"{shown(path)}: no such file") from error
        except OSError as error:
            raise blame(error, Side.PUBLISH, shown(path), place=self.place) from error
        if answer != "removed":
            raise Changed(f"{shown(path)}: changed since it was looked at, not removed")

    # for stores and sources

    def proof(self, stop: Stop | None = None) -> dict[str, Any]:
        """Raises `Unreachable` unless the root is there; `root` (its real path), `device`, `empty`."""
        try:
            found: dict[str, Any] = self.ask({"op": "present", "fresh": True}, stop)
        except OSError as error:
            what = f"{self}" + (f", marker {self.marker}" if self.marker else "")
            raise Unreachable(f"{self.place}: {what}: {error.strerror}", place=self.place) from error
        if self._device is None:
            self._device = found["device"]
        if found["device"] != self._device and self.marker is None:
            raise Unreachable(
                f"{self.place}: {self} is on another device than before",
                place=self.place,
                remedy="mount it again and restart, or name a marker file that proves it",
            )
        return found

    def look(self, path: PurePosixPath) -> Look | None:
        """Like `stat`, with all that the helper sees. An empty root is no fault here."""
        [found] = self.call({"op": "look", "paths": [wire(path)], "fresh": True})
        if found in (errno.ENOENT, errno.ENOTDIR):
            self.proof()
            return None
        if isinstance(found, int):
            raise self.fault(OSError(found, os.strerror(found)), path)
        return Look(*found) if stat_bits.S_ISREG(found[0]) else None

    def looks(
        self, paths: Sequence[PurePosixPath], stop: Stop | None = None, *, fresh: bool = False
    ) -> list[Look | FileFault]:
        """What each of them is, in one exchange: a regular file, or the fault that it is not one. Raises `Unreachable`
        where something is missing and the root cannot be proven."""
        answers = self.call({"op": "look", "paths": [wire(path) for path in paths], "fresh": fresh}, stop)
        found: list[Look | FileFault] = []
        proven = False
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, int):
                fault = blame(OSError(answer, os.strerror(answer)), Side.SOURCE, shown(path), place=self.place)
                if not isinstance(fault, FileFault):
                    raise fault
                if isinstance(fault, Missing) and not proven:
                    self.present()
                    proven = True
                found.append(fault)
            elif not stat_bits.S_ISREG(answer[0]):
                found.append(NotAFile(f"{shown(path)}: not a regular file"))
            else:
                found.append(Look(*answer))
        return found

    def probe(self, paths: Sequence[PurePosixPath], stop: Stop | None = None) -> list[SkystowError | None]:
        """Why each of them cannot be read; None where it can."""
        answers = self.call({"op": "probe", "paths": [wire(path) for path in paths], "fresh": True}, stop)
        return [
            self.fault(OSError(code, os.strerror(code)), path) if code else None
            for path, code in zip(paths, answers, strict=True)
        ]

    def lists(self, paths: Sequence[bytes], stop: Stop) -> Iterator[tuple[int, list[tuple[bytes, Look]] | int]]:
        """Entries of directories, in parts: (which of `paths`, entries or an errno)."""
        request = self._at({"op": "list", "paths": [wire(path) for path in paths]})
        with self.link.session(self.place, stop) as session:
            for part in session.stream(request, stop):
                if isinstance(part, list):
                    which, entries = part
                    yield (
                        which,
                        entries
                        if isinstance(entries, int)
                        else [(name.encode("latin-1"), Look(*look)) for name, look in entries],
                    )

    def fault(self, error: OSError, path: PurePosixPath) -> SkystowError:
        found = blame(error, Side.SOURCE, shown(path), place=self.place)
        if isinstance(found, Missing):
            self.present()
        return found

    def ask(self, request: Mapping[str, Any], stop: Stop | None = None) -> Any:
        """One exchange with the helper; raises `OSError` for what the system there says, `Unreachable`, …"""
        with self.link.session(self.place, stop) as session:
            answer = session.call(self._at(request), stop)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["text"])
        if "ok" not in answer:
            raise OperatorFault(f"{self.place}: {self.link.host} answers {answer!r}")
        return answer["ok"]

    def call(self, request: Mapping[str, Any], stop: Stop | None = None) -> Any:
        """`ask` for what fails only with the root."""
        try:
            return self.ask(request, stop)
        except OSError as error:
            self.proof(stop)
            raise Unreachable(f"{self.place}: {self}: {error.strerror}", place=self.place) from error

    def _at(self, request: Mapping[str, Any]) -> dict[str, Any]:
        marker = None if self.marker is None else wire(os.fsencode(self.marker))
        return {**request, "root": wire(self.root), "marker": marker}

    def _fetched(self, path: PurePosixPath, algorithm: str, stop: Stop) -> Digest:
        running = hasher(algorithm)
        with self.link.session(self.place, stop) as session:
            for part in session.stream(self._at({"op": "fetch", "path": wire(path)}), stop):
                if isinstance(part, bytes):
                    running.update(part)
                elif "errno" in part:
                    code = part["errno"]
                    break
            else:
                code = 0
        if code:
            raise self.fault(OSError(code, os.strerror(code) if code != errno.EISDIR else "not a file"), path)
        return Digest(algorithm, running.hexdigest())
