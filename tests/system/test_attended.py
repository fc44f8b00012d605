"""A file archiver that a host only starts, stops and asks: without OCS."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from skystow.config import read
from skystow.service.halt import Halt
from skystow.wiring.attended import Attended
from tests.system.cli_kit import SITE, until


def test_whatever_ends_it_is_told_and_it_begins_again(tmp_path: Path) -> None:
    """First there is no place for it, then whoever is shown the numbers dies of them."""
    for name in ("src", "oods"):
        (tmp_path / name).mkdir()
    (tmp_path / "src/a.txt").write_text("starlight")
    site = SITE.replace("ledger: sqlite:///ledger.db\n", "")
    told: list[str] = []
    shown: list[dict[str, Any]] = []

    def show(document: dict[str, Any]) -> None:
        shown.append(document)
        if document["places"] and not any("no such key" in text for text in told):
            raise KeyError("no such key")

    archiver, halt = Attended(read(site, directory=str(tmp_path)), tell=told.append), Halt()
    thread = threading.Thread(target=archiver.run, args=(halt, show))
    thread.start()
    try:
        until(lambda: bool(shown))
        assert shown[0]["fault"]
        (tmp_path / "dst").mkdir()
        until(lambda: any("unforeseen" in text and "no such key" in text for text in told))
        until(lambda: any(document["last_files"] and not document["fault"] for document in shown))
    finally:
        halt.set()
        thread.join(60)
    assert not thread.is_alive()
    assert (tmp_path / "dst/a.txt").read_text() == "starlight"
    with archiver.house() as house:
        assert [copy.path.name for copy in house.ledger.glimpse(min(house.primary, key=str), last=1).newest] == [
            "a.txt"
        ]


def test_an_outage_that_recurs_is_told_again(tmp_path: Path) -> None:
    told: list[str] = []
    archiver = Attended(read(SITE, directory=str(tmp_path)), tell=told.append)
    for reason in ("away", "away", "denied", "away", "", "", "away", ""):
        archiver._tell_of({"dst": {"reason": reason}, "oods": {"reason": ""}})
    assert [text.rpartition(" ")[2] for text in told] == ["away", "denied", "away"]
