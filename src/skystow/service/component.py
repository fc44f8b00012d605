"""One component: the intakes, pumps and outboxes of a process, and their common end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from enum import StrEnum
from graphlib import TopologicalSorter

from skystow.errors import PlaceFault, SkystowError
from skystow.model.lifecycle import Summary
from skystow.model.records import Worker
from skystow.model.transfer import mark_of
from skystow.ports import Announcer, Clock, Ledger, Store
from skystow.service.halt import Halt
from skystow.service.intake import Inlet, Intake
from skystow.service.outbox import Outbox
from skystow.service.pump import Lane, Pump
from skystow.service.status import Progress
from skystow.service.talk import Talk

WAITED_FOR = 60.0
"""A single pass waits for retries that are due within this many seconds; for later ones it says: run again."""

HOUSEKEEPING = 600.0

FORSAKEN = 7 * 86400.0
"""Seconds after which a staging area that another ledger's claim left is nobody's any more."""

GRACE = 3.0
"""Seconds for threads to end after a failure."""


class Ending(StrEnum):
    """How a run ended. FINISHED: nothing is left to do but what a person must decide."""

    FINISHED = "finished"
    STOPPED = "stopped"
    UNFINISHED = "unfinished"


class Component:
    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        inlets: Sequence[Inlet],
        lanes: Sequence[Lane],
        announcers: Mapping[str, Announcer],
        worker_alive: Callable[[Worker], bool | None],
        progress: Progress,
        talk: Talk | None = None,
        extras: Sequence[Callable[[Halt], Coroutine[None, None, None]]] = (),
    ) -> None:
        """`talk`: who is commanded, and speaks with other components; sources are swept only while it is ENABLED.
        `extras`: more jobs, until the halt."""
        self.ledger, self.clock, self.progress, self.talk, self.extras = ledger, clock, progress, talk, extras
        self.inlets, self.announcers, self.worker_alive = inlets, announcers, worker_alive
        # Upstream first: whoever asks each in turn whether it has anything left then misses no file between two.
        flow = TopologicalSorter({lane.route.destination: [lane.route.source] for lane in lanes})
        order = {place: n for n, place in enumerate(flow.static_order())}
        self.lanes = sorted(lanes, key=lambda lane: order[lane.route.destination])

    async def run(self, halt: Halt, *, once: bool, give_up_after: float = 600.0) -> Ending:
        """Run until `halt`; with `once`, until everything that is there is archived or nothing moves any more.

        UNFINISHED: nothing moved for `give_up_after` seconds, retries are due later than in a minute, a remote host
        is unfit (the others are done first), or somebody could not be told.
        Raises `OperatorFault` for what a person must change first; what was under way is put back.
        """
        work, pools = Halt(halt), self._pools()  # `work` ends our jobs; `halt` is the world's wish
        intakes = [
            Intake(inlet, self.ledger, self.clock, self.progress, work, pools[inlet.source.name], self._enabled)
            for inlet in self.inlets
        ]
        news = Halt(work)  # a bell of the outboxes' own
        sources = {lane.route.source for lane in self.lanes}
        pumps = [
            Pump(
                *(lane, self.ledger, self.clock, self.progress, work, pools[lane.store.name]),
                told=news.ring,
                awaited=once or lane.route.destination in sources,
            )
            for lane in self.lanes
        ]
        try:
            await asyncio.to_thread(self._reclaim)
            async with asyncio.TaskGroup() as group:
                sweeps = [group.create_task(_own(intake.run(once=once), work)) for intake in intakes]
                jobs = [pump.run() for pump in pumps]
                jobs += [self._keep_tidy(lane.store, pools[lane.store.name], work) for lane in self._one_per_store()]
                jobs.append(self._keep_reclaiming(work))
                jobs += [outbox.run() for outbox in self._outboxes(news)]
                jobs += [job(work) for job in self.extras]
                jobs += [self._converse(self.talk, work)] if self.talk is not None else []
                tasks = sweeps + [group.create_task(_own(job, work)) for job in jobs]
                ending = await self._until_the_end(work, sweeps, intakes, pumps, once, give_up_after)
                work.set()
                _, hung = await asyncio.wait(tasks, timeout=GRACE)
                for task in hung:  # its thread is left behind
                    task.cancel()
        except BaseExceptionGroup as several:
            raise next(_leaves(several)) from several
        finally:
            work.set()
            await _wind_up(list(pools.values()))
        told = [await asyncio.to_thread(outbox.tell_all) for outbox in self._outboxes(Halt())]
        return Ending.UNFINISHED if ending is Ending.FINISHED and not all(told) else ending

    async def _until_the_end(
        self,
        work: Halt,
        sweeps: Sequence[asyncio.Task[None]],
        intakes: Sequence[Intake],
        pumps: Sequence[Pump],
        once: bool,
        give_up_after: float,
    ) -> Ending:
        while not work.is_set():
            if once:
                swept = all(sweep.done() for sweep in sweeps)  # asked first: what the last batch admitted must be seen
                unfit = [pump for pump in pumps if pump.rest.unfit and not pump.claimed]
                wakes = await _wakes([pump for pump in pumps if pump not in unfit])
                if swept:
                    if not wakes:
                        left_out = unfit or any(intake.unfit for intake in intakes)
                        return Ending.UNFINISHED if left_out else Ending.FINISHED
                    if min(wakes) > WAITED_FOR:
                        return Ending.UNFINISHED
                moved = max([i.moved_at for i in intakes] + [p.moved_at for p in pumps])
                if self.clock.monotonic() - moved > give_up_after:
                    return Ending.UNFINISHED
                await work.nap(0.25)
            else:
                await work.sleep(HOUSEKEEPING)
        return Ending.STOPPED

    def _enabled(self) -> bool:
        return self.talk is None or self.talk.state is Summary.ENABLED

    async def _converse(self, talk: Talk, work: Halt) -> None:
        """Until the component is told to exit, which ends all of it."""
        await talk.run(work)
        work.set()

    def _pools(self) -> dict[str, ThreadPoolExecutor]:
        """One pool for each place: a hung mount hangs nothing but its own pumps."""
        pools = {inlet.source.name: ThreadPoolExecutor(1, f"sweep {inlet.source.name}") for inlet in self.inlets}
        for name in {lane.store.name for lane in self.lanes}:
            streams = sum(lane.streams for lane in self.lanes if lane.store.name == name)
            pools[name] = ThreadPoolExecutor(streams, f"carry {name}")
        return pools

    def _one_per_store(self) -> list[Lane]:
        return list({id(lane.store): lane for lane in self.lanes}.values())

    def _reclaim(self) -> None:
        """Free the claims of processes that died."""
        with contextlib.suppress(PlaceFault):
            self.ledger.reclaim(self.worker_alive)

    async def _keep_reclaiming(self, work: Halt) -> None:
        while not await work.sleep(HOUSEKEEPING):
            await asyncio.to_thread(self._reclaim)

    async def _keep_tidy(self, store: Store, threads: Executor, work: Halt) -> None:
        """In the store's own threads: a mount that hangs holds up nobody else."""
        while True:
            await asyncio.get_running_loop().run_in_executor(threads, self._tidy, store)
            if await work.sleep(HOUSEKEEPING):
                return

    def _tidy(self, store: Store) -> None:
        """Drop what dead claims left in the staging area: ours, and of other ledgers what nobody cares for any more."""
        with contextlib.suppress(PlaceFault):  # its pump will rest, visibly; the next round tidies
            mark = mark_of(self.ledger.identity())
            # Listed before the live ones are asked for: no claim made since can be among them.
            left = set(store.tokens(idle=FORSAKEN))
            tokens = [token for token in store.tokens() if token.startswith(mark) or token in left]
            live = self.ledger.live_tokens() if tokens else set()
            for token in tokens:
                if token not in live:
                    store.sweep(token)

    def _outboxes(self, halt: Halt) -> list[Outbox]:
        return [
            Outbox(name, announcer, self.ledger, self.clock, self.progress, halt)
            for name, announcer in self.announcers.items()
        ]


