"""Read archived files again: does each copy still stand, and does its digest hold?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from skystow.errors import FileFault, Missing
from skystow.model.records import shown
from skystow.model.transfer import State, Step
from skystow.ports import Copy, Ledger, Stop, Tree

PAGE = 500


@dataclass(frozen=True, slots=True)
class Checked:
    """One copy that was read again. `step` is VERIFIED, DAMAGED or MISSING; `size` is bytes read."""

    copy: Copy
    step: Step
    text: str
    size: int


def verify(
    ledger: Ledger, trees: Mapping[str, Tree], *, destination: str | None = None, stop: Stop
) -> Iterator[Checked]:
    """Read every copy that should be there, and write the outcome down.

    Left out: copies removed on purpose, and names that the reader may remove and has removed (`owned: false`).
    Raises `PlaceFault` where a whole place is away, before its files are called missing.
    """
    for name in [destination] if destination else list(trees):
        tree, after = trees[name], 0
        tree.present()
        while page := ledger.copies(after=after, limit=PAGE, state=State.DONE, destination=name):
            for copy in page:
                if stop.is_set():
                    return
                checked = _check(copy, tree, stop)
                if checked is not None:
                    ledger.audited(copy, checked.step, checked.text)
                    yield checked
            after = page[-1].id


def _check(copy: Copy, tree: Tree, stop: Stop) -> Checked | None:
    if copy.removed_at is not None or copy.digest is None:
        return None
    try:
        digest = tree.digest(copy.path, copy.digest.algorithm, stop=stop)
    except Missing:
        tree.present()
        if not copy.owned:
            return None
        return Checked(copy, Step.MISSING, f"{shown(copy.path)} is gone from {copy.route.destination}", 0)
    except FileFault as fault:
        return Checked(copy, Step.DAMAGED, str(fault), 0)
    if digest != copy.digest:
        text = f"{shown(copy.path)} in {copy.route.destination} reads {digest}, archived as {copy.digest}"
        return Checked(copy, Step.DAMAGED, text, copy.size or 0)
    return Checked(copy, Step.VERIFIED, "", copy.size or 0)
