"""`skystow check`: the doctor. Tries out what a run will need, as the user that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say, size
from skystow.config import load
from skystow.errors import OperatorFault, PlaceFault, SkystowError
from skystow.model.records import shown
from skystow.ports import Finding, Source, Store, Tree
from skystow.service.halt import Halt
from skystow.wiring import ArchiveOptions, House, build, survey
from skystow.wiring.doctor import control_finding

EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
"""This program is younger: a clock that says less is wrong."""


def check(halt: Halt, site: str, *, json: bool) -> Exit:
    findings = [Finding("site file", ok=True, text=f"{shown(site)} is understood")]  # or `load` raises
    config = load(site)
    try:
        with build(config, only_look=True) as house:
            findings.append(Finding("ledger", ok=True, text="opened, its schema is ours"))
            for finding in _findings(house, site, halt):
                findings.append(finding)
    except (OperatorFault, PlaceFault) as fault:
        findings.append(_failed("ledger", fault))
    return _tell(findings, json=json)


def check_ends(halt: Halt, source: str, dest: str, options: ArchiveOptions, *, json: bool) -> Exit:
    """What `skystow archive SOURCE DEST` will need; nothing is left behind."""
    findings = [_clock()]
    try:
        with survey(source, dest, options) as found:
            if found.at != dest:
                text = f"{shown(dest)} is not there yet: archive makes it in {shown(found.at)}, which is looked at"
                findings.append(Finding("DEST", ok=True, text=text))
            findings.append(_looked("SOURCE", found.source, halt))
            findings += _lane("SOURCE → DEST", found.store, found.origin)
    except (OperatorFault, PlaceFault) as fault:
        findings.append(_failed("DEST" if isinstance(fault, PlaceFault) else "SOURCE and DEST", fault))
    return _tell(findings, json=json)


def _tell(findings: Sequence[Finding], *, json: bool) -> Exit:
    well = all(finding.ok for finding in findings)
    if json:
        document = [
            {"subject": each.subject, "ok": each.ok, "text": each.text, "remedy": each.remedy} for each in findings
        ]
        emit({"ok": well, "findings": document})
    else:
        for each in findings:
            say(f"{'ok  ' if each.ok else 'FAIL'}  {each.subject}: {shown(each.text)}")
            if not each.ok and each.remedy:
                say(f"      → {shown(each.remedy)}")
        say("All well." if well else "Not fit yet: see above.")
    return Exit.WELL if well else Exit.USAGE


def _findings(house: House, site: str, halt: Halt) -> Iterator[Finding]:
    yield _clock()
    for name, source in house.sources.items():
        yield _looked(name, source, halt, house.notes.get(name, ()))
    for doctor in house.doctors:
        yield from doctor()
    if house.config is not None and house.config.image is not None:
        yield from control_finding(site, house.config)
    trees: dict[str, Tree] = {**house.origins, **house.destinations}
    for lane in house.lanes:
        yield from _lane(str(lane.route), lane.store, trees[lane.route.source])


def _looked(name: str, source: Source, halt: Halt, notes: Sequence[str] = ()) -> Finding:
    try:
        batch = next(iter(source.sweep(stop=halt)), ())
    except (OperatorFault, PlaceFault) as fault:
        return _failed(name, fault)
    text = f"readable; {len(batch):,} entries in a first look" + _settling(source.settling())
    return Finding(name, ok=True, text="; ".join([text, *notes]))


def _lane(subject: str, store: Store, upstream: Tree) -> Iterator[Finding]:
    try:
        for finding in store.check(upstream):
            yield replace(finding, subject=f"{subject}, {finding.subject}")
        room = store.room()
        yield Finding(
            f"{subject}, room",
            ok=room.spare > 0,
            text=f"{size(room.free)} of {size(room.total)} free, {size(max(0, room.spare))} may be written",
            remedy="" if room.spare > 0 else "make room, or lower min_free",
        )
    except (OperatorFault, PlaceFault) as fault:
        yield _failed(subject, fault)


def _settling(count: int) -> str:
    return f", {count} files still have to be quiet for a while" if count else ""


def _clock() -> Finding:
    now = datetime.now(UTC)
    ok = now > EARLIEST
    return Finding("clock", ok=ok, text=f"{now:%Y-%m-%d %H:%M:%S}Z", remedy="" if ok else "set the clock (NTP)")


def _failed(subject: str, fault: SkystowError) -> Finding:
    return Finding(subject, ok=False, text=fault.message, remedy=fault.remedy)
