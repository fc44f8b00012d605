"""What a run achieved: the numbers of `archive` and `run --once`, and the files that need somebody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from skystow.cli.exits import Exit
from skystow.cli.present import NAMED, columns, emit, files, first, of_place, say, size, span, tell
from skystow.errors import Conflict
from skystow.model.records import DeadLetter, path_text, shown
from skystow.model.transfer import Route, State
from skystow.ports import Copy, Counts, Ledger
from skystow.service.component import Ending
from skystow.service.status import Seen
from skystow.wiring import House

PAGE = 500
LOOKED_THROUGH = 20 * PAGE
"""Waiting transfers that are looked through for ones that failed."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Files, counted once each by their first copy: `files` = archived + already + failed + quarantined + conflicts.

    `skipped` are not in `files`: what is no regular file, what is excluded, and what a person said to ignore.
    """

    files: int
    bytes: int
    archived: int
    already: int
    skipped: int
    failed: int
    quarantined: int
    conflicts: int
    seconds: float


class Run:
    """A run from its start to its summary."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.began = time.monotonic()
        self.since = house.ledger.now()

    def numbers(self, counts: Iterable[Counts]) -> Numbers:
        seen = self.house.progress.seen
        first = [count for count in counts if count.route in self.house.primary]
        archived = sum(count.done for count in first)
        failed = sum(count.waiting + count.blocked + count.retrying for count in first)
        quarantined = sum(count.quarantined for count in first)
        conflicts = sum(count.conflicts for count in first)
        ours = archived + failed + quarantined + conflicts
        already = self._already(seen, ours)
        return Numbers(
            files=already + ours,
            # A row of a table does not say how large its file is: that is known once it is here.
            bytes=max(seen.bytes, sum(count.bytes for count in first)),
            archived=archived,
            already=already,
            skipped=sum(seen.skipped.values()) + seen.known[State.CANCELLED],
            failed=failed,
            quarantined=quarantined,
            conflicts=conflicts,
            seconds=round(time.monotonic() - self.began, 3),
        )

    def _already(self, seen: Seen, ours: int) -> int:
        """Files that were archived before this run. The first whole sweep knows no others, but of a file that has to
        be quiet for a while only a later one learns; and that may know files of this run (`ours`) as archived too."""
        rest = seen.files - seen.known[State.CANCELLED] - ours
        return max(self.house.progress.already, min(seen.known[State.DONE], rest))

    def finish(self, ending: Ending, *, place: str, json: bool, quiet: bool = False, endless: bool = False) -> Exit:
        """Say what became of it all, and which exit code that is. `place` is what operator commands are given;
        to be stopped is the only end that an `endless` run has."""
        ours = {lane.route: None for lane in self.house.lanes}
        counts = list(self.house.ledger.tally(list(ours), self.since))
        dead = [each for name in self.house.sources for each in self._dead(name)]
        numbers = self.numbers(counts)
        # What is left when somebody ends a service is for its next start: a service manager must not begin it again.
        code = Exit.WELL if endless else _code(ending, counts, dead=bool(dead))
        # Asked only where there is one: they are looked for among everything that was ever archived.
        stuck = list(problems(self.house.ledger, set(ours))) if any(map(_open, counts)) else []
        if json:
            emit(self._document(numbers, counts, ending, stuck) | {"dead_letters": len(dead)})
        elif not quiet:
            say(*self._text(numbers, counts, ending, endless))
            _say_skipped(self.house)
        if stuck and not json:
            _tell_problems(stuck, counts, place)
        if dead and not json:
            lines = [f"  {each.source} {shown(path_text(each.key))}: {shown(each.reason)}" for each in dead]
            tell("what cannot be admitted:", *first(lines, len(lines)))
            tell(f"  → mend them or the site file, then skystow dead-letters replay {place} --all")
        return code

    def _dead(self, source: str) -> Sequence[DeadLetter]:
        """The first ones; there is a command for all."""
        return self.house.ledger.dead_letters(after=0, limit=PAGE, source=source)

    def _document(
        self, numbers: Numbers, counts: Iterable[Counts], ending: Ending, stuck: list[Copy]
    ) -> dict[str, Any]:
        seen = self.house.progress.seen
        return {
            **{name: getattr(numbers, name) for name in Numbers.__slots__},
            "ending": ending.value,
            "skipped_by_reason": skipped(self.house),
            "skipped_files": [{"path": each.origin, "reason": each.reason} for each in seen.names],
            "settling": seen.settling,
            "destinations": by_destination(counts),
            "problems": [
                {
                    "path": copy.path,
                    "destination": copy.route.destination,
                    "state": copy.state.value,
                    "fault": copy.fault,
                    "error": copy.error,
                }
                for copy in stuck[:NAMED]
            ],
            "resting": [{"place": health.place, "reason": health.reason} for health in self.house.progress.resting],
            "notes": [{"source": name, "text": text} for name, text in notes(self.house)],
        }

    def _text(self, numbers: Numbers, counts: list[Counts], ending: Ending, endless: bool) -> Iterator[str]:
        moved = sum(count.bytes for count in counts if count.route in self.house.primary)
        rate = f" at {size(moved / numbers.seconds)}/s" if numbers.seconds > 0 and moved else ""
        parts = [
            f"{count:,} {what}"
            for count, what in (
                (numbers.already, "archived before"),
                (numbers.skipped, "skipped"),
                (numbers.failed, "failed" if ending is Ending.FINISHED else "not done yet"),
                (numbers.quarantined, "quarantined"),
                (numbers.conflicts, "in conflict"),
            )
            if count
        ]
        if not self.house.primary:  # files of the image door alone
            yield f"Ran for {span(numbers.seconds)}; skystow exposures tells what became of the images."
            yield from [f"not well: {of_place(health)}" for health in self.house.progress.resting]
            return
        nothing = "Nothing new" if ending is Ending.FINISHED else "Nothing archived"
        start = f"{files(numbers.archived)} archived ({size(moved)}{rate})" if numbers.archived else nothing
        yield f"{start} in {span(numbers.seconds)}" + ("; " if parts else "") + ", ".join(parts) + "."
        if len(counts) > 1:
            yield from routes_table(counts)
        for health in self.house.progress.resting:
            yield f"not well: {of_place(health)}"
        for name, text in notes(self.house):
            yield f"note: {name}: {text}"
        if self.house.progress.seen.settling:
            yield f"{files(self.house.progress.seen.settling)} still being written; left for the next run."
        if ending is Ending.STOPPED and endless:
            yield "Stopped, as asked; the next run goes on from here."
        elif ending is Ending.STOPPED:
            yield "Stopped before the end; run it again and it goes on where it was."
        elif ending is Ending.UNFINISHED:
            yield "Not finished: run it again; what is done stays done."


