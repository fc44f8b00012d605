"""Quantities as people write them in a site file."""

from __future__ import annotations

import pytest

from skystow.config.units import fraction, mode, rate, seconds, size


@pytest.mark.parametrize(
    ("written", "meant"), [(10, 10), ("10", 10), ("7d", 604800), ("10 min", 600), ("1h", 3600), ("1.5 s", 1.5), (0, 0)]
)
def test_durations(written: object, meant: float) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize(("written", "meant"), [(7, 7), ("256MiB", 2**28), ("10 GB", 10**10), ("4k", 4096), ("1 B", 1)])
def test_sizes(written: object, meant: int) -> None:
    assert size(written) == meant


@pytest.mark.parametrize("written", [True, None, [], "", "d", "7 fortnights", "1e3", "-1", "7dd", float("nan"), "1 2"])
def test_what_is_no_quantity(written: object) -> None:
    for read_it in (seconds, size, rate, fraction, mode):
        with pytest.raises(ValueError, match="should be"):
            read_it(written)


def test_rates_percentages_and_modes() -> None:
    assert (rate("50MB/s"), rate("1 KiB")) == (50_000_000, 1024)
    assert (fraction("5 %"), fraction("0.5%"), fraction(0)) == (0.05, 0.005, 0.0)
    assert (mode("0444"), mode("2775"), mode("0o640")) == (0o444, 0o2775, 0o640)
