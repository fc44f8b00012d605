"""What must be true of a remote end before anything is carried: said by `skystow check`, and before each rsync."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

from skystow.adapters.options import StoreOptions
from skystow.adapters.remote.rsync import listed_checksums, own_version
from skystow.adapters.remote.tree import RemoteTree
from skystow.errors import OperatorFault, PlaceFault
from skystow.ports import Finding, Room, Stop

OLDEST = (3, 1)


def rsync_of(tree: RemoteTree, stop: Stop | None = None) -> str:
    """The `rsync --version` of the remote end. Raises `UnfitHost` where there is none, or an old one."""
    own_version()
    said = tree.link.facts(tree.place, stop)["rsync"]
    if said is not None and listed_checksums(said)[0] >= OLDEST:
        return str(said)
    tree.link.close()  # what a helper said of its host stands as long as it lives: somebody may install one
    why = "it has no rsync" if said is None else "its rsync is too old"
    raise tree.link.unfit(tree.place, why, "install rsync 3.1 or later there", said or "")


def look_over(tree: RemoteTree, *, reads: Sequence[str]) -> Iterator[Finding]:
    """`reads`: the digests by which files are to be read back there."""
    subject = f"remote {tree.place}"
    try:
        facts = tree.link.facts(tree.place)
        version = ".".join(map(str, listed_checksums(rsync_of(tree))[0]))
        python = ".".join(map(str, facts["python"]))
        yield Finding(subject, True, f"{tree.link.host} answers: python {python}, rsync {version}, uid {facts['uid']}")
        tree.proof()
        yield Finding(f"{subject}, root", True, f"{tree} is a directory")
    except (OperatorFault, PlaceFault) as fault:
        yield Finding(subject, False, fault.message, fault.remedy)
        return
    for algorithm in reads:
        if algorithm not in facts["algorithms"]:
            text = f"{algorithm} is not to be had on {tree.link.host}: sha256 instead"
            yield Finding(f"{subject}, digest", True, text, f"install python3-{algorithm} there for more speed")


def fit(tree: RemoteTree, options: StoreOptions, room: Callable[[], Room]) -> Iterator[Finding]:
    """All that a store there needs; ends with the first part that is not well."""
    findings = list(look_over(tree, reads=(options.algorithm,)))
    yield from findings
    if not all(finding.ok for finding in findings):
        return
    yield from _tried(tree, options.directory_mode)
    found = room()
    text, well = f"{found.free / max(1, found.total):.1%} of {tree} is free", found.spare > 0
    yield Finding("space", well, text, "" if well else "free some space or lower min_free")


def _tried(tree: RemoteTree, mode: int) -> Iterator[Finding]:
    """A probe file, really written, synced, linked and removed there."""
    request = {"op": "trial", "token": secrets.token_hex(16), "mode": mode}
    try:
        found = tree.ask(request)
    except OSError as error:
        remedy = "let the user that we log in as write there"
        yield Finding("permission", False, f"{tree} cannot be used: {error.strerror}", remedy)
        return
    yield Finding("permission", True, f"{tree} can be written to")
    yield Finding("sync", True, f"a small file was synced in {found['sync_ms']:.1f} ms")
    yield Finding("name", True, f"published by {found['by']}")
    remedy = "" if found["mode"] == mode else "configure another directory mode"
    text = f"directories become {found['mode']:04o}, wanted {mode:04o}"
    yield Finding("directory mode", found["mode"] == mode, text, remedy)