async def _own(job: Coroutine[None, None, None], work: Halt) -> None:
    """A job that dies ends the others: threads see `work`, tasks are cancelled by their group."""
    try:
        await job
    except BaseException:
        work.set()
        raise


async def _wakes(pumps: Sequence[Pump]) -> list[float]:
    """When the pumps that have anything left can go on, in seconds. While the ledger is away nobody can tell: now."""
    try:
        return [wake for pump in pumps if (wake := await pump.next_wake()) is not None]
    except PlaceFault:
        return [0.0]


async def _wind_up(pools: Sequence[ThreadPoolExecutor]) -> None:
    """Wait for the threads, which look at their stop per block; one that hangs in the kernel is left behind."""
    ended = Halt()

    def wait() -> None:
        for pool in pools:
            pool.shutdown()
        ended.set()

    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)
    # Not in a thread of the loop's own executor, for which the loop would wait when it is closed.
    threading.Thread(target=wait, daemon=True).start()
    await ended.sleep(GRACE)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors of a group, those that we know how to explain first."""
    flat: list[BaseException] = []
    for each in group.exceptions:
        flat.extend(_leaves(each) if isinstance(each, BaseExceptionGroup) else [each])
    yield from sorted(flat, key=lambda error: not isinstance(error, SkystowError))
