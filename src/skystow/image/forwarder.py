"""The Forwarder: fetches pixels and header of an exposure, makes one FITS file per CCD, and sees each to staging.

    XferParams, HeaderReady      → the header is fetched
    header there, ReadoutEnded   → every CCD is assembled                  → admitted: the spine carries it to staging
    it stands there              → FileTransferCompleted, ImageRetrieval   → … again, until it is acknowledged
    FileTransferCompletedAck     → our own copy goes

The three messages come in any order, and each may come twice. Acknowledgements say that a message is written down.
What cannot be had for `patience` is given up and said once (5610 header, 5611 pixels, 5612 not sent); one bad CCD does
not stop the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from skystow.image.retrieval import LONGEST_SILENCE, Ccd, Retrieval, Settings
from skystow.image.standing import Standing
from skystow.model.acts import Beat, Do, Effect, Keep, Look, Mark, Milestone, Note, Register, Say
from skystow.model.lifecycle import Summary
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    FileTransferCompleted,
    HeaderReady,
    HeaderReadyAck,
    Message,
    ReadoutEnded,
    ReadoutEndedAck,
    XferParams,
    XferParamsAck,
    lawful_obsid,
)
from skystow.model.reports import AssemblyFailed, HeaderFailed, Presence

__all__ = ["Forwarder", "Settings"]

PONG = "pong"
"""What the originals keep alive."""

BEAT_EVERY, BEAT_FOR = timedelta(seconds=3), 10.0
LOOK_EVERY = timedelta(seconds=10)
CLOSED = "closed"
"""What is kept of closed exposures: their messages' `ack_id`s, as JSON."""

REMEMBERED = 200
"""Closed exposures of which late repeats are still known."""

ACKS = {XferParams: XferParamsAck, ReadoutEnded: ReadoutEndedAck, HeaderReady: HeaderReadyAck}


