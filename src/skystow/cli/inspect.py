"""`skystow status` and `skystow trace`: what the ledger knows. Both only read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from skystow.cli.exits import Exit
from skystow.cli.exposures import record
from skystow.cli.letters import every
from skystow.cli.present import columns, emit, say, size, span, when
from skystow.cli.summary import by_destination, routes_table
from skystow.engine.outlook import outlook, overall
from skystow.model.acts import Milestone
from skystow.model.records import Health, shown
from skystow.model.transfer import State
from skystow.ports import Dossier
from skystow.ports.talk import Line
from skystow.wiring import House, open_house
from skystow.wiring.documents import dossier_document, where
from skystow.wiring.find import dossiers


def status(place: str, *, ledger: str | None, json: bool) -> Exit:
    with open_house(place, ledger) as house:
        counts, healths = house.ledger.counts(), {each.place: each for each in house.ledger.healths()}
        dead = sum(1 for _ in every(house.ledger))
    now = datetime.now(UTC)
    oldest = min((count.oldest_waiting for count in counts if count.oldest_waiting), default=None)
    age = None if oldest is None else max(0.0, (now - oldest).total_seconds())
    waiting = sum(count.waiting + count.retrying + count.blocked for count in counts)
    places = sorted({*house.roots, *healths})
    used = {count.route.destination for count in counts if count.done}
    if json:
        emit(
            {
                "destinations": by_destination(counts),
                "waiting": waiting,
                "oldest_waiting_s": age,
                "quarantined": sum(count.quarantined for count in counts),
                "conflicts": sum(count.conflicts for count in counts),
                "dead_letters": dead,
                "places": {name: _health(house, name, healths.get(name), used) for name in places},
            }
        )
        return Exit.WELL
    say(*routes_table(counts) if counts else ["Nothing was archived yet."])
    if age is not None:
        say(f"{waiting:,} waiting, the oldest for {span(age)}.")
    stuck = sum(count.quarantined + count.conflicts for count in counts)
    if stuck:
        say(f"{stuck:,} need a person: skystow trace {shown(place)} FILE, then retry, ignore or resolve.")
    if dead:
        say(f"{dead:,} cannot be admitted: skystow dead-letters list {shown(place)}.")
    rows = [["place", "health", "since", "root", ""]]
    for name in places:
        health = healths.get(name)
        well = health.well if health else name in used or None
        state = "not used yet" if well is None else "well" if well else "not well"
        reason = "" if health is None or well else shown(health.reason)
        rows.append([name, state, when(health.since if health else None), shown(house.roots.get(name, "-")), reason])
    say("", *columns(rows))
    return Exit.WELL


def _health(house: House, name: str, health: Health | None, used: set[str]) -> dict[str, Any]:
    """A place that was used and of which no trouble was ever told is well; one that was never used is neither."""
    return {
        "root": shown(house.roots.get(name, "")),
        "well": health.well if health else name in used or None,
        "since": health.since if health else None,
        "reason": health.reason if health else "",
        "next_probe": health.next_probe if health else None,
    }


def trace(place: str, name: str, *, ledger: str | None, json: bool) -> Exit:
    with open_house(place, ledger) as house:
        found = dossiers(house, name)
    newest, others = found[0], found[1:]
    image = house.config is not None and house.config.image is not None
    lines = record(place, newest.path) if image else []
    if json:
        exposure = [{"at": e.at, "what": e.what, "detector": e.detector, "text": e.text} for e in lines]
        emit(dossier_document(house, newest, others) | ({"exposure": exposure} if image else {}))
    else:
        say(*_story(house, newest, others, shown(place)), *_exposure(lines))
    return Exit.WELL


def _exposure(lines: list[Line]) -> Iterator[str]:
    """How the CCD came here: seconds since the camera first spoke of it."""
    if lines:
        rows = [["seconds", "exposure", "of", "what"]]
        for line in lines:
            spent = (line.at - lines[0].at).total_seconds()
            text = "" if line.what is Milestone.STARTED else shown(line.text)
            rows.append([f"{spent:.3f}", line.what.value, line.detector or "the exposure", text])
        yield from ("", f"{line.obsid}, from {when(lines[0].at)}:", *columns(rows))


def _spent(attempts: int) -> str:
    return "no attempt spent" if not attempts else "1 attempt spent" if attempts == 1 else f"{attempts} attempts spent"


def _story(house: House, dossier: Dossier, others: list[Dossier], place: str) -> Iterator[str]:
    count = dossier.fingerprint.size
    measured = f" ({size(count)}, {count:,} bytes)" if count is not None else ""
    yield f"{shown(dossier.path)}: {overall(dossier)}{measured}; number {dossier.id}"
    yield f"from {where(house, dossier.source, dossier.origin)}, admitted {when(dossier.admitted_at)}"
    if dossier.retired_at is not None:
        yield f"removed at its source {when(dossier.retired_at)}"
    yield ""
    for copy in dossier.copies:
        yield f"{copy.route.destination}: {copy.state.value}, {where(house, copy.route.destination, copy.path)}"
        if copy.state is State.DONE:
            verified = f", read again {when(copy.verified_at)}" if copy.verified_at else ""
            removed = f", removed on purpose {when(copy.removed_at)}" if copy.removed_at else ""
            yield f"  {copy.digest}, archived {when(copy.done_at)}{verified}{removed}"
        elif copy.error:
            yield f"  last error ({_spent(copy.attempts)}): {shown(copy.error)}"
    yield ""
    yield from outlook(dossier, place)
    yield ""
    rows = [["time", "step", "where", "worker", "what"]]
    for event in dossier.events:
        text = "; ".join(part for part in (str(event.digest or ""), shown(event.text)) if part)
        rows.append([when(event.at), event.step.value, event.destination or "-", event.worker, text])
    yield from columns(rows)
    if others:
        yield f"other files or versions of that name: {', '.join(str(each.id) for each in others)}"
