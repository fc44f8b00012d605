"""A simulated ComCam and its header service: nine CCDs, an exposure every few seconds, headers by HTTP.

    python -m skystow.simulate.comcam DIR --exposures 3      raw frames and headers into DIR, to look at

Pixels and headers follow from the names of image and detector alone, so that whoever has archived a file can compare
it with what was made, also after a restart. What is being exposed is not there yet; any other image of this camera is.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import yaml

from skystow.errors import BadName, Missing, Stopped
from skystow.model.acts import Say
from skystow.model.messages import (
    EndReadout,
    LargeFileObjectAvailable,
    Message,
    StartIntegration,
    day_and_number,
    lawful_obsid,
    raft_and_sensor,
)
from skystow.ports import Stop
from skystow.ports.image import Amplifier, segments

COMCAM = tuple(f"R22_S{row}{column}" for row in range(3) for column in range(3))
LOCATIONS = {f"22/{row}": COMCAM[3 * row : 3 * row + 3] for row in range(3)}
"""A location of the DAQ is a bay and a board; a board has three CCDs."""

SMALL, FULL = (64, 32), (512, 256)
"""Columns and rows of an amplifier; `FULL` makes files of 8 MiB."""

FILTERS = ("g_01", "r_03", "i_06")
ADDRESS = "archiver/events"
LOOPBACK = "127.0.0.1"
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def expected_pixels(
    obsid: str, detector: str, shape: tuple[int, int] = SMALL
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """(amplifiers, rows, columns) of 18-bit counts, no two CCDs alike. `shape` is (columns, rows) of an amplifier."""
    columns, rows = shape
    count = len(segments(detector)) * rows * columns
    seed = zlib.crc32(f"{obsid} {detector}".encode())
    mixed = (np.arange(count, dtype=np.uint32) + np.uint32(seed)) * np.uint32(2_654_435_761)
    return (mixed >> np.uint32(14)).astype(np.int32).reshape(-1, rows, columns)


@lru_cache(maxsize=16)
def expected_header(obsid: str, detectors: tuple[str, ...] = COMCAM, exposure_time: float = 1.0) -> bytes:
    """The YAML that the header service gives out for an image."""
    day, number = day_and_number(obsid) or (19700101, 0)
    seed = zlib.crc32(obsid.encode())

    def cards(*each: tuple[str, object, str]) -> list[dict[str, object]]:
        return [{"keyword": keyword, "value": value, "comment": comment} for keyword, value, comment in each]

    header = {
        "PRIMARY": cards(
            ("SIMPLE", True, "conforms to FITS standard"),
            ("BITPIX", 8, "array data type"),
            ("OBSID", obsid, "image name"),
            ("DAYOBS", str(day), "observing day"),
            ("SEQNUM", number, "number of the image in the day"),
            ("CAMCODE", obsid[:2], "camera"),
            ("INSTRUME", "ComCam", "instrument"),
            ("FILTER", FILTERS[seed % len(FILTERS)], "filter in the beam"),
            ("EXPTIME", exposure_time, "exposure time, seconds"),
            ("DARKTIME", exposure_time + 0.1, "dark time, seconds"),
            ("RA", "12:34:56.7", "right ascension, as it was asked for"),
            ("AIRMASS", float("nan"), "not known to a simulator"),
        )
    }
    for detector in detectors:
        raft, sensor = raft_and_sensor(detector)
        name = f"R{raft}S{sensor}"
        header[f"{name}_PRIMARY"] = cards(
            ("RAFTBAY", f"R{raft}", "raft"),
            ("CCDSLOT", f"S{sensor}", "sensor"),
            ("CCDSERN", f"SIM-{zlib.crc32(name.encode()) % 1000:03d}", "serial number"),
        )
        for segment in segments(detector):
            header[f"{name}_{segment}"] = cards(
                ("EXTNAME", segment, "amplifier"),
                ("CHANNEL", segments(detector).index(segment) + 1, "channel of the readout board"),
                ("GAIN", 1.0 + (zlib.crc32(f"{name}{segment}".encode()) % 100) / 1000, "electrons per count"),
            )
    return str(yaml.dump(header, Dumper=_DUMPER, sort_keys=False)).encode()


class ComCam:
    """The `Camera` port. `shape` is (columns, rows) of an amplifier."""

    def __init__(self, name: str = "comcam", *, names: Sequence[str] = COMCAM, shape: tuple[int, int] = SMALL) -> None:
        self.name, self.shape = name, shape
        self._names = tuple(names)
        self._exposing: set[str] = set()

    def detectors(self) -> tuple[str, ...]:
        return self._names

    def expose(self, obsid: str) -> None:
        self._exposing.add(obsid)

    def read_out(self, obsid: str) -> None:
        self._exposing.discard(obsid)

    def has(self, obsid: str) -> bool:
        return day_and_number(obsid) is not None and obsid not in self._exposing

    def read(self, obsid: str, detector: str, *, stop: Stop) -> Sequence[Amplifier]:
        if stop.is_set():
            raise Stopped("stopped before a CCD was read")
        if not self.has(lawful_obsid(obsid)) or detector not in self._names:
            raise Missing(f"{self.name} has no {detector} of {obsid} (yet)")
        columns, rows = self.shape
        pixels = expected_pixels(obsid, detector, self.shape).astype("<i4", copy=False)
        return [
            Amplifier(name, columns, rows, each.tobytes())
            for name, each in zip(segments(detector), pixels, strict=True)
        ]


class HeaderService:
    """Gives out `http://<host>:<port>/<obsid>.yaml` once an image was read out; `port` 0: any. It listens where `host`
    is, which others must know by the same name."""

    def __init__(self, camera: ComCam, *, host: str = LOOPBACK, port: int = 0, exposure_time: float = 1.0) -> None:
        self.camera, self.host, self.exposure_time = camera, host, exposure_time
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the library's name
                content = service.content(self.path)
                self.send_response(200 if content else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[HeaderService]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self.close()

    def close(self) -> None:
        self._server.server_close()

    def content(self, path: str) -> bytes:
        """b"" for what is not there (yet)."""
        try:
            obsid = lawful_obsid(path.removeprefix("/").removesuffix(".yaml"))
        except BadName:
            return b""
        known = path.endswith(".yaml") and self.camera.has(obsid)
        return expected_header(obsid, self.camera.detectors(), self.exposure_time) if known else b""

    def announced(self, obsid: str) -> LargeFileObjectAvailable:
        content = self.content(f"/{obsid}.yaml")
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return LargeFileObjectAvailable(obsid, f"{self.url}/{obsid}.yaml", len(content), md5, "CCHeaderService")


@dataclass(frozen=True, slots=True)
class Programme:
    """What to observe: `exposures` (None: until it is stopped) images from `first` on, one begun every `cadence`
    seconds. `late`: seconds by which the camera's clock is ahead of ours."""

    exposures: int | None = 3
    day_obs: int = 20210304
    first: int = 1
    cadence: float = 5.0
    exposure_time: float = 1.0
    readout_time: float = 0.5
    late: float = 0.0

    def obsid(self, index: int) -> str:
        return f"CC_O_{self.day_obs:08d}_{self.first + index:06d}"


