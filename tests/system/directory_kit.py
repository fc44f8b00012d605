"""What the tests of the directory source share: a directory, its source, a clock in our hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skystow.adapters.directory import DirectoryOptions, DirectorySource
from skystow.adapters.memory import ManualClock
from skystow.adapters.tree import LocalTree
from skystow.model.layout import Layout
from skystow.model.records import Arrival, Skipped
from skystow.ports import Clock

NEVER = threading.Event()
QUIET = 10.0


class Lab:
    """A directory, its source, a clock in our hand. `taken` and `skipped` are of the last sweep."""

    def __init__(
        self, root: Path, *, clock: Clock | None = None, layout: str = "{relative_path}", **options: Any
    ) -> None:
        self.root = root
        self.root.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.source = DirectorySource(
            "camera",
            LocalTree(os.fsencode(root), place="camera"),
            archive="archive",
            layout=Layout(layout),
            options=DirectoryOptions(**options),
            clock=clock or self.clock,
        )
        self.arrivals: list[Arrival] = []
        self.skipped: dict[str, str] = {}

    def write(self, name: str, content: str = "content") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def sweep(self) -> set[str]:
        self.arrivals, self.skipped = [], {}
        for batch in self.source.sweep(stop=NEVER):
            for found in batch:
                if isinstance(found, Skipped):
                    assert found.source == "camera"
                    assert str(found.origin) not in self.skipped
                    self.skipped[str(found.origin)] = found.reason
                else:
                    self.arrivals.append(found)
        assert len({a.key for a in self.arrivals}) == len(self.arrivals)
        return {str(a.origin) for a in self.arrivals}

    def waited(self, seconds: float) -> float:
        """How long `wait` really took."""
        began = time.monotonic()
        self.source.wait(seconds, stop=NEVER)
        return time.monotonic() - began


MakeLab = Callable[..., Lab]
