"""The first ledger."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from skystow.adapters.ledger.migrations import steps

revision = "0001"
down_revision = None

Bytes = sa.LargeBinary
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Hash = Bytes(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
Name = sa.String(100).with_variant(mysql.VARCHAR(100, collation="utf8mb4_bin"), "mysql", "mariadb")


def upgrade() -> None:
    steps.create_table(
        "files",
        sa.Column("id", Id, primary_key=True),
        sa.Column("key", Hash, nullable=False, unique=True),
        sa.Column("path_hash", sa.BigInteger, nullable=False),
        sa.Column("archive", Name, nullable=False),
        sa.Column("path", Bytes, nullable=False),
    )
    steps.create_index("ix_files_path_hash", "files", ["path_hash"])
    steps.create_table(
        "workers",
        sa.Column("id", Id, primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("pid_namespace", sa.String(64), nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("host", "boot_id", "pid_namespace", "pid", "started"),
    )
    steps.create_table(
        "arrivals",
        sa.Column("id", Id, primary_key=True),
        sa.Column("name_key", Hash, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("key", Bytes, nullable=False),
        sa.Column("origin", Bytes, nullable=False),
        sa.Column("origin_hash", sa.BigInteger, nullable=False),
        sa.Column("file_id", Id, sa.ForeignKey("files.id"), nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("inode", sa.BigInteger),
        sa.Column("ctime_ns", sa.BigInteger),
        sa.Column("claimed_algorithm", sa.String(16)),
        sa.Column("claimed_hex", sa.String(128)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("rank", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("admitted_at", sa.BigInteger, nullable=False),
        sa.Column("retired_at", sa.BigInteger),
        sa.UniqueConstraint("name_key", "version"),
    )
    steps.create_index("ix_arrivals_file_id", "arrivals", ["file_id"])
    steps.create_index("ix_arrivals_origin_hash", "arrivals", ["origin_hash"])
    steps.create_table(
        "transfers",
        sa.Column("id", Id, primary_key=True),
        sa.Column("arrival_id", Id, sa.ForeignKey("arrivals.id"), nullable=False),
        sa.Column("file_id", Id, sa.ForeignKey("files.id"), nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("destination", Name, nullable=False),
        sa.Column("upstream", Name),
        sa.Column("required", sa.Boolean, nullable=False),
        sa.Column("owned", sa.Boolean, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("wake_at", sa.BigInteger, nullable=False),
        sa.Column("abandoned", sa.Integer, nullable=False),
        sa.Column("neg_priority", sa.Integer, nullable=False),
        sa.Column("rank", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cap", sa.Integer, nullable=False),
        sa.Column("alone", sa.Integer, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("token", sa.String(32)),
        sa.Column("worker_id", Id, sa.ForeignKey("workers.id")),
        sa.Column("size", sa.BigInteger),
        sa.Column("algorithm", sa.String(16)),
        sa.Column("hex", sa.String(128)),
        sa.Column("fault", sa.String(32)),
        sa.Column("error", sa.Text),
        sa.Column("done_at", sa.BigInteger),
        sa.Column("verified_at", sa.BigInteger),
        sa.Column("removed_at", sa.BigInteger),
        sa.UniqueConstraint("arrival_id", "destination"),
    )
    steps.create_index("ix_transfers_file_id", "transfers", ["file_id"])
    steps.create_index("ix_transfers_token", "transfers", ["token"])
    steps.create_index(
        "ix_transfers_queue",
        "transfers",
        ["source", "destination", "state", "wake_at", "abandoned", "neg_priority", "rank", "id"],
    )
    steps.create_table(
        "events",
        sa.Column("id", Id, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("arrival_id", Id, sa.ForeignKey("arrivals.id"), nullable=False),
        sa.Column("transfer_id", Id, sa.ForeignKey("transfers.id")),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("worker_id", Id, sa.ForeignKey("workers.id"), nullable=False),
        sa.Column("digest", sa.String(160)),
        sa.Column("text", sa.Text),
    )
    steps.create_index("ix_events_arrival", "events", ["arrival_id", "id"])
    steps.create_table(
        "notices",
        sa.Column("id", Id, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("transfer_id", Id, sa.ForeignKey("transfers.id"), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("sent_at", sa.BigInteger),
    )
    steps.create_index("ix_notices_unsent", "notices", ["sent_at", "id"])
    steps.create_table(
        "places",
        sa.Column("name", Name, primary_key=True),
        sa.Column("root", Bytes),
        sa.Column("well", sa.Boolean),
        sa.Column("since", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("next_probe", sa.BigInteger),
    )