class Observe:
    """Takes exposures, and says so. `publish` is that of a `Bus`, or anything that takes what is to be said."""

    def __init__(
        self,
        camera: ComCam,
        headers: HeaderService,
        publish: Callable[[Sequence[Say]], None],
        programme: Programme,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.camera, self.headers, self.publish, self.programme, self.clock = camera, headers, publish, programme, clock
        self.taken: list[str] = []

    def run(self, stop: Stop) -> None:
        """Returns when the programme is done, or at `stop`; an exposure that was begun is ended all the same."""
        begin, index, wanted = self.clock(), 0, self.programme.exposures
        while not stop.is_set() and (wanted is None or index < wanted):
            self.expose(self.programme.obsid(index), index, stop)
            index += 1
            pause = (begin + timedelta(seconds=index * self.programme.cadence) - self.clock()).total_seconds()
            if wanted is None or index < wanted:
                stop.wait(max(0.0, pause))

    def expose(self, obsid: str, index: int, stop: Stop) -> None:
        programme, count = self.programme, self.programme.exposures or 1
        self.camera.expose(obsid)
        self.taken.append(obsid)
        day, number = day_and_number(obsid) or (programme.day_obs, programme.first + index)
        self._say(
            StartIntegration(
                obsid, self._time(), index, count, f"{day:08d}", number, programme.exposure_time, obsid[:2], obsid[3:4]
            )
        )
        stop.wait(programme.exposure_time + programme.readout_time)
        self.camera.read_out(obsid)
        self._say(EndReadout(obsid, self._time(), index, count))
        self._say(self.headers.announced(obsid))

    def _time(self) -> datetime:
        return self.clock() + timedelta(seconds=self.programme.late)

    def _say(self, message: Message) -> None:
        self.publish([Say(ADDRESS, message)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.simulate.comcam", description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--exposures", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="amplifiers of 512 × 256 pixels: files of 8 MiB")
    given = parser.parse_args(arguments)
    programme = Programme(exposures=given.exposures)
    for obsid in map(programme.obsid, range(given.exposures)):
        (given.directory / obsid).mkdir(parents=True, exist_ok=True)
        (given.directory / f"{obsid}.yaml").write_bytes(expected_header(obsid))
        for detector in COMCAM:
            frame = expected_pixels(obsid, detector, FULL if given.full else SMALL)
            np.save(given.directory / obsid / f"{detector}.npy", frame.astype("<i4"), allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
