"""The ends of a transfer, here or on another host: which tree, which source and which store that makes.

Adapters are imported inside functions, so that a command pays for what it uses.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from skystow.config import Directory as DirectoryConfig
from skystow.config import HardLink, Posix, PysmurfFiles, Remote, Rows, Site, SuprSync
from skystow.engine.deliver import Rules
from skystow.errors import ConfigError, Unreachable
from skystow.model.layout import Layout
from skystow.model.records import ALGORITHMS, shown
from skystow.model.remote import RemoteHost, is_remote, remote_end
from skystow.model.transfer import RetryPolicy, Route
from skystow.ports import Clock, Store
from skystow.service.pump import Lane

if TYPE_CHECKING:
    from skystow.adapters.directory import DirectoryOptions, DirectorySource
    from skystow.adapters.options import StoreOptions
    from skystow.adapters.remote.ssh import Link
    from skystow.adapters.remote.tree import RemoteTree
    from skystow.adapters.tree import LocalTree

    AnyTree = LocalTree | RemoteTree

Place = DirectoryConfig | Rows | Posix | Remote | HardLink
"""Of a site file."""

LOCAL_BATCH, REMOTE_BATCH = 1_000, 5_000
"""Files in a batch here, and to or from another host: there each rsync costs a few round trips."""

SSH_CONFIG = "SKYSTOW_SSH_CONFIG"
"""Environment: the ssh configuration file for `[user@]host:path` on the command line, instead of the user's own."""


class Ends:
    """Makes trees, sources and stores; the remote ones of a host share one connection, which `close` ends."""

    def __init__(self) -> None:
        self._links: dict[RemoteHost, Link] = {}

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    def tree(
        self,
        root: str,
        *,
        place: str,
        marker: str | None = None,
        host: RemoteHost | None = None,
        parts: Sequence[str] = (),
    ) -> AnyTree:
        """`host` None: a local path, or `[user@]host:path`. `parts`: what must be there below a local one."""
        if host is None and is_remote(root):
            host, root = remote_end(root, config_file=os.environ.get(SSH_CONFIG))
        if host is None:
            from skystow.adapters.tree import LocalTree

            return LocalTree(os.path.abspath(root), place=place, marker=marker, parts=[*map(os.fsencode, parts)])
        from skystow.adapters.remote.ssh import Link
        from skystow.adapters.remote.tree import RemoteTree

        link = self._links.setdefault(host, Link(host))
        return RemoteTree(link, root, place=place, marker=marker)

    def source(
        self, name: str, tree: AnyTree, *, archive: str, layout: Layout, options: DirectoryOptions, clock: Clock
    ) -> DirectorySource:
        from skystow.adapters.directory import DirectorySource
        from skystow.adapters.tree import LocalTree

        if isinstance(tree, LocalTree):
            return DirectorySource(name, tree, archive=archive, layout=layout, options=options, clock=clock)
        from skystow.adapters.remote.source import RemoteDirectorySource

        return RemoteDirectorySource(name, tree, archive=archive, layout=layout, options=options, clock=clock)

    def store(
        self, name: str, tree: AnyTree, origins: Mapping[str, AnyTree], options: StoreOptions, *, streams: int
    ) -> Store:
        """`origins` are all here or all on other hosts; not there if `tree` is there too."""
        from skystow.adapters.tree import LocalTree

        here = {place: each for place, each in origins.items() if isinstance(each, LocalTree)}
        there = {place: each for place, each in origins.items() if not isinstance(each, LocalTree)}
        if isinstance(tree, LocalTree):
            if there:
                from skystow.adapters.remote.pull import PullStore

                return PullStore(name, tree, there, options, streams=streams)
            from skystow.adapters.posix import PosixStore

            return PosixStore(name, tree, here, options)
        from skystow.adapters.remote.push import RemoteStore

        return RemoteStore(name, tree, here, options, streams=streams)


def far(tree: AnyTree) -> bool:
    """Whether a tree is on another host."""
    from skystow.adapters.tree import LocalTree

    return not isinstance(tree, LocalTree)


def prove_remote(tree: AnyTree, what: str, *, make: bool = False) -> None:
    """Contact a remote end now, so that a person learns at once of what is wrong. Raises `ConfigError`, `Unreachable`,
    `UnfitHost`, and other `OperatorFault`s."""
    from skystow.adapters.tree import LocalTree

    if isinstance(tree, LocalTree):
        return
    try:
        if make:
            tree.ask({"op": "make"})
        tree.proof()
    except OSError as error:
        raise ConfigError(f"{what} {tree}: cannot be made: {(error.strerror or str(error)).lower()}") from error
    except Unreachable as fault:
        if isinstance(fault.__cause__, OSError):
            raise ConfigError(f"{what} {tree}: {(fault.__cause__.strerror or '').lower()}") from fault
        raise


