"""A connection to Redis: short waits, no second try that nobody asked for, and every error as one sentence."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from skystow.adapters.secrets import password
from skystow.errors import ConfigError, Unreachable
from skystow.model.records import shown

PLACE = "scoreboard"

IDLE = 30
"""Seconds after which a connection is asked whether it still stands, before anything is taken from a list by it."""


@dataclass(frozen=True, slots=True)
class BoardOptions:
    """Where Redis is, and who we are there. `list`: its key; `shared`: forwarders keep one key alive together, as the
    originals do. `hostname`, `ip_address`: what the list says of our forwarders (""; found out). `limit`: seconds to
    connect, and for an answer."""

    host: str = "127.0.0.1"
    port: int = 6379
    db: int = 14
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    list: str = "forwarder_list"
    shared: bool = False
    hostname: str = ""
    ip_address: str = ""
    limit: float = 2.0


class Link:
    """Safe from any thread; connects when it is asked for something, each time anew where it must."""

    def __init__(self, options: BoardOptions) -> None:
        """Connects to nobody yet. Raises `ConfigError` for secrets or certificates that cannot be read."""
        self.options = options
        self._redis = redis.Redis(
            host=options.host,
            port=options.port,
            db=options.db,
            username=options.user,
            password=password("the scoreboard's", file=options.password_file, env=options.password_env),
            socket_connect_timeout=options.limit,
            socket_timeout=options.limit,
            # A list's entry that was popped by a call whose answer was lost must not be followed by a second one.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=IDLE,
            protocol=2,  # whatever the server's age
            **_tls(options),
        )

    def ask(self, *words: str | bytes | float, key: str) -> Any:
        """One command about `key`. Raises `Unreachable` for whatever came of it that is no answer."""
        command: Callable[..., Any] = self._redis.execute_command  # which redis-py leaves without types
        try:
            return command(*words)
        except (redis.RedisError, OSError) as error:
            said, remedy = self._judged(error, key)
            where = f"Redis at {self.options.host}:{self.options.port}"
            raise Unreachable(f"{where} {said}", place=PLACE, remedy=remedy) from error

    def close(self) -> None:
        self._redis.close()

    def _judged(self, error: Exception, key: str) -> tuple[str, str]:
        """What it did, and what a person can do."""
        own, said = self.options, shown(str(error))
        if (untrusted := _certificate(error)) is not None:
            return f"is not whom it says: {untrusted.verify_message}", "look at tls: ca and at host"
        if said.startswith("WRONGTYPE"):
            return (
                f"holds something else in the key {shown(key)} of database {own.db} than we keep there",
                f"nothing of ours is lost with it: DEL {shown(key)}",
            )
        match error:
            case redis.exceptions.NoPermissionError():
                return f"does not let {self._who()} use {shown(key)}: {said}", "see ACL SETUSER"
            case redis.AuthenticationError() if not (own.password_file or own.password_env):
                return "wants a password", "name password_file: or password_env:"
            case redis.AuthenticationError():
                return f"refuses {self._who()}: {said}", "look at user: and at the password"
            case redis.exceptions.BusyLoadingError():
                return "is still loading its data", ""
            case redis.exceptions.ReadOnlyError():
                return "is a replica, which takes nothing", "name the primary as host:"
            case redis.exceptions.OutOfMemoryError():
                return "has no memory left", "look at its maxmemory"
            case redis.TimeoutError():
                return (
                    f"does not answer within {own.limit:g} s",
                    "does it speak TLS at this port?" if own.tls_ca else "",
                )
            case redis.exceptions.ResponseError() if said.startswith("NOAUTH"):
                return "wants a password", "name password_file: or password_env:"
            case redis.exceptions.ResponseError() if "DB index" in said:
                return f"has no database {own.db}", "look at db:"
            case redis.ConnectionError() | OSError():
                return f"cannot be reached: {said}", ""
            case _:
                return f"refuses: {said}", ""

    def _who(self) -> str:
        return f"user {shown(self.options.user or 'default')}"


def _tls(options: BoardOptions) -> dict[str, Any]:
    """Raises `ConfigError` for files that cannot be used: at the start, not in the night."""
    ca, cert, key = options.tls_ca, options.tls_cert, options.tls_key
    if ca is None:
        return {}
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key, password="")  # a key with a passphrase is refused, not asked for
    except OSError as error:
        files = ", ".join(shown(each) for each in (ca, cert, key) if each)
        raise ConfigError(f"the scoreboard's tls: {error.strerror or error} (of {files})") from error
    own = {"ssl_ca_certs": ca, "ssl_certfile": cert, "ssl_keyfile": key}
    return {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **own}


def _certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The doubt about the other side that is behind an error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
