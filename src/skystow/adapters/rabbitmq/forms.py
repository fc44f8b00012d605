"""The table of the wire: each message's type, its keys, and what their values are (PROTOCOLS of CCArchiver 3.1,
forwarder 2.3, OODS 4.3 to 5.0). Read by `dialect`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from skystow.adapters.rabbitmq import values
from skystow.model.messages import (
    Associated,
    AssociatedAck,
    FileIngestRequest,
    FileTransferCompleted,
    FileTransferCompletedAck,
    HeaderReady,
    HeaderReadyAck,
    HealthCheck,
    HealthCheckAck,
    ImageInOODS,
    ImageRetrieval,
    Message,
    NewArchiveItem,
    NewArchiveItemAck,
    ReadoutEnded,
    ReadoutEndedAck,
    XferParams,
    XferParamsAck,
)

REQUIRED: Final = object()


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `path` leads to it from the body. `default`: what its absence, or null, means; `spare`: it is not said
    where it says no more than its absence; `echo`: it repeats another key and is not read."""

    path: tuple[str, ...]
    field: str
    kind: values.Kind = values.TEXT
    default: Any = REQUIRED
    spare: bool = False
    echo: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Form:
    """One message. `type` has `{}` for the site's short name; `constants` are always said; `flow`: it is said by
    forwarders, in one line of quoted strings, else by Python, in a block."""

    type: str
    message: Callable[..., Message]
    keys: tuple[Key, ...]
    constants: Mapping[str, str] = field(default_factory=dict)
    flow: bool = False


def _key(name: str, field: str, kind: values.Kind = values.TEXT, default: Any = REQUIRED) -> Key:
    return Key(tuple(name.split(".")), field, kind, default)


def _spare(name: str, field: str, kind: values.Kind, default: Any) -> Key:
    return Key(tuple(name.split(".")), field, kind, default, spare=True)


_ACK, _SESSION = _key("ACK_ID", "ack_id"), _key("SESSION_ID", "session_id")
_IMAGE, _OBSID = _key("IMAGE_ID", "image_id"), _key("OBSID", "obsid")
_JOB, _JOB_AS_TEXT = _key("JOB_NUM", "job_num", values.INTEGER), _key("JOB_NUM", "job_num")
_REPLY = _spare("REPLY_QUEUE", "reply_to", values.QUEUE, "")
_COMPONENT, _ASSOCIATION = _key("COMPONENT", "component"), _key("ASSOCIATION_KEY", "association_key")
_FILENAME = _key("FILENAME", "filename")
_CCD = (_key("RAFT", "raft", default=""), _key("SENSOR", "sensor", default=""))
"""Not said before csc_base 4.1."""
_CCD_IF_KNOWN = tuple(replace(key, spare=True) for key in _CCD)
_CAMERA = (_key("CAMERA", "camera"), _key("ARCHIVER", "archiver"))
_STATUS = (_key("STATUS_CODE", "status_code", values.INTEGER), _key("DESCRIPTION", "description", values.PROSE))
_TRUE = {"ACK_BOOL": "TRUE"}

