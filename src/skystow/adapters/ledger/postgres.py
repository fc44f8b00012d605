"""A PostgreSQL connection that does not wait for ever: libpq itself has no limit for an answer."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from skystow.adapters.ledger import servers

T = TypeVar("T")


class Patient(psycopg.Connection[Any]):
    """What has no answer within `servers.ANSWER_S` seconds is hung up: a frozen server stops a call, no more."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, servers.ANSWER_S if timeout is None else timeout)
        except psycopg.Error:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # nobody knows what it was about to say
            raise
