"""What the Archive Controller waits for: what nobody wants any more wakes nobody, and a long night costs no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from skystow.image.controller import Controller, Settings
from skystow.image.staged import Exposure
from skystow.model.acts import Act, Admit, Adopt, Do, Effect, WriteManifest
from skystow.model.messages import FileTransferCompleted, Message, NewArchiveItem
from skystow.model.reports import Adopted, AdoptionRefused, DayMade, DayRefused, HandedOff

NOW = datetime(2021, 3, 5, 3, 0, tzinfo=UTC)
OBSID, DAY = "CC_O_20210304_000001", "2021-03-04"
HEX = "ab" * 32
SETTINGS = Settings(links={"oods": "/oods"}, detectors=("R22_S00", "R22_S01"))
ITEM = NewArchiveItem("a_1", 3, "session", OBSID, "archiver", image_date="20210304")


def announced(obsid: str = OBSID, raft: str = "22", sensor: str = "00", session: str = "s") -> FileTransferCompleted:
    name = f"/staging/{DAY}/{obsid}-R{raft}S{sensor}.fits"
    return FileTransferCompleted(name, obsid, raft, sensor, session, "3", "forwarder/f99", 8, HEX, "sha256")


def adopted(said: FileTransferCompleted, *, swept: bool = False) -> Adopted:
    path = said.filename.removeprefix("/staging/")
    return Adopted(said.obsid, said.filename, path, said.raft, said.sensor, 8, f"sha256:{HEX}", 10, 11, 0, swept)


def linked(said: FileTransferCompleted) -> list[Message]:
    path = said.filename.removeprefix("/staging/")
    return [said, adopted(said), HandedOff(said.obsid, path, "oods", f"sha256:{HEX}", 8)]


def hear(controller: Controller, *messages: Message) -> list[Effect]:
    return [effect for message in messages for effect in controller.hear(message, NOW)]


def manifests(effects: Sequence[Effect]) -> list[list[str]]:
    return [sorted(e.act.files) for e in effects if isinstance(e, Do) and isinstance(e.act, WriteManifest)]


def begun() -> Controller:
    controller = Controller(SETTINGS)
    controller.restore([], {})
    controller.due(NOW)
    return controller


def test_a_day_that_was_made_at_last_wakes_nobody_any_more() -> None:
    controller = begun()
    hear(controller, ITEM, DayRefused(OBSID, "no"))
    controller.due(NOW + timedelta(seconds=3))
    hear(controller, DayMade(OBSID, f"/staging/{DAY}/"))
    later = NOW + timedelta(seconds=60)
    controller.due(later)
    due = controller.next_due()
    assert due is not None
    assert due > later


def test_a_retry_of_what_was_announced_otherwise_since_wakes_nobody_any_more() -> None:
    controller, first, second = begun(), announced(), announced(session="another")
    hear(controller, first, AdoptionRefused(OBSID, first.filename, "no link", final=False))
    hear(controller, second, adopted(second))
    later = NOW + timedelta(seconds=60)
    controller.due(later)
    due = controller.next_due()
    assert due is not None
    assert due > later


def test_a_file_that_came_after_its_message_is_adopted_by_the_sweep() -> None:
    controller, said = begun(), announced()
    hear(controller, said, AdoptionRefused(OBSID, said.filename, "no such file", final=False, gone=True))
    assert [e for e in hear(controller, adopted(said, swept=True)) if isinstance(e, Admit)]


def test_a_file_of_a_detector_that_the_camera_has_not_completes_nothing() -> None:
    controller = begun()
    strange, one, two = announced(raft="30"), announced(), announced(sensor="01")
    assert manifests(hear(controller, *linked(strange), *linked(one))) == []
    assert [len(files) for files in manifests(hear(controller, *linked(two)))] == [3]


def test_an_exposure_of_some_detectors_is_complete_with_these() -> None:
    controller, said = begun(), announced()
    item = NewArchiveItem("a_1", 3, "session", OBSID, "archiver", detectors=("R22_S00",))
    hear(controller, item, DayMade(OBSID, f"/staging/{DAY}/"))
    assert manifests(hear(controller, *linked(said))) == [[f"{DAY}/{OBSID}-R22S00.fits"]]


class Counted(Controller):
    looks = 0

    def _wanted(self, obsid: str, exposure: Exposure, now: datetime) -> Iterator[Act]:
        self.looks += 1
        return super()._wanted(obsid, exposure, now)


def test_a_night_of_incomplete_exposures_is_not_looked_through_each_time() -> None:
    controller = Counted(SETTINGS)
    controller.restore([], {})
    for number in range(50):
        hear(controller, *linked(announced(f"CC_O_20210304_{number:06d}")))
    controller.due(NOW)
    before = controller.looks
    for second in range(1, 100):
        controller.due(NOW + timedelta(seconds=second))
    assert controller.looks == before


def test_after_a_restart_all_of_them_are_looked_at() -> None:
    controller = Controller(SETTINGS)
    said = [announced(f"CC_O_20210304_{number:06d}") for number in range(3)]
    controller.restore([(NOW, each) for each in said], {})
    assert [e.act for e in controller.due(NOW) if isinstance(e, Do) and isinstance(e.act, Adopt)] == [
        Adopt(each) for each in said
    ]
