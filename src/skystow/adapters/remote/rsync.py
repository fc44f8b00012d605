"""One rsync process for many files: its command line, its lines, its exit codes, and a limit to all of it."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from skystow.errors import NoSpace, PlaceFault, ReadOnly, SkystowError, Stopped, UnfitHost, UnfitPlace, Unreachable
from skystow.model.records import Digest, shown
from skystow.model.remote import RemoteHost
from skystow.ports import Stop

LONGEST = 4000
"""Bytes of a path that rsync takes."""
_TICK = 0.2
_SLOWEST = 32 * 2**10
"""Bytes per second below which a transfer that still moves is given up."""
_STARTED_BY_US = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,15);os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.execvp(sys.argv[2],sys.argv[2:])"
)
"""Ends with its parent (PR_SET_PDEATHSIG, SIGTERM: rsync keeps its part); a parent that is gone already is seen."""


class Whose(Enum):
    FILES = auto()
    REMOTE = auto()
    RECEIVER = auto()
    OURS = auto()
    OPERATOR = auto()


EXITS: dict[int, Whose] = {
    0: Whose.FILES,
    23: Whose.FILES,  # some files were not transferred
    24: Whose.FILES,  # some files vanished
    1: Whose.OPERATOR,  # syntax: the other end refuses our options
    2: Whose.OPERATOR,  # incompatible protocols
    4: Whose.OPERATOR,  # unsupported
    126: Whose.OPERATOR,
    127: Whose.OPERATOR,  # no rsync there
    11: Whose.RECEIVER,  # file I/O: whoever writes
    3: Whose.REMOTE,
    5: Whose.REMOTE,
    10: Whose.REMOTE,  # socket I/O
    12: Whose.REMOTE,  # protocol data stream: the other end died
    30: Whose.REMOTE,  # timeout
    35: Whose.REMOTE,
    255: Whose.REMOTE,  # ssh
    13: Whose.OURS,
    14: Whose.OURS,
    19: Whose.OURS,
    20: Whose.OURS,
    22: Whose.OURS,  # no memory
}
"""rsync's exit codes → whose fault; what is not named is the remote end's."""

_ERRNO = {28: NoSpace, 122: NoSpace, 30: ReadOnly}


@dataclass(frozen=True, slots=True)
class Tuning:
    """`bwlimit` in bytes per second (None: no limit), `timeout` seconds of silence, `checksum` None: rsync's own."""

    timeout: float
    bwlimit: float | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """rsync is done with a file: its name as it was asked for, and the digest of the stream, where rsync told it."""

    name: bytes
    digest: Digest | None