class Forwarder(Standing):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.name, settings.address, initial_state=settings.initial_state)
        self.settings = settings
        self._forget()

    def _forget(self) -> None:
        self._exposures: dict[str, Retrieval] = {}
        self._closed: dict[str, list[str]] = {}
        self._watched, self._paired = self.settings.association_key, False
        self._beat_at: datetime | None = None
        self._look_at: datetime | None = None

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        """Not whether we are paired: we announce ourselves again."""
        super().restore(steps, kept)
        self._forget()
        self._closed = json.loads(kept.get(CLOSED, "{}"))
        for at, message in steps:
            exposure = self._exposure(message.key)
            exposure.take(message, at)
            self._close(exposure, message)

    def _exposure(self, obsid: str) -> Retrieval:
        return self._exposures.setdefault(obsid, Retrieval(obsid, self.settings))

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        """Raises `BadName` for an exposure whose name cannot become a file's."""
        match message:
            case Associated(ack_id, key, reply_to):
                self._watched, self._paired, self._look_at = key or self._watched, True, now + LOOK_EVERY
                ack = AssociatedAck(ack_id, self.settings.presence_key, self.settings.component)
                return [Say(reply_to or self.settings.archiver_address, ack)]
            case Presence(key, alive) if key == self._watched:
                lost, self._paired = self._paired and not alive, alive
                return [Do(Register())] if lost and self.state is Summary.ENABLED else []
            case XferParams() | ReadoutEnded() | HeaderReady():
                return self._ordered(message, now)
            case _ if (exposure := self._exposures.get(message.key)) is not None:
                return self._step(exposure, message, now)
            case _:
                return []

    def _ordered(self, message: XferParams | ReadoutEnded | HeaderReady, now: datetime) -> list[Effect]:
        """Work, or more of what a piece of work needs: acknowledged as often as it is said."""
        obsid = lawful_obsid(message.image_id)
        to = message.reply_to or self.settings.archiver_address
        ack = Say(to, ACKS[type(message)](message.ack_id, obsid, self.settings.component))
        if message.ack_id in self._closed.get(obsid, ()):
            return [ack]
        return [*self._step(self._exposure(obsid), message, now), ack]

    def _step(self, exposure: Retrieval, heard: Message, now: datetime) -> list[Effect]:
        message = self._judged(exposure, heard, now)
        ccd = exposure.ccd_of(message)
        effects: list[Effect] = []
        if (outcome := exposure.take(message, now)) is not None:
            closes = self._close(exposure, message)
            effects = [Note(message, closes), *([self._kept()] if closes else []), *outcome]
        elif isinstance(message, HeaderFailed | AssemblyFailed) and not message.final:
            detector = ccd.detector if ccd is not None else ""
            effects = [Mark(message.key, Milestone.FAULT, detector, text=f"{message.reason}; it is tried again")]
        return effects + list(self._owed(exposure, now, None if ccd is None else [ccd]))

    def _judged(self, exposure: Retrieval, message: Message, now: datetime) -> Message:
        """A failure that may pass is tried again, but not for ever."""
        patience = self.settings.patience
        if exposure.ready is None or now - exposure.ready < patience:
            return message
        match message:
            case HeaderFailed(obsid, reason, False):
                return HeaderFailed(obsid, f"{reason}; tried for {patience}", final=True)
            case AssemblyFailed(obsid, detector, reason, False):
                return AssemblyFailed(obsid, detector, f"{reason}; tried for {patience}", final=True)
            case _:
                return message

    def _close(self, exposure: Retrieval, message: Message) -> bool:
        """Whether this step was the last of its exposure."""
        given_up = isinstance(message, AssemblyFailed) and not message.detector
        if not given_up and not exposure.settled():
            return False
        del self._exposures[exposure.obsid]
        self._closed[exposure.obsid] = [*self._closed.pop(exposure.obsid, ()), *exposure.ack_ids()]
        if len(self._closed) > REMEMBERED:
            del self._closed[next(iter(self._closed))]
        return True

    def _kept(self) -> Keep:
        return Keep(CLOSED, json.dumps(self._closed))

    # ── what is owed ────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: datetime) -> list[Effect]:
        effects = list(self._present(now)) if self.state is Summary.ENABLED else []
        for exposure in list(self._exposures.values()):
            if exposure.touched and exposure.touched + self.settings.forget_after <= now:
                effects += self._given_up(exposure)
            elif exposure.wakes is None or exposure.wakes <= now:
                effects += self._owed(exposure, now)
        return effects

    def next_due(self) -> datetime | None:
        times = [exposure.wakes for exposure in self._exposures.values()]
        if self.state is Summary.ENABLED:
            times += [self._beat_at, self._look_at]
        return min((at for at in times if at is not None), default=None)

    def _present(self, now: datetime) -> Iterator[Effect]:
        if self._beat_at is None or self._beat_at <= now:
            self._beat_at = now + BEAT_EVERY
            yield Do(Beat(self.settings.presence_key, PONG, BEAT_FOR))
        if self._look_at is None or self._look_at <= now:
            self._look_at = now + LOOK_EVERY
            if not self._paired:
                yield Do(Register())
            yield Do(Look(self._watched))

    def _given_up(self, exposure: Retrieval) -> list[Effect]:
        reason = f"nothing came for {self.settings.forget_after}: not waited for any more"
        step = AssemblyFailed(exposure.obsid, "", reason, final=True)
        late = exposure.obsid in self._closed  # late repeats of what was done: nothing is amiss
        self._close(exposure, step)
        fault = Mark(exposure.obsid, Milestone.FAULT, text=" ".join([reason, *exposure.missing()]))
        return [Note(step, closes=True), self._kept(), *([] if late else [fault])]

    def _owed(self, exposure: Retrieval, now: datetime, ccds: Iterable[Ccd] | None = None) -> Iterator[Effect]:
        """What is not under way and whose time has come. Looks at these CCDs only, where only they have changed."""
        if exposure.obsid not in self._exposures:
            return
        wakes = (exposure.touched or now) + self.settings.forget_after
        if exposure.wakes is None:
            ccds = None
        elif ccds is not None:
            wakes = min(wakes, exposure.wakes)
        for pace, wish in exposure.wishes(ccds):
            if not pace.due(now):
                wakes = min(wakes, pace.at) if pace.at and not pace.busy else wakes
            elif isinstance(wish, FileTransferCompleted):
                wakes = min(wakes, pace.again(now, LONGEST_SILENCE))
                yield Say(self.settings.controller_address, wish)
            else:
                pace.busy = True
                yield Do(wish)
        exposure.wakes = wakes
