"""Dead letters, an outbox for each audience, and who the ledger is."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

Bytes = sa.LargeBinary
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Hash = Bytes(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
Name = sa.String(100).with_variant(mysql.VARCHAR(100, collation="utf8mb4_bin"), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", Id, primary_key=True),
        sa.Column("name_key", Hash, nullable=False, unique=True),
        sa.Column("source", Name, nullable=False),
        sa.Column("key", Bytes, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "identity",
        sa.Column("one", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("digits", sa.String(32), nullable=False),
    )
    op.add_column("notices", sa.Column("audience", Name, nullable=False, server_default="journal"))
    op.create_index("ix_notices_outbox", "notices", ["audience", "sent_at", "id"])
    op.drop_index("ix_notices_unsent", "notices")
