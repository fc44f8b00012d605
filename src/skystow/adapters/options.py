"""How a store writes: modes, owners, room to leave, pace."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from skystow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a local store writes. `min_free` is a fraction of the file system, `bwlimit` bytes per second, shared by
    all streams of the store (None: no limit); `owner` and `group` are names or numbers (None: as the system does)."""

    file_mode: int = 0o444
    directory_mode: int = 0o2775
    owner: str | int | None = None
    group: str | int | None = None
    min_free: float = 0.05
    sync: Literal["auto", "fsync", "syncfs"] = "auto"
    bwlimit: float | None = None
    algorithm: str = "blake3"
    keep_mtime: bool = True

    def owner_id(self) -> int:
        """-1: leave it. Raises `ConfigError`."""
        return _number(self.owner, "user", lambda name: pwd.getpwnam(name).pw_uid)

    def group_id(self) -> int:
        return _number(self.group, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number(given: str | int | None, kind: str, look_up: Callable[[str], int]) -> int:
    if given is None or isinstance(given, int):
        return -1 if given is None else given
    try:
        return int(given) if given.isdecimal() else look_up(given)
    except KeyError:
        raise ConfigError(f"no {kind} is named {given!r}") from None
