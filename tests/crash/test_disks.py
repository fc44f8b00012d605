"""Disks that are full, or go away, and come back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.stories import STORIES


@pytest.mark.timeout(180)
@pytest.mark.parametrize("story", STORIES)
def test_story(tmp_path: Path, repository: Path, story: str) -> None:
    command = ["unshare", "-rm", sys.executable, "-m", "tests.crash.stories", story, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=170, check=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
