"""The tutorial of the SMuRF site, command by command: real MariaDB, real sshd behind the gate, the example site."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.nursery import Nursery
from tests.servers import Server
from tests.system.observatory_kit import EXAMPLE, Observatory, observatory

GOOD = "15647/tune_band/1564799250_tuning_b1.txt"
MENDED = "15647/take_iv/1564799311_iv.txt"
STARLIGHT = "a32f5efe20ad3dd9207245f87aab8e04"
"""What the page's rows claim."""


def played(site: Observatory, section: str) -> dict[str, list[str]]:
    """What the commands of a section printed, by their first two words that are no paths."""
    told: dict[str, list[str]] = {}
    for command, done in site.play(section):
        words = [word for word in command.split() if not word.startswith("/")]
        told.setdefault(" ".join(words[:2]), []).append(done.stdout + done.stderr)
        site.shows_no_password(done.stdout + done.stderr)
    return told


def row(site: Observatory, action: str) -> tuple[object, ...]:
    [found] = site.ask(
        f"SELECT copied, failed_copy_attempts, path FROM files.pysmurf_files_v1"  # noqa: S608
        f" WHERE action = '{action}' AND path LIKE '/%%'"
    )
    return found


@pytest.mark.timeout(180)
def test_every_command_does_what_the_page_says(
    tmp_path: Path, mariadb: Server, skystow_bin: Path, nursery: Nursery
) -> None:
    with observatory(tmp_path / "o", mariadb, skystow_bin, nursery) as site:
        played(site, "1")
        assert "ED25519" in played(site, "2")["ssh-keygen -lf"][0]
        assert played(site, "3")["ssh -F"] == ["skystow-gate: not allowed\n"]
        site.site.write_text(site.here(EXAMPLE.read_text("utf-8")))
        table = played(site, "5")
        assert "was made" in table["skystow pysmurf-files"][0]
        assert all(word in table["skystow check"][0] for word in ("remote smurf", "rows may be updated"))

        first = played(site, "6")
        assert first["cat"] == ["starlight\n"]
        assert first["skystow trace"][0].count("delivered") == 1
        assert row(site, "tune_band") == (1, 0, str(site.archive / GOOD))
        assert site.run("run", "--once")["archived"] == 0

        wrong = site.play("7")
        for command, _ in wrong:
            if "run" in command:
                break
        assert row(site, "take_iv")[:2] == (0, 5)
        assert not (site.archive / MENDED).exists()
        command, done = next(wrong)
        assert "trace" in command
        assert STARLIGHT in done.stdout
        letters = [done.stdout for command, done in wrong if "dead-letters list" in command]
        assert ["relative/path.txt" in text for text in letters] == [True]
        assert row(site, "take_iv") == (1, 0, str(site.archive / MENDED))
        assert (site.archive / MENDED).read_text() == "starlight\n"
