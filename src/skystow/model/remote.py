"""Remote ends: which host, how to reach it, and `[user@]host:path` as people write it. Nothing is contacted here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from skystow.errors import ConfigError

_WORD = re.compile(r"[^\s\x00-\x1f\x7f\-@/][^\s\x00-\x1f\x7f@/]*")
_END = re.compile(r"(?:(?P<user>[^@/:]*)@)?(?P<host>\[[^\]/]*\]|[^/:\[\]]*):(?P<path>.*)", re.DOTALL)


CIPHERS = "^aes128-gcm@openssh.com"
"""OpenSSH's list of ciphers; the `^` puts this one, the fastest by far, before its own."""


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """A host and how ssh reaches it; what is None is what the user's own ssh configuration says.

    `timeout` is seconds of silence after which the host is held to be gone. Raises `ConfigError` for what ssh could
    take for an option, or for more than one word.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts: str | None = None
    config_file: str | None = None
    ciphers: str = CIPHERS
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for what, word in (("host", self.host), ("user", self.user)):
            if word is not None and not _WORD.fullmatch(word):
                raise ConfigError(
                    f"{word!r} is no {what} name",
                    remedy="it may not be empty, begin with ‘-’, or hold blanks, control characters, ‘@’ or ‘/’",
                )
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigError(f"{self.port} is no port", remedy="ports are 1 to 65535")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.user else host


def is_remote(end: str) -> bool:
    """Whether an end of `skystow archive` is remote: a colon comes before any slash (write ./a:b for a local name)."""
    return _END.fullmatch(end) is not None


def remote_end(end: str, *, config_file: str | None = None) -> tuple[RemoteHost, str]:
    """Host and path of `[user@]host:path`; a path that is not absolute begins in the login directory.
    Raises `ConfigError`."""
    found = _END.fullmatch(end)
    if found is None:
        raise ConfigError(f"{end!r} is not [user@]host:path")
    host = found["host"].removeprefix("[").removesuffix("]")
    return RemoteHost(host, user=found["user"], config_file=config_file), found["path"] or "."
