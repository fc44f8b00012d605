"""A host at the far end of a site file's place."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from skystow.config.base import Path, Section
from skystow.config.units import Seconds
from skystow.errors import ConfigError
from skystow.model.remote import CIPHERS, RemoteHost


class Host(Section):
    """A remote host and how ssh reaches it; `[user@]name` alone says the first two."""

    name: str
    user: str | None = None
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = None
    identity_file: Path | None = None
    known_hosts: Path | None = None
    config_file: Path | None = None
    ciphers: Annotated[str, StringConstraints(pattern=r"^[\^+-]?[A-Za-z0-9@.,-]+$")] = CIPHERS
    timeout: Annotated[Seconds, Field(ge=1)] = 60.0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        user, at, name = value.rpartition("@")
        return {"name": name, "user": user} if at else {"name": name}

    @model_validator(mode="after")
    def _lawful(self) -> Host:
        try:
            self.remote()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def remote(self) -> RemoteHost:
        return RemoteHost(
            self.name,
            self.user,
            self.port,
            self.identity_file,
            self.known_hosts,
            self.config_file,
            self.ciphers,
            self.timeout,
        )
