"""The host of a conversation: takes messages from the bus, makes what follows durable, then has it done.

    receive   what the bus has for us, what our hands report, what became of our files
    hear      the conversation answers with effects
    commit    files admitted; then steps, messages, milestones, dead letters in one transaction
    accept    only now the bus may forget what it gave us
    act       hands, each kind in threads of its own (`EARLY`: during commit); a place's fault: the same act, later

Every line may be killed: what was received comes again, and what was to be done the conversation asks for again when
it is rebuilt from its steps. Where the ledger is away it is rebuilt too, so that it never knows more than the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import TypeVar

from skystow.errors import FileFault, PlaceFault, Refused, Stopped
from skystow.model.acts import Admit, Adopt, Become, Bury, Do, Effect, Keep, Mark, Note, Reply, Say, Tell
from skystow.model.lifecycle import Summary, Verb
from skystow.model.messages import Message
from skystow.model.packing import packed
from skystow.model.records import DeadLetter, Health, Notice
from skystow.model.reports import Degraded
from skystow.model.transfer import Destination
from skystow.ports import Clock, Ledger
from skystow.ports.talk import Bus, Conversation, Delivery, Talks
from skystow.service.halt import Bells, Halt
from skystow.service.hands import Hands, Joint, Skill
from skystow.service.status import Progress

POLL = 0.5
"""Seconds between two looks at the bus, where others than this process speak on it; our own words ring the bell."""

GATHER, EACH = 0.1, 0.001
"""Seconds from one round to the next: as many as the last one had messages times EACH, GATHER at most. What comes
meanwhile shares a commit, and one that is alone goes at once."""

BATCH = 500
FIRST_REST, LONGEST_REST = 0.5, 30.0

ANSWER = 30.0
"""Seconds that whoever tells us of files waits for the commit."""

OBEYED = 120.0
"""Seconds that a command waits for its end."""


BUS = "bus"
"""The place that a broker is."""

EARLY = (Adopt,)
"""Acts that begin while what led to them is written down: they change nothing that would need a promise."""

LOGGED = (Become, Bury, Mark, Reply, Tell)

Log = Callable[[str, Effect | str], None]
"""Given a component's name, and what it did."""


def nobody(component: str, what: Effect | str) -> None:
    """Nobody reads a log."""


Result = TypeVar("Result")

Translate = Callable[[Notice], Message | None]
"""What a notice of the spine means to a conversation (None: nothing)."""


@dataclass(frozen=True, slots=True)
class _Heard:
    messages: Sequence[Message]
    done: Future[None] | None = None


@dataclass(frozen=True, slots=True)
class _Command:
    verb: Verb
    done: Future[Summary]


