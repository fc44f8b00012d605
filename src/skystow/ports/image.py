"""The doors of the image door's hands: the camera, and the OODS's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol

from skystow.model.records import Digest
from skystow.ports import Stop

SEGMENTS = (*(f"Segment1{column}" for column in range(8)), *(f"Segment0{column}" for column in range(7, -1, -1)))
"""Amplifiers of a science sensor in the order of the FITS extensions: Segment10 … 17, 07 … 00."""


def segments(detector: str) -> tuple[str, ...]:
    """Those that a detector has: 16, or 8 of a wavefront sensor's half (`R41_SW0`)."""
    return SEGMENTS[:8] if "_SW" in detector else SEGMENTS


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One segment's pixels: `pixels` holds `height` rows of `width` int32, little-endian."""

    name: str
    """`Segment10` …"""
    width: int
    height: int
    pixels: bytes


class Camera(Protocol):
    """Where pixels come from. A detector is named `R22_S00`."""

    name: str

    def detectors(self) -> Sequence[str]:
        """All that it has, in order."""
        ...

    def read(self, obsid: str, detector: str, *, stop: Stop) -> Sequence[Amplifier]:
        """One CCD of one image, amplifiers in the order of the FITS extensions. May be read again.
        Raises `Missing` while the image is not there (yet), `Unreadable`, `PlaceFault`."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One ingested file. `day_obs` YYYYMMDD; `exposure_time` seconds; `path` is absolute."""

    obsid: str
    day_obs: int
    seq_num: int
    raft: str
    sensor: str
    filter: str
    exposure_time: float
    path: PurePosixPath
    size: int
    digest: Digest
    ingested_at: datetime | None = None
    expired_at: datetime | None = None


class Catalogue(Protocol):
    """The OODS's table of files. Identity is the path."""

    def register(self, frames: Sequence[Frame]) -> int:
        """Idempotent; returns how many were not known. A path that is known with another digest raises `Conflict`."""
        ...

    def find(
        self,
        *,
        day_obs: int | None = None,
        obsid: str | None = None,
        raft: str | None = None,
        sensor: str | None = None,
        path: PurePosixPath | None = None,
        expired: bool = False,
        after: int = 0,
        limit: int = 1000,
    ) -> Sequence[tuple[int, Frame]]:
        """A page, by id; what has expired only when it is asked for."""
        ...

    def expirable(self, *, older_than: float, after: int, limit: int) -> Sequence[tuple[int, Frame]]:
        """Not expired, ingested over `older_than` seconds ago, oldest first; a page by id."""
        ...

    def expired(self, ids: Sequence[int], reason: str) -> None: ...
