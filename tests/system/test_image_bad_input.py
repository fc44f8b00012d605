"""Whatever camera, header service and strangers say, to the components at work: it is written down with what and
whose, and a good exposure before and after it is complete. (Odd servers are in `test_headers`, odd FITS files in
`tests/unit/test_fits.py`, odd names of staged files in `test_landing`.)"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skystow.image.archiver import Archiver
from skystow.image.night import night as report
from skystow.model.acts import Milestone
from skystow.model.messages import (
    EndReadout,
    FileTransferCompletedAck,
    HeaderReadyAck,
    HealthCheckAck,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItemAck,
    StartIntegration,
    XferParamsAck,
)
from skystow.simulate.comcam import expected_header
from tests.system.landing_kit import frame
from tests.system.night_kit import CCDS, DAY, DAY_OBS, Night, running, until


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    quick = {"sweep_after": 0.3, "sweep_every": 0.3}
    with running(tmp_path_factory.mktemp("site"), controller=quick) as night:
        yield night


@pytest.fixture
def night(at_work: Night) -> Iterator[Night]:
    """A good exposure before what the test does, and one after it."""
    before = at_work.expose()
    at_work.complete(before)
    yield at_work
    at_work.complete(before, at_work.expose())


def archiver(night: Night) -> Archiver:
    talk = night.components["archiver"].talk
    assert talk is not None
    assert isinstance(talk.conversation, Archiver)
    return talk.conversation


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_without_a_lawful_name(night: Night) -> None:
    names = ["../../etc/passwd", "CC/O", "CC_O;touch x", "$(touch x)", "a b", "", "x" * 10_000]
    for name in names:
        night.publish(StartIntegration(name), EndReadout(name), LargeFileObjectAvailable(name, "http://127.0.0.1/x"))
        night.publish(ImageRetrieval(name, "22", "00", "x", 0, "retrieved"), to="archiver")
    night.publish(*(night.transferred("/etc/passwd", name) for name in names[:-2]), to="controller")
    for name in names:
        for kind in ("StartIntegration", "EndReadout", "LargeFileObjectAvailable", "ImageRetrieval"):
            field = "obsid" if kind == "ImageRetrieval" else "image_id"
            letter = night.buried(f"{kind} {{", f'"{field}": "{name[:500]}' + ("" if name[500:] else '"'))
            assert letter.source == archiver(night).settings.name
            assert "is no name of an image" in letter.reason
    for name in names[:-2]:
        assert night.buried("FileTransferCompleted", name).source == "controller"
    assert night.answers() == []
    assert list(night.here.rglob("x")) == []


def test_what_is_no_message(night: Night) -> None:
    night.ledger.bus.put("archiver/events", "StartIntegration", "{not JSON")
    night.ledger.bus.put("controller", "rm -rf", '{"image_id": "x"}')
    assert "archiver/events" in night.buried("not JSON").reason
    assert "controller" in night.buried("rm -rf").reason


# ── headers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def content(text: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


NOT_BY_HTTP = ["file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd", "http://", "javascript:0"]


def test_headers_that_are_not_by_http(night: Night) -> None:
    """Every CCD of such an exposure: told outside with the original's code, and written on its record."""
    bad = {night.obsid(): url for url in NOT_BY_HTTP}
    for obsid, url in bad.items():
        night.expose(obsid, header=LargeFileObjectAvailable(obsid, url))
    for obsid in bad:
        until(lambda obsid=obsid: len([each for each in night.told if each.key == obsid]) >= len(CCDS))  # type: ignore[misc]
        said = [each for each in night.told if isinstance(each, ImageRetrieval) and each.obsid == obsid]
        assert [each.status_code for each in said] == [5610] * len(CCDS)
        assert all("header" in each.description for each in said), said
        record = night.record(obsid)
        assert sorted({detector for detector, number, _ in record.faults if number == 5610}) == sorted(CCDS)
        assert record.missing() == sorted(CCDS)
        assert list(night.here.rglob(f"{obsid}-*")) == []


