"""Where ledgers are, and how one is opened: of a site file, of a DEST, at a URL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skystow.config import Remote, Site, load
from skystow.errors import ConfigError, OperatorFault
from skystow.model.layout import RESERVED
from skystow.model.records import shown
from skystow.model.remote import is_remote
from skystow.model.transfer import Audience, RetryPolicy
from skystow.ports import Clock
from skystow.wiring.ends import site_root, state_ledger

if TYPE_CHECKING:
    from skystow.adapters.ledger import SqlLedger


def site_ledger(site: Site) -> str:
    """The site's ledger; by default it lives in the first destination."""
    if site.ledger_url is not None:
        return site.ledger_url
    if not site.destinations and site.image is not None:
        make(site.image.staging.root)
        return home(site.image.staging.root)
    first = site.destinations[0]
    root = first.root
    if isinstance(first, Remote):
        return _state(site_root(first))
    proven = os.path.lexists(os.path.join(root, first.marker)) if first.marker else True
    if not os.path.isdir(root) or not proven:
        raise OperatorFault(
            f"the ledger is to live in {shown(root)}, which is not there{'' if proven else ' (its marker is not)'}",
            remedy="make or mount that directory, or say ledger: sqlite:////somewhere/else.db in the site file",
        )
    return home(root)


def existing_ledger(place: str, ledger_url: str | None = None) -> str:
    """The URL of the ledger of a site file or a DEST. Raises `ConfigError` where there is none yet."""
    if not is_remote(place) and not os.path.lexists(place):
        raise ConfigError(f"{shown(place)} does not exist", remedy="name a site file, or a DEST of skystow archive")
    url = ledger_url
    if url is None:
        url = _usual(place)
    path = url.removeprefix("sqlite:///")
    try:
        if path != url:
            os.stat(path)
    except PermissionError as error:
        raise ConfigError(f"cannot reach the ledger {shown(path)}: permission denied") from error
    except OSError as error:
        told = f"there is no ledger {shown(path)}: nothing was archived with it yet"
        raise ConfigError(told, remedy="if it was kept elsewhere, name it with --ledger") from error
    return url


def is_dest(place: str) -> bool:
    """Whether a SITE|DEST is a DEST."""
    return is_remote(place) or os.path.isdir(place)


def _usual(place: str) -> str:
    if is_remote(place):
        return f"sqlite:///{state_ledger(place)}"
    if os.path.isdir(place):
        return _below(place)
    site = load(place)
    if not site.destinations and site.image is not None:
        return site.ledger_url or _below(site.image.staging.root)
    first = site.destinations[0]
    there = f"sqlite:///{state_ledger(site_root(first))}" if isinstance(first, Remote) else _below(first.root)
    return site.ledger_url or there


def dest_ledger(dest: str) -> str:
    """The ledger of a DEST of `archive`; its directory is made."""
    return _state(dest) if is_remote(dest) else home(dest)


def _state(dest: str) -> str:
    """The ledger of a remote destination, which is kept here; its directory is made."""
    path = state_ledger(dest)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    except OSError as error:
        raise OperatorFault(f"cannot make {shown(os.path.dirname(path))}: {(error.strerror or '').lower()}") from error
    return f"sqlite:///{path}"


def upgrade(url: str) -> tuple[str | None, str]:
    """Bring a ledger to this program's schema; returns the versions before and after."""
    from skystow.adapters.clock import SystemClock
    from skystow.adapters.ledger import upgrade as upgrade_ledger

    return upgrade_ledger(url, clock=SystemClock())


@contextmanager
def open_at(url: str, clock: Clock, policy: RetryPolicy, audiences: Sequence[Audience] = ()) -> Iterator[SqlLedger]:
    from skystow.adapters.ledger import open_ledger
    from skystow.adapters.process import this_worker

    ledger = open_ledger(url, worker=this_worker(), clock=clock, policy=policy, audiences=audiences)
    try:
        yield ledger
    finally:
        ledger.close()


def _below(root: str) -> str:
    return f"sqlite:///{os.path.abspath(root)}/{RESERVED}/ledger.db"


def home(root: str) -> str:
    """The ledger below a destination; its directory is made."""
    make(os.path.join(root, RESERVED))
    return _below(root)


def make(directory: str) -> None:
    try:
        os.mkdir(os.fsencode(directory))
        _sync(os.path.dirname(os.path.abspath(directory)))
    except FileExistsError:
        if not os.path.isdir(directory):
            raise ConfigError(f"{shown(directory)} is not a directory", remedy="move it out of the way") from None
    except OSError as error:
        raise OperatorFault(
            f"cannot make the directory {shown(directory)}: {(error.strerror or str(error)).lower()}",
            remedy="give the user that skystow runs as permission, or choose another destination",
        ) from error


def _sync(directory: str) -> None:
    """A new directory is only there for good once the one above is synced."""
    descriptor = os.open(os.fsencode(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
