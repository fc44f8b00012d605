"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.directory_kit import Lab, MakeLab
from tests.system.sal_kit import Join, alone, peers


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MakeLab]:
    made: list[Lab] = []

    def make(**options: Any) -> Lab:
        made.append(Lab(tmp_path / "camera", **options))
        return made[-1]

    yield make
    for each in made:
        each.source.close()


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the partitions of SAL of this test, which is in the environment."""
    return alone(monkeypatch)


@pytest.fixture
def join(prefix: str) -> Iterator[Join]:
    """Makes somebody else's programs on SAL."""
    with peers(prefix) as made:
        yield made
