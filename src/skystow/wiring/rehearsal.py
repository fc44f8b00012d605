"""A site at work with a simulated ComCam and its header service in the same process: what `make run` starts.

    python -m skystow.wiring.rehearsal SITE --log FILE [--exposures 60] [--cadence 5] [--alone [--host NAME]]

The camera begins when the Archiver is ENABLED (`skystow control SITE archiver start`, then `enable`). What it does is
written to the log, one JSON line each: `what` (`headers`, `begun`, `announced`), `obsid` and `at` (Unix seconds).
Started again with the same log, it takes the exposures that are left, and once more the one that was cut off: nobody
has its pixels yet. Goes on archiving when all is taken, until SIGTERM; exit 0 then.

With `--alone` camera and header service are all that runs: components have processes of their own (`skystow run SITE
--component …`), with the same site file. Events go to the Archiver by SAL, where the site speaks it, else by the site's
ledger, which is waited for where it is away; pixels each forwarder makes by itself, as they follow from an exposure's
name.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skystow.config import Site, load
from skystow.config.image import Image
from skystow.errors import ConfigError, PlaceFault, Stopped
from skystow.model.acts import Say
from skystow.model.lifecycle import Summary
from skystow.model.messages import LargeFileObjectAvailable, StartIntegration
from skystow.service.halt import Halt
from skystow.service.host import run_together
from skystow.simulate.comcam import LOOPBACK, ComCam, HeaderService, Observe, Programme
from skystow.wiring import build, ledgers, sal
from skystow.wiring.image import audiences, component_names, control_directory, make_camera

if TYPE_CHECKING:
    from skystow.adapters.ledger import SqlLedger

HEADERS, BEGUN, ANNOUNCED = "headers", "begun", "announced"

REST = 0.5
"""Seconds between two tries at a ledger that is away."""

Publish = Callable[[Sequence[Say]], None]
Result = TypeVar("Result")


class Diary:
    """What the camera did, for whoever goes on, or compares. A line that a kill cut off counts for nothing."""

    def __init__(self, path: Path) -> None:
        self.taken: set[str] = set()
        self.port = 0
        """Of the header service: what was announced before a kill is fetched after it, from the same address."""
        before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in before:
            with suppress(ValueError):
                self._read(json.loads(line))
        self._file = path.open("a", encoding="utf-8")
        if before:
            self._file.write("\n")  # ours is not to be joined to a line that was cut off

    def _read(self, said: dict[str, Any]) -> None:
        self.port = said.get("port", self.port)
        if said["what"] == ANNOUNCED:
            self.taken.add(said["obsid"])

    def write(self, **said: object) -> None:
        self._file.write(json.dumps({**said, "at": time.time()}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def left(programme: Programme, taken: set[str]) -> Programme | None:
    """What is still to be observed; None: all was taken."""
    count = programme.exposures or 0
    number = next((n for n in range(count) if programme.obsid(n) not in taken), None)
    if number is None:
        return None
    return Programme(
        count - number,
        programme.day_obs,
        programme.first + number,
        programme.cadence,
        programme.exposure_time,
        programme.readout_time,
    )


class Camera:
    """The outside world, in a thread or a process of its own: it speaks when it likes. `host`: the name by which others
    reach its header service."""

    def __init__(
        self, camera: ComCam, programme: Programme, diary: Diary, publish: Publish, *, host: str = LOOPBACK
    ) -> None:
        self.camera, self.programme, self.diary, self.publish, self.host = camera, programme, diary, publish, host

    def observe(self, enabled: Callable[[], bool], halt: Halt) -> None:
        """From when the Archiver is `enabled` until `halt`."""
        exposure_time = self.programme.exposure_time
        service = HeaderService(self.camera, host=self.host, port=self.diary.port, exposure_time=exposure_time)
        with service.serving() as headers:
            self.diary.write(what=HEADERS, port=int(headers.url.rpartition(":")[2]))
            while not enabled() and not halt.wait(0.1):
                pass
            if (remaining := left(self.programme, self.diary.taken)) is not None:
                Observe(self.camera, headers, self.say, remaining).run(halt)
            while not halt.wait(1.0):  # headers are fetched, again if need be, as long as we run
                pass

    def say(self, says: Sequence[Say]) -> None:
        for say in says:
            if isinstance(say.message, StartIntegration):
                self.diary.write(what=BEGUN, obsid=say.message.key)
        self.publish(says)
        for say in says:
            if isinstance(say.message, LargeFileObjectAvailable):
                self.diary.write(what=ANNOUNCED, obsid=say.message.key)


def _image(config: Site) -> tuple[Image, ComCam]:
    """The site's image door and its camera. Raises `ConfigError`."""
    if config.image is None:
        raise ConfigError("this site has no image:", remedy="without a camera there is nothing to rehearse")
    camera = make_camera(config.image.forwarders[0], config.image)
    if not isinstance(camera, ComCam):
        raise ConfigError("the camera of this site is no simulated one, which is all that can be rehearsed with")
    return config.image, camera


