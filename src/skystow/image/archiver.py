"""The Archiver: hears camera and header service, has the image archived, and tells the outside what became of it.

    StartIntegration          → NewArchiveItem, to the Controller    → NewArchiveItemAck: where it goes
    the place is known        → XferParams, to the paired forwarder
    EndReadout                → ReadoutEnded, never before XferParams
    LargeFileObjectAvailable  → HeaderReady, never before XferParams
    ImageRetrieval            → told outside; a forwarder that dies is replaced, and the next one hears all this anew
    ImageInOODS               → told outside; with the last one the exposure is complete

Here are the component's states and its services; the exposures are in `skystow.image.exposures`.

An Archiver that died while ENABLED and begins in STANDBY is recovering until START is obeyed: nobody told it to stop,
and what the camera said meanwhile, or just before, waits on the bus. It is noted as if it had come while ENABLED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from skystow.errors import Refused
from skystow.image.exposure import Settings
from skystow.image.exposures import Exposures
from skystow.image.services import EPOCH, Pairing, Pulse
from skystow.image.standing import STATE
from skystow.model.acts import Become, Effect, Keep, Reply
from skystow.model.lifecycle import Summary, Verb, obey
from skystow.model.messages import (
    AssociatedAck,
    EndReadout,
    HeaderReadyAck,
    HealthCheckAck,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItemAck,
    ReadoutEndedAck,
    StartIntegration,
    XferParamsAck,
    raft_and_sensor,
)
from skystow.model.reports import CatchUp, Degraded, ForwarderFound, NoForwarder, Presence

__all__ = ["Archiver", "Settings"]

NOT_STARTED, CONTROLLER_SILENT, NO_FORWARDER = 5701, 5751, 5755
"""The original's codes: the reason why `start` is refused, and the two that make a FAULT."""

SWEEP = timedelta(minutes=10)

RECOVERING = "recovering"
"""The field of what is kept that is "1" while it is: the state that is kept is STANDBY soon after the restart."""


