"""A verdict can be told twice: its answer may be lost with the connection."""

import sqlalchemy as sa

from skystow.adapters.ledger.migrations import steps

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    steps.add_column("transfers", sa.Column("settled", sa.String(48)))
