"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.directory_kit import Lab, MakeLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MakeLab]:
    made: list[Lab] = []

    def make(**options: Any) -> Lab:
        made.append(Lab(tmp_path / "camera", **options))
        return made[-1]

    yield make
    for each in made:
        each.source.close()
