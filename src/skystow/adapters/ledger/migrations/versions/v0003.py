"""The image door: conversations, the embedded bus and scoreboard, milestones, and the OODS's table of files."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from skystow.adapters.ledger.migrations import steps

revision = "0003"
down_revision = "0002"

Bytes = sa.LargeBinary
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Hash = Bytes(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
Name = sa.String(100).with_variant(mysql.VARCHAR(100, collation="utf8mb4_bin"), "mysql", "mariadb")
Long = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    steps.create_table(
        "talks",
        sa.Column("id", Id, primary_key=True),
        sa.Column("hash", Hash, nullable=False, unique=True),
        sa.Column("component", Name, nullable=False),
        sa.Column("key", Long, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
    )
    steps.create_index("ix_talks_open", "talks", ["component", "closed_at", "id"])
    steps.create_table(
        "steps",
        sa.Column("id", Id, primary_key=True),
        sa.Column("hash", Hash, nullable=False, unique=True),
        sa.Column("talk_id", Id, sa.ForeignKey("talks.id"), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", Long, nullable=False),
    )
    steps.create_index("ix_steps_talk", "steps", ["talk_id", "id"])
    steps.create_table(
        "parcels",
        sa.Column("id", Id, primary_key=True),
        sa.Column("address_hash", Hash, nullable=False),
        sa.Column("address", Long, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", Long, nullable=False),
        sa.Column("sender", Name, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("unreadable", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    steps.create_index("ix_parcels_address", "parcels", ["address_hash", "unreadable", "id"])
    steps.create_table(
        "board",
        sa.Column("id", Id, primary_key=True),
        sa.Column("hash", Hash, nullable=False, unique=True),
        sa.Column("key", Long, nullable=False),
        sa.Column("value", Long, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    steps.create_index("ix_board_expiry", "board", ["expires_at", "id"])
    steps.create_table(
        "kept",
        sa.Column("component", Name, primary_key=True),
        sa.Column("field", Name, primary_key=True),
        sa.Column("value", Long, nullable=False),
    )
    steps.create_table(
        "milestones",
        sa.Column("id", Id, primary_key=True),
        sa.Column("hash", Hash, nullable=False, unique=True),
        sa.Column("obsid_hash", Hash, nullable=False),
        sa.Column("obsid", Long, nullable=False),
        sa.Column("day_obs", sa.Integer, nullable=False),
        sa.Column("detector", Long, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("text", Long, nullable=False),
    )
    steps.create_index("ix_milestones_day", "milestones", ["day_obs", "id"])
    steps.create_index("ix_milestones_obsid", "milestones", ["obsid_hash", "id"])
    steps.create_table(
        "frames",
        sa.Column("id", Id, primary_key=True),
        sa.Column("path_hash", Hash, nullable=False, unique=True),
        sa.Column("path", Bytes, nullable=False),
        sa.Column("obsid_hash", Hash, nullable=False),
        sa.Column("obsid", Long, nullable=False),
        sa.Column("day_obs", sa.BigInteger, nullable=False),
        sa.Column("seq_num", sa.BigInteger, nullable=False),
        sa.Column("raft", Long, nullable=False),
        sa.Column("sensor", Long, nullable=False),
        sa.Column("filter", Long, nullable=False),
        sa.Column("exposure_time", sa.Double),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("hex", sa.String(128), nullable=False),
        sa.Column("ingested_at", sa.BigInteger, nullable=False),
        sa.Column("expired_at", sa.BigInteger),
        sa.Column("reason", sa.Text),
    )
    steps.create_index("ix_frames_day", "frames", ["day_obs", "id"])
    steps.create_index("ix_frames_obsid", "frames", ["obsid_hash", "id"])
    steps.create_index("ix_frames_expirable", "frames", ["expired_at", "ingested_at", "id"])
