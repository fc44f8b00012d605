"""Every source keeps the contract."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import DirectoryOptions, DirectorySource
from skystow.adapters.memory import MemorySource, MemoryTree
from skystow.adapters.tree import LocalTree
from skystow.model.layout import Layout
from skystow.testing.source_contract import SourceContract, SourceLab


class MemoryLab:
    def __init__(self) -> None:
        self.tree = MemoryTree("camera")
        self.source = MemorySource("camera", self.tree)

    def write(self, path: str, content: bytes, *, mtime_ns: int) -> None:
        self.tree.write(path, content, mtime_ns=mtime_ns)

    def take_away(self) -> None:
        self.tree.here = False


class DirectoryLab:
    """Files are moved in, so that they are finished at once for those who follow too."""

    def __init__(self, base: Path, *, follow: bool) -> None:
        self.base, self.root = base, base / "camera"
        self.root.mkdir()
        options = DirectoryOptions(follow=follow, quiet_for=0.0)
        tree = LocalTree(os.fsencode(self.root), place="camera")
        self.source = DirectorySource(
            "camera", tree, archive="archive", layout=Layout("{relative_path}"), options=options, clock=SystemClock()
        )

    def write(self, path: str, content: bytes, *, mtime_ns: int) -> None:
        new = self.base / "new"
        new.write_bytes(content)
        os.utime(new, ns=(mtime_ns, mtime_ns))
        # Step by step, because a deep path is longer than the kernel takes at once.
        *directories, name = os.fsencode(path).split(b"/")
        fd = os.open(self.root, os.O_RDONLY)
        for directory in directories:
            if directory not in map(os.fsencode, os.listdir(fd)):
                os.mkdir(directory, dir_fd=fd)
            below = os.open(directory, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.rename(new, name, dst_dir_fd=fd)
        os.close(fd)

    def take_away(self) -> None:
        self.root.rename(self.base / "elsewhere")


class TestMemory(SourceContract):
    @pytest.fixture
    def lab(self) -> SourceLab:
        return MemoryLab()


class TestDirectory(SourceContract):
    @pytest.fixture(params=[False, True], ids=["as-it-is", "follow"])
    def lab(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SourceLab]:
        lab = DirectoryLab(tmp_path, follow=request.param)
        yield lab
        lab.source.close()
