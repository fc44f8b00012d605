"""`skystow ledger upgrade`."""

from __future__ import annotations

from skystow.cli.exits import Exit
from skystow.cli.present import emit, say
from skystow.errors import ConfigError
from skystow.wiring.ledgers import existing_ledger
from skystow.wiring.ledgers import upgrade as upgrade_ledger


def upgrade(place: str | None, *, ledger: str | None, json: bool) -> Exit:
    if place is None and ledger is None:
        raise ConfigError("name a site file, a DEST, or --ledger URL")
    before, after = upgrade_ledger(ledger if place is None and ledger else existing_ledger(place or "", ledger))
    if json:
        emit({"before": before, "after": after, "changed": before != after})
    elif before == after:
        say(f"The ledger has schema {after} already; nothing to do.")
    else:
        say(f"The ledger was brought from schema {before or 'none'} to {after}.")
    return Exit.WELL
