"""`skystow dead-letters list` and `replay`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skystow.cli.exits import Exit
from skystow.cli.present import columns, emit, say, when
from skystow.errors import ConfigError
from skystow.model.records import DeadLetter, path_text, shown
from skystow.ports import Ledger
from skystow.wiring import open_house

PAGE = 1_000


def every(ledger: Ledger) -> Iterator[DeadLetter]:
    after = 0
    while page := ledger.dead_letters(after=after, limit=PAGE):
        yield from page
        after = page[-1].id


def show(place: str, *, ledger: str | None, json: bool) -> Exit:
    with open_house(place, ledger) as house:
        found = list(every(house.ledger))
    if json:
        keys = ("number", "source", "key", "at", "reason")
        emit({"dead_letters": [dict(zip(keys, (e.id, e.source, _key(e), e.at, e.reason), strict=True)) for e in found]})
    elif not found:
        say("No dead letters.")
    else:
        rows = [["number", "source", "key", "since", "reason"]]
        say(*columns(rows + [[str(e.id), e.source, _key(e), when(e.at), shown(e.reason)] for e in found]))
    return Exit.WELL


def _key(letter: DeadLetter) -> str:
    return shown(path_text(letter.key))


def replay(place: str, numbers: Sequence[int], *, all_: bool, ledger: str | None, json: bool) -> Exit:
    if all_ == bool(numbers):
        raise ConfigError("name the dead letters to look at again, or say --all")
    with open_house(place, ledger) as house:
        chosen = [each for each in every(house.ledger) if all_ or each.id in numbers]
        if unknown := sorted(set(numbers) - {each.id for each in chosen}):
            raise ConfigError(
                f"no dead letter has the number {', '.join(map(str, unknown))}", remedy="skystow dead-letters list"
            )
        count = house.ledger.exhume(chosen)
    if json:
        emit({"replayed": count})
    else:
        say(f"{count:,} dead letters are looked at again in the next pass of their source.")
    return Exit.WELL
