"""Where the broker is, and who we are there."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from typing import Any

import yaml

from skystow.adapters.secrets import password, private
from skystow.errors import ConfigError
from skystow.model.records import shown

GUEST = "guest"
"""RabbitMQ's own user, of its own machine: only where the site file names nobody."""

MOST = 64 * 1024
"""Bytes of a credentials file."""


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Where the broker is, and who we are there. `credentials`: iip_cred.yaml. `port` 0: 5672, with TLS 5671.
    `heartbeat`: seconds after which a broker that says nothing is away."""

    host: str = "127.0.0.1"
    port: int = 0
    vhost: str = "/"
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    credentials: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    quorum: bool = False
    heartbeat: float = 30.0

    @property
    def at(self) -> int:
        return self.port or (5671 if self.tls_ca else 5672)

    @property
    def where(self) -> str:
        """For errors."""
        return f"the broker at {shown(self.host)}:{self.at}"


def login(options: BrokerOptions) -> tuple[str, str]:
    """User and password. Raises `ConfigError`."""
    if options.credentials is not None:
        return _credentials(options.credentials)
    if options.user is None:
        return GUEST, GUEST
    secret = password("the broker's", file=options.password_file, env=options.password_env)
    if secret is None:
        remedy = "name password_file:, password_env: or credentials:"
        raise ConfigError(f"{options.where} is given no password for user ‘{shown(options.user)}’", remedy=remedy)
    return options.user, secret


def _credentials(path: str) -> tuple[str, str]:
    """Of a file as the originals have it: exactly 0600, in a directory of exactly 0700."""
    where = f"credentials file {shown(path)}"
    raw = private(where, path, most=MOST)
    try:
        modes = [
            (stat.S_IMODE(os.stat(each).st_mode), each) for each in (path, os.path.dirname(os.path.realpath(path)))
        ]
    except OSError as error:
        raise ConfigError(f"cannot look at {where}: {error.strerror}") from error
    for (mode, each), wanted in zip(modes, (0o600, 0o700), strict=True):
        if mode != wanted:
            remedy = f"chmod {wanted:o} {shown(each)}"
            raise ConfigError(f"{where}: {shown(each)} has mode {mode:04o}, not {wanted:04o}", remedy=remedy)
    try:
        said: Any = yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError, ValueError):  # whose text shows the line, and with it the secret
        raise ConfigError(f"{where} is no YAML") from None
    users = said.get("rabbitmq_users") if isinstance(said, dict) else None
    values = [users.get(key) if isinstance(users, dict) else None for key in ("service_user", "service_passwd")]
    user, secret = (str(each) if isinstance(each, str | int) and not isinstance(each, bool) else "" for each in values)
    if not user or not secret:
        remedy = "write service_user: and service_passwd: below rabbitmq_users:, in quotes"
        raise ConfigError(f"{where} does not say who we are", remedy=remedy)
    return user, secret


def tls(options: BrokerOptions) -> ssl.SSLContext | None:
    """None: without. Raises `ConfigError`."""
    if options.tls_ca is None:
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
    except OSError as error:
        raise ConfigError(f"tls: ca: {shown(options.tls_ca)} is no authority: {_reason(error)}") from error
    if options.tls_cert is not None:
        try:
            # Never asked for on a terminal: a key with a pass phrase is one that cannot be read.
            context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: "")
        except OSError as error:
            named = shown(f"{options.tls_cert}, key: {options.tls_key}" if options.tls_key else options.tls_cert)
            raise ConfigError(f"tls: cert: {named} are no certificate and its key: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
