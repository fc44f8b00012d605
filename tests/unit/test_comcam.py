"""The simulated ComCam: what it says and when, and that it is the same at every start."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from skystow.errors import BadName, Missing
from skystow.model.acts import Say
from skystow.model.messages import EndReadout, LargeFileObjectAvailable, Message, StartIntegration
from skystow.simulate.comcam import (
    ADDRESS,
    COMCAM,
    FULL,
    LOCATIONS,
    ComCam,
    HeaderService,
    Observe,
    Programme,
    expected_pixels,
)

OBSID = "CC_O_20210304_000001"


class Sky:
    """A camera whose time passes as it waits."""

    def __init__(self, programme: Programme) -> None:
        self.camera = ComCam()
        self.headers = HeaderService(self.camera)
        self.now = datetime(2021, 3, 5, tzinfo=UTC)
        self.waits: list[float] = []
        self.said: list[tuple[datetime, Message]] = []
        self.there: list[bool] = []
        self.stop_after: int | None = None
        self.observe = Observe(self.camera, self.headers, self.publish, programme, clock=lambda: self.now)

    def publish(self, says: Sequence[Say]) -> None:
        for say in says:
            assert say.to == ADDRESS
            self.said.append((self.now, say.message))
            self.there.append(self.camera.has(say.message.key))

    def is_set(self) -> bool:
        return self.stop_after is not None and len(self.observe.taken) >= self.stop_after

    def wait(self, timeout: float) -> bool:
        self.now += timedelta(seconds=timeout)
        return self.is_set()


def test_a_programme_of_three() -> None:
    sky = Sky(Programme(exposures=3, cadence=5.0, exposure_time=1.0, readout_time=0.5))
    sky.observe.run(sky)
    assert sky.observe.taken == [f"CC_O_20210304_00000{number}" for number in (1, 2, 3)]
    assert [type(message) for _, message in sky.said] == [StartIntegration, EndReadout, LargeFileObjectAvailable] * 3
    begun = sky.said[0][0]
    assert [(at - begun).total_seconds() for at, _ in sky.said] == [0, 1.5, 1.5, 5, 6.5, 6.5, 10, 11.5, 11.5]
    assert sky.there == [False, True, True] * 3, "pixels and header are there after the readout"
    first = sky.said[0][1]
    assert isinstance(first, StartIntegration)
    assert (first.image_date, first.image_number, first.image_index, first.images_in_sequence) == ("20210304", 1, 0, 3)
    assert (first.image_source, first.image_controller) == ("CC", "O")
    assert (first.exposure_time, first.at) == (1.0, begun)
    sky.headers.close()


def test_its_clock_may_be_ahead() -> None:
    sky = Sky(Programme(exposures=1, late=30.0))
    sky.observe.run(sky)
    at, message = sky.said[0]
    assert isinstance(message, StartIntegration)
    assert message.at == at + timedelta(seconds=30)
    sky.headers.close()


def test_what_was_begun_is_ended_when_it_is_stopped() -> None:
    sky = Sky(Programme(exposures=None))
    sky.stop_after = 4
    sky.observe.run(sky)
    assert len(sky.observe.taken) == 4
    assert [type(message) for _, message in sky.said][-1] is LargeFileObjectAvailable
    assert sky.camera.has(sky.observe.taken[-1])
    sky.headers.close()


def test_pixels_follow_from_the_names() -> None:
    stop = threading.Event()
    seen = set()
    for obsid in (OBSID, "CC_O_20210304_000002"):
        for detector in COMCAM:
            amplifiers = ComCam().read(obsid, detector, stop=stop)
            pixels = b"".join(each.pixels for each in amplifiers)
            assert pixels == ComCam().read(obsid, detector, stop=stop)[0].pixels + pixels[len(amplifiers[0].pixels) :]
            assert np.array_equal(np.frombuffer(pixels, "<i4"), expected_pixels(obsid, detector).ravel())
            seen.add(pixels)
    assert len(seen) == 18
    assert 0 <= expected_pixels(OBSID, "R22_S00").min() <= expected_pixels(OBSID, "R22_S00").max() < 2**18
    assert expected_pixels(OBSID, "R22_S00", FULL).nbytes == 8 * 2**20
    assert sorted(ccd for board in LOCATIONS.values() for ccd in board) == sorted(COMCAM)


@pytest.mark.parametrize(("obsid", "detector"), [("x", "R22_S00"), (OBSID, "R01_S00"), (OBSID, "")])
def test_what_it_does_not_have(obsid: str, detector: str) -> None:
    with pytest.raises(Missing):
        ComCam().read(obsid, detector, stop=threading.Event())


def test_a_name_that_is_none() -> None:
    with pytest.raises(BadName):
        ComCam().read("../x", "R22_S00", stop=threading.Event())


@pytest.mark.parametrize("path", ["/", "/x.yaml", f"/{OBSID}", f"/a/{OBSID}.yaml", "/../x.yaml"])
def test_paths_that_the_header_service_does_not_have(path: str) -> None:
    service = HeaderService(ComCam())
    assert service.content(path) == b""
    assert service.content(f"/{OBSID}.yaml").startswith(b"PRIMARY:")
    service.close()


def test_a_header_service_comes_back_under_its_port() -> None:
    first = HeaderService(ComCam())
    with first.serving():
        url = first.url
    again = HeaderService(ComCam(), port=int(url.rpartition(":")[2]))
    assert again.url == url
    again.close()
