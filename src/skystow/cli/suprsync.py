"""`skystow suprsync index` and `timecodes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skystow.cli.exits import Exit
from skystow.cli.present import NAMED, columns, emit, first, say
from skystow.config import Site, load
from skystow.errors import ConfigError
from skystow.model.records import shown
from skystow.wiring import suprsync

if TYPE_CHECKING:
    from skystow.wiring.suprsync import Standing


def _site(path: str) -> Site:
    site = load(path)
    if not suprsync.databases(site):
        raise ConfigError("this site has no source of kind suprsync")
    return site


def index(site: str, *, json: bool) -> Exit:
    added = suprsync.index(_site(site))
    if json:
        emit({"databases": [{"database": name, "added": what} for name, what in added]})
    else:
        say(*(f"{name}: added {', '.join(what)}." if what else f"{name} lacks nothing." for name, what in added))
    return Exit.WELL


def timecodes(site: str, *, json: bool) -> Exit:
    found = suprsync.timecodes(_site(site))
    if json:
        emit({"timecodes": [_document(source, each) for source, standings in found for each in standings]})
        return Exit.WELL
    rows = [["source", "archive", "timecode", "state", "late files"]]
    for source, standings in found:
        rows += [[source, e.archive, str(e.entry.timecode), _state(e), f"{len(e.late):,}"] for e in standings]
    if len(rows) == 1:
        say("Every timecode directory is finalized, and none had late files.")
        return Exit.WELL
    say(*columns(rows))
    late = [f"  {each.archive}: {shown(path)}" for _, standings in found for each in standings for path in each.late]
    if late:
        say("came after their directory was finalized:", *first(late[:NAMED], len(late)))
    return Exit.WELL


def _state(each: Standing) -> str:
    if each.entry.finalized:
        return "finalized"
    if each.entry.file is not None:
        return f"its finalization file (row {each.entry.file}) is under way"
    if not each.completed:
        return "files may still come"
    if each.unproven:
        return f"waits for {each.unproven:,} files"
    if not each.data:
        return "holds nothing to finalize"
    return "waits for files that may follow" if each.settling else "is being finalized"


def _document(source: str, each: Standing) -> dict[str, Any]:
    entry = each.entry
    return {
        "source": source,
        "archive": each.archive,
        "timecode": entry.timecode,
        "state": _state(each),
        "completed": each.completed,
        "synced": each.synced,
        "finalized": entry.finalized,
        "finalize_file_id": entry.file,
        "unproven": each.unproven,
        "late": list(each.late),
    }
