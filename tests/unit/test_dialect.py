"""Messages on the wire, against what the originals say (`tests/golden`, written by hand)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from skystow.adapters.rabbitmq.dialect import Dialect
from skystow.adapters.rabbitmq.queues import Queues
from skystow.errors import BadName
from skystow.model import messages
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    EndReadout,
    FileIngestRequest,
    FileTransferCompleted,
    FileTransferCompletedAck,
    HeaderReady,
    HeaderReadyAck,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
    ImageRetrieval,
    LargeFileObjectAvailable,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    ReadoutEnded,
    ReadoutEndedAck,
    StartIntegration,
    XferParams,
    XferParamsAck,
)
from skystow.model.packing import KINDS
from skystow.model.reports import Report

GOLDEN = Path(__file__).parent.parent / "golden"
QUEUES = Queues(forwarders={"f99": "f99_consume"})
DIALECT = Dialect("CC", QUEUES)

SESSION, IMAGE = "2021-03-04_12:34:56.789012", "CC_O_20210304_000001"
FORWARDER, CONTROLLER = "139.229.170.12:comcam-fp01", "ARCHIVE_CTRL"
NAME = f"{IMAGE}-R22S00.fits"
STAGED = f"/data/staging/comcam/forwarder/2021-03-04//{NAME}"
LINKED = f"/data/staging/comcam/oods/2021-03-04/{NAME}"
DAY = "/data/staging/comcam/forwarder/2021-03-04/"


def ack(number: int) -> str:
    return f"{SESSION}_{number}"


def in_oods(camera: str, obsid: str, raft: str, sensor: str, filename: str, code: int, text: str) -> ImageInOODS:
    return ImageInOODS(camera, "CCArchiver", obsid, raft, sensor, filename, code, text)


MEANT: dict[str, Message] = {
    "ARCHIVE_HEALTH_CHECK": HealthCheck(ack(4), SESSION, "archiver"),
    "ARCHIVE_HEALTH_CHECK_ACK": HealthCheckAck(ack(4), SESSION, CONTROLLER),
    "ARCHIVE_HEALTH_CHECK_ACK-boolean": HealthCheckAck(ack(4), SESSION, CONTROLLER),
    "ASSOCIATED": Associated(ack(1), "ccarchiver_association", "archiver"),
    "ASSOCIATED_ACK": AssociatedAck(ack(1), "f99_association"),
    "NEW_CC_ARCHIVE_ITEM": NewArchiveItem(ack(21), 3, SESSION, IMAGE, "archiver", 0, 1, "20210304", 15.0),
    "NEW_CC_ARCHIVE_ITEM_ACK": NewArchiveItemAck(ack(21), 3, SESSION, IMAGE, DAY, CONTROLLER),
    "CC_FWDR_XFER_PARAMS": XferParams(
        ack(22),
        3,
        SESSION,
        IMAGE,
        "CC",
        f"ARC@139.229.170.11:{DAY}",
        ("22/0", "22/1", "22/2"),
        "comcam-fp01",
        "archiver",
        "00",
    ),
    "CC_FWDR_XFER_PARAMS_ACK": XferParamsAck(ack(22), IMAGE, FORWARDER),
    "CC_FWDR_END_READOUT": ReadoutEnded(ack(23), 3, SESSION, IMAGE, "archiver", 0, 1),
    "CC_FWDR_END_READOUT_ACK": ReadoutEndedAck(ack(23), IMAGE, FORWARDER),
    "CC_FWDR_HEADER_READY": HeaderReady(ack(24), IMAGE, f"http://139.229.170.15:8000/{IMAGE}.yaml", "archiver"),
    "CC_FWDR_HEADER_READY_ACK": HeaderReadyAck(ack(24), IMAGE, FORWARDER),
    "FILE_TRANSFER_COMPLETED": FileTransferCompleted(STAGED, IMAGE, "22", "00", SESSION, "3", "forwarder/f99"),
    "FILE_TRANSFER_COMPLETED-1.0": FileTransferCompleted(
        STAGED.replace("-R22", "--R22"), IMAGE, "", "", SESSION, "3", "forwarder/f99"
    ),
    "FILE_TRANSFER_COMPLETED_ACK": FileTransferCompletedAck(STAGED, IMAGE, "22", "00", SESSION, "3", CONTROLLER),
    "FILE_TRANSFER_COMPLETED_ACK-4.0": FileTransferCompletedAck(STAGED, IMAGE, "", "", SESSION, "3", CONTROLLER),
    "IMAGE_RETRIEVAL_FOR_ARCHIVING": ImageRetrieval(IMAGE, "22", "00", NAME, 5611, "cannot fetch pixels: timed out"),
    "CC_FILE_INGEST_REQUEST": FileIngestRequest("COMCAM", "CCArchiver", IMAGE, "22", "00", LINKED),
    "CC_FILE_INGEST_REQUEST-4.0": FileIngestRequest("COMCAM", "CCArchiver", IMAGE, "", "", LINKED),
    "IMAGE_IN_OODS": in_oods("LSSTComCam", IMAGE, "R22", "S00", NAME, 0, "file ingested"),
    "IMAGE_IN_OODS-4.2": in_oods("COMCAM", IMAGE, "22", "00", LINKED, 0, "file ingested"),
    "IMAGE_IN_OODS-controller": in_oods(
        "COMCAM", IMAGE, "", "", STAGED, 1, "Couldn't create link for OODS: [Errno 18] Invalid cross-device link"
    ),
    "IMAGE_IN_OODS-unknown": in_oods("UNDEF", "??", "R??", "S??", NAME, 2, "metadata failure: no FITS"),
    "IMAGE_IN_OODS-placeholders": in_oods(
        "UNDEF", "??", "??", "??", NAME, 1, "ingest failure: while ingesting\n\tno such dataset type\n"
    ),
}
"""What each golden means."""

BY_FORWARDER = {
    "ASSOCIATED_ACK",
    "CC_FWDR_XFER_PARAMS_ACK",
    "CC_FWDR_END_READOUT_ACK",
    "CC_FWDR_HEADER_READY_ACK",
    "FILE_TRANSFER_COMPLETED",
    "IMAGE_RETRIEVAL_FOR_ARCHIVING",
}
OLDER = {"ARCHIVE_HEALTH_CHECK_ACK-boolean", "FILE_TRANSFER_COMPLETED-1.0", "FILE_TRANSFER_COMPLETED_ACK-4.0"}
"""Read, and never said."""

FULL: dict[str, Message] = {
    "ASSOCIATED_ACK": AssociatedAck(ack(1), "f99_association", FORWARDER),
    "NEW_CC_ARCHIVE_ITEM": NewArchiveItem(
        ack(21), 3, SESSION, IMAGE, "archiver", 0, 1, "20210304", 15.0, ("R22_S00", "R22_S01")
    ),
    "CC_FWDR_HEADER_READY": HeaderReady(
        ack(24), IMAGE, f"http://139.229.170.15:8000/{IMAGE}.yaml", "archiver", 12345, "ab" * 16
    ),
    "FILE_TRANSFER_COMPLETED": FileTransferCompleted(
        STAGED, IMAGE, "22", "00", SESSION, "3", "forwarder/f99", 17_000_000_000, "ab" * 32, "sha256"
    ),
    "CC_FILE_INGEST_REQUEST": FileIngestRequest("COMCAM", "CCArchiver", IMAGE, "22", "00", LINKED, "archiver"),
}
OURS = {
    "ASSOCIATED_ACK": {"COMPONENT": FORWARDER},
    "NEW_CC_ARCHIVE_ITEM": {"detectors": ["R22_S00", "R22_S01"]},
    "CC_FWDR_HEADER_READY": {"SIZE": 12345, "CHECKSUM": "ab" * 16},
    "FILE_TRANSFER_COMPLETED": {"SIZE": 17_000_000_000, "CHECKSUM": "ab" * 32, "CHECKSUM_TYPE": "sha256"},
    "CC_FILE_INGEST_REQUEST": {"REPLY_QUEUE": "cc_foreman_ack_publish"},
}
"""Every key that we add to what originals say."""

FILES = sorted(GOLDEN.glob("python/*.yaml")) + sorted(GOLDEN.glob("forwarder/*.yaml"))


def golden(name: str) -> bytes:
    return (GOLDEN / ("forwarder" if name in BY_FORWARDER else "python") / f"{name}.yaml").read_bytes()


def typed(node: Any) -> Any:
    """With the type of everything."""
    if isinstance(node, dict):
        return {key: typed(value) for key, value in node.items()}
    return [typed(each) for each in node] if isinstance(node, list) else (type(node), node)


def test_every_message_is_there_in_both_dialects() -> None:
    spoken = {name for name in MEANT if "-" not in name}
    for folder in ("python", "forwarder"):
        assert {file.stem for file in (GOLDEN / folder).glob("*.yaml") if "-" not in file.stem} == spoken
    assert {file.stem for file in FILES} == MEANT.keys()
    between = {
        each
        for name, each in KINDS.items()
        if getattr(messages, name, None) and each not in (StartIntegration, EndReadout, LargeFileObjectAvailable)
    }
    assert {type(message) for message in MEANT.values()} == between


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_both_dialects_are_read(file: Path) -> None:
    assert DIALECT.decode(file.read_bytes()) == MEANT[file.stem]


@pytest.mark.parametrize("name", sorted(MEANT.keys() - OLDER))
def test_what_we_say_is_what_the_original_says(name: str) -> None:
    """Key by key, type by type; and to the byte, but for the order of a forwarder's keys."""
    ours, theirs = DIALECT.encode(MEANT[name]), golden(name)
    assert typed(yaml.safe_load(ours)) == typed(yaml.safe_load(theirs))
    if name in BY_FORWARDER:
        assert typed(json.loads(ours)) == typed(yaml.safe_load(theirs))
        assert len(ours.splitlines()) == 1
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", sorted(FULL))
def test_what_we_add_is_on_the_list(name: str) -> None:
    ours, theirs = yaml.safe_load(DIALECT.encode(FULL[name])), yaml.safe_load(golden(name))
    assert typed(ours) == typed(theirs | OURS[name])
    assert DIALECT.decode(DIALECT.encode(FULL[name])) == FULL[name]


