"""`skystow pysmurf-files create` and `upgrade`."""

from __future__ import annotations

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say
from skystow.config import Site, load
from skystow.errors import ConfigError
from skystow.wiring import pysmurf


def _site(path: str) -> Site:
    site = load(path)
    if not pysmurf.tables(site):
        raise ConfigError("this site has no source of kind pysmurf_files")
    return site


def create(site: str, *, json: bool) -> Exit:
    made = pysmurf.create(_site(site))
    if json:
        emit({"tables": [{"table": name, "made": new} for name, new in made]})
    else:
        say(*(f"{name} {'was made' if new else 'is there already'}." for name, new in made))
    return Exit.WELL


def upgrade(site: str, *, json: bool) -> Exit:
    added = pysmurf.upgrade(_site(site))
    if json:
        emit({"tables": [{"table": name, "added": what} for name, what in added]})
    else:
        say(*(f"{name}: added {', '.join(what)}." if what else f"{name} lacks nothing." for name, what in added))
    return Exit.WELL