class Archiver:
    """A `skystow.ports.talk.Conversation`. `restore` is called before anything else."""

    def __init__(self, settings: Settings) -> None:
        """Raises `BadName` for a detector that cannot be."""
        for each in settings.detectors:
            raft_and_sensor(each)
        self.settings = settings
        self.name = settings.name
        self.addresses: Sequence[str] = (settings.events, settings.address)
        self.exposures = Exposures(settings, self._ticket)
        self.pairing = Pairing(settings, self._ticket)
        self._pulse = Pulse(settings, self._ticket)
        self._tickets = 0
        self._new, self._recovering = True, False
        self._be(Summary.STANDBY)
        self._forget()

    def _forget(self) -> None:
        self._away: dict[str, str] = {}
        self._start_until: datetime | None = None
        self._sweep_at = EPOCH
        self._last: datetime | None = None
        """When `due` was here; None: not since the start."""
        self._kept: tuple[Summary, bool] = (Summary.STANDBY, False)
        """The state that is kept, and whether it is kept that we are recovering."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """By kind: what came twice, late, or for nothing."""
        return self.exposures.ignored

    def _ticket(self) -> str:
        self._tickets += 1
        return f"{self.settings.session_id}_{self._tickets}"

    def _be(self, state: Summary) -> None:
        self.state = state
        self.exposures.acting, self.exposures.speaking = state is Summary.ENABLED, self._serving
        self.exposures.taking = state is Summary.ENABLED or self._recovering

    @property
    def _serving(self) -> bool:
        return self.state in (Summary.DISABLED, Summary.ENABLED)

    @property
    def _open(self) -> bool:
        """Whether the services are wanted."""
        return self._serving or self._start_until is not None

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, verb: Verb, now: datetime) -> list[Effect]:
        """START replies when the services are up, or refuses; the others obey at once. Raises `Refused`."""
        if self._start_until is not None:
            raise Refused(f"{verb}: start is still under way")
        after = obey(self.state, verb)
        if verb is Verb.START:
            self._start_until = now + timedelta(seconds=self.settings.ack_timeout)
            self.pairing.open(now)
            self._pulse.open(now)
            return self._served(now)
        effects = self._close() if verb is Verb.STANDBY else []
        self._be(after)
        if verb is Verb.ENABLE:
            effects += self.exposures.release(now)
        return [*effects, Become(after), Reply()]

    def _started(self) -> list[Effect]:
        """Whether all services are up, so that START is obeyed."""
        if self._start_until is None or self.pairing.paired is None or not self._pulse.answered:
            return []
        self._start_until = None
        recovered = [Keep(RECOVERING, "")] if self._recovering else []
        self._recovering = False
        self._be(Summary.DISABLED)
        return [*recovered, Become(self.state), Reply()]

    def _not_started(self) -> list[Effect]:
        paired, asked = self.pairing.paired, self.pairing.asked_last
        if self._away:
            reason = "; ".join(f"{place} is away: {why}" for place, why in self._away.items())
        elif paired is None:
            reason = f"forwarder {asked} did not acknowledge the association" if asked else "there is no forwarder"
        else:
            reason = "the Archive Controller does not answer"
        return [*self._close(), Reply(f"{reason} (waited {self.settings.ack_timeout:g} s)", NOT_STARTED)]

    def _fault(self, number: int, report: str) -> list[Effect]:
        effects = self._close()
        self._be(Summary.FAULT)
        return [*effects, Become(self.state, number, report)]

    def _close(self) -> list[Effect]:
        self._start_until = None
        self.exposures.rest()
        self.exposures.forwarder = None
        return [*self.pairing.close(), Keep("paired_forwarder", "")]

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def hears(self, address: str) -> bool:
        """SAL has no memory: its events are taken in any state, and those of exposures that are not ours are dropped
        where nothing is heard."""
        return self._open or (address == self.settings.events and self.state is not Summary.OFFLINE)

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        effects = self._heard(message, now)
        return effects + self._paired(now) + self._started()

    def _heard(self, message: Message, now: datetime) -> list[Effect]:
        match message:
            case StartIntegration() | EndReadout() | LargeFileObjectAvailable():
                return self.exposures.event(message, now)
            case NewArchiveItemAck():
                return self.exposures.located(message, now)
            case XferParamsAck() | ReadoutEndedAck() | HeaderReadyAck():
                return self.exposures.acknowledged(message, now)
            case ImageRetrieval() | ImageInOODS():
                return self.exposures.outcome(message, now)
            case CatchUp():
                return self.exposures.catch_up(message, now)
            case AssociatedAck():
                return [] if self.pairing.acknowledged(message, now) else self.exposures.ignore(message)
            case HealthCheckAck():
                return [] if self._pulse.heard(message.ack_id) else self.exposures.ignore(message)
            case Presence(key, alive):
                return self.pairing.presence(key, alive, now) if self._open else []
            case ForwarderFound():
                self.pairing.found(message, now)
                return [Keep("forwarders", self.pairing.kept())]
            case NoForwarder():
                self.pairing.nobody(now)
                return []
            case Degraded():
                self._degraded(message, now)
                return []
            case _:
                return self.exposures.unusable(message, "nobody says this to the Archiver")

    def _degraded(self, report: Degraded, now: datetime) -> None:
        if report.away:
            self._away[report.place] = report.reason
        elif self._away.pop(report.place, None) is not None and not self._away:
            self._anew(now)

    def _paired(self, now: datetime) -> list[Effect]:
        """Another forwarder, or none: what is not retrieved is said anew to the next one."""
        paired = self.pairing.paired.found if self.pairing.paired is not None else None
        if paired == self.exposures.forwarder:
            return []
        self.exposures.forwarder = paired
        kept = [Keep("paired_forwarder", paired.name if paired else ""), Keep("forwarders", self.pairing.kept())]
        return [*kept, *self.exposures.tell_anew(now)]

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        if self._last is None or now < self._last:
            effects += self._awake(now)
        self._last = now
        if self._start_until is not None and self._start_until <= now:
            return effects + self._not_started()
        effects += self._served(now)
        if self._serving:
            effects += self.exposures.overdue(now)
        if self._sweep_at <= now:
            self._sweep_at = now + SWEEP
            effects += self.exposures.swept(now)
        return effects

    def _awake(self, now: datetime) -> list[Effect]:
        """The first time since a start, or after the clock was set back."""
        first = self._last is None
        self._anew(now)
        self._sweep_at = now
        effects: list[Effect] = []
        if first and self._kept != (self.state, self._recovering):
            effects += [Become(self.state), Keep(RECOVERING, "1" if self._recovering else "")]
        if first and self.state is Summary.ENABLED:
            effects += self.exposures.release(now)
        return effects

    def _anew(self, now: datetime) -> None:
        """No silence is judged that began before now."""
        self.pairing.anew(now)
        self._pulse.anew(now)
        self.exposures.anew(now)

    def _served(self, now: datetime) -> list[Effect]:
        """Look after the services, unless what connects us with them is away."""
        if self._away or not self._open:
            return []
        if self._serving and self._pulse.silent(now):
            return self._fault(CONTROLLER_SILENT, "the Archive Controller is silent")
        if self._serving and self.pairing.lost(now):
            return self._fault(NO_FORWARDER, f"no forwarder for {self.settings.patience:g} s")
        missed = self.pairing.missed
        effects = self._pulse.due(now) + self.pairing.due(now)
        if self.pairing.missed != missed:
            effects += self.exposures.not_associated(self.pairing.missed)
        return effects + self.exposures.due(now)

    def next_due(self) -> datetime | None:
        if self._last is None:
            return EPOCH
        dues = [self._sweep_at]
        if self._start_until is not None:
            dues.append(self._start_until)
        if self._serving:
            dues += self.exposures.late_dues()
        if self._open and not self._away:
            dues += [*self.pairing.next_due(), self._pulse.next_due(), *self.exposures.next_due()]
        if self._serving and not self._away:
            dues += [at for at in (self.pairing.lost_at(), self._pulse.silent_at()) if at is not None]
        return min(dues)

    # ── what outlives the process ───────────────────────────────────────────────────────────────────────────────

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        """A new process begins in STANDBY, or in the state that it had (`initial_state` last); one that could not
        commit stays in the state that is kept."""
        new, self._new = self._new, False
        self._forget()
        last = Summary.__members__.get(kept.get(STATE, ""), Summary.STANDBY)
        lasts = not new or (self.settings.initial_state == "last" and last is not Summary.OFFLINE)
        state = last if lasts else Summary.STANDBY
        self._kept = last, bool(kept.get(RECOVERING))
        # One that could not write down that it is recovering still is: its host says that it was STANDBY.
        died = last is Summary.ENABLED or self._recovering or self._kept[1]
        self._recovering = state is Summary.STANDBY and died
        self._be(state)
        self.exposures.restore(steps, kept)
        self.exposures.forwarder = None
        self.pairing.restore(kept.get("forwarders", ""))
        self._pulse.open(EPOCH)