@pytest.mark.parametrize("name", sorted(BY_FORWARDER))
def test_a_forwarder_quotes_everything_but_integers(name: str) -> None:
    said = json.loads(DIALECT.encode(FULL.get(name, MEANT[name])))
    assert {key for key, value in said.items() if not isinstance(value, str)} <= {"STATUS_CODE", "SIZE"}


@pytest.mark.parametrize("short_name", ["AT", "MT"])
def test_other_sites_have_their_own_names(short_name: str) -> None:
    other = Dialect(short_name, QUEUES)
    for name, message in MEANT.items():
        if name in OLDER:
            continue
        body = other.encode(message)
        kind = name.split("-")[0].replace("CC_", f"{short_name}_", 1)
        assert yaml.safe_load(body)["MSG_TYPE"] == kind
        assert other.decode(body) == message
        if "CC_" in name:
            with pytest.raises(BadName, match=f"‘{kind}’ is none that a site of CC knows"):
                DIALECT.decode(body)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("unspoken/*.yaml")), ids=lambda file: file.stem)
def test_what_is_not_spoken_here_is_said_to_be_so(file: Path) -> None:
    with pytest.raises(BadName, match=f"MSG_TYPE {file.stem} is not spoken here: "):
        DIALECT.decode(file.read_bytes())


