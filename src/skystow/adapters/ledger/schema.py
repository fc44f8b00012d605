"""The tables. `migrations/` makes exactly these; a test compares.

Times are BIGINT microseconds since the epoch, UTC, of the database's clock. Names of files are bytes. What makes a
thing the same thing is a hash of bytes, never a unique index on text: some collations hold `A.fits` and `a.fits` equal.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from skystow.model.transfer import State

HEAD = "0003"
"""The revision that this program reads and writes; the last one in `migrations/versions`."""

FOREVER = 2**62
"""`wake_at` of a transfer that waits for its upstream copy."""

_STATES = (State.WAITING, State.DONE, State.QUARANTINED, State.CANCELLED)
_CODES = {state: code for code, state in enumerate(_STATES)}

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER counts up by itself in SQLite


class Bytes(sa.LargeBinary):
    """Bytes as they are: every driver that we use takes and gives them, so nothing is wrapped or copied."""

    def bind_processor(self, _dialect: Any) -> None:
        return None

    def result_processor(self, _dialect: Any, _coltype: Any) -> None:
        return None


Hash = Bytes(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
Name = sa.String(100).with_variant(mysql.VARCHAR(100, collation="utf8mb4_bin"), "mysql", "mariadb")
Long = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
"""Text from outside, of any length: MySQL's TEXT ends at 64 KiB."""


class StateCode(sa.TypeDecorator[State]):
    """A `State` as a small integer, because it is part of the queue's index."""

    impl = sa.SmallInteger
    cache_ok = True

    def process_bind_param(self, value: State | None, _dialect: Any) -> int | None:
        return None if value is None else _CODES[value]

    def process_result_value(self, value: int | None, _dialect: Any) -> State | None:
        return None if value is None else _STATES[value]


