"""Whether a file finds room at a place, asked before its bytes flow."""

from __future__ import annotations

from skystow.errors import FileFault, NoRoom, TooLarge
from skystow.model.records import shown
from skystow.model.transfer import Work
from skystow.ports import Room

SMALL = 1 << 20
"""Bytes up to which a file is not worth the question: the pump has asked whether there is room at all."""


def no_room(work: Work, size: int, room: Room, *, place: str) -> FileFault | None:
    """Why a file of `size` bytes is not begun: `NoRoom`, `TooLarge`; None where it fits and leaves `min_free`."""
    if size <= SMALL or size <= room.spare:
        return None
    what = f"{place}: {shown(work.target)} has {size / 1e6:,.1f} MB"
    most = room.total - room.free + room.spare
    if size > most:
        return TooLarge(
            f"{what}, no more than {max(0, most) / 1e6:,.1f} MB fit there at all, and leave min_free",
            remedy="lower min_free or choose a larger place, then skystow retry",
        )
    return NoRoom(
        f"{what}, {max(0, room.spare) / 1e6:,.1f} MB may be written there now",
        remedy="make room there (min_free must be left); skystow looks again every few minutes",
    )
