"""Passwords: from a file that its owner alone can read, or the environment. Never logged, never in errors."""

from __future__ import annotations

import os
import stat

from skystow.errors import ConfigError
from skystow.model.records import shown


def password(whose: str, *, file: str | None = None, env: str | None = None) -> str | None:
    """What the file's first line or the variable says; None: neither is named. `whose`: for errors, `the ledger's`.
    Raises `ConfigError`."""
    if env:
        if not (said := os.environ.get(env)):
            raise ConfigError(f"{whose} password should be in ${shown(env)}, which is not set")
        return said
    return _first_line(f"{whose} password file {shown(file)}", file) if file else None


def _first_line(where: str, path: str) -> str:
    said = private(where, path, most=4096).split(b"\n", 1)[0].rstrip(b"\r")
    if not said:
        raise ConfigError(f"the first line of {where} is empty")
    try:
        return said.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is no text in UTF-8") from None


def private(where: str, path: str, *, most: int) -> bytes:
    """The first `most` bytes of a file that nobody but its owner can read. Raises `ConfigError`."""
    try:
        # A FIFO that somebody put there must not hold us.
        with open(os.open(os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            found = os.fstat(opened.fileno())
            others = 0o037 if _lent(path, found) else 0o077
            if not stat.S_ISREG(found.st_mode) or found.st_mode & others:
                raise ConfigError(f"{where} may be read by others than its owner", remedy=f"chmod 600 {shown(path)}")
            return opened.read(most)
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror}") from error


def _lent(path: str, found: os.stat_result) -> bool:
    """Whether it is root's, and lent to us by a service manager: systemd gives the service's user an entry in the
    file's access list, which stat shows as its group's right to read."""
    there = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(there) and found.st_uid == 0 and os.path.dirname(path) == there
