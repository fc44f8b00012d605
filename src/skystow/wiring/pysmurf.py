"""The part of the composition root that knows `pysmurf_files` tables: from a section of the site file to a source, an
announcer and a doctor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from skystow.config import PysmurfFiles, Site, Table
from skystow.errors import ConfigError
from skystow.model.records import shown
from skystow.model.transfer import JOURNAL, Audience
from skystow.ports import Finding, Ledger, Tree

if TYPE_CHECKING:
    from skystow.adapters.pysmurf_files import FilesTable, PysmurfFilesAnnouncer, PysmurfFilesSource


def place(config: PysmurfFiles) -> str:
    """The table is another place than the files that it names. No name in a site file holds a blank."""
    return f"{config.name} table"


def audiences(site: Site | None) -> tuple[Audience, ...]:
    """Who is to be told of what happens to files."""
    if site is None:
        return ()
    told = [JOURNAL] if site.journal is not None else []
    for each in tables(site):
        from skystow.adapters.pysmurf_files import STEPS

        told.append(Audience(place(each), STEPS, each.name))
    return tuple(told)


def tables(site: Site) -> list[PysmurfFiles]:
    return [each for each in site.sources if isinstance(each, PysmurfFiles)]


def connect(config: PysmurfFiles) -> FilesTable:
    """Not connected yet: that is for whoever uses it first. Raises `ConfigError`."""
    from skystow.adapters.pysmurf_files import FilesTable

    password, tls = _password(config.table), config.table.tls
    proof = {part: path for part, path in tls.model_dump().items() if path is not None} if tls else None
    return FilesTable(config.table.url, config.version, place=place(config), password=password, tls=proof)


def source(config: PysmurfFiles, table: FilesTable, tree: Tree, archive: str, ledger: Ledger) -> PysmurfFilesSource:
    from skystow.adapters.pysmurf_files import PysmurfFilesSource, Reader, tenancy

    root = PurePosixPath(config.registered_root or config.root)
    reader = Reader(config.name, archive, root, config.layout, config.version, config.priority)
    held = tenancy(table, config.targets, ledger.identity())
    return PysmurfFilesSource(table, tree, reader, config.targets, held, partial(ledger.buried, config.name))


def announcer(config: PysmurfFiles, table: FilesTable, site: Site, ledger: Ledger) -> PysmurfFilesAnnouncer:
    from skystow.adapters.pysmurf_files import PysmurfFilesAnnouncer

    roots = {each.name: each.root for each in site.counted(config)}
    return PysmurfFilesAnnouncer(table, roots, rewrite_path=config.rewrite_path, dossier=ledger.dossier, warn=_warn)


@dataclass(frozen=True, slots=True)
class Tables:
    """Of one site: sources by name, announcers by audience, and what `skystow check` looks at."""

    sources: dict[str, PysmurfFilesSource] = field(default_factory=dict)
    announcers: dict[str, PysmurfFilesAnnouncer] = field(default_factory=dict)
    doctors: list[Callable[[], Iterator[Finding]]] = field(default_factory=list)


def open_tables(site: Site, origins: Mapping[str, Tree], ledger: Ledger) -> Tables:
    """`origins` are the trees of the files, by the source's name."""
    made = Tables()
    for each in tables(site):
        table = connect(each)
        rows = source(each, table, origins[each.name], site.archive, ledger)
        made.sources[each.name] = rows
        made.announcers[place(each)] = announcer(each, table, site, ledger)
        made.doctors.append(partial(table.check, rows.columns))
    return made


def create(site: Site) -> list[tuple[str, bool]]:
    """Make the tables of a site; each with whether it was made now."""
    made = []
    for config in tables(site):
        with _opened(config) as table:
            made.append((str(table), table.create()))
    return made


def upgrade(site: Site) -> list[tuple[str, list[str]]]:
    """Add what the tables of a site lack; each with what was added."""
    added = []
    for config in tables(site):
        with _opened(config) as table:
            added.append((str(table), table.upgrade()))
    return added


@contextmanager
def _opened(config: PysmurfFiles) -> Iterator[FilesTable]:
    table = connect(config)
    try:
        yield table
    finally:
        table.close()


def _password(config: Table) -> str | None:
    if config.password_file is not None:
        try:
            with open(config.password_file, encoding="utf-8") as file:
                return file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
            raise ConfigError(f"cannot read the password file {shown(config.password_file)}: {why}") from error
    if config.password_env is not None:
        if (found := os.environ.get(config.password_env)) is None:
            raise ConfigError(f"the environment has no {config.password_env}, which is to hold the table's password")
        return found
    return None


def _warn(text: str) -> None:
    sys.stderr.write(f"skystow: {shown(text)}\n")
