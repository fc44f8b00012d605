"""The file archiver of a site, for a host that starts it, stops it and asks how it is; nobody else commands it.

Whatever goes wrong is told, and it is begun again after a rest: who attends it may have no other way to do so. Blocks;
an event loop is made and ended inside.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from skystow.config import Site
from skystow.engine.audit import verify
from skystow.errors import ConfigError
from skystow.model.transfer import Step
from skystow.ports import Stop
from skystow.service.account import Account
from skystow.service.again import again_and_again
from skystow.service.halt import Halt
from skystow.wiring import House, build
from skystow.wiring.documents import dossier_document
from skystow.wiring.find import dossiers, quarantined, stuck

Show = Callable[[dict[str, Any]], None]
"""Given a document (`skystow.service.account`), in the thread that `run` was called in."""

BEAT = 1.0
"""Seconds between two documents."""

GRACE = 10.0
"""Seconds for all to end once it was asked to."""

HOUR = 3600.0

NAMED = 20
"""Damaged files that a verification names."""

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("archived", "archived_bytes", "failed_attempts", "backlog", "retrying"), 0),
    **dict.fromkeys(("quarantined", "conflicts", "dead_letters"), 0),
    **{"oldest_waiting": None, "last_files": [], "rates": {"files_per_s": 0.0, "bytes_per_s": 0.0}},
    **{"places": {}, "notes": []},
}
"""What is known before the ledger was open."""


class _Leaving(ThreadPoolExecutor):
    """Waits for none of its threads: one that a server keeps waiting is left behind, and ends by itself."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


class Attended:
    """Safe from any thread; `run` one at a time. `tell` hears what a person should see in a log."""

    def __init__(self, site: Site, *, tell: Callable[[str], None]) -> None:
        self.site, self.tell = site, tell
        self._house: House | None = None
        self._last: dict[str, Any] = NOTHING
        self._said: set[str] = set()
        self._ill: set[str] = set()

    def run(self, halt: Halt, show: Show) -> None:
        """Until `halt`, whatever happens."""

        def work() -> None:
            with build(self.site) as house:
                self._house = house
                try:
                    asyncio.run(self._serve(house, halt, show))
                finally:
                    self._house = None

        def tell(text: str) -> None:
            self._tell_once(f"not at work: {text}")
            show(self._last | {"timestamp": time.time(), "fault": text})

        again_and_again(work, halt, tell=tell)

    async def _serve(self, house: House, halt: Halt, show: Show) -> None:
        work = Halt(halt)
        asyncio.get_running_loop().set_default_executor(_Leaving())
        account = Account(
            house.ledger, house.clock, house.progress, sorted(house.primary, key=str), house.roots, house.notes
        )
        running = asyncio.create_task(house.component().run(work, once=False))
        showing = asyncio.create_task(self._keep_showing(account, work, show))
        for task in (running, showing):
            task.add_done_callback(lambda _: work.set())
        try:
            while not await work.sleep(HOUR):
                pass
            # A server that takes statements and answers none holds up whoever asked it for a minute.
            await asyncio.wait({running, showing}, timeout=GRACE)
        finally:
            left = [task for task in (running, showing) if not task.done()]
            for task in left:
                task.cancel()
        for task in (running, showing):
            if task not in left:
                task.result()  # what it died of

    async def _keep_showing(self, account: Account, work: Halt, show: Show) -> None:
        """What it became last is shown, too."""
        over = False
        while not over:
            over = await work.sleep(BEAT)
            self._last = document = await asyncio.to_thread(account.document)
            self._tell_of(document["places"])
            for note in document["notes"]:
                self._tell_once(note)
            show(document)

    def _tell_of(self, places: Mapping[str, Mapping[str, Any]]) -> None:
        """What is not well; if it was well in between, that is news again."""
        for name, place in places.items():
            begin = f"{name} is not well: "
            if place["reason"]:
                self._ill.add(name)
                self._tell_once(begin + place["reason"])
            elif name in self._ill:
                self._ill.remove(name)
                self._said = {text for text in self._said if not text.startswith(begin)}

    def _tell_once(self, text: str) -> None:
        """The same again only after a thousand others, or when its place was well in between."""
        if text not in self._said:
            self._said = self._said | {text} if len(self._said) < 1_000 else {text}
            self.tell(text)

    # ── what a person asks for ──────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def house(self) -> Iterator[House]:
        """The one that runs, else one opened for the occasion. Raises `SkystowError`s."""
        if (house := self._house) is not None:
            yield house
            return
        with build(self.site) as opened:
            yield opened

    def retry(self, names: list[str], *, everything: bool) -> int:
        """As `skystow retry`: how many copies are in the queue again."""
        if everything == bool(names):
            raise ConfigError("name a file to try again, or say all=True")
        with self.house() as house:
            return house.ledger.requeue(list(quarantined(house)) if everything else stuck(house, names))

    def trace(self, name: str) -> dict[str, Any]:
        """As `skystow trace --json`."""
        with self.house() as house:
            newest, *others = dossiers(house, name)
            return dossier_document(house, newest, others)

    def verify(self, destination: str | None, *, stop: Stop, show: Show) -> dict[str, Any]:
        """As `skystow verify`: reads every archived file again; `show` hears how far it is, once a second."""
        count, size, bad, shown_at = dict.fromkeys((Step.VERIFIED, Step.DAMAGED, Step.MISSING), 0), 0, list[str](), 0.0

        def document() -> dict[str, Any]:
            numbers = {step.value: number for step, number in count.items()}
            return {**numbers, "bytes": size, "bad": bad[:NAMED], "timestamp": time.time()}

        with self.house() as house:
            if destination is not None and destination not in house.destinations:
                raise ConfigError(f"no destination is called {destination!r}")
            for checked in verify(house.ledger, house.destinations, destination=destination, stop=stop):
                count[checked.step] += 1
                size += checked.size
                if checked.step is not Step.VERIFIED and len(bad) < NAMED:
                    bad.append(checked.text)
                if time.monotonic() - shown_at > BEAT:
                    shown_at = time.monotonic()
                    show(document())
        return document()
