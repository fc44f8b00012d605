"""The part of the composition root that knows `pysmurf_files` tables: from a section of the site file to a source, an
announcer and a doctor (see `skystow.wiring.rows`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from skystow.config import PysmurfFiles, Site, Table
from skystow.errors import ConfigError
from skystow.model.records import shown
from skystow.ports import Ledger, Tree
from skystow.wiring.opened import Opened, place, warn

if TYPE_CHECKING:
    from skystow.adapters.pysmurf_files import FilesTable


def tables(site: Site) -> list[PysmurfFiles]:
    return [each for each in site.sources if isinstance(each, PysmurfFiles)]


def connect(config: PysmurfFiles) -> FilesTable:
    """Not connected yet: that is for whoever uses it first. Raises `ConfigError`."""
    from skystow.adapters.pysmurf_files import FilesTable

    password, tls = _password(config.table), config.table.tls
    proof = {part: path for part, path in tls.model_dump().items() if path is not None} if tls else None
    return FilesTable(config.table.url, config.version, place=place(config), password=password, tls=proof)


def opened(config: PysmurfFiles, site: Site, tree: Tree, ledger: Ledger) -> Opened:
    from skystow.adapters.pysmurf_files import PysmurfFilesAnnouncer, Reader, tenancy
    from skystow.adapters.pysmurf_files.strangers import Strangers
    from skystow.adapters.rows.source import RowSource

    table, root = connect(config), PurePosixPath(config.registered_root or config.root)
    reader = Reader(config.name, site.archive, root, config.layout, config.version, config.priority)
    held = tenancy(table, config.targets, ledger.identity())
    buried, strangers = partial(ledger.buried, config.name), Strangers(table, config.targets)
    source = RowSource(table, tree, reader, config.targets, held, buried, strangers)
    roots = {each.name: each.root for each in site.counted(config)}
    announcer = PysmurfFilesAnnouncer(table, roots, rewrite_path=config.rewrite_path, dossier=ledger.dossier, warn=warn)
    return Opened(source, announcer, partial(table.check, source.columns))


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
