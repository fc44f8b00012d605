"""What each kind of source whose files are rows makes of its section of the site file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skystow.config import Rows
from skystow.engine.retire import nothing
from skystow.model.records import shown
from skystow.ports import Announcer, Dossier, Finding

if TYPE_CHECKING:
    from skystow.adapters.rows.source import RowSource


def place(config: Rows) -> str:
    """The table is another place than the files that it names. No name in a site file holds a blank."""
    return f"{config.name} table"


def warn(text: str) -> None:
    """Of what a table is not told."""
    sys.stderr.write(f"skystow: {shown(text)}\n")


@dataclass(frozen=True, slots=True)
class Opened:
    """`doctor`: what `skystow check` looks at; `against`: what the table says against the removal of a file."""

    source: RowSource
    announcer: Announcer
    doctor: Callable[[], Iterator[Finding]]
    against: Callable[[Dossier], str] = nothing