def state_ledger(dest: str) -> str:
    """The path of the ledger of a remote DEST, which is kept here: named by a hash of what was typed."""
    host, path = remote_end(dest)
    name = f"{host}:{posixpath.normpath(path)}"
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "skystow", hashlib.sha256(os.fsencode(name)).hexdigest()[:24] + ".db")


def end_name(end: str) -> str:
    """An end as the ledger remembers it: the same directory has the same, however it is written."""
    if not is_remote(end):
        return os.path.realpath(end)
    host, path = remote_end(end)
    return f"{host}:{shown(posixpath.normpath(path))}"


def there_or_above(end: str, tree: AnyTree) -> str:
    """`end`, or the directory that it is to be made in where it is not there. Raises `Unreachable`, `UnfitHost`, …"""
    if not far(tree):
        return end if os.path.lexists(end) else os.path.dirname(os.path.abspath(end))
    try:
        prove_remote(tree, "DEST")
    except ConfigError as fault:
        if not isinstance(fault.__cause__, Unreachable):
            raise
        path = remote_end(end)[1]
        return end.removesuffix(path) + (posixpath.dirname(posixpath.normpath(path)) or ".")
    return end


# ── of a site ────────────────────────────────────────────────────────────────────────────────────────────────────


def site_tree(config: Place, ends: Ends) -> AnyTree:
    host = config.host.remote() if isinstance(config, DirectoryConfig | PysmurfFiles | Remote) and config.host else None
    parts = [os.path.relpath(each, config.root) for each in config.within] if isinstance(config, SuprSync) else []
    return ends.tree(config.root, place=config.name, marker=config.marker, host=host, parts=parts)


def site_root(config: Place) -> str:
    """Where a place is, as the ledger remembers it."""
    host = config.host if isinstance(config, DirectoryConfig | PysmurfFiles | Remote) else None
    return f"{host.remote()}:{config.root}" if host else config.root


def _store(
    config: Posix | Remote | HardLink,
    ends: Ends,
    trees: Mapping[str, AnyTree],
    origins: Mapping[str, AnyTree],
    siblings: int,
) -> Store:
    """One of `siblings` stores of a destination: what comes from here and what comes from other hosts."""
    from skystow.adapters.hardlink import HardlinkStore
    from skystow.adapters.options import StoreOptions
    from skystow.adapters.tree import LocalTree

    tree = trees[config.name]
    if isinstance(config, HardLink) and isinstance(tree, LocalTree):
        upstreams = {place: each for place, each in origins.items() if isinstance(each, LocalTree)}
        options = StoreOptions(directory_mode=config.directory_mode, sync=config.sync)
        return HardlinkStore(config.name, tree, upstreams, options)
    if isinstance(config, HardLink):
        raise ConfigError(f"{config.name}: links cannot be made on another host")
    options = StoreOptions(
        file_mode=config.file_mode,
        directory_mode=config.directory_mode,
        owner=config.owner,
        group=config.group,
        min_free=config.min_free,
        sync=config.sync,
        bwlimit=config.bwlimit / siblings if config.bwlimit else None,
        algorithm=config.digest,
    )
    # Each origin is a route with streams of its own.
    return ends.store(config.name, tree, origins, options, streams=config.streams * len(origins))


def site_lanes(site: Site, ends: Ends, trees: Mapping[str, AnyTree], policy: RetryPolicy) -> Iterator[Lane]:
    """A queue for each pair of places between which files travel; those of a kind into one place share its store."""
    routes: dict[Route, Posix | Remote | HardLink] = {}
    for source in site.sources:
        for each in site.served(source):
            routes[Route(each.upstream or source.name, each.name)] = each
    stores: dict[tuple[str, bool], Store] = {}
    for route, config in routes.items():
        kind = (config.name, far(trees[route.source]))
        if kind not in stores:
            origins = {each.source for each in routes if (each.destination, far(trees[each.source])) == kind}
            siblings = len({far(trees[each.source]) for each in routes if each.destination == config.name})
            stores[kind] = _store(config, ends, trees, {name: trees[name] for name in origins}, siblings)
        algorithm = ALGORITHMS[0] if isinstance(config, HardLink) else config.digest
        rules = Rules(policy, algorithm, number_conflicts=site.on_conflict == "number")
        distant = far(trees[route.source]) or far(trees[route.destination])
        files = config.batch.files or (REMOTE_BATCH if distant else LOCAL_BATCH)
        yield Lane(route, stores[kind], rules, config.streams, files, config.batch.size)