FORMS: tuple[Form, ...] = (
    Form("ARCHIVE_HEALTH_CHECK", HealthCheck, (_ACK, _SESSION, _REPLY)),
    Form("ARCHIVE_HEALTH_CHECK_ACK", HealthCheckAck, (_ACK, _SESSION, _COMPONENT), _TRUE),
    Form("ASSOCIATED", Associated, (_ACK, _ASSOCIATION, _REPLY)),
    Form(
        "ASSOCIATED_ACK",
        AssociatedAck,
        (_ASSOCIATION, _ACK, _spare("COMPONENT", "component", values.TEXT, "")),
        flow=True,
    ),
    Form(
        "NEW_{}_ARCHIVE_ITEM",
        NewArchiveItem,
        (
            _ACK,
            _JOB,
            _SESSION,
            _IMAGE,
            _REPLY,
            Key(("imageName",), "image_id", echo=True),
            _key("imageIndex", "image_index", values.INTEGER, 0),
            _key("imagesInSequence", "images_in_sequence", values.INTEGER, 1),
            _key("imageDate", "image_date", default=""),
            _key("exposureTime", "exposure_time", values.FLOAT, 0.0),
            _spare("detectors", "detectors", values.TEXTS, ()),
        ),
    ),
    Form(
        "NEW_{}_ARCHIVE_ITEM_ACK",
        NewArchiveItemAck,
        (_key("TARGET_DIR", "target_dir"), _ACK, _JOB, _IMAGE, _COMPONENT, _SESSION),
        _TRUE,
    ),
    Form(
        "{}_FWDR_XFER_PARAMS",
        XferParams,
        (
            _SESSION,
            _IMAGE,
            _key("DEVICE", "device"),
            _JOB,
            _ACK,
            _REPLY,
            _key("TARGET_LOCATION", "target_location"),
            _key("XFER_PARAMS.RAFT_LIST", "raft", default=""),
            _key("XFER_PARAMS.RAFT_CCD_LIST", "locations", values.TEXTS),
            _key("XFER_PARAMS.AT_FWDR", "forwarder"),
        ),
    ),
    Form(
        "{}_FWDR_END_READOUT",
        ReadoutEnded,
        (
            _JOB,
            _SESSION,
            _IMAGE,
            _ACK,
            _REPLY,
            _key("IMAGES_IN_SEQUENCE", "images_in_sequence", values.INTEGER, 1),
            _key("IMAGE_INDEX", "image_index", values.INTEGER, 0),
        ),
    ),
    Form(
        "{}_FWDR_HEADER_READY",
        HeaderReady,
        (
            _key("FILENAME", "url"),
            _IMAGE,
            _ACK,
            _REPLY,
            _spare("SIZE", "size", values.SIZE, 0),
            _spare("CHECKSUM", "checksum", values.TEXT, ""),
        ),
    ),
    Form("{}_FWDR_XFER_PARAMS_ACK", XferParamsAck, (_IMAGE, _COMPONENT, _ACK), flow=True),
    Form("{}_FWDR_END_READOUT_ACK", ReadoutEndedAck, (_IMAGE, _COMPONENT, _ACK), flow=True),
    Form("{}_FWDR_HEADER_READY_ACK", HeaderReadyAck, (_IMAGE, _COMPONENT, _ACK), flow=True),
    Form(
        "FILE_TRANSFER_COMPLETED",
        FileTransferCompleted,
        (
            _FILENAME,
            _OBSID,
            *_CCD,
            _SESSION,
            _JOB_AS_TEXT,
            _REPLY,
            _spare("SIZE", "size", values.SIZE, None),
            _spare("CHECKSUM", "checksum", values.TEXT, ""),
            _spare("CHECKSUM_TYPE", "checksum_type", values.TEXT, ""),
        ),
        flow=True,
    ),
    Form(
        "FILE_TRANSFER_COMPLETED_ACK",
        FileTransferCompletedAck,
        (_COMPONENT, _OBSID, _FILENAME, _JOB_AS_TEXT, _SESSION, *_CCD),
    ),
    Form("IMAGE_RETRIEVAL_FOR_ARCHIVING", ImageRetrieval, (_OBSID, *_CCD, _FILENAME, *_STATUS), flow=True),
    Form("{}_FILE_INGEST_REQUEST", FileIngestRequest, (*_CAMERA, _OBSID, *_CCD_IF_KNOWN, _FILENAME, _REPLY)),
    Form("IMAGE_IN_OODS", ImageInOODS, (*_CAMERA, _OBSID, *_CCD_IF_KNOWN, _FILENAME, *_STATUS)),
)

UNSPOKEN: Mapping[str, str] = {
    "{}_FWDR_HEALTH_CHECK": "nobody sends it",
    "{}_FWDR_HEALTH_CHECK_ACK": "nobody asks for it",
    "{}_ITEMS_XFERD_ACK": "nobody sends it",
    "SCAN": "what was missed is asked for by `skystow catch-up`",
    "SCAN_ACK": "nobody asks for it",
    "TELEMETRY": "nobody sends it",
}
"""What originals could say, and why it is not spoken here."""
