"""All exposures that the Archiver knows: which of them are ours, what is said of each, what became of it.

Ours is an exposure from the moment on at which its NewArchiveItem is a step: begun while ENABLED (or recovering from
it), or caught up. Its events are noted in any state.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from skystow.errors import BadName
from skystow.image.exposure import TO_FORWARDER, UNACKNOWLEDGED, Asked, Exposure, Settings, Step, detector_of
from skystow.image.services import Ticket
from skystow.model.acts import Bury, Effect, Keep, Mark, Milestone, Note, Say, Tell
from skystow.model.messages import (
    EndReadout,
    HeaderReadyAck,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    ReadoutEndedAck,
    StartIntegration,
    XferParamsAck,
    lawful_obsid,
    raft_and_sensor,
)
from skystow.model.packing import packed
from skystow.model.records import DeadLetter, shown
from skystow.model.reports import CatchUp, ForwarderFound

KEPT_FOR = timedelta(days=7)
"""An exposure that is not complete by then is given up; one that is not ours is forgotten."""

QUIET = timedelta(hours=1)
"""A complete exposure of which a retrieval was never heard is not waited for any longer."""

MOST_ASIDE, MOST_STRAYS, MOST_CLOSED = 10_000, 4_096, 128

_ACKS = {XferParamsAck: Step.XFER, ReadoutEndedAck: Step.READOUT, HeaderReadyAck: Step.HEADER}
_EVENTS = {EndReadout: Step.READOUT, LargeFileObjectAvailable: Step.HEADER}

Event = StartIntegration | EndReadout | LargeFileObjectAvailable
Ack = XferParamsAck | ReadoutEndedAck | HeaderReadyAck
Outcome = ImageRetrieval | ImageInOODS


class Exposures:
    """`acting`: events are acted upon (ENABLED); `taking`: exposures that begin are ours (recovering, too); `speaking`:
    what was begun goes on (DISABLED, too); `forwarder`: who is paired with us. The Archiver sets them. `ignored`
    counts, by kind, what came twice, late, or for nothing."""

    def __init__(self, settings: Settings, ticket: Ticket) -> None:
        self.settings, self._ticket = settings, ticket
        self.ignored: Counter[str] = Counter()
        self.acting = self.taking = self.speaking = False
        self.forwarder: ForwarderFound | None = None
        self.job = 0
        self.forget()

    def forget(self) -> None:
        self.ours: dict[str, Exposure] = {}
        """Those that are acted upon, oldest first."""
        self.aside: dict[str, Exposure] = {}
        """Heard of, and not ours: begun while DISABLED, or nobody knows when."""
        self._closed: dict[str, Exposure | None] = {}
        """Complete, the latest ones; None: by an earlier process, so that whatever comes now is a repeat."""
        self._strays: dict[Message, None] = {}
        self._told = ""
        """The forwarder that was told last."""

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        """Nothing has been said yet."""
        self.forget()
        for at, message in steps:
            if message.key:
                self.aside.setdefault(message.key, Exposure(message.key, self.settings.detectors)).fold(message, at)
        self.ours = {key: each for key, each in self.aside.items() if each.item is not None}
        self.aside = {key: each for key, each in self.aside.items() if each.item is None}
        jobs = [each.item.job_num for each in self.ours.values() if each.item is not None]
        self.job = max(int(kept.get("jobnum", "0")), self.job, *jobs)
        self._closed = dict.fromkeys(kept.get("closed", "").split())

    # ── states ──────────────────────────────────────────────────────────────────────────────────────────────────

    def release(self, now: datetime) -> list[Effect]:
        """Enabled: what waits goes on, and what a person or the configuration wants caught up begins."""
        effects: list[Effect] = []
        for exposure in list(self.aside.values()):
            if exposure.caught_up or self.settings.catch_up:
                effects += self._take(exposure, now)
        for exposure in self.ours.values():
            exposure.release()
            effects += self._say(exposure, now)
        return effects

    def rest(self) -> None:
        """Nothing is under way, and nothing is said until the next `release`."""
        for exposure in self.ours.values():
            exposure.rest()

    def tell_anew(self, now: datetime) -> list[Effect]:
        """Another forwarder, or none: what is not retrieved is said to the next one. What one gave up, another one may
        have; the same one, back again, has not."""
        effects: list[Effect] = []
        another = self.forwarder is not None and self._told not in ("", self.forwarder.name)
        self._told = self.forwarder.name if self.forwarder is not None else self._told
        for exposure in self.ours.values():
            if another:
                exposure.given_up.clear()
            exposure.forget(*TO_FORWARDER)
            effects += self._say(exposure, now)
        return effects

    def anew(self, now: datetime) -> None:
        """No silence is judged that began before now."""
        for exposure in self.ours.values():
            exposure.anew(now)

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def ignore(self, message: Message) -> list[Effect]:
        self.ignored[type(message).__name__] += 1
        return []

    def unusable(self, message: Message, reason: str) -> list[Effect]:
        kind, body = packed(message)
        key = f"{kind} {json.dumps(body, sort_keys=True)}"[:1000].encode("utf-8", "backslashreplace")
        return [Bury(DeadLetter(self.settings.name, key, f"{kind}: {reason}"))]

    def event(self, message: Event, now: datetime) -> list[Effect]:
        heard = self.speaking or self.taking or message.image_id in self.ours
        if not heard or message.image_id in self._closed:
            return self.ignore(message)
        try:
            lawful_obsid(message.image_id)
            for each in message.detectors if isinstance(message, StartIntegration) else ():
                raft_and_sensor(each)
        except BadName as fault:
            return self.unusable(message, str(fault))
        exposure = self.ours.get(message.image_id) or self.aside.get(message.image_id)
        exposure = exposure or Exposure(message.image_id, self.settings.detectors)
        if not exposure.fold(message, now):
            return self.ignore(message)
        effects: list[Effect] = [Note(message)]
        if exposure.item is None and not (self.taking and isinstance(message, StartIntegration)):
            why = "" if exposure.begun is not None else "its startIntegration was not heard"
            self.aside[exposure.obsid] = exposure
            return [*effects, Mark(exposure.obsid, Milestone.IGNORED, text=why), *self._bounded()]
        if exposure.item is None:
            return effects + self._take(exposure, now)
        if self.acting:
            exposure.release()
        else:
            exposure.released -= {_EVENTS.get(type(message))}
        return effects + _reached(exposure, message, None) + self._say(exposure, now)

    def acknowledged(self, ack: Ack, now: datetime) -> list[Effect]:
        exposure = self.ours.get(ack.image_id)
        if exposure is None or not exposure.acknowledged(_ACKS[type(ack)], ack.ack_id, now):
            return self.ignore(ack)
        return []

    def _bounded(self) -> list[Effect]:
        if len(self.aside) <= MOST_ASIDE:
            return []
        exposure = self.aside.pop(next(iter(self.aside)))
        return [Note(exposure.first, closes=True)] if exposure.first is not None else []

    def _take(self, exposure: Exposure, now: datetime) -> list[Effect]:
        """It is ours from now on, under a JOB_NUM of its own; it waits for the next `release` unless ENABLED."""
        begun = exposure.begun or StartIntegration(exposure.obsid)
        self.job += 1
        item = NewArchiveItem(
            self._ticket(),
            self.job,
            self.settings.session_id,
            exposure.obsid,
            self.settings.address,
            begun.image_index,
            begun.images_in_sequence,
            begun.image_date,
            begun.exposure_time,
            tuple(dict.fromkeys(begun.detectors)),
        )
        exposure.fold(item, now)
        if self.acting:
            exposure.release()
        self.aside.pop(exposure.obsid, None)
        self.ours[exposure.obsid] = exposure
        effects: list[Effect] = [Note(item), Keep("jobnum", str(self.job))]
        effects.append(Mark(exposure.obsid, Milestone.STARTED, at=exposure.since, text=" ".join(exposure.expected)))
        for known in (exposure.readout, exposure.header):
            if known is not None:
                effects += _reached(exposure, known, exposure.readout_at)
        return effects + self._say(exposure, now)

    def located(self, ack: NewArchiveItemAck, now: datetime) -> list[Effect]:
        exposure = self.ours.get(ack.image_id)
        if exposure is None or exposure.directory:
            return self.ignore(ack)
        place = ack.target_dir
        if not place.startswith("/") or not place.isprintable() or ".." in place.split("/"):
            text = f"the Archive Controller gave ‘{shown(place)}’, which is no directory"
            return [Mark(ack.image_id, Milestone.FAULT, number=UNACKNOWLEDGED[Step.ITEM], text=text)]
        exposure.fold(ack, now)
        exposure.forget(Step.ITEM)
        return [Note(ack), Mark(ack.image_id, Milestone.LOCATED, text=place), *self._say(exposure, now)]

    def outcome(self, message: Outcome, now: datetime) -> list[Effect]:
        try:
            lawful_obsid(message.obsid)
        except BadName as fault:
            return self.unusable(message, str(fault))
        exposure = self.ours.get(message.obsid) or self.aside.get(message.obsid)
        if exposure is None:
            return self._stray(message, now)
        was_complete = exposure.complete
        if not exposure.fold(message, now):
            return self.ignore(message)
        exposure.progressed(now)
        effects: list[Effect] = [Note(message, closes=exposure.over), *self._published(message)]
        if exposure.complete and not was_complete:
            effects.append(Mark(message.obsid, Milestone.COMPLETE, text=exposure.summed_up(now)))
        return effects + self._close(exposure) if exposure.over else effects

    def _stray(self, message: Outcome, now: datetime) -> list[Effect]:
        """Of an exposure that is closed, or that we never heard of: the world is told, once."""
        if message.obsid in self._closed:
            exposure = self._closed[message.obsid]
            if exposure is None or not exposure.fold(message, now):
                return self.ignore(message)
        elif message in self._strays:
            return self.ignore(message)
        else:
            self._strays[message] = None
            if len(self._strays) > MOST_STRAYS:
                del self._strays[next(iter(self._strays))]
        return self._published(message)

    def _published(self, message: Outcome) -> list[Effect]:
        """Where somebody publishes it, it waits in the ledger for him: no outcome is lost with the process."""
        outside = [Say(self.settings.outside, message)] if self.settings.outside else []
        return [_marked(message), *outside, Tell(message)]

    def _close(self, exposure: Exposure) -> list[Effect]:
        self.ours.pop(exposure.obsid, None)
        self.aside.pop(exposure.obsid, None)
        self._closed[exposure.obsid] = exposure
        if len(self._closed) > MOST_CLOSED:
            del self._closed[next(iter(self._closed))]
        return [Keep("closed", " ".join(self._closed))]

    def catch_up(self, message: CatchUp, now: datetime) -> list[Effect]:
        """A person may say so in any state; it is done while ENABLED."""
        exposure = self.ours.get(message.obsid) or self.aside.get(message.obsid)
        if message.obsid in self._closed:
            return self.ignore(message)
        if exposure is None:
            return self.unusable(message, "nothing was heard of this exposure")
        effects: list[Effect] = [Note(message)] if exposure.fold(message, now) else []
        if not self.acting:
            return effects
        if exposure.item is None:
            return effects + self._take(exposure, now)
        exposure.given_up.clear()
        exposure.forget(*Step)
        exposure.release()
        return effects + self._say(exposure, now)

    # ── saying ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, exposure: Exposure, now: datetime) -> list[Effect]:
        """What can be said of it and has not been."""
        wait = self.settings.ack_timeout
        effects: list[Effect] = []
        for step in exposure.due_steps(self.forwarder is not None) if self.speaking else ():
            ack_id = exposure.item.ack_id if step is Step.ITEM and exposure.item is not None else self._ticket()
            say = exposure.word(step, ack_id, self.settings, self.forwarder)
            exposure.said[step] = Asked(ack_id, say, now + timedelta(seconds=wait), wait)
            effects.append(say)
        return effects

    def not_associated(self, name: str) -> list[Effect]:
        """Whoever waits for a forwarder waits longer: this one did not answer."""
        text = f"the association is not acknowledged by {name}"
        waiting = [each for each in self.ours.values() if each.directory and each.owed and each.released]
        return [Mark(e.obsid, Milestone.FAULT, number=UNACKNOWLEDGED[Step.XFER], text=text) for e in waiting]

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: datetime) -> list[Effect]:
        """What is not acknowledged is said again."""
        return [effect for exposure in self.ours.values() for effect in self._say_again(exposure, now)]

    def overdue(self, now: datetime) -> list[Effect]:
        return [effect for exposure in self.ours.values() for effect in self._overdue(exposure, now)]

    def late_dues(self) -> list[datetime]:
        return [at for each in self.ours.values() if (at := each.late_at(self.settings)) is not None]

    def next_due(self) -> list[datetime]:
        return [at for each in self.ours.values() for at in each.timers()]

    def _say_again(self, exposure: Exposure, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        for step, asked in list(exposure.said.items()):
            if asked.acked or now < asked.again_at:
                continue
            if step not in exposure.reported:
                exposure.reported.add(step)
                text = f"the {step} is not acknowledged by {asked.say.to}"
                effects.append(Mark(exposure.obsid, Milestone.FAULT, number=UNACKNOWLEDGED[step], text=text))
            effects.append(asked.again(now))
            if step is Step.XFER:  # whoever did not hear this could make nothing of what was said after it
                effects += exposure.repeated(now, Step.READOUT, Step.HEADER)
        if exposure.nudge_at is not None and exposure.nudge_at <= now:
            exposure.forget(*TO_FORWARDER)
            exposure.lengthen()
        return effects + self._say(exposure, now)

    def _overdue(self, exposure: Exposure, now: datetime) -> list[Effect]:
        late_at = exposure.late_at(self.settings)
        if late_at is None or now < late_at:
            return []
        exposure.late = True
        return [Mark(exposure.obsid, Milestone.LATE, text=exposure.summed_up(now))]

    def swept(self, now: datetime) -> list[Effect]:
        """What is over or hopeless is forgotten, so that nothing grows for ever."""
        effects: list[Effect] = []
        for exposure in [*self.ours.values(), *self.aside.values()]:
            last = exposure.last_at or exposure.since
            if exposure.first is None or now - last <= (QUIET if exposure.complete else KEPT_FOR):
                continue
            if exposure.item is not None and not exposure.complete:
                text = f"given up: {exposure.summed_up(now)}"
                effects.append(Mark(exposure.obsid, Milestone.FAULT, text=text))
            effects.append(Note(exposure.first, closes=True))
            if exposure.complete:
                effects += self._close(exposure)
            self.ours.pop(exposure.obsid, None)
            self.aside.pop(exposure.obsid, None)
        return effects


def _reached(exposure: Exposure, event: Message, at: datetime | None) -> list[Effect]:
    match event:
        case EndReadout():
            return [Mark(exposure.obsid, Milestone.READ_OUT, at=at)]
        case LargeFileObjectAvailable():
            return [Mark(exposure.obsid, Milestone.HEADER)]
        case _:
            return []


def _marked(message: Outcome) -> Mark:
    if message.status_code:
        text = message.description
        return Mark(message.obsid, Milestone.FAULT, detector_of(message), number=message.status_code, text=text)
    what = Milestone.SENT if isinstance(message, ImageRetrieval) else Milestone.INGESTED
    return Mark(message.obsid, what, detector_of(message))
