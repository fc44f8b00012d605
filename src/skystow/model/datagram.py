"""What a datagram of pysmurf's publisher says: from bytes to what a monitor does about it. Pure.

Anybody can send one, so nothing of it is taken for granted; what is not of a form that we know is `Malformed`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from skystow.model.records import shown

SMURF = "smurf"
"""The archive of a `data_file` that names none."""

STREAMER = "STREAMER:"
NPY = "npy"
IGNORED = frozenset({"start", "stop", "log", "general", "backend_error"})

WORD = 255
"""Characters of host, id or script."""

PATH_MOST = 4096
LATEST = 2**31 - 1
"""Unix seconds: the last that a TIMESTAMP or INT column takes."""

BEYOND = 2**53
"""Numbers of a publisher are below it: every reader of JSON has them exactly, every database takes them."""

BEYOND_ALL, DIGITS = 2**63, 20
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_WHOLE = re.compile(r"\d{1,10}")


class Malformed(ValueError):
    """Not a datagram of pysmurf's publisher, or not one that can be obeyed."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is around every payload. `time` in unix seconds; `number` counts from 0 for each publisher; None: unsaid."""

    host: str
    id: str
    script: str
    time: float | None
    number: int | None

    @property
    def sender(self) -> str:
        return shown("/".join((self.host, self.id, self.script)))


@dataclass(frozen=True, slots=True)
class Registration:
    """A file to register. `path` as the publisher has it (see `candidates`); `timestamp` in unix seconds; text is that
    of its column, None where it would not fit there."""

    path: str
    archive: str
    timestamp: float
    action: str | None = None
    action_timestamp: int | None = None
    format: str | None = None
    plot: bool | None = None
    pub_id: str | None = None
    script_id: str | None = None
    pysmurf_version: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a stream's metadata."""

    stream: str
    name: str
    value: float | int | str | bool
    time: float | None


def lawful(name: str) -> str:
    """As a field or feed of OCS may be called: letters, digits, underscores; a letter before any digit."""
    bare = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return (bare if re.match(r"_*[A-Za-z]", bare) else f"f_{bare}")[:WORD]


