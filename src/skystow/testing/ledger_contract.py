"""What every ledger must do: each sentence of `skystow.ports.Ledger`, and what it leaves open, as a test.

A subclass supplies the fixture `make`: `make(worker=…, clock=…)` opens one and the same ledger as several workers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skystow.testing.ledger_intake import Admissions, Changes
from skystow.testing.ledger_kit import Desk, Opener
from skystow.testing.ledger_letters import Itself, Letters, Spent
from skystow.testing.ledger_operators import Operators
from skystow.testing.ledger_pump import Claims, Leases
from skystow.testing.ledger_verdicts import Abandonments, Verdicts, Wakes
from skystow.testing.ledger_windows import Outbox, Places, Restarts, Windows


class LedgerContract(
    Admissions,
    Changes,
    Claims,
    Leases,
    Abandonments,
    Verdicts,
    Wakes,
    Restarts,
    Outbox,
    Places,
    Operators,
    Windows,
    Letters,
    Spent,
    Itself,
):
    """The whole of it."""

    @pytest.fixture
    def desk(self, make: Opener) -> Iterator[Desk]:
        desk = Desk(make)
        yield desk
        desk.close()
