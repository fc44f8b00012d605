"""What the stores that copy have in common, wherever the bytes come from: reading back, and sealing."""

from __future__ import annotations

import os
from collections.abc import Sequence

from skystow.adapters.blame import Side, blame
from skystow.adapters.digests import digest_file
from skystow.adapters.staging import LocalStore
from skystow.model.records import Digest, shown
from skystow.ports import Staged, Stop


class CopyingStore(LocalStore):
    """`prove` and `seal` of staged inodes of our own, through their descriptors."""

    def prove(self, staged: Staged, algorithm: str, *, stop: Stop) -> Digest:
        try:
            return digest_file(staged.handle, staged.size, algorithm, stop)
        except OSError as error:
            side = Side.SOURCE if staged.adopted else Side.STAGING
            raise blame(error, side, f"reading {shown(staged.work.target)} back", place=self.name) from error

    def seal(self, group: Sequence[Staged]) -> None:
        if not group:
            return
        try:
            for staged in group:
                if not staged.adopted:
                    self._finish(staged)
        except OSError as error:
            raise blame(error, Side.STAGING, "mode, owner or time", place=self.name) from error
        self._make_durable(group, [staged.handle for staged in group])

    def _finish(self, staged: Staged) -> None:
        if (self._owner, self._group) != (-1, -1):
            os.fchown(staged.handle, self._owner, self._group)
        os.fchmod(staged.handle, self.options.file_mode)
        if self.options.keep_mtime and staged.source.mtime_ns is not None:
            os.utime(staged.handle, ns=(staged.source.mtime_ns, staged.source.mtime_ns))
