"""The part of the composition root that knows the monitor of SMuRF servers: from its options to what runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from skystow import __version__
from skystow.config.pysmurf_agent import table_url
from skystow.errors import ConfigError
from skystow.model.datagram import Reading, Session
from skystow.model.records import shown
from skystow.ports import Stop
from skystow.service.monitor import Monitor, Rules


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """`target`: its instance id, by which an archiver finds its rows; `site`: the observatory's address root."""

    target: str
    site: str
    spool: str
    roots: Sequence[str]
    udp_host: str
    udp_port: int
    create_table: bool = False


@contextmanager
def build_monitor(
    options: MonitorOptions,
    environ: Mapping[str, str],
    *,
    publish: Callable[[Reading | Session], None],
    tell: Callable[[str], None],
    stop: Stop | None = None,
) -> Iterator[Monitor]:
    """Raises `ConfigError` and other `OperatorFault`s. The table may be away. With `stop`, nobody is waited for."""
    from skystow.adapters.datagrams import UdpDatagrams
    from skystow.adapters.pysmurf_files import FilesTable
    from skystow.adapters.pysmurf_files.registrar import PysmurfFilesRegistrar
    from skystow.adapters.spool import SqliteSpool
    from skystow.adapters.tree import LocalTree

    check(options, environ)
    rules = Rules({PurePosixPath(os.path.normpath(root)): LocalTree(root, place=root) for root in options.roots})
    table = FilesTable(table_url(environ), "v1", place="table", password=environ["MYSQL_PASSWORD"])
    version = f"skystow {__version__}"
    registrar = PysmurfFilesRegistrar(
        table, target=options.target, site=options.site[:32], version=version[:64], create=options.create_table
    )
    with ExitStack() as stack:
        stack.enter_context(closing(registrar))
        spool = stack.enter_context(closing(SqliteSpool(options.spool, stop=stop)))
        datagrams = stack.enter_context(closing(UdpDatagrams(options.udp_host, options.udp_port)))
        yield Monitor(datagrams, spool, registrar, rules, publish=publish, tell=tell)


def check(options: MonitorOptions, environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` for what can be told before anything is opened."""
    table_url(environ)
    if not 0 < options.udp_port < 65536:
        raise ConfigError(f"--udp-port: {options.udp_port} is no port")
    if len(options.target) > 32:
        raise ConfigError(f"the instance id {shown(options.target)} is longer than its column, 32 characters")
    if not options.roots or any(not os.path.isabs(root) or ".." in root.split("/") for root in options.roots):
        raise ConfigError("--root: name directories by their whole paths", remedy="--root /data/smurf_data")