class Talk:
    """One conversation at work. Also its `Announcer`: the spine's notices are told to it."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        bus: Bus,
        talks: Talks,
        ledger: Ledger,
        clock: Clock,
        progress: Progress,
        bells: Bells,
        skills: Mapping[type, Skill | Joint],
        destinations: Mapping[str, tuple[Destination, ...]],
        translate: Translate,
        tell: Callable[[Message], None],
        keep: Callable[[Mapping[str, str]], None] = lambda _: None,
        said: Callable[[], None] | None = None,
        log: Log = nobody,
        poll: float = POLL,
    ) -> None:
        """`destinations`: where files of a source go, by its name. `tell`: the outside hears of events. `keep`: so it
        does of what is kept, whenever that changes. `said`: told that messages wait (None: ring `bells`). `log`: what a
        person should see of what was written down (`LOGGED`)."""
        self.conversation, self.bus, self.talks, self.ledger = conversation, bus, talks, ledger
        self.clock, self.progress, self.bells = clock, progress, bells
        self.destinations, self.translate, self.tell, self.keep, self.log = destinations, translate, tell, keep, log
        self.hands = Hands(conversation.name, skills, report=self._heard, away=self._report, well=self._report_well)
        self.poll, self.said = poll, said or bells.ring
        self.state = Summary.STANDBY
        self.error: tuple[int, str] = (0, "")
        self._inbox: deque[_Heard | _Command] = deque()
        self._command: _Command | None = None
        self._open = self.begun = False  # once begun, it was restored
        self.turned = monotonic()  # when its latest round began
        self._away = ""
        self._rest = FIRST_REST
        self._lock = threading.Lock()
        self._world = self._halt = Halt()

    # ── from other threads ──────────────────────────────────────────────────────────────────────────────────────

    def announce(self, notices: Sequence[Notice]) -> None:
        """Returns when the conversation has written down what follows. Raises `PlaceFault` while it cannot."""
        if messages := [message for notice in notices if (message := self.translate(notice)) is not None]:
            self._wait(_Heard(messages, Future()))

    def command(self, verb: Verb, patience: float | None = None) -> Summary:
        """Blocks until it is obeyed. Raises `Refused` with a sentence; then nothing has changed. `PlaceFault`: it was
        begun, and nobody knows yet how it ends."""
        command, name = _Command(verb, Future()), self.conversation.name
        if not self._put(command, waits=True):
            raise Refused(f"{verb}: {name} does not run")
        try:
            return command.done.result(patience or OBEYED)
        except TimeoutError:
            late = f"{verb}: {name} did not answer within {patience or OBEYED:.0f} s"
            if command.done.cancel():  # nor will it be obeyed later, when nobody expects it
                raise Refused(late) from None
            raise PlaceFault(f"{late}; it may still be obeyed", place=name, remedy="ask for its state") from None

    def hear(self, messages: Sequence[Message]) -> None:
        """Something that a person, or a host, tells it. Returns when it is written down."""
        self._wait(_Heard(messages, Future()))

    def _wait(self, heard: _Heard) -> None:
        if heard.done is None or not self._put(heard, waits=True):
            raise PlaceFault(f"{self.conversation.name} does not run", place=self.conversation.name)
        try:
            heard.done.result(ANSWER)
        except TimeoutError:
            raise PlaceFault(f"{self.conversation.name} does not listen", place=self.conversation.name) from None

    def _heard(self, reports: Sequence[Message]) -> None:
        self._put(_Heard(reports))

    def _put(self, item: _Heard | _Command, *, waits: bool = False) -> bool:
        """Whether it will be looked at. Under the lock of `_refuse`: nobody waits for an answer that never comes."""
        with self._lock:
            if waits and not self._open:
                return False
            self._inbox.append(item)
        self._halt.ring()
        return True

    # ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, halt: Halt) -> None:
        """Until `halt`, or until the conversation is OFFLINE."""
        self._world, self._halt = halt, Halt(halt)  # a bell of its own: what only we are told wakes nobody else
        self.bells.add(self._halt)
        # Threads of its own: whoever tells us of files waits in a thread of the loop for what we do in ours.
        self._own = ThreadPoolExecutor(1, f"talk {self.conversation.name}")
        self.hands.open()
        try:
            async with asyncio.TaskGroup() as group:
                await self._keep_talking(self._halt, group)
                self.hands.drop()
        finally:
            self._open = False
            self._refuse(Stopped(f"{self.conversation.name} has ended"))
            self.hands.close()
            self._own.shutdown(wait=False, cancel_futures=True)

    async def _keep_talking(self, halt: Halt, group: asyncio.TaskGroup) -> None:
        while not halt.is_set() and self.state is not Summary.OFFLINE:
            rung, began = halt.rung, monotonic()
            self.turned = began
            try:
                if not self._open:
                    await self._in_thread(self._rebuild)
                    self._open = True
                busy = await self._round(group)
                await self._well()
            except PlaceFault as fault:
                self._open = False
                # Before we rest: what a hand says of a place now, it would never take back.
                self.hands.drop()  # a conversation that is rebuilt asks again for what it is owed
                self._refuse(fault)
                await self._rest_after(fault)
                continue
            if busy:
                await halt.sleep(min(GATHER, EACH * busy) - (monotonic() - began))
            else:
                await halt.nap(self._pause(), since=rung)

    async def _in_thread(self, call: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._own, call, *args)

    def _rebuild(self) -> None:
        name = self.conversation.name
        kept = dict(self.talks.kept(name))
        if self.begun:
            kept["state"] = self.state.name  # whatever was commanded and could not be written down did not happen
        self.conversation.restore(self.talks.steps(name), kept)
        self.keep(kept)
        self.begun = True
        self.state = getattr(self.conversation, "state", Summary.ENABLED)

    async def _round(self, group: asyncio.TaskGroup) -> int:
        """How many messages there were."""
        deliveries = await self._in_thread(self._receive)
        with self._lock:
            items = list(self._inbox)
            self._inbox.clear()
        now = self.clock.now()
        effects = await self._look_at_bus(now)
        for delivery in deliveries:
            effects += self._told(delivery.message, now)
        try:
            for item in items:
                effects += self._take(item)
            effects += self.conversation.due(now)
            self._do(effects, group, early=True)
            if effects:
                await self._in_thread(self._commit, effects)
        except PlaceFault as fault:
            for item in items:
                if item.done is not None and not item.done.done():
                    item.done.set_exception(fault)
            raise
        self._tell(effects)
        for item in items:
            if isinstance(item, _Heard) and item.done is not None:
                item.done.set_result(None)
        if deliveries:
            await self._in_thread(self.bus.accept, deliveries)
        self._do(effects, group, early=False)
        return len(deliveries) + len(items)

    def _do(self, effects: Iterable[Effect], group: asyncio.TaskGroup, *, early: bool) -> None:
        for effect in effects:
            if isinstance(effect, Do) and isinstance(effect.act, EARLY) is early:
                self.hands.take(effect.act, group, self._halt)

    async def _look_at_bus(self, now: datetime) -> list[Effect]:
        """A broker that is away: the conversation goes on with all else, and judges no silence."""
        fault, told = self.bus.away, self._away
        said = "" if fault is None else str(fault)
        if said == told:
            return []
        self._away = said
        if fault is not None:
            await self._report(fault, 0.0)
        else:
            await self._report_well(BUS)
        return self._told(Degraded(BUS, away=fault is not None, reason=said), now)

    def _receive(self) -> list[Delivery]:
        talk = self.conversation
        return [d for address in talk.addresses if talk.hears(address) for d in self.bus.receive(address, limit=BATCH)]

    def _take(self, item: _Heard | _Command) -> Iterable[Effect]:
        now = self.clock.now()
        if isinstance(item, _Heard):
            return [effect for message in item.messages for effect in self._told(message, now)]
        if not item.done.set_running_or_notify_cancel():
            return []
        if self._command is not None:
            item.done.set_exception(Refused(f"{item.verb}: {self._command.verb} is still under way"))
            return []
        try:
            effects = self.conversation.command(item.verb, now)
        except Refused as refused:
            item.done.set_exception(refused)
            return []
        self._command = item
        return effects

    def _commit(self, effects: Sequence[Effect]) -> None:
        """Files first: they are admitted idempotently, and a step that says so must not be there without them."""
        by_source: dict[str, list[Admit]] = {}
        for effect in effects:
            if isinstance(effect, Admit):
                by_source.setdefault(effect.arrival.source, []).append(effect)
        for source, admits in by_source.items():
            self.ledger.admit([each.arrival for each in admits], self.destinations[source])
        name = self.conversation.name
        kept = {each.field: each.value for each in effects if isinstance(each, Keep)}
        for each in effects:
            if isinstance(each, Become):
                kept |= {"state": each.state.name, "error": f"{each.number} {each.report}".strip()}
        notes = [each for each in effects if isinstance(each, Note)]
        says = [each for each in effects if isinstance(each, Say)]
        marks = [each for each in effects if isinstance(each, Mark)]
        buries = [each for each in effects if isinstance(each, Bury)]
        if notes or says or marks or buries or kept:
            self.talks.converse(name, notes=notes, says=says, marks=marks, buries=buries, keep=kept)
        if kept:
            self.keep(kept)
        if by_source:
            self._world.ring()
        if says:
            self.said()

    def _tell(self, effects: Iterable[Effect]) -> None:
        """What is written down is so, whether or not the bus can be told that we have its messages."""
        for effect in effects:
            if isinstance(effect, LOGGED):
                self.log(self.conversation.name, effect)
            match effect:
                case Tell(message):
                    self.tell(message)
                case Become(state, number, report):
                    self.state, self.error = state, (number, report)
                case Reply(refused, number):
                    self._reply(refused, number)
                case _:
                    pass

    def _reply(self, refused: str, number: int) -> None:
        command, self._command = self._command, None
        if command is None:
            return
        if refused:
            command.done.set_exception(Refused(refused, number=number))
        else:
            command.done.set_result(self.state)

    # ── what is away ────────────────────────────────────────────────────────────────────────────────────────────

    def _pause(self) -> float:
        due = self.conversation.next_due()
        return self.poll if due is None else min(self.poll, max(0.01, (due - self.clock.now()).total_seconds()))

    async def _rest_after(self, fault: PlaceFault) -> None:
        await self._report(fault, self._rest)
        await self._halt.sleep(self._rest)
        self._rest = min(LONGEST_REST, self._rest * 2)

    async def _well(self) -> None:
        if self._rest != FIRST_REST:
            self._rest = FIRST_REST
            for place in [health.place for health in self.progress.healths.values() if not health.well]:
                if place == "ledger":
                    await self._report_well(place)

    async def _report(self, fault: PlaceFault, rest: float) -> None:
        now = self.clock.now()
        health = Health(fault.place, False, now, str(fault), now + timedelta(seconds=rest))
        self.progress.report(health)
        with contextlib.suppress(PlaceFault):  # the ledger itself may be what is away
            await self._in_thread(self.ledger.report, health)

    async def _report_well(self, place: str) -> None:
        health = Health(place, True, self.clock.now())
        self.progress.report(health)
        with contextlib.suppress(PlaceFault):
            await self._in_thread(self.ledger.report, health)

    def _refuse(self, fault: PlaceFault | Stopped) -> None:
        """Whoever waits for us is told; what hands reported is asked for again."""
        with self._lock:
            items, self._inbox = list(self._inbox), deque()
        command, self._command = self._command, None
        waiting = [item.done for item in items if item.done is not None] + ([command.done] if command else [])
        for done in waiting:
            if not done.done():
                done.set_exception(fault)

    def _told(self, message: Message, now: datetime) -> list[Effect]:
        try:
            return self.conversation.hear(message, now)
        except FileFault as fault:  # it cannot be used: written down, and never given again
            return [Bury(self._letter(message, fault))]

    def _letter(self, message: Message, fault: FileFault) -> DeadLetter:
        kind, body = packed(message)
        return DeadLetter(self.conversation.name, f"{kind} {sorted(body.items())}".encode(), f"{kind}: {fault}")