@pytest.mark.parametrize(
    "message",
    [
        StartIntegration(IMAGE, datetime(2021, 3, 4, tzinfo=UTC)),
        EndReadout(IMAGE),
        LargeFileObjectAvailable(IMAGE, "http://x/"),
        Report(),
    ],
)
def test_what_has_no_form_on_the_wire(message: Message) -> None:
    with pytest.raises(BadName, match=f"{type(message).__name__} has no form on the wire"):
        DIALECT.encode(message)


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (AssociatedAck("a\0", "k"), r"ASSOCIATED_ACK: ACK_ID has the character U\+0000"),
        (FileTransferCompletedAck("\ud800", "o", "", "", "s", "3", "c"), r"FILENAME has the character U\+D800"),
        (HealthCheck("a" * 4097, "s", "archiver"), "ACK_ID has 4097 characters, more than 4096"),
        (HealthCheck("a", "s", "archiver/events"), "REPLY_QUEUE cannot be said: archiver/events has no queue"),
        (HealthCheck("a", "s", "queue/" + "q" * 256), "REPLY_QUEUE has more than 255 bytes"),
        (ReadoutEnded("a", 2**31, "s", "i", ""), "JOB_NUM is 2147483648, not from -2147483648 to 2147483647"),
        (NewArchiveItem("a", 1, "s", "i", "", exposure_time=float("nan")), "exposureTime is ‘nan’ where a finite"),
        (NewArchiveItem("a", 1, "s", "i", "", detectors=("R",) * 1001), "detectors has 1001 entries, more than 1000"),
    ],
)
def test_what_cannot_be_said(message: Message, key: str) -> None:
    with pytest.raises(BadName, match=key):
        DIALECT.encode(message)


def test_words_for_people_are_never_refused() -> None:
    said = ImageRetrieval(IMAGE, "22", "00", NAME, 5611, "\udcff\0" + "x" * 5000)
    heard = DIALECT.decode(DIALECT.encode(said))
    assert isinstance(heard, ImageRetrieval)
    assert heard.description == "\ufffd\ufffd" + "x" * 4093 + "…"


@pytest.mark.parametrize(
    ("queue", "address"),
    [
        ("cc_foreman_ack_publish", "archiver"),
        ("archive_ctrl_consume", "controller"),
        ("f99_consume", "forwarder/f99"),
        ("somebody's", "queue/somebody's"),
        ("''", ""),
        ("null", ""),
    ],
)
def test_where_an_answer_goes(queue: str, address: str) -> None:
    body = f"MSG_TYPE: ASSOCIATED\nACK_ID: a\nASSOCIATION_KEY: k\nREPLY_QUEUE: {queue}\n"
    heard = DIALECT.decode(body.encode())
    assert heard == Associated("a", "k", address)
    assert DIALECT.decode(DIALECT.encode(heard)) == heard
    assert DIALECT.decode(b"{MSG_TYPE: ASSOCIATED, ACK_ID: a, ASSOCIATION_KEY: k}") == Associated("a", "k", "")


def test_the_reference_has_every_message_and_key() -> None:
    page = (GOLDEN.parent.parent / "docs" / "reference" / "wire.md").read_text("utf-8")
    rows = {kind: row for row in page.splitlines() for kind in re.findall("`([A-Z_]+)`", row.split(" | ")[0])}
    for name, message in (MEANT | FULL).items():
        said = yaml.safe_load(DIALECT.encode(message))
        row = rows[said.pop("MSG_TYPE")]
        assert {key for key in [*said, *said.get("XFER_PARAMS", {})] if key not in row} == set(), name
