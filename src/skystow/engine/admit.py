"""Write down what arrived. After this the file is ours: whatever happens, the ledger knows of it."""

from __future__ import annotations

from collections.abc import Sequence

from skystow.model.records import Arrival, Skipped
from skystow.model.transfer import Destination
from skystow.ports import Admission, Ledger


def admit(
    batch: Sequence[Arrival | Skipped], ledger: Ledger, destinations: Sequence[Destination]
) -> tuple[Admission, list[Arrival], list[Skipped]]:
    """One transaction for the batch; returns what the ledger made of it, and what was taken and what skipped."""
    arrivals = [each for each in batch if isinstance(each, Arrival)]
    skipped = [each for each in batch if isinstance(each, Skipped)]
    return ledger.admit(arrivals, destinations) if arrivals else Admission(), arrivals, skipped