def slow(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.flush()
    threading.Event().wait(1.0)


def test_headers_that_may_yet_come(night: Night) -> None:
    """It is said on the exposure's record; when the service says better, the exposure is archived after all."""
    answers: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], str]] = {
        "404": (lambda handler: handler.send_error(404), ""),
        "500": (lambda handler: handler.send_error(500), ""),
        "ab" * 16: (content(b"PRIMARY: []"), "ab" * 16),
        "after 0 of 1000000 bytes": (slow, ""),
        "refers to itself": (content(BOMB.encode()), ""),
        "tag:yaml.org,2002:python": (content(b"PRIMARY: !!python/object/apply:os.system ['touch x']"), ""),
    }
    with ExitStack() as servers:
        bad = {}
        for reason, (answer, md5) in answers.items():
            obsid = bad[reason] = night.obsid()
            url = servers.enter_context(serving(answer))
            night.expose(obsid, header=LargeFileObjectAvailable(obsid, f"{url}/{obsid}.yaml", 0, md5))
        night.complete(night.expose())  # nobody waits for them
        for reason, obsid in bad.items():
            until(lambda obsid=obsid: night.faults(obsid))  # type: ignore[misc]
            assert reason in night.faults(obsid)[0], night.faults(obsid)
            assert night.record(obsid).missing() == sorted(CCDS)
            assert list(night.here.rglob(f"{obsid}-*")) == []
        night.publish(*(night.headers.announced(obsid) for obsid in bad.values()))
        for obsid in bad.values():
            until(lambda obsid=obsid: night.record(obsid).complete)  # type: ignore[misc]
    assert list(night.here.rglob("x")) == []


# ── acknowledgements ────────────────────────────────────────────────────────────────────────────────────────────


def test_acknowledgements_for_nothing_late_and_doubled(night: Night) -> None:
    known, unknown = f"CC_O_{DAY_OBS}_000001", f"CC_O_{DAY_OBS}_999999"
    before, lines = dict(archiver(night).exposures.ignored), night.ledger.talks.lines(obsid=known)
    told = len(night.told)
    acks: list[Message] = []
    for obsid in (known, unknown):
        acks += [
            NewArchiveItemAck("a_1", 1, "s", obsid, "/etc/", "CTRL"),
            XferParamsAck("a_2", obsid, "f99"),
            HeaderReadyAck("a_3", obsid, "f99"),
        ]
    acks.append(HealthCheckAck("a_4", "s", "CTRL"))
    night.publish(*acks, *acks, to="archiver")
    stray = FileTransferCompletedAck("/x", unknown, "22", "00", "s", "1", "CTRL")
    night.publish(stray, stray, to="forwarder/f99")
    night.publish(stray, to="controller")
    night.complete(night.expose())  # and by then they were heard
    counted = archiver(night).exposures.ignored
    for kind, number in (("NewArchiveItemAck", 4), ("XferParamsAck", 4), ("HeaderReadyAck", 4), ("HealthCheckAck", 2)):
        assert counted[kind] - before.get(kind, 0) == number
    assert night.ledger.talks.lines(obsid=known) == lines
    assert night.ledger.talks.lines(obsid=unknown) == []
    assert {each.key for each in night.told[told:]} & {known, unknown} == set()


def test_an_outcome_of_an_exposure_that_nobody_heard_of_is_told_once(night: Night) -> None:
    """An image that was made before we came is news to the world all the same."""
    stray = ImageInOODS("COMCAM", "CCArchiver", f"CC_O_{DAY_OBS}_888888", "22", "00", "x.fits", 0, "x.fits: ingested")
    night.publish(stray, stray, to="archiver")
    until(lambda: stray in night.told)
    night.complete(night.expose())
    assert night.told.count(stray) == 1


def test_every_event_doubled_and_in_any_order(night: Night) -> None:
    obsid = night.obsid()
    night.camera.read_out(obsid)
    header, ended = night.headers.announced(obsid), EndReadout(obsid)
    started = StartIntegration(obsid, image_date=str(DAY_OBS))
    night.publish(started, header, started, ended, header, ended, started)
    night.complete(obsid)
    night.publish(started, ended, header)
    night.complete(obsid)


# ── clocks and days ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_cameras_clock_is_not_ours(night: Night) -> None:
    images = [night.expose(late=30.0), night.expose(late=-30.0)]
    night.complete(*images)
    for obsid in images:
        record = night.record(obsid)
        assert all(0 <= spent < 25 for spent in record.seconds(Milestone.INGESTED))


