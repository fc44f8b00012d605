"""Timecodes: the first component of a remote path, five digits, unix time ÷ 100 000. Pure.

A timecode directory is complete when no more files are expected in it. Finalization files, which say so, lie in the
directory of the day on which they are written; that day is not theirs: a directory that holds nothing else is never
finalized, or every finalization would bring about the next one, for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from skystow.model.records import shown

SECONDS = 100_000
"""A timecode's: about 28 hours."""

GRACE = 1
"""Whole timecodes that must have passed where nothing newer has come."""

OURS = "suprsync"
"""The directory, below a timecode's, of finalization files."""

_TIMECODE = re.compile(r"([1-9][0-9]{4})/.", re.ASCII | re.DOTALL)


def timecode(remote: str) -> int | None:
    """That of a remote path; None: it has none, and belongs to no directory that is finalized."""
    found = _TIMECODE.match(remote)
    return int(found[1]) if found else None


def timecode_at(seconds: float) -> int:
    return int(seconds // SECONDS)


def is_data(remote: str) -> bool:
    """Whether a file of a timecode directory is more than a finalization file."""
    return not remote[6:].startswith(f"{OURS}/")


def completed(code: int, now: int, *, newer: bool) -> bool:
    """`now`: the timecode of this moment; `newer`: whether a later one, up to now, has files of this archive. What
    claims to be of the future completes nothing."""
    return code < now and (newer or now > code + GRACE)


def subdirectories(remotes: Iterable[str]) -> list[str]:
    """The second components, of files that lie in one."""
    return sorted({parts[1] for remote in remotes if len(parts := PurePosixPath(remote).parts) > 2})


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finalization file says. Times are unix seconds."""

    timecode: int
    archive_name: str
    instance_id: str
    num_files: int
    subdirs: list[str]
    finalized_at: float
    finalized_until: float

    def text(self) -> str:
        """As YAML; keys in the order of the alphabet, as the original's library writes them."""
        fields: Mapping[str, object] = {name: getattr(self, name) for name in sorted(self.__slots__)}
        lines = []
        for name, value in fields.items():
            if isinstance(value, list):
                lines.append(f"{name}:" + ("" if value else " []"))
                lines += [f"- {_scalar(each)}" for each in value]
            else:
                lines.append(f"{name}: {_scalar(value)}")
        return "\n".join(lines) + "\n"

    @property
    def name(self) -> str:
        return f"{int(self.finalized_at)}_{self.archive_name}_{self.timecode}_finalized.yaml"

    @property
    def local(self) -> PurePosixPath:
        """Below the file root."""
        return PurePosixPath(str(timecode_at(self.finalized_at)), self.instance_id, self.name)

    @property
    def remote(self) -> PurePosixPath:
        return PurePosixPath(str(timecode_at(self.finalized_at)), OURS, self.instance_id, self.name)


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _scalar(value: object) -> str:
    """A number, or text: in single quotes unless nothing else could be meant. What cannot be printed is escaped."""
    if not isinstance(value, str):
        return repr(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return "'" + shown(value).replace("'", "''") + "'"
