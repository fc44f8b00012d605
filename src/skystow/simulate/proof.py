"""Archived images and their manifests, compared with what the simulated ComCam made.

Reads FITS with astropy, as an astronomer would, and knows nothing of how skystow writes it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits  # type: ignore[import-untyped]

from skystow.model.messages import day_and_number, file_name, raft_and_sensor
from skystow.ports.image import segments
from skystow.simulate.comcam import COMCAM, SMALL, expected_header, expected_pixels

_OURS = ("SIMPLE", "BITPIX", "EXTNAME")
"""Said by whoever writes the file, and looked at as structure."""


def files(root: Path) -> set[str]:
    """Paths of all files below `root`, but for skystow's own staging."""
    return {
        os.path.relpath(os.path.join(directory, name), root)
        for directory, _, names in os.walk(root)
        for name in names
        if not os.path.relpath(directory, root).startswith(".skystow")
    }


@dataclass
class Truth:
    """What the camera made. `shape` is (columns, rows) of an amplifier."""

    obsids: Sequence[str]
    detectors: Sequence[str] = COMCAM
    shape: tuple[int, int] = SMALL
    exposure_time: float = 1.0
    _proven: dict[tuple[str, str], str] = field(default_factory=dict)
    """Digest by exposure and CCD: the same bytes at another place need not be looked into again."""

    @staticmethod
    def day(obsid: str) -> str:
        """The directory of its day, `YYYY-MM-DD`."""
        day, _ = day_and_number(obsid) or (0, 0)
        return f"{day:08d}"[:4] + "-" + f"{day:08d}"[4:6] + "-" + f"{day:08d}"[6:]

    def images(self) -> dict[str, tuple[str, str]]:
        """Exposure and CCD, by path below OODS or Data Backbone."""
        return {
            f"{self.day(obsid)}/{file_name(obsid, *raft_and_sensor(detector))}": (obsid, detector)
            for obsid in self.obsids
            for detector in self.detectors
        }

    def manifests(self) -> dict[str, str]:
        return {f"{self.day(obsid)}/{obsid}.sha256": obsid for obsid in self.obsids}

    def paths(self) -> set[str]:
        return {*self.images(), *self.manifests()}

    def differences(self, root: Path, *, may_be_gone: bool = False) -> list[str]:
        """A sentence for each file below `root` that is missing (unless it `may_be_gone`), too many, or wrong."""
        found, name = files(root), root.name
        missing = set() if may_be_gone else self.paths() - found
        wrong = [f"missing in {name}: {path}" for path in sorted(missing)]
        wrong += [f"too many in {name}: {path}" for path in sorted(found - self.paths())]
        digests: dict[str, str] = {}
        for path, (obsid, detector) in self.images().items():
            if path in found:
                content = (root / path).read_bytes()
                digests[path] = hashlib.sha256(content).hexdigest()
                wrong += [
                    f"in {name}: {path}: {what}" for what in self._faults(content, digests[path], obsid, detector)
                ]
        for path, obsid in self.manifests().items():
            if path in found:
                wrong += [f"in {name}: {path}: {what}" for what in self._manifest_faults(root / path, obsid, digests)]
        return wrong

    def _faults(self, content: bytes, digest: str, obsid: str, detector: str) -> list[str]:
        if self._proven.get((obsid, detector)) == digest:
            return []
        faults = list(image_faults(content, obsid, detector, self))
        if not faults:
            self._proven[obsid, detector] = digest
        return faults

    def _manifest_faults(self, path: Path, obsid: str, digests: dict[str, str]) -> Iterator[str]:
        """As `sha256sum -c` reads it."""
        said = {}
        for line in path.read_text(encoding="ascii").splitlines():
            digest, _, name = line.partition("  ")
            said[f"{self.day(obsid)}/{name}"] = digest
        own = {path for path, (whose, _) in self.images().items() if whose == obsid}
        if own != said.keys():
            yield f"names {len(said)} files, {len(own)} belong to the exposure"
        yield from (
            f"{each} reads otherwise" for each in sorted(own & digests.keys()) if said.get(each) != digests[each]
        )


def image_faults(content: bytes, obsid: str, detector: str, truth: Truth) -> Iterator[str]:
    """What of one file is not as the camera and its header service made it."""
    try:
        with fits.open(BytesIO(content)) as units:
            yield from _unit_faults(units, obsid, detector, truth)
    except (OSError, KeyError, ValueError) as error:
        yield f"no FITS file that astropy reads: {error}"


def _unit_faults(units: Any, obsid: str, detector: str, truth: Truth) -> Iterator[str]:
    raft, sensor = raft_and_sensor(detector)
    names = segments(detector)
    if (found := tuple(unit.name.lower() for unit in units[1:])) != tuple(name.lower() for name in names):
        yield f"has the extensions {' '.join(found)}"
        return
    header = _header(obsid, tuple(truth.detectors), truth.exposure_time)
    for section in ("PRIMARY", f"R{raft}S{sensor}_PRIMARY"):
        yield from _card_faults(units[0].header, header[section])
    pixels = expected_pixels(obsid, detector, truth.shape)
    for unit, name, expected in zip(units[1:], names, pixels, strict=True):
        yield from (f"{name}: {what}" for what in _card_faults(unit.header, header[f"R{raft}S{sensor}_{name}"]))
        if unit.data is None or unit.data.dtype.kind != "i" or not np.array_equal(unit.data, expected):
            yield f"{name}: the pixels are not those that were taken"
    for unit in units:
        if (unit.verify_checksum(), unit.verify_datasum()) != (1, 1):
            yield f"{unit.name or 'the primary header'}: CHECKSUM or DATASUM is missing or wrong"


@lru_cache(maxsize=4)
def _header(obsid: str, detectors: tuple[str, ...], exposure_time: float) -> dict[str, list[dict[str, Any]]]:
    loaded: dict[str, list[dict[str, Any]]] = yaml.load(
        expected_header(obsid, detectors, exposure_time),
        Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),  # noqa: S506 - both are safe
    )
    return loaded


def _card_faults(header: Any, cards: Iterable[dict[str, Any]]) -> Iterator[str]:
    for card in cards:
        keyword, value = card["keyword"], card["value"]
        if keyword in _OURS:
            continue
        if keyword not in header:
            yield f"{keyword} is missing"
            continue
        found = header[keyword]
        if isinstance(value, float) and not math.isfinite(value):
            same = found is None or isinstance(found, fits.card.Undefined)  # FITS has no other word for it
        else:
            same = found == value and isinstance(found, bool) == isinstance(value, bool)
        if not same:
            yield f"{keyword} is {found!r}, was {value!r}"
        elif header.comments[keyword] != card["comment"]:
            yield f"{keyword} has the comment ‘{header.comments[keyword]}’"
