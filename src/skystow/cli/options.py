"""Options of the command line, checked. Raises `typer.BadParameter`: exit 2, with the option's name."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from skystow.config.spelling import meant
from skystow.config.units import rate, seconds
from skystow.errors import ConfigError
from skystow.model.patterns import Patterns
from skystow.model.records import ALGORITHMS
from skystow.wiring import ArchiveOptions


def archive_options(
    digest: str, streams: int, bwlimit: str | None, exclude: Sequence[str], *, follow: bool, ledger: str | None
) -> ArchiveOptions:
    try:
        Patterns(exclude)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--exclude") from error
    return ArchiveOptions(
        digest=one_of("--digest", digest, ALGORITHMS),
        streams=streams,
        bwlimit=None if bwlimit is None else _rate(bwlimit),
        exclude=tuple(exclude),
        follow=follow,
        ledger=ledger,
    )


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not known{meant(value, known)}", param_hint=option)
    return value


def duration(option: str, value: str) -> float:
    """Seconds."""
    try:
        return seconds(value)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, not {value!r}", param_hint=option) from error


def _rate(value: str) -> int:
    try:
        return rate(value)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, not {value!r}", param_hint="--bwlimit") from error
