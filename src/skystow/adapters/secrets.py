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
        with open(os.fsencode(path), "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise ConfigError(f"{where} may be read by others than its owner", remedy=f"chmod 600 {shown(path)}")
            return opened.read(most)
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror}") from error
