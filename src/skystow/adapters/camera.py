"""A camera that is a directory of raw frames:

    <root>/<obsid>/<R22_S00>.npy      one CCD: NumPy's format, int32 (either byte order), (amplifiers, rows, columns)

Amplifiers in the order of the FITS extensions. Whoever writes frames renames them to their names when they are whole.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.lib import format as npy

from skystow.adapters.tree import LocalTree
from skystow.errors import Stopped, Unreadable
from skystow.model.messages import lawful_obsid, raft_and_sensor
from skystow.model.records import shown
from skystow.ports import Stop
from skystow.ports.image import Amplifier, segments

LARGEST = 1 << 30
"""Bytes of a frame; more is none."""


class RawFrames:
    """The `Camera` port. `names` are its detectors."""

    def __init__(self, root: str, *, name: str, names: Sequence[str]) -> None:
        self.name = name
        self.tree = LocalTree(root, place=name)
        self._names = tuple(names)

    def detectors(self) -> Sequence[str]:
        return self._names

    def read(self, obsid: str, detector: str, *, stop: Stop) -> Sequence[Amplifier]:
        if stop.is_set():
            raise Stopped("stopped before a frame was read")
        raft_and_sensor(detector)
        path = PurePosixPath(lawful_obsid(obsid)) / f"{detector}.npy"
        fd, found = self.tree.open_file(path)
        with io.FileIO(fd, "r") as file:
            if found.st_size > LARGEST:
                raise Unreadable(f"{shown(path)} has {found.st_size} bytes: no frame")
            try:
                content = file.read(found.st_size)
            except OSError as error:
                raise self.tree.fault(error, path) from error
        return _amplifiers(content, detector, shown(path))


def _amplifiers(content: bytes, detector: str, what: str) -> Sequence[Amplifier]:
    names, start = segments(detector), io.BytesIO(content)
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(start) == (1, 0) else npy.read_array_header_2_0
        shape, by_column, kind = read(start)
    except ValueError as error:
        raise Unreadable(f"{what}: no frame in NumPy's format") from error
    if kind.newbyteorder("<") != np.dtype("<i4") or by_column or len(shape) != 3 or shape[0] != len(names):
        raise Unreadable(f"{what}: {shape} of {kind}, {len(names)} × rows × columns of int32 by rows are wanted")
    at, size = start.tell(), 4 * math.prod(shape)
    if min(shape) < 1 or len(content) - at != size:
        raise Unreadable(f"{what}: {len(content) - at} bytes of pixels, {size} are promised")
    if kind != np.dtype("<i4"):
        content, at = np.frombuffer(content, kind, offset=at).astype("<i4").tobytes(), 0
    each = size // len(names)
    pixels = memoryview(content)
    return [
        Amplifier(name, shape[2], shape[1], bytes(pixels[at + each * index : at + each * (index + 1)]))
        for index, name in enumerate(names)
    ]
