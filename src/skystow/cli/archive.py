"""`skystow archive SOURCE DEST`: no site file, one source, one destination."""

from __future__ import annotations

import asyncio

from skystow.cli.exits import Exit
from skystow.cli.present import NAMED, emit, files, say, size, tell
from skystow.cli.summary import Run
from skystow.cli.watch import watching
from skystow.model.records import Arrival, shown
from skystow.service.halt import Halt
from skystow.wiring import ArchiveOptions, build_archive, preview


def archive(
    halt: Halt, source: str, dest: str, options: ArchiveOptions, *, json: bool, quiet: bool, give_up_after: float
) -> Exit:
    with build_archive(source, dest, options) as house:
        run = Run(house)
        with watching(house, quiet=json or quiet):
            ending = asyncio.run(house.component().run(halt, once=not options.follow, give_up_after=give_up_after))
        return run.finish(ending, place=shown(dest), json=json, quiet=quiet, endless=options.follow)


def dry_run(halt: Halt, source: str, dest: str, options: ArchiveOptions, *, json: bool, quiet: bool) -> Exit:
    """What would be done, by names, sizes and times alone; nothing is written, nor read but the names."""
    fresh = fresh_bytes = there = there_bytes = taken = skipped = 0
    named: list[str] = []
    with preview(source, dest, options) as (inlet, tree):
        for batch in inlet.sweep(stop=halt):
            for each in batch:
                if not isinstance(each, Arrival):
                    skipped += 1
                    continue
                found = tree.stat(each.path) if tree else None
                if found is not None and found.same_content(each.fingerprint):
                    there, there_bytes = there + 1, there_bytes + (found.size or 0)
                    continue
                taken += found is not None
                fresh, fresh_bytes = fresh + 1, fresh_bytes + (each.fingerprint.size or 0)
                _name(each, found is not None, named, json=json, quiet=quiet)
    if json:
        emit(
            {
                "dry_run": True,
                "files": fresh + there,
                "bytes": fresh_bytes + there_bytes,
                "archived": 0,
                "would_archive": fresh,
                "would_archive_bytes": fresh_bytes,
                "already": there,
                "name_taken": taken,
                "skipped": skipped,
                "failed": 0,
                "quarantined": 0,
                "conflicts": 0,
                "named": named,
            }
        )
    else:
        say(
            f"{files(fresh)} would be archived ({size(fresh_bytes)}); {there:,} archived already, by name, size and "
            f"time; {skipped:,} skipped. Nothing was written."
        )
        if taken:
            tell(f"{files(taken)} of them differ from what is there in size or time; such a file may be a conflict.")
    return Exit.WELL


def _name(each: Arrival, taken: bool, named: list[str], *, json: bool, quiet: bool) -> None:
    if json and len(named) < 50 * NAMED:
        named.append(shown(each.path))
    elif not json and not quiet:
        say(shown(each.path) + (" (the name is taken)" if taken else ""))
