"""Time on SAL's wire: seconds of TAI, counted as Unix counts those of UTC. Nobody else knows the leap seconds."""

from __future__ import annotations

import math
from datetime import UTC, datetime

TAI_MINUS_UTC = 37.0
"""Seconds, since 2017-01-01. None is announced after that; earlier times would be wrong by the leap seconds since."""


def tai(at: datetime) -> float:
    """What a stamp of this moment is. `at` is aware."""
    return at.timestamp() + TAI_MINUS_UTC


def utc(stamp: float) -> datetime:
    """The moment of a stamp. Raises `ValueError` where it is none: no number, or before 1970 or after 9999."""
    if not math.isfinite(stamp) or stamp < TAI_MINUS_UTC:
        raise ValueError(f"{stamp} is no time")
    try:
        return datetime.fromtimestamp(stamp - TAI_MINUS_UTC, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{stamp} is no time") from error