def rehearse(path: str, config: Site, programme: Programme, diary: Diary, halt: Halt) -> None:
    """Until `halt`. Raises `ConfigError` and other `OperatorFault`s."""
    _, camera = _image(config)

    def ended(future: Future[None]) -> None:
        if future.exception() is not None:
            halt.set()

    with build(config) as house, ThreadPoolExecutor(1, "camera") as thread:
        imaging = house.imaging
        assert imaging is not None  # noqa: S101 - of every site
        imaging.cameras = lambda _config, _image: camera
        components = house.components(component_names(config))
        archiver = components["archiver"].talk
        assert archiver is not None  # noqa: S101 - of every component of a site

        def publish(says: Sequence[Say]) -> None:
            imaging.ledger.bus.publish(says)
            imaging.bells.ring()

        outside = Camera(camera, programme, diary, publish)
        observing = thread.submit(outside.observe, lambda: archiver.state is Summary.ENABLED, halt)
        observing.add_done_callback(ended)
        try:
            asyncio.run(run_together(components, halt, control_directory(path, config)))
        finally:
            halt.set()
        observing.result()


def observe(config: Site, programme: Programme, diary: Diary, halt: Halt, *, host: str = LOOPBACK) -> None:
    """The instrument alone, until `halt`; SAL or the ledger says when the Archiver is ENABLED. Raises `ConfigError` and
    other `OperatorFault`s."""
    image, camera = _image(config)
    if image.sal is not None:
        with sal.instrument(image, _note) as voice:
            Camera(camera, programme, diary, voice.publish, host=host).observe(lambda: voice.enabled, halt)
        return
    with _ledger(config, halt) as ledger:

        def publish(says: Sequence[Say]) -> None:
            _patiently(lambda: ledger.bus.publish(says), halt)

        def enabled() -> bool:
            return _patiently(lambda: ledger.talks.kept(image.name).get("state"), halt) == Summary.ENABLED.name

        Camera(camera, programme, diary, publish, host=host).observe(enabled, halt)


@contextmanager
def _ledger(config: Site, halt: Halt) -> Iterator[SqlLedger]:
    from skystow.adapters.clock import SystemClock

    where, clock, policy, others = ledgers.site_ledger(config), SystemClock(), config.retry.policy(), audiences(config)
    with ExitStack() as stack:
        yield _patiently(lambda: stack.enter_context(ledgers.open_at(where, clock, policy, others)), halt)


def _note(text: str) -> None:
    print(f"SAL: {text}", file=sys.stderr, flush=True)


def _patiently(call: Callable[[], Result], halt: Halt) -> Result:
    """While the ledger is away it is tried again: a camera does not say twice what nobody could take. Raises `Stopped`
    at `halt`."""
    while True:
        try:
            return call()
        except PlaceFault as fault:
            if halt.wait(REST):
                raise Stopped("stopped while the ledger was away") from fault


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m skystow.wiring.rehearsal", description=__doc__.partition("\n")[0])
    parser.add_argument("site", help="a site file whose forwarders have a simulated camera")
    parser.add_argument("--log", type=Path, required=True, help="what the camera did; read where it is there")
    parser.add_argument("--exposures", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--cadence", type=float, default=5.0, help="seconds from one to the next (default 5)")
    parser.add_argument("--exposure-time", type=float, default=1.0, help="seconds (default 1)")
    parser.add_argument("--alone", action="store_true", help="no component runs here")
    parser.add_argument(
        "--host", default=LOOPBACK, help=f"with --alone: where the header service listens, and is found ({LOOPBACK})"
    )
    given = parser.parse_args(argv)
    if given.host != LOOPBACK and not given.alone:
        parser.error("--host is for --alone")
    halt = Halt()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: halt.set())
    programme = Programme(given.exposures, cadence=given.cadence, exposure_time=given.exposure_time)
    try:
        with closing(Diary(given.log)) as diary, suppress(Stopped):
            if given.alone:
                observe(load(given.site), programme, diary, halt, host=given.host)
            else:
                rehearse(given.site, load(given.site), programme, diary, halt)
    except ConfigError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
