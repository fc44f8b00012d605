"""What a site file may say. Sizes are bytes, durations seconds, whatever the unit they were written with."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, ValidationInfo

from skystow.config.base import (
    Count,
    Flag,
    Identity,
    Marker,
    Name,
    Path,
    PatternList,
    RowTemplate,
    Section,
    Template,
    Tls,
    from_here,
)
from skystow.config.host import Host
from skystow.config.image import IMAGE_SECTIONS, Image
from skystow.config.units import Fraction, Mode, Rate, Seconds, Size
from skystow.model.layout import ROW_FIELDS, Layout
from skystow.model.patterns import TEMPORARY
from skystow.model.transfer import RetryPolicy


def _database(value: str, info: ValidationInfo) -> str:
    if not re.match(r"[a-z][a-z0-9+]*://", value):
        raise ValueError("should be a database URL such as sqlite:////var/lib/skystow/ledger.db")
    scheme, path = value.split("://", 1)
    if scheme == "sqlite" and path.startswith("/") and not path.startswith("//"):
        return f"sqlite:///{from_here(path[1:], info)}"
    return value


def _server(value: str) -> str:
    if not re.match(r"(mysql|mariadb|postgresql)(\+[a-z]+)?://", value):
        raise ValueError("should be a server's URL such as mysql://skystow@db.example/ledger")
    return value


class Retirement(Section):
    """When files may be removed at their source: `after` seconds, but for the file types in `keep`."""

    after: Seconds
    keep: tuple[str, ...] = ()


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


class Table(Section):
    """Where somebody else's table is. The password is not for site files, which are shown to others."""

    url: Annotated[str, AfterValidator(_database)]
    password_file: Path | None = None
    password_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    tls: Tls | None = None


class PysmurfFiles(Section):
    """A table `pysmurf_files_v0` or `_v1` whose rows register files."""

    name: Name
    kind: Literal["pysmurf_files"]
    table: Table
    version: Literal["v0", "v1"] = "v1"
    targets: Annotated[tuple[Annotated[str, StringConstraints(min_length=1, max_length=32)], ...], Field(min_length=1)]
    host: Host | None = None
    root: Path
    registered_root: Annotated[str, StringConstraints(pattern=r"^/")] | None = None
    marker: Marker | None = None
    layout: RowTemplate = Field(default_factory=lambda: Layout("{ctime5}/{file_type}/{file_name}", ROW_FIELDS))
    poll: Annotated[Seconds, Field(gt=0)] = 5.0
    rewrite_path: Flag = True
    copied_when: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    to: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    retire: Retirement | None = None


class Finalization(Section):
    """Of timecode directories: who signs, and where the files lie that say that one is complete."""

    instance_id: Name
    file_root: Path
    settle: Annotated[Seconds, Field(ge=0)] = 3600.0


class SuprSync(Section):
    """suprsync's database, whose rows register files of this host."""

    name: Name
    kind: Literal["suprsync"]
    database: Path
    archives: Annotated[tuple[Name, ...], Field(min_length=1)]
    root: Path
    within: tuple[Path, ...] = ()
    marker: Marker | None = None
    poll: Annotated[Seconds, Field(gt=0)] = 10.0
    copied_when: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    to: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    retire: Retirement | None = None
    finalize: Finalization | None = None


Rows = PysmurfFiles | SuprSync
"""Sources whose files are the rows of somebody else's table."""


class Batch(Section):
    """`files` None: 1,000, and 5,000 to or from another host, where each rsync costs a few round trips."""

    files: Annotated[Count, Field(le=5000)] | None = None
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


SourceConfig = Annotated[Directory | PysmurfFiles | SuprSync, Field(discriminator="kind")]
DestinationConfig = Annotated[Posix | Remote | HardLink, Field(discriminator="kind")]


class LedgerServer(Section):
    """A ledger on a database server, and where its password is."""

    url: Annotated[str, AfterValidator(_server)]
    password_file: Path | None = None
    password_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    tls: Tls | None = None

    def as_url(self) -> str:
        """The URL with all the rest as its options, which is how the ledger's adapter takes it."""
        options = {"password_file": self.password_file, "password_env": self.password_env}
        if self.tls is not None:
            options |= {"tls_ca": self.tls.ca, "tls_cert": self.tls.cert, "tls_key": self.tls.key}
        said = urlencode({key: value for key, value in options.items() if value}, errors="surrogateescape")
        return self.url + (("&" if "?" in self.url else "?") + said if said else "")


LedgerConfig = Annotated[
    Annotated[str, AfterValidator(_database), Tag("url")] | Annotated[LedgerServer, Tag("server")],
    Discriminator(lambda value: "server" if isinstance(value, dict | LedgerServer) else "url"),
]


class Site(Section):
    """One observatory: its sources, its destinations, its camera, one ledger."""

    ledger: LedgerConfig | None = None
    archive: Name = "archive"
    sources: tuple[SourceConfig, ...] = ()
    destinations: tuple[DestinationConfig, ...] = ()
    image: Image | None = None
    control: Path | None = None
    retry: Retrying = Retrying()
    on_conflict: Literal["hold", "number"] = "hold"
    journal: Path | None = None

    @property
    def ledger_url(self) -> str | None:
        """None: the ledger is in its usual place."""
        return self.ledger.as_url() if isinstance(self.ledger, LedgerServer) else self.ledger

    def served(self, source: Directory | Rows) -> tuple[Posix | Remote | HardLink, ...]:
        """The destinations of one source, in the file's order: those that `to` names (all, without it), and the
        one that a named handoff links from."""
        if source.to is None:
            return self.destinations
        named = set(source.to)
        named |= {each.upstream for each in self.destinations if each.upstream and each.name in named}
        return tuple(each for each in self.destinations if each.name in named)

    def counted(self, source: Rows) -> tuple[Posix | Remote | HardLink, ...]:
        """The destinations that must have a file before its row is `copied`, the first of them first."""
        served = {each.name: each for each in self.served(source)}
        return tuple(served[name] for name in source.copied_when or list(served)[:1])


SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): Site,
    ("sources", "directory"): Directory,
    ("sources", "directory", "host"): Host,
    ("sources", "directory", "retire"): Retirement,
    ("sources", "pysmurf_files"): PysmurfFiles,
    ("sources", "pysmurf_files", "host"): Host,
    ("sources", "pysmurf_files", "table"): Table,
    ("sources", "pysmurf_files", "table", "tls"): Tls,
    ("sources", "pysmurf_files", "retire"): Retirement,
    ("sources", "suprsync"): SuprSync,
    ("sources", "suprsync", "finalize"): Finalization,
    ("sources", "suprsync", "retire"): Retirement,
    ("destinations", "posix"): Posix,
    ("destinations", "remote"): Remote,
    ("destinations", "remote", "host"): Host,
    ("destinations", "hardlink"): HardLink,
    ("destinations", "posix", "batch"): Batch,
    ("destinations", "remote", "batch"): Batch,
    ("destinations", "hardlink", "batch"): Batch,
    ("retry",): Retrying,
    ("ledger", "server"): LedgerServer,
    ("ledger", "server", "tls"): Tls,
    **IMAGE_SECTIONS,
}
"""The section that stands at a place (pydantic's location without the indices), for telling misspelt keys."""


def kinds(section: str) -> list[str]:
    """Of sources or destinations."""
    return [place[1] for place in SECTIONS if len(place) == 2 and place[0] == section and section != "image"]