@dataclass(frozen=True, slots=True)
class Session:
    """Session data, or a line of a session's log, for the controller of that id: passed on as it came."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ignored:
    type: str


Said = Registration | Reading | Session | Ignored


def parse(raw: bytes) -> tuple[Envelope, Said]:
    """Raises `Malformed`."""
    envelope, body = opened(raw)
    return envelope, meant(envelope, body)


def opened(raw: bytes) -> tuple[Envelope, Mapping[str, Any]]:
    """Who says it, and all of it, which may mean nothing. Raises `Malformed`."""
    body = _object(raw)
    envelope = Envelope(
        _word(body, "host"), _word(body, "id"), _word(body, "script"), _seconds(body, "time"), _number(body, "seq_no")
    )
    return envelope, body


def meant(envelope: Envelope, body: Mapping[str, Any]) -> Said:
    """Raises `Malformed`."""
    kind = body.get("type")
    match kind:
        case "data_file" | "g3_file":
            payload = body.get("payload")
            if not isinstance(payload, dict):
                raise Malformed(f"the payload of a {kind} is no object")
            return (_data_file if kind == "data_file" else _g3_file)(envelope, payload)
        case "metadata":
            return _metadata(envelope, body.get("payload"))
        case "session_data" | "session_log":
            return Session(body)
        case str():
            return Ignored(kind if kind in IGNORED else "unknown")
    raise Malformed("it has no type")


def spare(said: Registration) -> bytes:
    """A datagram that says the same, and nothing else: what comes may be 64 KB of what is nothing to us."""
    payload = {
        "path": said.path,
        "archive_name": said.archive,
        "timestamp": said.timestamp,
        "action": said.action,
        "action_ts": said.action_timestamp,
        "format": said.format,
        "plot": said.plot,
        "pysmurf_version": said.pysmurf_version,
    }
    told = {name: value for name, value in payload.items() if value is not None}
    body = {"type": "data_file", "id": said.pub_id, "script": said.script_id, "payload": told}
    return json.dumps(body, ensure_ascii=False).encode()


# ── types ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _data_file(envelope: Envelope, payload: Mapping[str, Any]) -> Registration:
    plot = payload.get("plot")
    if plot is not None and not isinstance(plot, bool) and plot not in (0, 1):
        raise Malformed("its plot is neither true nor false")
    return Registration(
        path=_path(payload),
        archive=_word(payload, "archive_name") or SMURF,
        timestamp=_when(payload, envelope),
        action=_fitting(_text(payload, "action"), 32),
        action_timestamp=_action_time(payload.get("action_ts")),
        format=_fitting(_text(payload, "format"), 32),
        plot=None if plot is None else bool(plot),
        pub_id=_fitting(envelope.id, 32),
        script_id=_fitting(envelope.script, 32),
        pysmurf_version=_fitting(_text(payload, "pysmurf_version"), 64),
    )


def _g3_file(envelope: Envelope, payload: Mapping[str, Any]) -> Registration:
    archive = _word(payload, "archive_name") or _word(payload, "type") or "timestreams"
    return Registration(
        path=_path(payload),
        archive=archive,
        timestamp=_when(payload, envelope),
        action=_fitting(archive, 32),
        format="g3",
        pub_id=_fitting(envelope.id, 32),
        script_id=_fitting(envelope.script, 32),
    )


def _metadata(envelope: Envelope, payload: object) -> Reading:
    if not isinstance(payload, dict):
        raise Malformed("the payload of metadata is no object")
    name, value = _text(payload, "path"), payload.get("value")
    if not name or len(name) > WORD:
        raise Malformed("its metadata have no path")
    if not isinstance(value, int | float | str) or (isinstance(value, str) and len(value) > PATH_MOST):
        raise Malformed("its metadata have no value that a feed could hold")
    return Reading(envelope.id.removeprefix(STREAMER), name, value, envelope.time)


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _object(raw: bytes) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise Malformed(f"it holds {word}")

    def whole(digits: str) -> int:
        number = int(digits) if len(digits) <= DIGITS else BEYOND_ALL
        return number if -BEYOND_ALL <= number < BEYOND_ALL else refuse("a number of more than 64 bits")

    def real(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse("a number that is too large")

    try:
        text = raw.decode("utf-8")
        body = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=real)
        if _HALF.search(text):
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Malformed("it holds half of a UTF-16 pair") from error
    except UnicodeDecodeError as error:
        raise Malformed("it is not UTF-8") from error
    except RecursionError as error:
        raise Malformed("it is nested too deeply") from error
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(f"it is not JSON: {error}"[:200]) from error
    if not isinstance(body, dict):
        raise Malformed("it is no JSON object")
    return body


def _text(where: Mapping[str, Any], name: str) -> str | None:
    value = where.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Malformed(f"its {name} is no text")
    return value


def _word(body: Mapping[str, Any], name: str) -> str:
    value = _text(body, name) or ""
    if len(value) > WORD:
        raise Malformed(f"its {name} has {len(value)} characters")
    return value


def _fitting(value: str | None, most: int) -> str | None:
    return value if value and len(value) <= most and "\0" not in value else None


def _seconds(where: Mapping[str, Any], name: str) -> float | None:
    value = where.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"its {name} is no number")
    try:
        seconds = float(value)
    except OverflowError as error:
        raise Malformed(f"its {name} is no time") from error
    if not math.isfinite(seconds):
        raise Malformed(f"its {name} is no time")
    return seconds


def _number(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < BEYOND:
        raise Malformed(f"its {name} is no whole number from 0 to 2**53")
    return value


def _when(payload: Mapping[str, Any], envelope: Envelope) -> float:
    at = _seconds(payload, "timestamp")
    at = envelope.time if at is None else at
    if at is None or not 1 <= at <= LATEST:
        raise Malformed("its timestamp is missing" if at is None else "its timestamp is not between 1970 and 2038")
    return at


def _action_time(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str) or not _WHOLE.fullmatch(str(value)):
        raise Malformed("its action_ts is no whole number of seconds")
    seconds = int(value)
    return seconds if seconds <= LATEST else None


def _path(payload: Mapping[str, Any]) -> str:
    path = _text(payload, "path")
    if not path:
        raise Malformed("it has no path")
    if len(path) > PATH_MOST or "\0" in path:
        raise Malformed("its path is none")
    return path


# ── where a file is, and what may become of it ──────────────────────────────────────────────────────────────────


def rooted(path: str, roots: Sequence[PurePosixPath]) -> tuple[PurePosixPath, PurePosixPath]:
    """The root that holds it, and the way from there. Raises `Malformed` for a path outside all of them."""
    whole = PurePosixPath(path)
    if not whole.is_absolute() or ".." in whole.parts:
        raise Malformed(f"its path {shown(path)[:200]} is not absolute, or holds ‘..’")
    for root in roots:
        if whole.is_relative_to(root) and whole != root:
            return root, whole.relative_to(root)
    raise Malformed(f"its path {shown(path)[:200]} is below none of {', '.join(map(shown, roots))}")


def candidates(said: Registration) -> tuple[str, ...]:
    """Where the file may be, the likeliest first. numpy adds its suffix after the publisher has been told the path,
    and one publisher misspells the format."""
    if said.path.endswith(f".{NPY}") or said.format == "g3":
        return (said.path,)
    suffixed = f"{said.path}.{NPY}"
    return (suffixed,) if said.format == NPY else (said.path, suffixed)


def deletable(archive: str, relative: PurePosixPath) -> bool:
    """Whether the SMuRF server may remove it some day: not what tunes, nor IV curves, nor what is not in a directory
    of a session. Words of names count, not parts of words: `drive` is no IV curve."""
    if archive != SMURF:
        return True
    words = [word for part in relative.parts for word in re.split(r"[^a-z0-9]+", part.lower())]
    kept = any(word.startswith("iv") or word.startswith("tune") for word in words)
    return relative.parts[0].isdigit() and not kept and "channel_assignment" not in str(relative).lower()
