"""The Archive Controller: gives each exposure a directory, and sees every file through to its links.

    NewArchiveItem         → the day's directory is made     → NewArchiveItemAck
    FileTransferCompleted  → the file is adopted             → admitted: links to Data Backbone and OODS
    links stand            → the OODS is asked to ingest     → FileTransferCompletedAck → the staged name goes

Silence is the only refusal that the protocol has: whoever hears nothing asks again. What the Controller cannot do it
tells the Archiver as a failed ingest, as the original did, and writes on the exposure's record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from skystow.image.staged import Exposure, File, ccd, day_of, detector, differs, digests, file_of, letter, obsid_of
from skystow.image.standing import Standing
from skystow.model.acts import (
    Act,
    Admit,
    Adopt,
    Bury,
    Do,
    DropStaged,
    Effect,
    MakeDay,
    Mark,
    Milestone,
    Note,
    Say,
    SweepStaging,
    WriteManifest,
)
from skystow.model.messages import (
    FileIngestRequest,
    FileTransferCompleted,
    FileTransferCompletedAck,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    digest_of,
    lawful_obsid,
    named_by,
)
from skystow.model.records import Arrival, Fingerprint
from skystow.model.reports import (
    Adopted,
    AdoptionRefused,
    DayMade,
    DayRefused,
    Dropped,
    HandedOff,
    HandoffFailed,
    ManifestWritten,
    NotDropped,
    PassEnded,
)

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=2), timedelta(minutes=2)

KEPT_FOR = timedelta(days=7)
"""An exposure that nothing happens to for so long is not waited for any more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`links`: names of the destinations that files are linked into, with their roots; all are required.
    `detectors`: those of a whole exposure (empty: nobody knows, and no manifest is written)."""

    links: Mapping[str, str]
    camera: str = "COMCAM"
    archiver: str = "CCArchiver"
    component: str = "ARCHIVE_CTRL"
    source: str = "staging"
    oods: str | None = "oods"
    detectors: tuple[str, ...] = ()
    sweep_every: timedelta = timedelta(minutes=10)
    initial_state: str = "enabled"
    archiver_address: str = "archiver"
    oods_address: str = "oods"


class Controller(Standing):
    def __init__(self, settings: Settings) -> None:
        super().__init__("controller", "controller", initial_state=settings.initial_state)
        self.settings = settings
        self._forget()

    def _forget(self) -> None:
        self._exposures: dict[str, Exposure] = {}
        self._looked = False
        self._doing: set[Act] = set()
        self._again: dict[Act, tuple[datetime, timedelta]] = {}
        self._sweep_at: datetime | None = None
        self._sweeping = False

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        super().restore(steps, kept)
        self._forget()
        for at, message in steps:  # without closing: links that stood when a file came once more are no step again
            self._take(message, at)
        self._doing.clear()
        self._again.clear()

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        if isinstance(message, HealthCheck):
            answer = HealthCheckAck(message.ack_id, message.session_id, self.settings.component)
            return [Say(message.reply_to or self.settings.archiver_address, answer)]
        if isinstance(message, PassEnded):
            self._sweeping = False
        if isinstance(message, AdoptionRefused) and message.swept:
            return list(self._found(message))
        if not message.key:
            return []
        exposure, effects = self._take(message, now)
        effects += [Do(act) for act in self._owed(message.key, exposure, now)]
        return self._closed(message, exposure, effects)

    def _take(self, message: Message, now: datetime) -> tuple[Exposure, list[Effect]]:
        exposure = self._exposures.setdefault(lawful_obsid(message.key), Exposure())
        effects = list(self._heard(exposure, message, now))
        if any(isinstance(effect, Note) for effect in effects):
            exposure.touched, exposure.last = now, message
        return exposure, effects

    def _heard(self, exposure: Exposure, message: Message, now: datetime) -> Iterator[Effect]:
        match message:
            case NewArchiveItem():
                yield from self._item(exposure, message)
            case DayMade():
                yield from self._day_made(exposure, message)
            case DayRefused(obsid, reason):
                if exposure.items:
                    self._later(MakeDay(obsid, day_of(exposure, obsid, now)), now)
                yield Mark(obsid, Milestone.FAULT, text=f"no storage location: {reason}")
            case FileTransferCompleted():
                yield from self._completed(exposure, message)
            case Adopted():
                yield from self._adopted(exposure, message)
            case AdoptionRefused():
                yield from self._refused(exposure, message, now)
            case HandedOff():
                yield from self._linked(exposure, message)
            case HandoffFailed(obsid, path, destination, reason):
                yield Note(message)
                text = f"no link to {path} at {destination}: {reason}"
                yield Mark(obsid, Milestone.FAULT, detector(file_of(exposure, path)), number=1, text=text)
                yield self._failure(obsid, file_of(exposure, path), path, text)
            case Dropped(_, path):
                file = file_of(exposure, path)
                if not file.dropped:
                    file.dropped = True
                    self._done(DropStaged(message.obsid, path))
                    yield Note(message)
            case NotDropped(obsid, path):
                self._later(DropStaged(obsid, path), now)
            case ManifestWritten(obsid, _, problem) if not exposure.manifest:
                self._doing -= {act for act in self._doing if isinstance(act, WriteManifest) and act.obsid == obsid}
                exposure.manifest = True
                yield Note(message)
                if problem:
                    yield Mark(obsid, Milestone.FAULT, text=f"manifest: {problem}")
            case _:
                pass

    # ── a storage location ──────────────────────────────────────────────────────────────────────────────────────

    def _item(self, exposure: Exposure, item: NewArchiveItem) -> Iterator[Effect]:
        exposure.expected = item.detectors or exposure.expected
        if exposure.directory:
            yield self._located(item, exposure.directory)
        elif item not in exposure.items:
            exposure.items.append(item)
            yield Note(item)

    def _day_made(self, exposure: Exposure, made: DayMade) -> Iterator[Effect]:
        self._doing -= {act for act in self._doing if isinstance(act, MakeDay) and act.obsid == made.obsid}
        if not exposure.directory:
            exposure.directory = made.directory
            yield Note(made)
            yield Mark(made.obsid, Milestone.LOCATED, text=made.directory)
        yield from [self._located(item, made.directory) for item in exposure.items]
        exposure.items.clear()

    def _located(self, item: NewArchiveItem, directory: str) -> Say:
        ack = NewArchiveItemAck(
            item.ack_id, item.job_num, item.session_id, item.image_id, directory, self.settings.component
        )
        return Say(item.reply_to or self.settings.archiver_address, ack)

    # ── a file ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _completed(self, exposure: Exposure, said: FileTransferCompleted) -> Iterator[Effect]:
        file = exposure.files.setdefault(said.filename, File())
        if file.announced != said:
            file.again = file.announced is not None and file.adopted is not None and self._whole(file)
            file.announced = said
            yield Note(said)
        if file.adopted is not None and (against := differs(file.adopted, said)):
            yield Mark(said.obsid, Milestone.FAULT, detector(file), number=1, text=against)
            yield Bury(letter(self.settings.source, said.filename, against))
        elif self._whole(file):
            yield from self._ack(file, said)
        elif file.refused:  # it may be another one by now
            file.refused = ""

    def _adopted(self, exposure: Exposure, adopted: Adopted) -> Iterator[Effect]:
        file = exposure.files.setdefault(adopted.filename, File())
        waits = file.announced is not None and file.adopted is None and not self._whole(file)
        if adopted.swept and waits and not file.gone:
            return  # its message was not lost: whatever it was refused for, or is held for, holds
        self._done_adopting(file)
        file.again = False
        path = PurePosixPath(adopted.path)
        looks = Fingerprint(adopted.size, adopted.mtime_ns, adopted.inode)
        source, claimed = self.settings.source, digest_of(adopted.digest)
        admit = Admit(Arrival(source, adopted.path.encode(), path, source, path, looks, claimed))
        if file.adopted is not None and file.adopted.digest == adopted.digest:
            if file.dropped:  # sent once more; by another forwarder it is another file, which the spine must see
                file.adopted, file.dropped = adopted, False
                yield admit
                yield Note(adopted)
            return
        # Admitted by a run that could not say so any more, it may have been linked before this was heard.
        file.links = {to: link for to, link in file.links.items() if link.digest == adopted.digest}
        file.adopted, file.refused, file.gone, file.dropped = adopted, "", False, False
        yield admit
        yield Note(adopted)
        yield Mark(
            adopted.obsid, Milestone.ADOPTED, detector(file), text="its message was lost" if adopted.swept else ""
        )

    def _refused(self, exposure: Exposure, refused: AdoptionRefused, now: datetime) -> Iterator[Effect]:
        file = exposure.files.setdefault(refused.filename, File())
        if not refused.final and not refused.gone and file.announced is not None:
            self._later(Adopt(file.announced), now)
            yield Mark(refused.obsid, Milestone.FAULT, detector(file), number=1, text=refused.reason)
            return
        self._done_adopting(file)
        file.refused, file.gone, file.again = refused.reason, refused.gone, False
        yield Note(refused)  # gone: the forwarder announces it again
        yield Mark(refused.obsid, Milestone.FAULT, detector(file), number=1, text=refused.reason)
        if refused.final:
            yield Bury(letter(self.settings.source, refused.filename, refused.reason))
            yield self._failure(refused.obsid, file, refused.filename, refused.reason)

    def _found(self, left: AdoptionRefused) -> Iterator[Effect]:
        """A sweep found what it does not adopt. What was announced has its own report."""
        exposure = self._exposures.get(left.obsid)
        file = exposure.files.get(left.filename) if exposure is not None else None
        if file is not None and file.announced is not None:
            return
        yield Bury(letter(self.settings.source, left.filename, left.reason))
        if left.obsid:
            yield Mark(left.obsid, Milestone.FAULT, number=1, text=left.reason)

    def _linked(self, exposure: Exposure, link: HandedOff) -> Iterator[Effect]:
        file = file_of(exposure, link.path)
        if link.destination in file.links or link.destination not in self.settings.links:
            if file.again and file.dropped:  # nothing stands there any more
                file.again = False
                self._done_adopting(file)
                yield Note(link)
            return
        if file.adopted is not None and file.adopted.digest != link.digest:
            return  # of what stood there before
        file.links[link.destination] = link
        file.dropped = file.adopted is None and self._whole(file)  # by an earlier exposure of that name, now forgotten
        yield Note(link)
        if link.destination == self.settings.oods:
            camera, archiver = self.settings.camera, self.settings.archiver
            raft, sensor = ccd(file) if detector(file) else named_by(PurePosixPath(link.path).name)[1:]
            name = str(PurePosixPath(self.settings.links[link.destination]) / link.path)
            ask = FileIngestRequest(camera, archiver, link.obsid, raft, sensor, name, self.settings.archiver_address)
            yield Say(self.settings.oods_address, ask)
        if self._whole(file):
            self._done_adopting(file)  # a repeat of what was archived long ago is answered by its links
            yield Mark(link.obsid, Milestone.LINKED, detector(file))
            if file.announced is not None:
                yield from self._ack(file, file.announced)

    def _whole(self, file: File) -> bool:
        return file.links.keys() == self.settings.links.keys()

    def _ack(self, file: File, said: FileTransferCompleted) -> Iterator[Say]:
        if not said.reply_to or (file.adopted is not None and differs(file.adopted, said)):
            return  # what stands is not what was announced: whoever has that one must keep it
        raft, sensor = ccd(file)
        ack = FileTransferCompletedAck(
            said.filename, said.obsid, raft, sensor, said.session_id, said.job_num, self.settings.component
        )
        yield Say(said.reply_to, ack)

    def _failure(self, obsid: str, file: File, name: str, reason: str) -> Say:
        """As the original told it: an image that is not in the OODS."""
        raft, sensor = ccd(file)
        said = ImageInOODS(self.settings.camera, self.settings.archiver, obsid, raft, sensor, name, 1, reason[:250])
        return Say(self.settings.archiver_address, said)

    # ── what is owed ────────────────────────────────────────────────────────────────────────────────────────────

    def _owed(self, obsid: str, exposure: Exposure, now: datetime) -> Iterator[Act]:
        for act in self._wanted(obsid, exposure, now):
            due, _ = self._again.get(act, (now, FIRST_WAIT))
            if act not in self._doing and due <= now:
                self._doing.add(act)
                yield act

    def _wanted(self, obsid: str, exposure: Exposure, now: datetime) -> Iterator[Act]:
        if exposure.items and not exposure.directory:
            yield MakeDay(obsid, day_of(exposure, obsid, now))
        for file in exposure.files.values():
            if file.announced is not None and file.to_adopt(whole=self._whole(file)):
                yield Adopt(file.announced)
            if file.adopted is not None and self._whole(file) and not file.dropped:
                yield DropStaged(obsid, file.adopted.path)
        whole = filter(self._whole, exposure.files.values())
        if not exposure.manifest and (files := digests(whole, exposure.expected or self.settings.detectors)):
            yield WriteManifest(obsid, str(PurePosixPath(next(iter(files))).parent), files)

    def _closed(self, message: Message, exposure: Exposure, effects: list[Effect]) -> list[Effect]:
        """An exposure of which nothing is owed any more is forgotten; a repeat is answered from the ledger."""
        files = exposure.files.values()
        settled = bool(files) and all(file.settled for file in files) and not exposure.items
        complete = exposure.manifest or not self.settings.detectors
        repeat = not exposure.directory and all(file.adopted is None and not file.refused for file in files)
        if not settled or not (complete or repeat):
            if not files and not exposure.items and not exposure.directory:
                self._exposures.pop(message.key, None)
            return effects
        self._exposures.pop(message.key, None)
        return [Note(each.message, closes=True) if isinstance(each, Note) else each for each in effects]

    def _done(self, act: Act) -> None:
        self._doing.discard(act)
        self._again.pop(act, None)

    def _done_adopting(self, file: File) -> None:
        """Whoever announced it: two forwarders may have."""
        if file.announced is not None:
            for act in [*self._doing, *self._again]:
                if isinstance(act, Adopt) and act.announced.filename == file.announced.filename:
                    self._done(act)

    def _later(self, act: Act, now: datetime) -> None:
        _, wait = self._again.get(act, (now, FIRST_WAIT))
        self._doing.discard(act)
        self._again[act] = (now + wait, min(wait * 2, LONGEST_WAIT))

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        for obsid in self._to_look_at(now):
            if (found := self._exposures.get(obsid)) is not None:
                effects += [Do(act) for act in self._owed(obsid, found, now)]
        for obsid, exposure in list(self._exposures.items()):
            if exposure.touched and exposure.last and now - exposure.touched > KEPT_FOR:
                effects.append(Note(exposure.last, closes=True))
                if owed := sorted(name for name, file in exposure.files.items() if not self._whole(file)):
                    text = f"nothing came for {KEPT_FOR.days} days, not waited for any more: {', '.join(owed)}"
                    effects.append(Mark(obsid, Milestone.FAULT, number=1, text=text))
                del self._exposures[obsid]
        if self._sweep_at is None or self._sweep_at <= now:
            self._sweep_at = now + self.settings.sweep_every
            if not self._sweeping:
                self._sweeping = True
                effects.append(Do(SweepStaging()))
        return effects

    def _to_look_at(self, now: datetime) -> list[str]:
        """Exposures of which something may be owed that `hear` did not ask for: all after a restart, then those of
        which something is to be tried again. A night of incomplete exposures is not looked through each time."""
        if not self._looked:
            self._looked = True
            return list(self._exposures)
        ripe = [act for act, (due, _) in self._again.items() if due <= now and act not in self._doing]
        for act in ripe:
            if act not in self._wanted_of(act, now):
                del self._again[act]  # nobody wants it any more
        return list(dict.fromkeys(map(obsid_of, ripe)))

    def _wanted_of(self, act: Act, now: datetime) -> Iterator[Act]:
        exposure = self._exposures.get(obsid_of(act))
        return iter(()) if exposure is None else self._wanted(obsid_of(act), exposure, now)

    def next_due(self) -> datetime | None:
        dues = [due for act, (due, _) in self._again.items() if act not in self._doing]
        return min([*dues, self._sweep_at] if self._sweep_at else dues, default=None)