def test_a_day_ends_in_the_middle_of_a_sequence(night: Night) -> None:
    """Each image goes where its own name and date say, and each night knows its own."""
    images = [f"CC_O_20210310_{99:06d}", f"CC_O_20210311_{1:06d}", f"CC_O_20210311_{2:06d}"]
    for obsid in images:
        night.expose(obsid)
    night.complete(*images)
    by_day = {
        day: report(day, night.ledger.talks.lines(day_obs=day)) for day in (20210309, 20210310, 20210311, 20210312)
    }
    assert {day: [each.obsid for each in found.exposures] for day, found in by_day.items()} == {
        20210309: [],
        20210310: images[:1],
        20210311: images[1:],
        20210312: [],
    }
    assert all(found.gaps == () for found in by_day.values())
    assert {each.parent.name for each in (night.here / "oods").rglob(f"{images[0]}*")} == {"2021-03-10"}


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_outside_staging(night: Night) -> None:
    here, day, odd = night.here, night.here / "staging" / DAY, [f"CC_O_{DAY_OBS}_77777{n}" for n in range(7)]
    (here / "secret").write_bytes(b"secret")
    (day / f"{odd[0]}-R22S00.fits").symlink_to(here / "secret")
    (day / f"{odd[1]}-R22S00.fits").mkdir()
    os.mkfifo(day / f"{odd[2]}-R22S00.fits")
    said = {
        f"{day}/{odd[0]}-R22S00.fits": "symbolic",
        f"{day}/{odd[1]}-R22S00.fits": "not a regular file",
        f"{day}/{odd[2]}-R22S00.fits": "not a regular file",
        "/etc/passwd": "is not in staging",
        f"{day}/../../secret": "no name of a file in staging",
        f"{day}/{odd[0]}-R22S01.fits": "whose name it does not bear",
        "": "is not in staging",
    }
    night.publish(*(night.transferred(name, obsid) for name, obsid in zip(said, odd, strict=True)), to="controller")
    for (name, reason), obsid in zip(said.items(), odd, strict=True):
        until(lambda obsid=obsid: night.faults(obsid))  # type: ignore[misc]
        assert reason in night.faults(obsid)[0]
        (letter,) = [each for each in night.letters() if (each.source, each.key) == ("staging", name.encode())]
        assert letter.reason == night.faults(obsid)[0]
        until(lambda obsid=obsid: any(isinstance(each, ImageInOODS) and each.key == obsid for each in night.told))  # type: ignore[misc]
    assert night.answers() == []
    assert (here / "secret").read_bytes() == b"secret"
    assert not [each for each in (here / "oods").rglob("*") if "77777" in each.name]


def test_another_size_or_checksum_than_announced_is_never_acknowledged(night: Night) -> None:
    obsid = f"CC_O_{DAY_OBS}_666666"
    night.camera.read_out(obsid)
    path = night.here / "staging" / DAY / f"{obsid}-R22S00.fits"
    path.write_bytes(frame(obsid=obsid))
    night.publish(night.transferred(str(path), obsid, checksum="ab" * 32, checksum_type="sha256"), to="controller")
    letter = night.buried(path.name)
    assert "was announced" in letter.reason
    night.complete(night.expose())
    assert night.answers() == []
    assert path.exists()
    assert list((night.here / "oods").rglob(f"{obsid}*")) == []  # nor by the sweep


def test_files_whose_message_was_lost(night: Night) -> None:
    """The sweep takes what is whole, and names the rest."""
    whole, cut, other = (f"CC_O_{DAY_OBS}_55555{n}" for n in range(3))
    day = night.here / "staging" / DAY
    (day / f"{cut}-R22S00.fits").write_bytes(frame(obsid=cut)[:-1])
    (day / f"{other}-R22S00.fits").write_bytes(frame(obsid=whole))
    (day / "README").write_text("hello")
    (day / f"{whole}-R22S00.fits").write_bytes(frame(obsid=whole))
    assert "cut off" in night.buried(f"{cut}-R22S00").reason
    assert f"its headers say {whole}" in night.buried(f"{other}-R22S00").reason
    assert "not named as a forwarder names files" in night.buried("README").reason
    until(lambda: Milestone.INGESTED in night.record(whole).detectors.get("R22_S00", {}))
    until(lambda: not (day / f"{whole}-R22S00.fits").exists())
    assert (night.here / "backbone" / DAY / f"{whole}-R22S00.fits").read_bytes() == frame(obsid=whole)
    assert "cut off" in night.faults(cut)[0]
    left = {each.name for each in day.iterdir() if "55555" in each.name or each.name == "README"}
    assert left == {f"{cut}-R22S00.fits", f"{other}-R22S00.fits", "README"}


def test_the_header_of_another_image(night: Night) -> None:
    """What it says of itself is not believed: the file's names come from the exposure, or it is refused."""
    obsid, other = night.obsid(), night.obsid()
    text = expected_header(other)
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest()
    with serving(content(text)) as url:
        night.expose(obsid, header=LargeFileObjectAvailable(obsid, f"{url}/x.yaml", len(text), md5))
        until(lambda: night.faults(obsid) or night.record(obsid).complete)
    assert night.faults(obsid)
    assert list((night.here / "oods").rglob(f"{obsid}*")) == []
