"""The site of a PysmurfArchiverAgent, made of its options and environment: the same that a site file would say.

ledger      in its usual place, DATA_DIR/.skystow: archivers of one table must share a ledger, and two agents that
            share a data directory of one host do. On several hosts: a site file with a ledger on a server
source      `smurf`, a `pysmurf_files` table on MySQL
destination `archive`, DATA_DIR
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from skystow.config import load
from skystow.config.checks import complaints
from skystow.config.model import Site
from skystow.errors import ConfigError
from skystow.model.records import shown

REQUIRED = ("MYSQL_HOST", "MYSQL_USER", "MYSQL_PASSWORD")
DATABASE = "files"
"""Where MYSQL_DATABASE is not set."""

SMURF_ROOT = "/data/smurf_data"
"""Where a SMuRF server has its files."""

_OPTIONS = {
    ("destinations", "root"): "--data-dir",
    ("sources", "targets"): "--target",
    ("sources", "root"): "--smurf-root",
    ("sources", "host"): "--host and --user",
    ("sources", "table"): "MYSQL_HOST, MYSQL_PORT, MYSQL_DATABASE and MYSQL_USER",
}
"""What of a site is said by which option."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """`site`: a site file, which then says everything."""

    data_dir: str | None = None
    targets: Sequence[str] = ()
    host: str | None = None
    user: str | None = None
    smurf_root: str | None = None
    site: str | None = None


def agent_site(options: AgentOptions, environ: Mapping[str, str]) -> Site:
    """Raises `ConfigError` that names the option or the variable."""
    if options.site is not None:
        return _of_file(options.site, options)
    for option, value in (("--data-dir", options.data_dir), ("--target", options.targets)):
        if not value:
            raise ConfigError(f"{option} is missing", remedy="or name a site file with --skystow-site")
    plain = _plain(options, table_url(environ))
    problems = [f"{_option(place)}: {text}" for place, text in complaints(plain, os.getcwd())]
    try:
        site = Site.model_validate(plain, context={"directory": os.getcwd()})
    except ValidationError as invalid:
        problems += [f"{_option(each['loc'])}: {each['msg']}" for each in invalid.errors(include_url=False)]
    if problems:
        raise ConfigError("the agent's options do not make a site", problems=tuple(problems))
    return site


def table_url(environ: Mapping[str, str]) -> str:
    """Of the database that MYSQL_* name, without the password. Raises `ConfigError`."""
    if missing := [name for name in REQUIRED if not environ.get(name)]:
        raise ConfigError(
            f"the environment has no {', '.join(missing)}",
            remedy="MYSQL_HOST, MYSQL_USER and MYSQL_PASSWORD say where the table is (MYSQL_DATABASE: files)",
        )
    port = environ.get("MYSQL_PORT") or "3306"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"MYSQL_PORT is no port: {shown(port)}")
    host, database = environ["MYSQL_HOST"], environ.get("MYSQL_DATABASE") or DATABASE
    if any(c.isspace() or c in "/@?#" for c in host):
        raise ConfigError(f"MYSQL_HOST is no host's name: {shown(host)}")
    name = f"[{host}]" if ":" in host else host
    return f"mysql://{quote(environ['MYSQL_USER'], safe='')}@{name}:{port}/{quote(database, safe='')}"


def _of_file(path: str, options: AgentOptions) -> Site:
    others = {
        "--data-dir": options.data_dir,
        "--target": options.targets,
        "--host": options.host,
        "--user": options.user,
        "--smurf-root": options.smurf_root,
    }
    if said := [option for option, value in others.items() if value]:
        raise ConfigError(
            f"--skystow-site says everything, and {', '.join(said)} would be ignored",
            remedy="say it in the site file, or leave out --skystow-site",
        )
    site = load(path)
    if not site.sources:
        raise ConfigError(f"{shown(path)} has no sources:", remedy="the agent is a file archiver")
    return site


def _plain(options: AgentOptions, url: str) -> dict[str, Any]:
    source: dict[str, Any] = {
        "name": "smurf",
        "kind": "pysmurf_files",
        "table": {"url": url, "password_env": "MYSQL_PASSWORD"},
        "targets": list(options.targets),
        "root": options.smurf_root or SMURF_ROOT,
    }
    if options.host is not None:
        source["host"] = _host(options.host, options.user)
    elif options.user is not None:
        raise ConfigError("--user is nobody's without --host", remedy="name the SMuRF server with --host")
    return {
        "sources": [source],
        "destinations": [{"name": "archive", "kind": "posix", "root": options.data_dir}],
    }


def _host(host: str, user: str | None) -> str:
    there, at, _ = host.rpartition("@")
    if user is not None and at and there != user:
        raise ConfigError(f"--host says the user {shown(there)}, --user says {shown(user)}", remedy="say it once")
    return host if at or user is None else f"{user}@{host}"


def _option(place: Sequence[int | str]) -> str:
    words = tuple(str(part) for part in place if isinstance(part, str) and part not in ("pysmurf_files", "posix"))
    return next((option for key, option in _OPTIONS.items() if words[: len(key)] == key), ".".join(words))
