"""What a site file may say. Sizes are bytes, durations seconds, whatever the unit they were written with."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from skystow.config.units import Fraction, Mode, Rate, Seconds, Size
from skystow.errors import ConfigError
from skystow.model.layout import Layout
from skystow.model.patterns import TEMPORARY, Patterns
from skystow.model.remote import CIPHERS, RemoteHost
from skystow.model.transfer import RetryPolicy


def _from_here(value: str, info: ValidationInfo) -> str:
    """A relative path is relative to the site file's directory."""
    if "\0" in value:
        raise ValueError("should be a path")
    return os.path.abspath(os.path.join((info.context or {}).get("directory", "."), value))


def _ledger(value: str, info: ValidationInfo) -> str:
    if not re.match(r"[a-z][a-z0-9+]*://", value):
        raise ValueError("should be a database URL such as sqlite:////var/lib/skystow/ledger.db")
    scheme, path = value.split("://", 1)
    if scheme == "sqlite" and path.startswith("/") and not path.startswith("//"):
        return f"sqlite:///{_from_here(path[1:], info)}"
    return value


def _layout(value: Any) -> Layout:
    if not isinstance(value, str):
        raise ValueError("should be a template such as {relative_path}")  # noqa: TRY004 - pydantic wants ValueError
    try:
        return Layout(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        Patterns(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Path = Annotated[str, StringConstraints(min_length=1), AfterValidator(_from_here)]
Count = Annotated[int, Field(strict=True, ge=1)]
Flag = Annotated[bool, Field(strict=True)]
Template = Annotated[Layout, BeforeValidator(_layout)]
PatternList = Annotated[tuple[str, ...], AfterValidator(_patterns)]
Identity = Annotated[str, StringConstraints(min_length=1)] | Annotated[int, Field(strict=True, ge=0)] | None
"""A user or group by name or number; None: whoever runs skystow."""


Marker = Annotated[str, StringConstraints(min_length=1)]
"""A path below a root that proves that the right disk is mounted there."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Retirement(Section):
    """When files may be removed at their source: `after` seconds, but for the file types in `keep`."""

    after: Seconds
    keep: tuple[str, ...] = ()


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


class Directory(Section):
    """A directory that an instrument writes into; with `host`, at a remote end."""

    name: Name
    kind: Literal["directory"]
    host: Host | None = None
    root: Path
    marker: Marker | None = None
    layout: Template = Field(default_factory=lambda: Layout("{relative_path}"))
    quiet_for: Seconds = 10.0
    finished_on: Literal["quiet", "close"] = "quiet"
    sweep_every: Annotated[Seconds, Field(gt=0)] = 30.0
    temporary: PatternList = TEMPORARY
    exclude: PatternList = ()
    order: Literal["oldest", "newest"] = "oldest"
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    to: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    retire: Retirement | None = None


class Batch(Section):
    files: Annotated[Count, Field(le=5000)] = 1000
    size: Annotated[Size, Field(gt=0)] = 256 * 2**20


class Copies(Section):
    """What every destination may say."""

    name: Name
    root: Path
    marker: Marker | None = None
    streams: Annotated[Count, Field(le=64)] = 2
    batch: Batch = Batch()
    sync: Literal["auto", "fsync", "syncfs"] = "auto"
    required: Flag = True
    owned: Flag = True
    directory_mode: Mode = 0o2775

    @property
    def upstream(self) -> str | None:
        """The destination whose proven copies it takes; None: straight from the sources."""
        return None


class Written(Copies):
    """What every destination that files are copied into may say."""

    digest: Literal["blake3", "sha256", "xxh128", "md5"] = "blake3"
    min_free: Fraction = 0.05
    bwlimit: Rate | None = None
    file_mode: Mode = 0o444
    owner: Identity = None
    group: Identity = None


class Posix(Written):
    """A local or mounted directory that files are copied into."""

    kind: Literal["posix"]


class Remote(Written):
    """A directory on another host, which files are pushed into; with `of`, those of a `posix` destination."""

    kind: Literal["remote"]
    host: Host
    of: str | None = None

    @property
    def upstream(self) -> str | None:
        return self.of


class HardLink(Copies):
    """Another directory on the same file system as `of`, which its files are linked into."""

    kind: Literal["hardlink"]
    of: str

    @property
    def upstream(self) -> str | None:
        return self.of


class Retrying(Section):
    max_attempts: Count = 5
    first: Annotated[Seconds, Field(gt=0)] = 1.0
    factor: Annotated[float, Field(ge=1, le=100)] = 4.0
    most: Annotated[Seconds, Field(gt=0)] = 3600.0

    def policy(self) -> RetryPolicy:
        return RetryPolicy(self.max_attempts, self.first, self.factor, self.most)


DestinationConfig = Annotated[Posix | Remote | HardLink, Field(discriminator="kind")]


class Site(Section):
    """One observatory: its sources, its destinations, one ledger."""

    ledger: Annotated[str, AfterValidator(_ledger)] | None = None
    archive: Name = "archive"
    sources: tuple[Directory, ...]
    destinations: tuple[DestinationConfig, ...]
    retry: Retrying = Retrying()
    on_conflict: Literal["hold", "number"] = "hold"
    journal: Path | None = None

    def served(self, source: Directory) -> tuple[Posix | Remote | HardLink, ...]:
        """The destinations of one source, in the file's order: those that `to` names (all, without it), and the
        one that a named handoff links from."""
        if source.to is None:
            return self.destinations
        named = set(source.to)
        named |= {each.upstream for each in self.destinations if each.upstream and each.name in named}
        return tuple(each for each in self.destinations if each.name in named)


SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): Site,
    ("sources",): Directory,
    ("sources", "host"): Host,
    ("sources", "retire"): Retirement,
    ("destinations", "posix"): Posix,
    ("destinations", "remote"): Remote,
    ("destinations", "remote", "host"): Host,
    ("destinations", "hardlink"): HardLink,
    ("destinations", "posix", "batch"): Batch,
    ("destinations", "remote", "batch"): Batch,
    ("destinations", "hardlink", "batch"): Batch,
    ("retry",): Retrying,
}
"""The section that stands at a place (pydantic's location without the indices), for telling misspelt keys."""
