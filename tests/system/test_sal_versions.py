"""Definitions of other versions, another telescope's Archiver, and who does not fit: he is named in the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from skystow.model.messages import StartIntegration
from tests.system.sal_kit import ACK, COMPLETE, ENABLED, IN_PROGRESS, STANDBY, Join, codes, shapes, until, write_idl
from tests.system.sal_site import OUTCOMES, due, instrument, outcomes, sal_site

pytestmark = pytest.mark.timeout(300)

ARCHIVER, CAMERA, HEADERS = "ATArchiver", "ATCamera", "ATHeaderService"
IMAGE, IGNORED = "AT_O_20210304_000001", "AT_O_20210304_000002"
OLDER = ("settingVersions", "settingsApplied", "appliedSettingsMatchStart", "authList")
_REVISION = re.compile(r"_([0-9a-f]{8})\b")


def without(text: str, *topics: str) -> str:
    for each in topics:
        struct = rf"\tstruct {each}_\w{{8}} \{{.*?\n\t\}};\n\t#pragma keylist {each}\S*\n"
        text, count = re.subn(struct, "", text, flags=re.DOTALL)
        assert count == 1, each
    return text


def newer(text: str) -> str:
    """An Archiver of version 11, which nobody has asked for an authList."""
    text = without(text, *(f"logevent_{each}" for each in OLDER), "command_setAuthList")
    assert text.count("settingsToApply") == 1
    private = re.search(r"\t  string<8>\tprivate_revCode.*?private_origin.*?\n", text, re.DOTALL)
    assert private is not None
    topics = {
        "logevent_configurationApplied": ("configurations", "version", "url", "schemaVersion", "otherInfo"),
        "logevent_configurationsAvailable": ("overrides", "version", "url", "schemaVersion"),
    }
    for topic, fields in topics.items():
        own = "".join(f"\t  string\t{each};\n" for each in fields)
        struct = f"{topic}_00c0ffee"
        made = f"\tstruct {struct} {{\n{private[0]}{own}\t  long\tpriority;\n\t}};\n\t#pragma keylist {struct}\n"
        text = text.replace("\tstruct ackcmd", f"{made}\tstruct ackcmd", 1) if topic not in text else text
    return text.replace("settingsToApply", "configurationOverride")


def revised(directory: Path) -> Path:
    """Version 11, in which each topic has another revision."""
    write_idl(directory, ARCHIVER, CAMERA, HEADERS, version="11.0.0")
    path = directory / f"sal_revCoded_{ARCHIVER}.idl"
    path.write_text(newer(path.read_text()))
    for path in directory.iterdir():
        path.write_text(_REVISION.sub(lambda found: f"_{found[1][::-1]}", path.read_text()))
    return directory


def line(lines: Sequence[str]) -> str:
    [one] = lines
    return one


def test_version_11_of_another_telescope_and_who_does_not_fit_is_named(tmp_path: Path, join: Join) -> None:
    idl, old = revised(tmp_path / "idl"), write_idl(tmp_path / "old", ARCHIVER, CAMERA, HEADERS)
    names = {"name": ARCHIVER, "short_name": "AT", "camera": "LATISS"}
    peer = join(idl)
    peer.follow(ARCHIVER, "summaryState", "configurationApplied", "configurationsAvailable", *OUTCOMES)
    more: dict[str, Any] = {"sal": {"definitions": str(idl)}, "more": names, "talking": ("controller", "oods")}
    with (
        sal_site(tmp_path, images=[IMAGE], **more) as site,
        site.ledger() as ledger,
        instrument(peer, site, camera=CAMERA, service=HEADERS, first=1) as at,
    ):
        site.run()
        peer.await_state(STANDBY, site.told)
        until(lambda: peer.events("configurationApplied") and peer.events("configurationsAvailable"), site.told)

        started = peer.command("start", ARCHIVER, configurationOverride="night.yaml")
        assert codes(started) == [ACK, IN_PROGRESS, COMPLETE]
        assert "night.yaml" in started[-1].text
        at.expose(IGNORED)
        until(lambda: ledger.talks.steps(ARCHIVER), "that it is noted")
        heard = ledger.talks.steps(ARCHIVER)[0][1]
        assert isinstance(heard, StartIntegration)
        assert heard.image_index == 0, "which is 1 in this version"

        peer.obey("enable", component=ARCHIVER)
        at.expose(IMAGE)
        site.settled(ledger)
        site.assert_whole()
        assert outcomes(peer.events(*OUTCOMES)) == dict.fromkeys(due(site), 1)
        assert {(each["camera"], each["archiverName"]) for each in peer.events(*OUTCOMES)} == {("LATISS", ARCHIVER)}

        # By default events are TRANSIENT_LOCAL, and whoever asks for more hears nothing.
        table = join(idl, identity="table@console", table=True)
        table.follow(ARCHIVER, "summaryState")
        said = site.await_log("does not hear us by logevent_summaryState")
        assert "durability: TRANSIENT_LOCAL is offered, TRANSIENT is asked" in said

        # A camera of another version.
        stranger = join(old, identity=CAMERA)
        stranger.voice(CAMERA, "logevent_startIntegration", lonely=True)
        said = site.await_log(f"{CAMERA} (", "does not reach us by logevent_startIntegration")
        theirs, ours = (shapes(each, CAMERA)["logevent_startIntegration"].revision for each in (old, idl))
        assert f"it speaks revision {theirs}, ours is {ours}" in said

        # A camera whose fields differ, though nothing else does.
        liar = join(tmp_path / "liar", identity=CAMERA)
        write_liar(tmp_path / "liar", idl)
        liar.voice(CAMERA, "logevent_endReadout", lonely=True)
        assert "has other fields" in site.await_log(f"{CAMERA} (", "does not reach us by logevent_endReadout")

        assert table.states() == []
        assert peer.states()[-1] == ENABLED, "nobody of these did any harm"
        for words in ("logevent_summaryState", "logevent_startIntegration", "logevent_endReadout"):
            line(site.logged("does not", f"by {words}"))  # once


def write_liar(directory: Path, idl: Path) -> None:
    directory.mkdir()
    for path in idl.iterdir():
        (directory / path.name).write_text(path.read_text().replace(" long\timageIndex", " double\timageIndex"))
