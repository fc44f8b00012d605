"""What must be up for the Archiver to work: a forwarder that is paired with it, and a Controller that answers.

A forwarder that was popped from the scoreboard's list is on no list any more, so that it is remembered, whatever
becomes of the pairing: candidates are looked at and asked again, and survive the process (`kept`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta

from skystow.image.exposure import LONGEST_WAIT, Settings
from skystow.model.acts import Beat, Do, Effect, Look, PopForwarder, Say
from skystow.model.messages import Associated, AssociatedAck, HealthCheck
from skystow.model.packing import unpacked
from skystow.model.reports import ForwarderFound

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SEEK = timedelta(seconds=1)
"""Between two looks for a forwarder."""

MOST_CANDIDATES = 16

ENOUGH = 3
"""Answers that must be missing, or say no, before a silence is judged: a process that was stopped for a while, or a
clock that jumped, has heard nothing for long without anybody being silent."""

Ticket = Callable[[], str]
"""Gives the next ACK_ID."""


@dataclass(slots=True)
class Candidate:
    """A forwarder that we know. `rest_until`: it did not acknowledge, let others go first."""

    found: ForwarderFound
    look_at: datetime = EPOCH
    looking: bool = False
    rest_until: datetime = EPOCH
    misses: int = 0
    asked: deque[str] = field(default_factory=lambda: deque(maxlen=8))


class Pairing:
    """Finds a forwarder, pairs with it, watches that it lives, and keeps the association alive on the scoreboard."""

    def __init__(self, settings: Settings, ticket: Ticket) -> None:
        self.settings, self._ticket = settings, ticket
        self.candidates: dict[str, Candidate] = {}
        self._close()

    def _close(self) -> None:
        self.paired: Candidate | None = None
        self._asking: Candidate | None = None
        self._ask_until = self._pop_at = self._beat_at = EPOCH
        self._popping = False
        self.missed: str = ""
        self.alone_since: datetime | None = None
        self._noes = 0
        for each in self.candidates.values():
            each.look_at, each.looking, each.rest_until, each.misses = EPOCH, False, EPOCH, 0
            each.asked.clear()

    def open(self, now: datetime) -> None:
        """Look for a forwarder from now on."""
        self._close()
        self.alone_since = now

    def close(self) -> list[Effect]:
        """The association is forgotten, so that the forwarder puts itself on the list again."""
        self._close()
        return [Do(Beat(self.settings.association_key, "", 0.0))]

    def anew(self, now: datetime) -> None:
        """Clocks start anew: for a while nobody could be seen, or time itself has jumped."""
        if self.paired is None:
            self.alone_since, self._noes = now, 0
        else:  # its sign of life may have gone with the scoreboard: give it the time to come back
            self.paired.look_at = now + timedelta(seconds=self.settings.beat_expires)
        if self._asking is not None:
            self._ask_until = now + timedelta(seconds=self.settings.ack_timeout)
        self._pop_at = self._beat_at = now
        for each in self.candidates.values():
            each.rest_until = min(each.rest_until, now)
            if each is not self.paired:
                each.look_at = now

    def lost(self, now: datetime) -> bool:
        """No forwarder is left, for longer than we have patience."""
        return (until := self.lost_at()) is not None and until <= now

    def lost_at(self) -> datetime | None:
        if self.alone_since is None or self._noes < ENOUGH:
            return None
        return self.alone_since + timedelta(seconds=self.settings.patience)

    @property
    def asked_last(self) -> str:
        """The forwarder that has not acknowledged, "" for none."""
        return self._asking.found.name if self._asking is not None else self.missed

    # ── what was heard ──────────────────────────────────────────────────────────────────────────────────────────

    def found(self, found: ForwarderFound, now: datetime) -> None:
        """It is a candidate, whatever the state."""
        self._popping = False
        known = self.candidates.setdefault(found.name, Candidate(found))
        if known is not self.paired:
            known.found = found
        self._pop_at = now + 2 * SEEK
        for name in [n for n, each in self.candidates.items() if each not in (self.paired, self._asking)]:
            if len(self.candidates) > MOST_CANDIDATES:
                del self.candidates[name]

    def nobody(self, now: datetime) -> None:
        self._popping = False
        self._pop_at = now + SEEK
        self._noes += 1

    def presence(self, key: str, alive: bool, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        for each in list(self.candidates.values()):
            if each.found.presence_key != key or not each.looking:
                continue
            each.looking = False
            watched = each is self.paired
            each.look_at = now + (timedelta(seconds=self.settings.presence) if watched else SEEK)
            if watched and not alive:
                self.paired, self.alone_since, self._noes = None, now, 0
                self._pop_at = now
            elif not alive:
                self._noes += 1
                self._pop_at = min(self._pop_at, now)
            elif self.paired is None and self._asking is None and each.rest_until <= now:
                effects += self._ask(each, now)
        return effects

    def _ask(self, candidate: Candidate, now: datetime) -> list[Effect]:
        ack_id = self._ticket()
        candidate.asked.append(ack_id)
        self._asking = candidate
        self._ask_until = now + timedelta(seconds=self.settings.ack_timeout)
        associated = Associated(ack_id, self.settings.association_key, self.settings.address)
        return [*self._beat(candidate, now), Say(candidate.found.address, associated)]

    def _beat(self, candidate: Candidate, now: datetime) -> list[Effect]:
        self._beat_at = now + timedelta(seconds=self.settings.beat)
        return [Do(Beat(self.settings.association_key, candidate.found.name, self.settings.beat_expires))]

    def acknowledged(self, ack: AssociatedAck, now: datetime) -> bool:
        """Whether we are paired by it. It may come late: while nobody else is, it is as good."""
        said = next((each for each in self.candidates.values() if ack.ack_id in each.asked), None)
        if said is None or self.paired is not None:
            return False
        if ack.association_key:
            said.found = replace(said.found, presence_key=ack.association_key)
        said.look_at, said.misses = now + timedelta(seconds=self.settings.presence), 0
        self.paired, self._asking, self.alone_since, self.missed = said, None, None, ""
        self._beat_at = now
        self.candidates = {said.found.name: said} | self.candidates
        return True

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        if self._asking is not None and self._ask_until <= now:
            self._give_up(self._asking, now)
        if self.paired is None and self._asking is None:
            effects += self._seek(now)
        elif self.paired is not None and self._to_look(self.paired, now):
            effects += self._look(self.paired)
        holder = self.paired or self._asking
        # While a look is not answered the scoreboard is: to heap beats upon a scoreboard that is away helps nobody.
        if holder is not None and self._beat_at <= now:
            if self._unanswered(holder, now):
                self._beat_at = now + timedelta(seconds=self.settings.beat)
            else:
                effects += self._beat(holder, now)
        return effects

    def _unanswered(self, candidate: Candidate, now: datetime) -> bool:
        return candidate.looking and candidate.look_at + timedelta(seconds=self.settings.beat_expires) <= now

    def _give_up(self, candidate: Candidate, now: datetime) -> None:
        candidate.misses += 1
        wait = min(self.settings.ack_timeout * 2 ** min(candidate.misses, 10), LONGEST_WAIT)
        candidate.rest_until = now + timedelta(seconds=wait)
        self.missed = candidate.found.name
        self._asking, self._pop_at = None, now
        self._noes += 1

    def _seek(self, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        if not self._popping and self._pop_at <= now:
            self._popping = True
            effects.append(Do(PopForwarder()))
        for each in self.candidates.values():
            if not self._to_look(each, now) or each.rest_until > now:
                continue
            if each.found.presence_key:
                effects += self._look(each)
            elif self._asking is None:  # an original's, which says its key only when it is asked
                effects += self._ask(each, now)
        return effects

    def _to_look(self, candidate: Candidate, now: datetime) -> bool:
        watched = candidate is not self.paired or bool(candidate.found.presence_key)
        return watched and not candidate.looking and candidate.look_at <= now

    def _look(self, candidate: Candidate) -> list[Effect]:
        candidate.looking = True
        return [Do(Look(candidate.found.presence_key))]

    def next_due(self) -> list[datetime]:
        dues: list[datetime] = []
        if self.paired is not None or self._asking is not None:
            dues.append(self._beat_at)
        if self.paired is not None:
            if self.paired.found.presence_key and not self.paired.looking:
                dues.append(self.paired.look_at)
        elif self._asking is not None:
            dues.append(self._ask_until)
        else:
            dues += [] if self._popping else [self._pop_at]
            dues += [max(each.look_at, each.rest_until) for each in self.candidates.values() if not each.looking]
        return dues

    # ── what outlives the process ───────────────────────────────────────────────────────────────────────────────

    def kept(self) -> str:
        """The candidates as JSON, whoever is paired first."""
        return json.dumps([asdict(each.found) for each in self.candidates.values()])

    def restore(self, kept: str) -> None:
        found = [unpacked(ForwarderFound.__name__, each) for each in json.loads(kept or "[]")]
        self.candidates = {each.name: Candidate(each) for each in found if isinstance(each, ForwarderFound)}
        self._close()


class Pulse:
    """The Controller's: asked every `heartbeat`, silent when nothing came for three of them, or `ack_timeout`."""

    def __init__(self, settings: Settings, ticket: Ticket) -> None:
        self.settings, self._ticket = settings, ticket
        self._limit = timedelta(seconds=max(ENOUGH * settings.heartbeat, settings.ack_timeout))
        self.open(EPOCH)

    def open(self, now: datetime) -> None:
        """Look from now on whether it answers."""
        self.answered = False
        self.anew(now)

    def anew(self, now: datetime) -> None:
        """Clocks start anew; nothing that was asked before is waited for."""
        self._unanswered: dict[str, datetime] = {}
        self._ask_at = now

    def due(self, now: datetime) -> list[Effect]:
        if now < self._ask_at:
            return []
        self._ask_at = now + timedelta(seconds=self.settings.heartbeat)
        ack_id = self._ticket()
        self._unanswered[ack_id] = now
        check = HealthCheck(ack_id, self.settings.session_id, self.settings.address)
        return [Say(self.settings.controller, check)]

    def heard(self, ack_id: str) -> bool:
        """An answer to one is an answer to all that were asked before it."""
        if ack_id not in self._unanswered:
            return False
        asked = list(self._unanswered)
        for each in asked[: asked.index(ack_id) + 1]:
            del self._unanswered[each]
        self.answered = True
        return True

    def silent(self, now: datetime) -> bool:
        return (at := self.silent_at()) is not None and at <= now

    def silent_at(self) -> datetime | None:
        if len(self._unanswered) < ENOUGH:
            return None
        return next(iter(self._unanswered.values())) + self._limit

    def next_due(self) -> datetime:
        return self._ask_at
