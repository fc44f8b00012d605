"""Bodies of messages as text that every ledger takes and a person can read, and back."""

from __future__ import annotations

import base64
import binascii

from skystow.adapters.rabbitmq.dialect import Dialect
from skystow.errors import BadName
from skystow.model.messages import Message
from skystow.model.packing import spoken

WIRE = "wire"
"""The kind of a parcel in the ledger that holds a body as it came over the wire."""

LARGEST = 1 << 20
"""Bytes of a body; of one that is larger only this much is kept."""

_RAW = "base64:"
_PLAIN = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


def as_text(body: bytes) -> str:
    """As it is where it is printable ASCII, else in base64."""
    if _PLAIN.issuperset(body) and not body.startswith(_RAW.encode()):
        return body.decode("ascii")
    return _RAW + base64.b64encode(body).decode("ascii")


def as_bytes(text: str) -> bytes:
    """The reverse. Raises `BadName`."""
    if not text.startswith(_RAW):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_RAW), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadName(f"what is said to be in base64 is not: {error}") from error


def read(dialect: Dialect, kind: str, body: str) -> Message:
    """`EmbeddedBus`'s reader where there is a broker: what was set aside is tried again. Raises `BadName`."""
    return dialect.decode(as_bytes(body)) if kind == WIRE else spoken(kind, body)
