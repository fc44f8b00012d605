"""The OODS's hand on a real disk: what is registered, what is refused with which status, where bad files go."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from skystow.adapters.fits import read_frame
from skystow.adapters.memory import ManualClock, MemoryLedger
from skystow.adapters.shelf import Hook, Shelf, load_hook
from skystow.adapters.tree import LocalTree
from skystow.engine.retire import discard
from skystow.errors import ConfigError, NoSpace, PlaceFault
from skystow.model.acts import Ingest
from skystow.model.messages import FileIngestRequest, Message
from skystow.model.records import Arrival, Digest, Fingerprint, Worker
from skystow.model.reports import Ingested, IngestFailed
from skystow.model.transfer import Delivered, Destination, Receipt, Route, State
from skystow.ports.image import Frame
from tests.system.landing_kit import DAY, FRAME, NAME, NEVER, OBSID, OTHER, frame, sha256

PATH = PurePosixPath(DAY, NAME)


class Oods:
    def __init__(self, here: Path, hook: Hook | None = None) -> None:
        self.root, self.bad = here / "oods", here / "bad"
        for each in (self.root / DAY, self.bad):
            each.mkdir(parents=True, exist_ok=True)
        self.tree = LocalTree(str(self.root), place="oods")
        self.ledger = MemoryLedger(Worker("host", "boot", "ns", 1, 1), ManualClock())
        bad = LocalTree(str(self.bad), place="bad files")
        self.shelf = Shelf(self.tree, bad, self.ledger.catalogue, self.ledger, read=read_frame, hook=hook)

    def put(self, name: str = NAME, content: bytes = FRAME) -> Path:
        path = self.root / DAY / name
        path.write_bytes(content)
        return path

    def ingest(self, filename: str | None = None, **more: str) -> Message:
        fields = {"obsid": OBSID, "raft": "22", "sensor": "00"} | more
        name = f"{self.root}/{DAY}/{NAME}" if filename is None else filename
        request = FileIngestRequest("COMCAM", "CCArchiver", filename=name, reply_to="archiver", **fields)
        (report,) = self.shelf.ingest(Ingest(request), stop=NEVER)
        return report

    def failed(self, filename: str | None = None, **more: str) -> IngestFailed:
        report = self.ingest(filename, **more)
        assert isinstance(report, IngestFailed), report
        return report

    def discard(self, report: IngestFailed) -> None:
        path = PurePosixPath(report.filename).relative_to(self.root)
        discard(self.ledger, "oods", self.tree, path, report.reason)

    def frames(self) -> list[Frame]:
        return [each for _, each in self.ledger.catalogue.find()]

    def linked(self, digest: Digest, inode: int | None = None) -> None:
        """The ledger says that this very file was linked here, with `digest`."""
        found = (self.root / PATH).stat()
        looks = Fingerprint(found.st_size, found.st_mtime_ns, inode or found.st_ino)
        key = str(PATH).encode()
        self.ledger.admit([Arrival("staging", key, PATH, "staging", PATH, looks, digest)], [Destination("oods")])
        (work,) = self.ledger.claim(Route("staging", "oods"), files=9, size=2**40, seconds=60)
        self.ledger.settle({work: Delivered(Receipt(digest, found.st_size, looks))})


@pytest.fixture
def oods(tmp_path: Path) -> Oods:
    return Oods(tmp_path)


class TestIngest:
    def test_what_the_headers_say_is_registered(self, oods: Oods) -> None:
        path = oods.put()
        assert oods.ingest() == Ingested(OBSID, str(path), "22", "00")
        (found,) = oods.frames()
        assert (found.obsid, found.day_obs, found.seq_num, found.raft, found.sensor) == (OBSID, 20210304, 1, "22", "00")
        assert (str(found.path), found.size, str(found.digest)) == (str(path), len(FRAME), f"sha256:{sha256(FRAME)}")
        assert (found.filter[1], found.exposure_time) == ("_", 1.0)

    def test_a_repeat_says_so(self, oods: Oods) -> None:
        path = oods.put()
        oods.ingest()
        assert oods.ingest() == Ingested(OBSID, str(path), "22", "00", already=True)
        assert len(oods.frames()) == 1

    def test_many_at_once_and_only_the_bad_one_is_left_out(self, oods: Oods) -> None:
        good, known, other = oods.put(), f"{OBSID}-R22S01.fits", f"{OTHER}-R22S00.fits"
        oods.put(known, frame("R22_S01"))
        oods.ingest(f"{oods.root}/{DAY}/{known}", sensor="01")
        oods.put(known, frame("R22_S01").replace(b"GAIN", b"GAIM"))  # other bytes under a name that is registered
        third = oods.put(other, frame(obsid=OTHER))
        asked = [(OBSID, good, "00"), (OBSID, oods.root / DAY / known, "01"), (OTHER, third, "00")]
        reports = oods.shelf.ingest_all(
            [Ingest(FileIngestRequest("COMCAM", "CC", o, "22", s, str(f), "archiver")) for o, f, s in asked], stop=NEVER
        )
        outcome = {each.filename: each for each in reports if isinstance(each, Ingested | IngestFailed)}
        assert outcome[str(good)] == Ingested(OBSID, str(good), "22", "00")
        assert outcome[str(third)] == Ingested(OTHER, str(third), "22", "00")
        bad = outcome[str(oods.root / DAY / known)]
        assert isinstance(bad, IngestFailed)
        assert "is known with" in bad.reason
        assert len(oods.frames()) == 3

    def test_a_request_that_does_not_say_which_ccd(self, oods: Oods) -> None:
        path = oods.put()
        assert oods.ingest(raft="", sensor="") == Ingested(OBSID, str(path), "22", "00")

    def test_the_ledgers_proof_of_the_very_inode_is_taken(self, oods: Oods) -> None:
        oods.put()
        proof = Digest("sha256", "ab" * 32)
        oods.linked(proof)
        oods.ingest()
        assert oods.frames()[0].digest == proof

    def test_but_not_that_of_another_inode(self, oods: Oods) -> None:
        oods.put()
        oods.linked(Digest("sha256", "ab" * 32), inode=3)
        oods.ingest()
        assert str(oods.frames()[0].digest) == f"sha256:{sha256(FRAME)}"


class TestBadFiles:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (frame(obsid=OTHER), f"its headers say {OTHER} R22S00, it was announced as {OBSID} R22S00"),
            (frame("R22_S01"), f"its headers say {OBSID} R22S01, it was announced as {OBSID} R22S00"),
            (FRAME[:-2880], "cut off"),
            (b"", "empty"),
            (b"not a FITS file", "does not begin as a FITS file does"),
        ],
    )
    def test_metadata_that_cannot_be_used(self, oods: Oods, content: bytes, reason: str) -> None:
        path, good = oods.put(content=content), oods.put(f"{OBSID}-R22S02.fits", frame("R22_S02"))
        report = oods.failed()
        assert (report.status_code, report.moved_to) == (2, f"{oods.bad}/{DAY}/{NAME}")
        assert reason in report.reason
        oods.discard(report)
        assert not path.exists()
        assert (oods.bad / DAY / NAME).read_bytes() == content
        assert (oods.bad / DAY / f"{NAME}.reason").read_text() == f"2 {report.reason}\n"
        assert oods.frames() == []
        assert isinstance(oods.ingest(str(good), sensor="02"), Ingested)

    def test_the_ledger_is_told_that_the_copy_went_on_purpose(self, oods: Oods) -> None:
        oods.put(content=b"bad")
        oods.linked(Digest("sha256", sha256(b"bad")))
        report = oods.failed()
        oods.discard(report)
        (copy,) = oods.ledger.copies(after=0, limit=9, state=State.DONE)
        assert copy.removed_at is not None
        dossier = oods.ledger.dossier(next(iter(oods.ledger.find(str(PATH)))))
        assert dossier is not None
        assert report.reason in dossier.events[-1].text

    def test_killed_before_it_could_say_so(self, oods: Oods) -> None:
        """At any line: the same status, the same reason, one bad file."""
        oods.put(content=b"bad")
        first = oods.failed()
        assert oods.failed() == first  # before its name went
        oods.discard(first)
        assert oods.failed() == first  # after
        assert sorted(each.name for each in (oods.bad / DAY).iterdir()) == [NAME, f"{NAME}.reason"]

    def test_another_bad_file_of_that_name_is_not_lost(self, oods: Oods) -> None:
        for content in (b"one", b"two", b"three"):
            oods.put(content=content)
            oods.discard(oods.failed())
        found = {each.name: each.read_bytes() for each in (oods.bad / DAY).iterdir() if each.suffix != ".reason"}
        assert found == {NAME: b"one", f"{NAME}.1": b"two", f"{NAME}.2": b"three"}

    def test_another_content_than_what_is_registered(self, oods: Oods) -> None:
        oods.put()
        oods.ingest()
        os.unlink(oods.root / PATH)
        changed = FRAME[:-1] + b"\x01"
        oods.put(content=changed)
        report = oods.failed()
        assert report.status_code == 1
        assert f"is known with sha256:{sha256(FRAME)}" in report.reason
        assert (oods.bad / DAY / NAME).read_bytes() == changed
        assert str(oods.frames()[0].digest) == f"sha256:{sha256(FRAME)}"

    @pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
    def test_what_is_no_file_is_left(self, oods: Oods, tmp_path: Path, kind: str) -> None:
        path, secret = oods.root / PATH, tmp_path / "secret"
        secret.write_bytes(FRAME)
        match kind:
            case "symlink":
                path.symlink_to(secret)
            case "directory":
                path.mkdir()
            case _:
                os.mkfifo(path)
        before = path.lstat()
        report = oods.failed()
        assert (report.status_code, report.moved_to) == (1, "")
        assert path.lstat() == before
        assert list(oods.bad.iterdir()) == []

    @pytest.mark.parametrize(
        "name",
        [
            *("", "/", "relative.fits", "/etc/passwd", "{root}", "{root}/../bad/x", "{root}/.skystow/x"),
            *("{root}/\ud800x", "{root}/a\0b", "{root}/" + "x" * 10_000),
        ],
    )
    def test_a_name_outside(self, oods: Oods, name: str) -> None:
        (oods.root / ".skystow").mkdir()
        (oods.root / ".skystow" / "x").write_bytes(b"ours")
        report = oods.failed(name.replace("{root}", str(oods.root)))
        assert (report.status_code, report.moved_to) == (1, "")
        assert (oods.root / ".skystow" / "x").exists()
        assert list(oods.bad.iterdir()) == []

    def test_missing(self, oods: Oods) -> None:
        oods.put("other.fits")
        report = oods.failed()
        assert (report.status_code, report.moved_to) == (1, "")
        assert "No such file" in report.reason

    def test_bad_files_that_cannot_be_put_aside_stay_and_stop_nobody(self, oods: Oods, tmp_path: Path) -> None:
        (oods.bad / DAY).symlink_to(tmp_path)
        path = oods.put(content=b"bad")
        report = oods.failed()
        assert (report.status_code, report.moved_to) == (2, "")
        assert "it cannot be put aside" in report.reason
        assert path.read_bytes() == b"bad"
        assert not (tmp_path / NAME).exists()

    def test_no_place_for_bad_files_is_a_places_fault(self, oods: Oods, monkeypatch: pytest.MonkeyPatch) -> None:
        oods.put(content=b"bad")

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "link", full)
        with pytest.raises(NoSpace, match="bad files"):
            oods.ingest()

    def test_modes_let_people_read_what_was_put_aside(self, oods: Oods) -> None:
        oods.put(content=b"bad")
        oods.failed()
        assert stat.S_IMODE((oods.bad / DAY / f"{NAME}.reason").stat().st_mode) & 0o044


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "modules"
    place.mkdir()
    sys.path.insert(0, str(place))
    yield place
    sys.path.remove(str(place))
    for name in [name for name in sys.modules if name.startswith("night_hook")]:
        del sys.modules[name]


class TestHook:
    def test_it_is_given_each_file_once(self, tmp_path: Path) -> None:
        seen: list[Frame] = []
        oods = Oods(tmp_path, seen.append)
        oods.put()
        oods.ingest()
        oods.ingest()
        assert [(each.obsid, each.path) for each in seen] == [(OBSID, PurePosixPath(oods.root / PATH))]

    @pytest.mark.parametrize("error", [RuntimeError("no butler"), KeyError("x"), SystemExit(3), ConfigError("no")])
    def test_whatever_it_raises_is_status_1(self, tmp_path: Path, error: BaseException) -> None:
        def hook(_: Frame) -> None:
            raise error

        oods = Oods(tmp_path, hook)
        oods.put()
        report = oods.failed()
        assert report.status_code == 1
        assert f"the ingest hook refuses it: {type(error).__name__}" in report.reason
        assert (oods.bad / DAY / NAME).exists()
        assert oods.frames() == []

    def test_a_places_fault_means_later(self, tmp_path: Path) -> None:
        def hook(_: Frame) -> None:
            raise PlaceFault("the registry sleeps", place="butler")

        oods = Oods(tmp_path, hook)
        oods.put()
        with pytest.raises(PlaceFault, match="sleeps"):
            oods.ingest()
        assert list(oods.bad.iterdir()) == []

    def test_it_is_named_as_module_and_callable(self, modules: Path) -> None:
        (modules / "night_hook.py").write_text("def ingest(frame): pass\nnumber = 3\n")
        found = load_hook("night_hook:ingest")
        assert found is not None
        assert found.__name__ == "ingest"
        assert load_hook(None) is None

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("night_hook_none:ingest", None, "No module named"),
            ("night_hook_a:ingest", "", "has no attribute"),
            ("night_hook_b:number", "number = 3", "cannot be called"),
            ("night_hook_c:ingest", "raise RuntimeError('no licence')", "RuntimeError: no licence"),
            ("night_hook_d:ingest", "def (", "SyntaxError"),
        ],
    )
    def test_one_that_cannot_be_had(self, modules: Path, name: str, text: str | None, reason: str) -> None:
        if text is not None:
            (modules / f"{name.partition(':')[0]}.py").write_text(text)
        with pytest.raises(ConfigError, match=reason):
            load_hook(name)
