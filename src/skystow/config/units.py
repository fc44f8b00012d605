"""Values with units, as they are written in a site file: `7d`, `256MiB`, `5 %`, `"0444"`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_WRITTEN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z%/]*)\s*")

_SECONDS = {"": 1.0, "ms": 0.001}
for _names, _factor in (
    ("s sec secs second seconds", 1.0),
    ("m min mins minute minutes", 60.0),
    ("h hour hours", 3600.0),
    ("d day days", 86400.0),
    ("w week weeks", 604800.0),
):
    _SECONDS |= dict.fromkeys(_names.split(), _factor)

_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _BYTES |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}


def _split(value: Any, what: str) -> tuple[float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"should be {what}")  # noqa: TRY004 - pydantic listens to ValueError
    match = _WRITTEN.fullmatch(str(value))
    if match is None or not math.isfinite(number := float(match[1])):
        raise ValueError(f"should be {what}")
    return number, match[2].lower()


def seconds(value: Any) -> float:
    """`10`, `7d`, `10 min`, `1h`, `500ms` in seconds; raises ValueError."""
    number, unit = _split(value, what := "a duration such as 10 (seconds), 10 min, 1h or 7d")
    if unit not in _SECONDS:
        raise ValueError(f"should be {what}")
    return number * _SECONDS[unit]


def size(value: Any) -> int:
    """`1000`, `256MiB`, `10 GB`, `4k` in bytes; raises ValueError."""
    number, unit = _split(value, what := "a size such as 1000 (bytes), 256MiB or 10 GB")
    if unit not in _BYTES:
        raise ValueError(f"should be {what}")
    return round(number * _BYTES[unit])


def rate(value: Any) -> int:
    """`50MB/s` or a size, in bytes per second and more than nothing; raises ValueError."""
    text = value[: -len("/s")] if isinstance(value, str) and value.endswith("/s") else value
    try:
        each = size(text)
    except ValueError:
        each = 0
    if each < 1:
        raise ValueError("should be a size per second such as 50MB/s, and more than nothing")
    return each


def fraction(value: Any) -> float:
    """`5 %` as 0.05; raises ValueError."""
    number, unit = _split(value, what := "a percentage such as 5 %")
    if (unit != "%" and number != 0) or number >= 100:
        raise ValueError(f"should be {what}, below 100 %")
    return number / 100


def mode(value: Any) -> int:
    """`"0444"`, `0o444` as permission bits; raises ValueError."""
    match = re.fullmatch(r"0?o?([0-7]{3,4})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('should be an octal mode in quotes, such as "0444"')
    return int(match[1], 8)


Seconds = Annotated[float, BeforeValidator(seconds)]
Size = Annotated[int, BeforeValidator(size)]
Rate = Annotated[int, BeforeValidator(rate)]
Fraction = Annotated[float, BeforeValidator(fraction)]
Mode = Annotated[int, BeforeValidator(mode)]