def _code(ending: Ending, counts: Iterable[Counts], *, dead: bool) -> Exit:
    counts = list(counts)
    if ending is Ending.UNFINISHED:
        return Exit.UNFINISHED
    if dead or any(count.quarantined or count.conflicts for count in counts):
        return Exit.PEOPLE
    if any(count.waiting or count.retrying for count in counts):
        return Exit.UNFINISHED
    return Exit.WELL


def _open(count: Counts) -> int:
    """Transfers of a route that wait or need somebody."""
    return count.waiting + count.blocked + count.retrying + count.quarantined + count.conflicts


def problems(ledger: Ledger, routes: Iterable[Route]) -> Iterator[Copy]:
    """Transfers that need somebody: quarantined and in conflict, then failed and waiting; the first few."""
    routes, found = set(routes), 0
    for state in (State.QUARANTINED, State.WAITING):
        after = looked = 0
        while looked < LOOKED_THROUGH and (page := ledger.copies(after=after, limit=PAGE, state=state)):
            for copy in page:
                if copy.route in routes and copy.fault:
                    found += 1
                    yield copy
                if found >= NAMED:
                    return
            after, looked = page[-1].id, looked + len(page)


def by_destination(counts: Iterable[Counts]) -> dict[str, dict[str, Any]]:
    """Transfers by state for each destination, all its routes together; `waiting` holds `retrying` and `blocked`."""
    documents: dict[str, dict[str, Any]] = {}
    for count in counts:
        one = documents.setdefault(
            count.route.destination,
            dict.fromkeys(
                ("waiting", "retrying", "blocked", "done", "quarantined", "conflicts", "cancelled", "bytes"), 0
            ),
        )
        one["waiting"] += count.waiting + count.retrying + count.blocked
        for key in ("retrying", "blocked", "done", "quarantined", "conflicts", "cancelled", "bytes"):
            one[key] += getattr(count, key)
    return documents


def routes_table(counts: Iterable[Counts]) -> list[str]:
    rows = [["route", "done", "size", "waiting", "retrying", "quarantined", "conflicts", "ignored"]]
    rows += [
        [
            str(count.route),
            f"{count.done:,}",
            size(count.bytes),
            f"{count.waiting + count.blocked:,}",
            f"{count.retrying:,}",
            f"{count.quarantined:,}",
            f"{count.conflicts:,}",
            f"{count.cancelled:,}",
        ]
        for count in counts
    ]
    return columns(rows)


def notes(house: House) -> list[tuple[str, str]]:
    """What sources had to say about themselves: (source, sentence)."""
    return [(name, text) for name, texts in house.notes.items() for text in list(texts)]


def skipped(house: House) -> dict[str, int]:
    """What was left out, by reason, the most frequent first."""
    seen = house.progress.seen
    reasons = Counter(seen.skipped)
    if ignored := seen.known[State.CANCELLED]:
        reasons["left out by a person (ignore, resolve keep)"] = ignored
    return dict(reasons.most_common())


def _say_skipped(house: House) -> None:
    seen = house.progress.seen
    if not (reasons := skipped(house)):
        return
    say("skipped: " + "; ".join(f"{count:,} × {reason}" for reason, count in reasons.items()))
    named = [f"  {shown(each.origin)}: {each.reason}" for each in seen.names]
    say(*first(named, sum(seen.skipped.values())))


def _tell_problems(stuck: list[Copy], counts: Iterable[Counts], place: str) -> None:
    total = sum(count.quarantined + count.conflicts + count.retrying for count in counts)
    lines = []
    for copy in stuck:
        what = "in conflict" if copy.fault == Conflict.code else copy.state.value
        lines.append(f"  {what}: {shown(copy.path)} ({copy.route.destination}): {copy.error}")
    tell("files that are not archived:", *first(lines, max(total, len(lines))))
    hint = f"  → skystow trace {place} FILE tells all of one"
    if any(copy.state is State.QUARANTINED for copy in stuck):
        hint += f"; then skystow retry, ignore or resolve {place} FILE"
    tell(hint)