def listed_checksums(version: str) -> tuple[tuple[int, ...], bool]:
    """Of `rsync --version`: its version, and whether it knows xxh128."""
    found = re.search(r"version v?(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else (0,), "xxh128" in version


@lru_cache(maxsize=1)
def own_version() -> str:
    """Raises `UnfitPlace` where there is no rsync here."""
    try:
        return subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError as error:
        raise UnfitPlace(f"rsync: {error.strerror}", remedy="install rsync 3.1 or later on this host") from error


def agreed_checksum(theirs: str, *, xxh128_reads_back: bool = True) -> str | None:
    """xxh128 costs next to nothing; md5 is what both always have. None: too old to be told, and md5."""
    versions = [listed_checksums(text) for text in (own_version(), theirs)]
    if any(version < (3, 2) for version, _ in versions):
        return None
    return "xxh128" if xxh128_reads_back and all(has for _, has in versions) else "md5"


class Run:
    """One rsync. `names` (raw, relative to the source root) go in by a file, never by the command line or a shell.

    `basis`: a local or remote directory with parts of earlier tries, which are read and never written to.
    """

    def __init__(
        self,
        source: bytes,
        target: bytes,
        names: Sequence[bytes],
        size: int,
        *,
        shell: str,
        tuning: Tuning,
        basis: bytes | None = None,
    ) -> None:
        self.code = 0
        self.errors = ""
        self._names = {b"./" + name: name for name in names}
        self._algorithm = tuning.checksum or "md5"
        self._limit = 10 * tuning.timeout + size / min(_SLOWEST, (tuning.bwlimit or _SLOWEST) / 2)
        self._argv: list[str | bytes] = [
            *("rsync", "--times", "--ignore-times", "--perms", "--chmod=D700,F600"),
            *("--no-implied-dirs", "--omit-dir-times", "--relative", "--secluded-args", "--no-motd", "--no-compress"),
            *("--files-from=-", "--from0", "--out-format=%C %n", f"--timeout={max(1, round(tuning.timeout))}"),
        ]
        self._argv[1:1] = ["--whole-file"] if basis is None else ["--no-whole-file", "--partial-dir=.part"]
        if tuning.checksum:
            self._argv.append(f"--checksum-choice={tuning.checksum}")
        if tuning.bwlimit:
            self._argv.append(f"--bwlimit={max(1, int(tuning.bwlimit / 1024))}")
        if basis is not None:
            self._argv.append(b"--copy-dest=" + basis)
        self._argv += ["-e", shell, "--", source.rstrip(b"/") + b"/", target.rstrip(b"/") + b"/"]

    def lines(self, stop: Stop) -> Iterator[list[Line]]:
        """What rsync is done with, as it says so; an empty list each time that nothing was heard for a while.
        Raises `Stopped`; `code` and `errors` are set at the end. rsync is not there any more when this is left."""
        with tempfile.TemporaryFile() as names:
            names.write(b"".join(name + b"\0" for name in self._names))
            names.seek(0)
            guard = [sys.executable, "-I", "-S", "-c", _STARTED_BY_US, str(os.getpid())]
            process = subprocess.Popen(
                [*guard, *self._argv],
                stdin=names,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C", "RSYNC_OLD_ARGS": "0"},
                bufsize=0,
            )
        try:
            yield from self._listen(process, stop)
            self.code = self.code or process.wait(self._limit)  # our own verdict, where we ended it, is the better one
        finally:
            _end(process)

    def _listen(self, process: subprocess.Popen[bytes], stop: Stop) -> Iterator[list[Line]]:
        due = time.monotonic() + self._limit
        said, rest = bytearray(), b""
        with selectors.DefaultSelector() as both:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    both.register(pipe, selectors.EVENT_READ)
            while both.get_map():
                lines: list[Line] = []
                for key, _ in both.select(_TICK):
                    block = os.read(key.fd, 1 << 16)
                    if not block:
                        both.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        said = (said + block)[-8192:]
                        self.errors = said.decode("utf-8", "backslashreplace")
                    else:
                        *whole, rest = (rest + block).split(b"\n")
                        lines += [line for text in whole if (line := self._line(text))]
                yield lines
                if stop.is_set():
                    raise Stopped("stopped while rsync was at work")
                if time.monotonic() > due:
                    self.errors += f"\nit took longer than {self._limit:.0f} s"
                    _end(process)
                    self.code = 30
                    return

    def _line(self, text: bytes) -> Line | None:
        """`<digest> <name>`; the digest may be blank. What else rsync says on stdout is not for us."""
        digest, _, name = text.lstrip(b" ").partition(b" ")
        if not re.fullmatch(rb"[0-9a-f]{32}", digest):
            digest, name = b"", text.lstrip(b" ")
        found = self._names.get(b"./" + _unescaped(name))
        if found is None:
            return None
        return Line(found, Digest(self._algorithm, digest.decode()) if digest else None)

    def fault(self, host: RemoteHost, *, remote: str, receiver: str) -> SkystowError | None:
        """Whose fault the exit code is; None: each file's own. `remote` and `receiver` are names of places."""
        whose = Whose.OURS if self.code < 0 else EXITS.get(self.code, Whose.REMOTE)
        if whose is Whose.FILES:
            return None
        said = self.errors.strip().splitlines()
        first = next((line for line in said if line.startswith("rsync: ")), said[-1] if said else "no word of why")
        text = f"rsync with {host}: {shown(first)} (code {self.code})"
        for number in map(int, re.findall(r"\((\d+)\)$", "\n".join(said), re.MULTILINE)):
            if whose is Whose.RECEIVER and number in _ERRNO:
                return _ERRNO[number](
                    f"{receiver}: {text}", place=receiver, remedy="make room there, or make it writable"
                )
        match whose:
            case Whose.OPERATOR:
                remedy = "rsync 3.1 or later must be there, and may be restricted"
                return UnfitHost(f"{remote}: {text}", place=remote, remedy=remedy)
            case Whose.RECEIVER:
                return PlaceFault(f"{receiver}: {text}", place=receiver)
            case Whose.OURS:
                return PlaceFault(f"{receiver}: {text}", place=receiver, remedy="is this machine out of memory?")
        return Unreachable(f"{remote}: {text}", place=remote)


def _unescaped(name: bytes) -> bytes:
    return re.sub(rb"\\#(\d{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), name)


def _end(process: subprocess.Popen[bytes]) -> None:
    """rsync has a second to put its part aside."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
                break
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
