"""What happens next to a file and who must act, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from skystow.errors import Conflict, NoRoom
from skystow.model.records import shown
from skystow.model.transfer import State, Step
from skystow.ports import Copy, Dossier


def overall(dossier: Dossier) -> str:
    """One word for a file: `conflict`, `quarantined`, `waiting`, `cancelled`, `damaged`, `missing` or `done`. Copies
    that are not required count only where there is no other."""
    copies = [copy for copy in dossier.copies if copy.required] or list(dossier.copies)
    states = {copy.state for copy in copies}
    if any(is_conflict(copy) for copy in copies):
        return "conflict"
    for state in (State.QUARANTINED, State.WAITING, State.CANCELLED):
        if state in states:
            return state.value
    trouble = next((step for copy in copies if (step := _trouble(dossier, copy))), None)
    return trouble.value if trouble else State.DONE.value


def is_conflict(copy: Copy) -> bool:
    return copy.state is State.QUARANTINED and copy.fault == Conflict.code


def outlook(dossier: Dossier, place: str) -> Iterator[str]:
    """A sentence for each copy that is not simply done; one for all where every copy is."""
    open_copies = [copy for copy in dossier.copies if copy.state is not State.DONE or _trouble(dossier, copy)]
    if not open_copies:
        yield "All copies are done; nobody needs to act."
    for copy in open_copies:
        yield f"{copy.route.destination}: {_sentence(dossier, copy, place)}"


def _trouble(dossier: Dossier, copy: Copy) -> Step | None:
    """Whether the last look at a finished copy found it damaged or missing."""
    looks = [
        event.step
        for event in dossier.events
        if event.destination == copy.route.destination and event.step in (Step.VERIFIED, Step.DAMAGED, Step.MISSING)
    ]
    return looks[-1] if looks and looks[-1] is not Step.VERIFIED and copy.removed_at is None else None


def _sentence(dossier: Dossier, copy: Copy, place: str) -> str:
    file = shown(dossier.path)
    match copy.state:
        case State.DONE:
            return (
                f"the copy was {_trouble(dossier, copy)} when it was last read. A person must act: bring the file back "
                f"from its source or another copy, then skystow verify {place}."
            )
        case State.QUARANTINED if is_conflict(copy):
            return (
                "its name is taken by something else, and nothing was overwritten. A person must decide: "
                f"skystow resolve {place} {file} keep (what is archived stays, this version is left out) or "
                f"skystow resolve {place} {file} number (this version goes beside it)."
            )
        case State.QUARANTINED:
            return (
                f"it failed {copy.attempts} times and is not tried again. A person must act: mend the cause, then "
                f"skystow retry {place} {file}; or skystow ignore {place} {file} --reason WHY."
            )
        case State.CANCELLED:
            return f"it is left out on purpose; skystow retry {place} {file} would take it up again."
    if copy.leased_by is not None:
        return f"{copy.leased_by} is at work on it; nobody needs to act."
    if copy.blocked:
        return f"it waits for the copy at {copy.route.source}; nobody needs to act here."
    if copy.wakes_at is not None and copy.fault == NoRoom.code:
        return f"there is no room for it: make some, or lower min_free; skystow looks again at {_when(copy.wakes_at)}."
    if copy.wakes_at is not None:
        return f"skystow tries again at {_when(copy.wakes_at)}, if it runs then; nobody needs to act."
    return "it is the archiver's turn: it goes as soon as skystow runs and its place is well."


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
