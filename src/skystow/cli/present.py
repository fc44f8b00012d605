"""What a person or a program sees. Results go to stdout; progress, warnings and errors to stderr."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from skystow.model.records import Health, plain

NAMED = 20
"""Files that a summary names; the rest is counted."""


def say(*lines: str) -> None:
    """A result."""
    _write(sys.stdout, lines)


def tell(*lines: str) -> None:
    """Progress, a warning or an error."""
    _write(sys.stderr, lines)


def emit(document: Mapping[str, Any]) -> None:
    """A result for programs: one JSON object, in one line of ASCII. Paths appear as `shown` shows them."""
    say(json.dumps(document, default=plain))


def _write(stream: TextIO, lines: Iterable[str]) -> None:
    try:
        for line in lines:
            stream.write(f"{line}\n")
        stream.flush()
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`). Our work goes on, and its exit code still counts.
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, stream.fileno())
        os.close(silent)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, the first row being the heads; numbers to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    right = [all(_number(row[n]) for row in rows[1:]) for n in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _number(cell: str) -> bool:
    return re.fullmatch(r"-?|[\d,.]+( [KMGT]?i?B)?", cell) is not None


def size(count: float) -> str:
    """Bytes for a person: `1.5 GiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = next((n for n in range(1, len(units)) if count < 1024 ** (n + 1)), len(units))
    return f"{count / 1024**power:.1f} {units[power - 1]}"


def files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def span(seconds: float) -> str:
    """A duration for a person: `42 s`, `3 min`, `5 h`, `9 d`."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def of_place(health: Health) -> str:
    """Why a place is not well, with its name once."""
    return health.reason if health.reason.startswith(health.place) else f"{health.place}: {health.reason}"


def when(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def first(items: Sequence[str], total: int) -> list[str]:
    """The first of `items`, and how many more there are."""
    named = list(items[:NAMED])
    return [*named, f"… and {total - len(named):,} more"] if total > len(named) else named