metadata = sa.MetaData()

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("key", Hash, nullable=False, unique=True),  # sha256(archive \0 path)
    sa.Column("path_hash", sa.BigInteger, nullable=False, index=True),
    sa.Column("archive", Name, nullable=False),
    sa.Column("path", Bytes, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("boot_id", sa.String(64), nullable=False),
    sa.Column("pid_namespace", sa.String(64), nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("host", "boot_id", "pid_namespace", "pid", "started"),
)

arrivals = sa.Table(
    "arrivals",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name_key", Hash, nullable=False),  # sha256(source \0 key)
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("source", Name, nullable=False),
    sa.Column("key", Bytes, nullable=False),
    sa.Column("origin", Bytes, nullable=False),
    sa.Column("origin_hash", sa.BigInteger, nullable=False, index=True),
    sa.Column("file_id", Id, sa.ForeignKey("files.id"), nullable=False, index=True),
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

transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("arrival_id", Id, sa.ForeignKey("arrivals.id"), nullable=False),
    sa.Column("file_id", Id, sa.ForeignKey("files.id"), nullable=False, index=True),
    sa.Column("source", Name, nullable=False),  # the upstream destination, or the arrival's source
    sa.Column("destination", Name, nullable=False),
    sa.Column("upstream", Name),
    sa.Column("required", sa.Boolean, nullable=False),
    sa.Column("owned", sa.Boolean, nullable=False),
    sa.Column("state", StateCode, nullable=False),
    # 0: claimable; with a token: end of the lease; without: when it is tried again; FOREVER: upstream is not done.
    # DONE: since when (0: by a version that did not write it)
    sa.Column("wake_at", sa.BigInteger, nullable=False),
    sa.Column("abandoned", sa.Integer, nullable=False),
    sa.Column("neg_priority", sa.Integer, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("cap", sa.Integer, nullable=False),  # of the next batch that it is in; 0: none
    sa.Column("alone", sa.Integer, nullable=False),  # deaths with it alone in a batch, running
    sa.Column("batch", sa.Integer, nullable=False),  # how many are under its token
    sa.Column("token", sa.String(32), index=True),
    sa.Column("worker_id", Id, sa.ForeignKey("workers.id")),
    sa.Column("size", sa.BigInteger),
    sa.Column("algorithm", sa.String(16)),  # of `hex`: promised until DONE, then proven
    sa.Column("hex", sa.String(128)),
    sa.Column("fault", sa.String(32)),
    sa.Column("error", sa.Text),
    sa.Column("done_at", sa.BigInteger),
    sa.Column("verified_at", sa.BigInteger),
    sa.Column("removed_at", sa.BigInteger),
    sa.Column("settled", sa.String(48)),  # token and kind of the last verdict: so that it can be said twice
    sa.UniqueConstraint("arrival_id", "destination"),
    sa.Index(
        "ix_transfers_queue",
        *("source", "destination", "state", "wake_at", "abandoned", "neg_priority", "rank", "id"),
    ),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("arrival_id", Id, sa.ForeignKey("arrivals.id"), nullable=False),
    sa.Column("transfer_id", Id, sa.ForeignKey("transfers.id")),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("worker_id", Id, sa.ForeignKey("workers.id"), nullable=False),
    sa.Column("digest", sa.String(160)),
    sa.Column("text", sa.Text),
    sa.Index("ix_events_arrival", "arrival_id", "id"),
)

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("audience", Name, nullable=False, server_default="journal"),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("transfer_id", Id, sa.ForeignKey("transfers.id"), nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("sent_at", sa.BigInteger),
    sa.Index("ix_notices_outbox", "audience", "sent_at", "id"),
)

places = sa.Table(
    "places",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("root", Bytes),
    sa.Column("well", sa.Boolean),
    sa.Column("since", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("next_probe", sa.BigInteger),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name_key", Hash, nullable=False, unique=True),  # sha256(source \0 key)
    sa.Column("source", Name, nullable=False),
    sa.Column("key", Bytes, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

identity = sa.Table(
    "identity",
    metadata,
    sa.Column("one", sa.SmallInteger, primary_key=True, autoincrement=False),  # always 1
    sa.Column("digits", sa.String(32), nullable=False),
)

# ── the image door ──────────────────────────────────────────────────────────────────────────────────────────────

talks = sa.Table(
    "talks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("hash", Hash, nullable=False, unique=True),  # of (component, key)
    sa.Column("component", Name, nullable=False),
    sa.Column("key", Long, nullable=False),
    sa.Column("began_at", sa.BigInteger, nullable=False),
    sa.Column("closed_at", sa.BigInteger),
    sa.Index("ix_talks_open", "component", "closed_at", "id"),
)

steps = sa.Table(
    "steps",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("hash", Hash, nullable=False, unique=True),  # of (talk, kind, body)
    sa.Column("talk_id", Id, sa.ForeignKey("talks.id"), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("body", Long, nullable=False),
    sa.Index("ix_steps_talk", "talk_id", "id"),
)

parcels = sa.Table(
    "parcels",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("address_hash", Hash, nullable=False),
    sa.Column("address", Long, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("body", Long, nullable=False),
    sa.Column("sender", Name, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("unreadable", sa.Boolean, nullable=False),  # a dead letter tells of it
    sa.Index("ix_parcels_address", "address_hash", "unreadable", "id"),
    sqlite_autoincrement=True,  # a number is never given twice: who accepts an old one must not hit a new one
)

board = sa.Table(
    "board",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("hash", Hash, nullable=False, unique=True),  # of (list or keys, key)
    sa.Column("key", Long, nullable=False),
    sa.Column("value", Long, nullable=False),
    sa.Column("expires_at", sa.BigInteger),  # null: on the list of forwarders, in the order of ids
    sa.Index("ix_board_expiry", "expires_at", "id"),
)

kept = sa.Table(
    "kept",
    metadata,
    sa.Column("component", Name, primary_key=True),
    sa.Column("field", Name, primary_key=True),
    sa.Column("value", Long, nullable=False),
)

milestones = sa.Table(
    "milestones",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("hash", Hash, nullable=False, unique=True),  # of (obsid, detector, what), FAULT: and number and text
    sa.Column("obsid_hash", Hash, nullable=False),
    sa.Column("obsid", Long, nullable=False),
    sa.Column("day_obs", sa.Integer, nullable=False),
    sa.Column("detector", Long, nullable=False),
    sa.Column("what", sa.String(16), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("text", Long, nullable=False),
    sa.Index("ix_milestones_day", "day_obs", "id"),
    sa.Index("ix_milestones_obsid", "obsid_hash", "id"),
)

frames = sa.Table(
    "frames",
    metadata,
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
    sa.Column("exposure_time", sa.Double),  # null: no number
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("algorithm", sa.String(16), nullable=False),
    sa.Column("hex", sa.String(128), nullable=False),
    sa.Column("ingested_at", sa.BigInteger, nullable=False),
    sa.Column("expired_at", sa.BigInteger),
    sa.Column("reason", sa.Text),  # why it expired
    sa.Index("ix_frames_day", "day_obs", "id"),
    sa.Index("ix_frames_obsid", "obsid_hash", "id"),
    sa.Index("ix_frames_expirable", "expired_at", "ingested_at", "id"),
)
