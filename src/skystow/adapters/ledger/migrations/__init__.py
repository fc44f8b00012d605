"""How a ledger of an older skystow becomes one of this. Run by `skystow.adapters.ledger.open` alone."""
