"""What the ledger knows of one file, for programs: for `skystow trace --json` and the OCS agent's task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from skystow.engine.outlook import outlook, overall
from skystow.model.records import path_text, shown
from skystow.ports import Copy, Dossier

if TYPE_CHECKING:
    from skystow.wiring import House


def where(house: House, place: str, path: object) -> str:
    """An absolute path where the place's root is known."""
    text = str(path)
    if (root := house.roots.get(place)) is not None:
        text = path_text(os.path.join(os.fsencode(root), os.fsencode(text)))
    return shown(text)


def dossier_document(house: House, dossier: Dossier, others: list[Dossier]) -> dict[str, Any]:
    done = next((copy for copy in dossier.copies if copy.digest is not None), None)
    return {
        "id": dossier.id,
        "source": dossier.source,
        "origin": where(house, dossier.source, dossier.origin),
        "archive": dossier.archive,
        "path": dossier.path,
        "digest": done.digest if done else dossier.claimed,
        "size": dossier.fingerprint.size if done is None or done.size is None else done.size,
        "mtime_ns": dossier.fingerprint.mtime_ns,
        "state": overall(dossier),
        "admitted_at": dossier.admitted_at,
        "retired_at": dossier.retired_at,
        "copies": [_copy(house, copy) for copy in dossier.copies],
        "events": [
            {
                "at": event.at,
                "step": event.step.value,
                "destination": event.destination,
                "worker": event.worker,
                "digest": event.digest,
                "text": event.text,
            }
            for event in dossier.events
        ],
        "next": list(outlook(dossier, "SITE|DEST")),
        "others": [each.id for each in others],
    }


def _copy(house: House, copy: Copy) -> dict[str, Any]:
    return {
        "destination": copy.route.destination,
        "from": copy.route.source,
        "where": where(house, copy.route.destination, copy.path),
        "path": copy.path,
        "state": copy.state.value,
        "required": copy.required,
        "attempts": copy.attempts,
        "abandoned": copy.abandoned,
        "digest": copy.digest,
        "size": copy.size,
        "fault": copy.fault,
        "error": copy.error,
        "done_at": copy.done_at,
        "wakes_at": None if copy.blocked else copy.wakes_at,
        "blocked": copy.blocked,
        "worker": copy.leased_by,
        "verified_at": copy.verified_at,
        "removed_at": copy.removed_at,
    }
