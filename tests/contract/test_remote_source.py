"""A directory on another host keeps the contract of sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.test_source import DirectoryLab
from tests.sshd import sshd

from skystow.adapters.clock import SystemClock
from skystow.adapters.directory import DirectoryOptions
from skystow.adapters.remote.source import RemoteDirectorySource
from skystow.adapters.remote.ssh import Link
from skystow.adapters.remote.tree import RemoteTree
from skystow.model.layout import Layout
from skystow.testing.source_contract import SourceContract, SourceLab


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    with sshd(tmp_path_factory.mktemp("sshd") / "it") as server:
        one = Link(server.host())
        yield one
        one.close()


class RemoteLab(DirectoryLab):
    def __init__(self, base: Path, link: Link, *, follow: bool) -> None:
        super().__init__(base, follow=False)
        self.source.close()
        options = DirectoryOptions(follow=follow, quiet_for=0.0)
        tree = RemoteTree(link, str(self.root), place="camera")
        self.source = RemoteDirectorySource(
            "camera", tree, archive="archive", layout=Layout("{relative_path}"), options=options, clock=SystemClock()
        )


class TestRemoteDirectory(SourceContract):
    @pytest.fixture(params=[False, True], ids=["as-it-is", "follow"])
    def lab(self, tmp_path: Path, link: Link, request: pytest.FixtureRequest) -> Iterator[SourceLab]:
        lab = RemoteLab(tmp_path, link, follow=request.param)
        yield lab
        lab.source.close()
