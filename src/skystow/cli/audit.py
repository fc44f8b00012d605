"""`skystow verify` and `skystow retire`: read archived files again; remove at the source what is proven."""

from __future__ import annotations

import time
from collections import Counter

from skystow.cli.exits import Exit
from skystow.cli.present import NAMED, emit, files, first, say, size, span, tell
from skystow.cli.watch import LINES_EVERY
from skystow.config import load
from skystow.engine.audit import Checked
from skystow.engine.audit import verify as verify_copies
from skystow.engine.retire import Decision
from skystow.engine.retire import retire as retire_files
from skystow.errors import ConfigError
from skystow.model.records import shown
from skystow.model.transfer import Step
from skystow.service.halt import Halt
from skystow.wiring import build, open_house


def verify(halt: Halt, place: str, *, destination: str | None, ledger: str | None, json: bool, quiet: bool) -> Exit:
    began = spoken = time.monotonic()
    count, volume = Counter[Step](), 0
    bad: list[Checked] = []
    with open_house(place, ledger) as house:
        if destination is not None and destination not in house.destinations:
            known = ", ".join(sorted(house.destinations))
            raise ConfigError(f"no destination is called {shown(destination)!r}", remedy=f"known: {known}")
        for checked in verify_copies(house.ledger, house.destinations, destination=destination, stop=halt):
            count[checked.step] += 1
            volume += checked.size
            if checked.step is not Step.VERIFIED:
                bad.append(checked)
                if not json:
                    say(f"{checked.step.value}: {shown(checked.text)}")
            if not quiet and time.monotonic() - spoken > LINES_EVERY:
                spoken = time.monotonic()
                tell(f"skystow: {files(count.total())} read again, {size(volume)}, {len(bad):,} bad")
    seconds = time.monotonic() - began
    if json:
        named = [
            {"path": each.copy.path, "destination": each.copy.route.destination, "text": each.text, "step": each.step}
            for each in bad
        ]
        emit(
            {
                "verified": count[Step.VERIFIED],
                "bytes": volume,
                "damaged": [each for each in named if each["step"] is Step.DAMAGED],
                "missing": [each for each in named if each["step"] is Step.MISSING],
                "seconds": round(seconds, 3),
            }
        )
    else:
        say(
            f"{files(count[Step.VERIFIED])} verified ({size(volume)}) in {span(seconds)}; "
            f"{count[Step.DAMAGED]:,} damaged, {count[Step.MISSING]:,} missing."
        )
        if halt.is_set():
            say("Stopped before the end.")
    return Exit.DAMAGE if bad else Exit.WELL


def retire(halt: Halt, site: str, *, dry_run: bool, json: bool) -> Exit:
    removed = kept = freed = 0
    documents: list[dict[str, object]] = []
    reasons: list[str] = []
    with build(load(site)) as house:
        for name, policy in house.policies.items():
            source = house.sources[name]
            for decision in retire_files(house.ledger, source, house.destinations, policy, dry_run=dry_run, stop=halt):
                removed, kept = removed + decision.remove, kept + (not decision.remove)
                freed += (decision.dossier.fingerprint.size or 0) if decision.remove else 0
                if json:
                    documents.append(_document(decision))
                elif dry_run or decision.remove:
                    say(_told(decision, dry_run))
                elif len(reasons) < NAMED:
                    reasons.append(_told(decision, dry_run))
    if json:
        emit({"dry_run": dry_run, "removed": removed, "bytes": freed, "kept": kept, "files": documents})
    elif not house.policies:
        say("No source of this site has `retire:`; nothing is ever removed.")
    else:
        say(*first(reasons, 0 if dry_run else kept))
        say(f"{files(removed)} {'would be ' if dry_run else ''}removed ({size(freed)}), {kept:,} kept.")
    return Exit.WELL


def _document(decision: Decision) -> dict[str, object]:
    dossier = decision.dossier
    return {
        "origin": dossier.origin,
        "source": dossier.source,
        "remove": decision.remove,
        "reason": decision.reason,
    }


def _told(decision: Decision, dry_run: bool) -> str:
    verb = ("would remove" if dry_run else "removed") if decision.remove else "keep"
    return f"{verb} {decision.dossier.source}:{shown(decision.dossier.origin)}: {shown(decision.reason)}"
