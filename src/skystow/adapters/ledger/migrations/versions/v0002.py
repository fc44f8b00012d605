"""Dead letters, an outbox for each audience, who the ledger is; and a verdict that can be told twice: its answer may be
lost with the connection."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from skystow.adapters.ledger.migrations import steps

revision = "0002"
down_revision = "0001"

Bytes = sa.LargeBinary
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Hash = Bytes(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
Name = sa.String(100).with_variant(mysql.VARCHAR(100, collation="utf8mb4_bin"), "mysql", "mariadb")


def upgrade() -> None:
    steps.create_table(
        "dead_letters",
        sa.Column("id", Id, primary_key=True),
        sa.Column("name_key", Hash, nullable=False, unique=True),
        sa.Column("source", Name, nullable=False),
        sa.Column("key", Bytes, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    steps.create_table(
        "identity",
        sa.Column("one", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("digits", sa.String(32), nullable=False),
    )
    steps.add_column("transfers", sa.Column("settled", sa.String(48)))
    steps.add_column("notices", sa.Column("audience", Name, nullable=False, server_default="journal"))
    steps.create_index("ix_notices_outbox", "notices", ["audience", "sent_at", "id"])
    steps.drop_index("ix_notices_unsent", "notices")
