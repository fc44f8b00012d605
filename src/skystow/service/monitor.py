"""A monitor: takes what SMuRF servers say of their files, and registers the files in a table.

    receive    a thread that does nothing else: the kernel holds little
    sort       a thread: read, count, publish what is only news; spool files durably, many in one commit
    register   a thread: what is in the spool: prove the file, write its row, forget it; without the table it waits

Killed at any moment, it loses what it had taken from the kernel and not yet spooled, some milliseconds' worth; the next
datagrams of those senders show it as a gap.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from skystow.errors import FileFault, NoSpace, OperatorFault, PlaceFault, Stopped
from skystow.model.datagram import (
    Envelope,
    Ignored,
    Malformed,
    Reading,
    Registration,
    Session,
    meant,
    opened,
    parse,
    rooted,
    spare,
)
from skystow.model.records import shown
from skystow.model.sequence import Sequence as Numbers
from skystow.ports import Stop
from skystow.ports.monitor import Datagrams, Entry, Registrar, Spool, Spooled
from skystow.service.complaints import Complaints
from skystow.service.ended import Ended
from skystow.service.proving import Fresh, Root, prove
from skystow.service.senders import MOST, Senders

HELD, HELD_BYTES = 500_000, 256 * 2**20
"""Datagrams, and bytes of them, that are held in memory while the spool is busy; more are dropped, and counted."""

FULL = "spool: full"
SORTED = 2_000
BATCH, VOLUME = 500, 256 * 2**20
"""Files, and bytes read, that are registered with one commit."""

LOOK, GLANCE = 0.2, 0.05
SETTLE = 1.5
FIRST_REST, LONGEST_REST = 1.0, 30.0
FIRST_LOOK, LONGEST_LOOK = 1.0, 600.0
"""Seconds until a file that is not there is looked for again."""

BEAT, GRACE, LAST = 1.0, 3.0, 1.0
"""Seconds between two documents; for each thread to end; for what the kernel holds then."""


Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """`roots` and their trees: files below them are registered, others refused. Seconds: after `patience` a file that
    never was there is forgotten, and for `settle` nobody may have written. `most`, `most_bytes`: of what is spooled."""

    roots: Mapping[PurePosixPath, Root]
    settle: float = SETTLE
    patience: float = 30 * 86_400.0
    most: int = 1_000_000
    most_bytes: int = 2**30


class Monitor:
    """`publish` is given what is only news, `tell` what a person should see in a log; both from any thread."""

    def __init__(
        self,
        datagrams: Datagrams,
        spool: Spool,
        registrar: Registrar,
        rules: Rules,
        *,
        publish: Callable[[Reading | Session], None],
        tell: Callable[[str], None],
    ) -> None:
        self.datagrams, self.spool, self.registrar, self.rules = datagrams, spool, registrar, rules
        self.publish, self.tell = publish, tell
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        self._held: deque[tuple[float, str, bytes]] = deque()
        self._senders = Senders(spool.numbers())
        self._unsaved: dict[str, Numbers] = {}
        self._complaints = Complaints(tell)
        self._last: deque[dict[str, Any]] = deque(maxlen=10)
        self._waiting, self._volume = spool.census().waiting, spool.volume()
        self._taken = self._sorted = 0  # bytes, of the one thread and of the other
        self._deaf = threading.Event()
        self._lock = threading.Lock()
        self._in_hand = 0

    def run(self, stop: Stop, show: Show, *, idle: Callable[[], bool] | None = None) -> None:
        """Until `stop`, or until `idle()` where nothing waits. `show` is given a document, once a second."""
        ended, died = Ended(stop), list[BaseException]()

        def own(work: Callable[[Stop], None]) -> None:
            try:
                work(ended)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for us
                died.append(error)
            finally:
                ended.set()

        jobs = (self._receive, self._sort, lambda stop: self._register(stop, idle))
        threads = [threading.Thread(target=own, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        while not ended.wait(BEAT):
            show(self.document())
        for thread in threads:  # one that waits for a server that answers nothing is left behind
            thread.join(GRACE)
        show(self.document())
        for error in died:
            raise error

    # ── receive, sort ───────────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, stop: Stop) -> None:
        """Also what the kernel holds when it is over: who sent that believes us to have it."""
        try:
            while not stop.is_set():
                self._take(LOOK)
            due = time.monotonic() + LAST
            while self._take(0.0) and time.monotonic() < due:
                pass
        finally:
            self._deaf.set()

    def _take(self, seconds: float) -> bool:
        raws, now = self.datagrams.receive(seconds, most=SORTED), time.time()
        for source, raw in raws:
            if len(self._held) < HELD and self._taken - self._sorted < HELD_BYTES:
                self._taken += len(raw)
                self._held.append((now, source, raw))
            else:
                self.counts["dropped"] += 1
        return bool(raws)

    def _sort(self, stop: Stop) -> None:
        """What was received is sorted to its end, also after `stop`: nothing comes once nobody listens."""
        while True:
            over = self._deaf.is_set()
            self._in_hand = min(SORTED, len(self._held))
            batch = [self._held.popleft() for _ in range(self._in_hand)]
            self._sorted += sum(len(raw) for _, _, raw in batch)
            if batch:
                self._keep(*self._read(batch), stop)
            elif over:
                return
            else:
                self._deaf.wait(GLANCE)

    def _read(self, batch: Sequence[tuple[float, str, bytes]]) -> tuple[list[tuple[float, bytes]], dict[str, Numbers]]:
        """What is to be kept, and who has counted further."""
        keep, heard, volume = list[tuple[float, bytes]](), dict[str, Numbers](), 0
        for at, sender, raw in batch:  # until it has said its name, an address
            self.counts["received"] += 1
            try:
                envelope, body = opened(raw)
                sender = envelope.sender
                heard[sender] = self._count(envelope, at)
                said = meant(envelope, body)
                if isinstance(said, Registration):
                    rooted(said.path, tuple(self.rules.roots))
                    small = spare(said)
                    if self._full(len(keep), volume + len(small)):
                        self.counts["no_room"] += 1
                        continue
                    volume += len(small)
                    keep.append((at, small))
                    self.counts["files"] += 1
                elif isinstance(said, Ignored):
                    self.counts[f"ignored_{said.type}"] += 1
                else:
                    self.counts["readings" if isinstance(said, Reading) else "sessions"] += 1
                    self.publish(said)
            except Malformed as error:
                self._refuse(sender, str(error), at)
        return keep, heard

    def _full(self, more: int, volume: int) -> bool:
        """What comes then is lost, for good: that is a fault, until there is room again."""
        full = self._waiting + more >= self.rules.most or self._volume + volume > self.rules.most_bytes
        if full:
            text = f"it holds {self._waiting} datagrams, and takes no more until some are registered"
            self._fault(FULL, NoSpace(text, place="spool"))
        return full

    def _count(self, said: Envelope, at: float) -> Numbers:
        numbers, lost = self._senders.hear(said, at)
        if lost:
            self.counts["lost"] += lost
            text = f"{lost} datagrams of {said.sender} were lost before number {said.number}"
            self._complaints.once(f"{said.sender}: gaps", text, at)
        return numbers

    def _refuse(self, sender: str, why: str, at: float) -> None:
        self.counts["malformed"] += 1
        self._complaints.refuse(sender, why, at)

    def _keep(self, keep: Sequence[tuple[float, bytes]], heard: Mapping[str, Numbers], stop: Stop) -> None:
        """Files before all: what the spool does not take of senders is given to it again with the next batch."""
        rest = FIRST_REST
        self._unsaved |= heard
        while keep or self._unsaved:
            try:
                with self._at("spool"):
                    try:
                        self.spool.add(keep, self._unsaved)
                        self._unsaved = {}
                    except PlaceFault:
                        if not keep:
                            raise
                        self.spool.add(keep, {})
                        self._unsaved = {} if len(self._unsaved) > MOST else self._unsaved
                    with self._lock:
                        self._waiting += len(keep)
                        self._volume += sum(len(raw) for _, raw in keep)
                    return
            except PlaceFault:
                if not keep:
                    return
                if stop.wait(rest):
                    self.counts["dropped"] += len(keep)
                    return
                rest = min(LONGEST_REST, rest * 2)

    # ── register ────────────────────────────────────────────────────────────────────────────────────────────────

    def _register(self, stop: Stop, idle: Callable[[], bool] | None) -> None:
        rest, due = FIRST_REST, 0.0
        while not stop.is_set():
            busy, now = False, time.monotonic()
            if now >= due:
                try:
                    busy = self._round(stop)
                    rest = FIRST_REST
                except (PlaceFault, OperatorFault):
                    due, rest = now + rest, min(LONGEST_REST, rest * 2)
                except Stopped:
                    return
            if not busy:
                if idle is not None and idle() and not self._held and not self._in_hand and not self._waiting:
                    return
                stop.wait(LOOK)

    def _round(self, stop: Stop) -> bool:
        """Whether there was anything to do. What could not be registered stays in the spool."""
        with self._at("spool"):
            those = self.spool.due(time.time(), limit=BATCH)
        later, done, entries, owners = dict[int, tuple[float, str]](), set[int](), list[Entry](), list[Spooled]()
        volume = 0
        for tree in self.rules.roots.values():
            tree.forget()
        for each in those:
            if stop.is_set() or volume > VOLUME:
                break
            try:
                entry = self._prove(each, stop)
            except (FileFault, PlaceFault) as fault:
                self._put_off(each, fault, later, done)
            except Malformed as error:  # the roots are other ones than when it was spooled
                done.add(each.id)
                self._refuse("the spool", str(error), time.time())
            else:
                volume += entry.size
                entries.append(entry)
                owners.append(each)
        if entries:
            with self._at("table"):
                done |= self._write(entries, owners)
        with self._at("spool"):
            self.spool.settle(done, later)
            with self._lock:
                self._waiting -= len(done)
                self._volume -= sum(len(each.raw) for each in those if each.id in done)
            if done and not self._full(0, 0):
                self.faults.pop(FULL, None)
        return bool(done)

    def _prove(self, each: Spooled, stop: Stop) -> Entry:
        """The file as it is. Raises `FileFault`, `PlaceFault`, `Malformed`, `Stopped`."""
        _, said = parse(each.raw)
        if not isinstance(said, Registration):
            raise Malformed("it registers nothing")
        tree = self.rules.roots[rooted(said.path, tuple(self.rules.roots))[0]]
        try:
            entry = prove(said, self.rules.roots, settle=self.rules.settle, stop=stop)
        except FileFault:  # the root was proven
            tree.forget()
            self.faults.pop(tree.place, None)
            raise
        except PlaceFault as fault:
            tree.forget()
            self._fault(tree.place, fault)
            raise
        self.faults.pop(tree.place, None)
        return entry

    def _put_off(self, each: Spooled, fault: FileFault | PlaceFault, later: dict[int, Any], done: set[int]) -> None:
        now = time.time()
        if isinstance(fault, FileFault) and not isinstance(fault, Fresh) and now - each.at > self.rules.patience:
            done.add(each.id)
            self.counts["given_up"] += 1
            self._complaints.say(f"given up, after {(now - each.at) / 86_400:.0f} days: {fault}", now)
            return
        if isinstance(fault, Fresh):
            later[each.id] = (now + fault.wait, "")
            return
        longest = LONGEST_REST if isinstance(fault, PlaceFault) else LONGEST_LOOK
        later[each.id] = (now + min(longest, FIRST_LOOK * 2 ** min(each.tries, 20)), shown(str(fault)))

    def _write(self, entries: list[Entry], owners: list[Spooled]) -> set[int]:
        doubtful = [index for index, each in enumerate(owners) if each.after is not None]
        there = set[int]()
        if doubtful:
            after = min(owners[index].after or 0 for index in doubtful)
            found = self.registrar.known([entries[index] for index in doubtful], after)
            there = {doubtful[index] for index in found}
        fresh = [index for index in range(len(entries)) if index not in there]
        if begun := [owners[index].id for index in fresh if owners[index].after is None]:
            self.spool.begin(begun, self.registrar.mark())
        refused = self.registrar.register([entries[index] for index in fresh])
        for index in refused:
            self.counts["refused"] += 1
            why = f"{shown(entries[fresh[index]].path)} is not registered: {refused[index]}"
            self._complaints.refusals.append({"sender": "the table", "why": why, "at": time.time()})
            self._complaints.say(why, time.time())
        self.counts["registered"] += len(fresh) - len(refused)
        self.counts["registered_before"] += len(there)
        ours = [entries[index] for n, index in enumerate(fresh) if n not in refused]
        self._last.extend({"file": shown(e.path), "size": e.size, "at": time.time()} for e in ours[-10:])
        return {each.id for each in owners}

    # ── windows ─────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _at(self, place: str) -> Any:
        try:
            yield
        except (PlaceFault, OperatorFault) as fault:
            self._fault(place, fault)
            raise
        self.faults.pop(place, None)

    def _fault(self, place: str, fault: PlaceFault | OperatorFault) -> None:
        text = shown(str(fault))
        if self.faults.get(place) != text:
            self.tell(f"{place}: {text}")
        self.faults[place] = text

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        waiting: dict[str, Any] = {"waiting": self._waiting, "oldest": None, "fileless": 0, "why": []}
        with suppress(PlaceFault), self._at("spool"):
            census = self.spool.census()
            waiting = {"waiting": census.waiting, "oldest": census.oldest, "fileless": census.fileless}
            waiting["why"] = list(census.why)
        return {
            "timestamp": time.time(),
            "counts": dict(sorted(self.counts.items())),
            "spool": waiting | {"held": len(self._held) + self._in_hand},
            "senders": self._senders.document(),
            "last_files": list(self._last),
            "refusals": list(self._complaints.refusals),
            "notes": list(self.registrar.notes),
            "faults": dict(self.faults),
        }

    def close(self) -> None:
        self.datagrams.close()
        self.spool.close()
        self.registrar.close()
