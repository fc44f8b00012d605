"""Write down what arrived. After this the file is ours: whatever happens, the ledger knows of it."""

from __future__ import annotations

from collections.abc import Sequence

from skystow.model.records import Arrival, DeadLetter, Skipped
from skystow.model.transfer import Destination
from skystow.ports import Admission, Ledger


def admit(
    batch: Sequence[Arrival | Skipped | DeadLetter], ledger: Ledger, destinations: Sequence[Destination]
) -> tuple[Admission, list[Arrival], list[Skipped], int]:
    """One transaction for what is taken, one for what cannot be; returns what the ledger made of it, what was taken
    and what skipped, and how many dead letters are new."""
    arrivals = [each for each in batch if isinstance(each, Arrival)]
    skipped = [each for each in batch if isinstance(each, Skipped)]
    letters = [each for each in batch if isinstance(each, DeadLetter)]
    dead = ledger.bury(letters) if letters else 0
    return ledger.admit(arrivals, destinations) if arrivals else Admission(), arrivals, skipped, dead
