"""`skystow verify` and `skystow retire`: read archived files again; remove at the source what is proven."""

from __future__ import annotations

import time
from collections import Counter

from skystow.cli.exits import Exit
from skystow.cli.present import emit, files, first, say, size, span, tell
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
    removed: list[Decision] = []
    kept: list[Decision] = []
    freed = 0
    with build(load(site)) as house:
        for name, policy in house.policies.items():
            decisions = retire_files(
                house.ledger, house.sources[name], house.destinations, policy, dry_run=dry_run, stop=halt
            )
            for decision in decisions:
                (removed if decision.remove else kept).append(decision)
                freed += (decision.dossier.fingerprint.size or 0) if decision.remove else 0
                if not json and (dry_run or decision.remove):
                    say(_told(decision, dry_run))
    if json:
        emit(
            {
                "dry_run": dry_run,
                "removed": len(removed),
                "bytes": freed,
                "kept": len(kept),
                "files": [
                    {
                        "origin": each.dossier.origin,
                        "source": each.dossier.source,
                        "remove": each.remove,
                        "reason": each.reason,
                    }
                    for each in (*removed, *kept)
                ],
            }
        )
        return Exit.WELL
    if not house.policies:
        say("No source of this site has `retire:`; nothing is ever removed.")
        return Exit.WELL
    if not dry_run:
        say(*first([_told(each, dry_run) for each in kept], len(kept)))
    say(f"{files(len(removed))} {'would be ' if dry_run else ''}removed ({size(freed)}), {len(kept):,} kept.")
    return Exit.WELL


def _told(decision: Decision, dry_run: bool) -> str:
    verb = ("would remove" if dry_run else "removed") if decision.remove else "keep"
    return f"{verb} {decision.dossier.source}:{shown(decision.dossier.origin)}: {shown(decision.reason)}"
