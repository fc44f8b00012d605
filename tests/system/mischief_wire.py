"""What befalls the servers and processes of a night, by a plan that follows from a seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from skystow.adapters.ledger import SqlLedger
from skystow.errors import PlaceFault
from skystow.image.night import exposures
from tests.cutproxy import CutProxy
from tests.servers import Server
from tests.system.observatory_wire import Wired, until


@dataclass(frozen=True)
class Mischief:
    """`what` of `Story`, once the camera has begun the exposure `at` (1: the first) and `after` seconds."""

    at: int
    after: float
    what: str
    dice: int

    def __str__(self) -> str:
        return f"{self.at:3} + {self.after:.2f} s: {self.what} ({self.dice})"


def planned(seed: int, exposures: int, whats: Sequence[str]) -> list[Mischief]:
    """Each of `whats` once, in any order, between the first and the last exposure but one."""
    dice = Random(seed)
    order = dice.sample(whats, len(whats))
    when = sorted(dice.randint(1, exposures - 1) for _ in order)
    return [Mischief(at, dice.random(), what, dice.randrange(1_000)) for at, what in zip(when, order, strict=True)]


@dataclass
class Story:
    """One night of `site`, whose broker is behind `proxy`."""

    site: Wired
    ledger: SqlLedger
    mariadb: Server
    proxy: CutProxy
    frozen: tuple[str, str] | None = None
    """A forwarder, and an exposure that it has begun to retrieve."""
    froze: int = 0

    def play(self, plan: Sequence[Mischief]) -> None:
        """Whoever is frozen wakes in the end. What happened when is printed."""
        began = time.monotonic()
        for each in plan:
            self.site.begun(each.at)
            time.sleep(each.after)  # no matter what has happened by then
            act: Callable[[Random], None] = getattr(self, each.what)
            print(f"{time.monotonic() - began:6.1f} s: {each}", flush=True)
            act(Random(each.dice))
        self.thaw()
        print(f"{time.monotonic() - began:6.1f} s: over", flush=True)

    # ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def broker_killed(self, _: Random) -> None:
        assert self.site.vhost is not None
        self.site.vhost.broker.kill()
        self.site.vhost.broker.start()

    def line_cut(self, dice: Random) -> None:
        """Again and again, at some message. There always is one: the Controller's pulse is felt."""
        for _ in range(5):
            self.proxy.cut_at(dice.randint(1, 12))
            until(lambda: not self.proxy.armed, lambda: f"a message over the line\n{self.site.told()}")

    def line_refused(self, dice: Random) -> None:
        with self.proxy.refusing():
            time.sleep(dice.uniform(0.5, 2))  # for so long nobody gets through

    def redis_flushed(self, _: Random) -> None:
        assert self.site.redis is not None
        self.site.redis.flush()

    def redis_killed(self, dice: Random) -> None:
        assert self.site.redis is not None
        self.site.redis.kill()
        time.sleep(dice.uniform(0, 3))  # so long it is away
        self.site.redis.start()

    def mariadb_killed(self, dice: Random) -> None:
        self.mariadb.kill()
        time.sleep(dice.uniform(0, 2))  # so long it is away
        self.mariadb.start()

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────

    def killed(self, name: str) -> None:
        self.site.kill(name)
        self.site.start(name)

    def archiver_killed(self, _: Random) -> None:
        self.killed("archiver")

    def controller_killed(self, _: Random) -> None:
        self.killed("controller")

    def oods_killed(self, _: Random) -> None:
        self.killed("oods")

    def forwarder_killed(self, _: Random) -> None:
        """One that is at work."""
        self.killed(next(name for name in self.site.forwarders if self.frozen is None or name != self.frozen[0]))

    def forwarder_frozen(self, _: Random) -> None:
        """Whoever is paired with the Archiver, in the middle of an exposure. Another one is there by now."""
        self.thaw()
        found: list[tuple[str, str]] = []

        def at_work() -> bool:
            paired = self.paired()
            found[:] = [(paired, obsid) for obsid in self.begun_by(paired)][-1:]
            return bool(found) or len(self.site.said("announced")) == len(self.site.obsids)

        until(at_work, "a forwarder at work")
        if not found:
            return print("  there is no work left", flush=True)
        self.frozen = found[0]
        self.froze += 1
        self.site.freeze(self.frozen[0])
        return None

    def thaw(self) -> None:
        """Only when another one has its exposure, and has seen it through."""
        if self.frozen is None:
            return
        name, obsid = self.frozen
        until(lambda: self.paired() not in ("", name), lambda: f"that another one replaces {name}\n{self.site.told()}")
        until(lambda: self.complete(obsid), lambda: f"that {obsid} is complete\n{self.site.told()}")
        self.site.thaw(name)
        self.frozen = None

    # ── what the ledger says, while it is there ─────────────────────────────────────────────────────────────────

    def paired(self) -> str:
        try:
            return self.site.paired(self.ledger)
        except PlaceFault:
            return ""

    def begun_by(self, name: str) -> list[str]:
        """Exposures that it was told of and has not done with."""
        try:
            return list(dict.fromkeys(message.key for _, message in self.ledger.talks.steps(name))) if name else []
        except PlaceFault:
            return []

    def complete(self, obsid: str) -> bool:
        try:
            return any(each.complete for each in exposures(self.ledger.talks.lines(obsid=obsid)))
        except PlaceFault:
            return False
