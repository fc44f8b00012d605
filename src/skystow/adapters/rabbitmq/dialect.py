"""What messages look like on the wire: YAML mappings with the originals' keys, by the table in `forms`.

What Python said is said in blocks with sorted keys, what a forwarder said in one line of JSON; both are read wherever
they come from. A body is held to be hostile: small, UTF-8, one flat mapping, without tags, anchors and repeated keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from skystow.adapters.plain_yaml import Limits, Unlawful, documents
from skystow.adapters.rabbitmq import values
from skystow.adapters.rabbitmq.forms import FORMS, REQUIRED, UNSPOKEN, Key
from skystow.adapters.rabbitmq.queues import Queues
from skystow.errors import BadName
from skystow.model.messages import Message
from skystow.model.records import shown

LARGEST = 1 << 20
"""Bytes of a body."""

_LIMITS = Limits(depth=8, nodes=10_000)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_ESCAPED = re.compile("[\x7f-\uffff]")
"""Escapes that mean the same in JSON and in YAML; what is beyond is said as it is, for YAML has no pairs."""


class Dialect:
    """`short_name` prefixes the forwarder's message types, `CC_FWDR_…`."""

    def __init__(self, short_name: str, queues: Queues) -> None:
        self.short_name, self.queues = short_name, queues
        named = [(form.type.format(short_name), form) for form in FORMS]
        self._by_type = dict(named)
        self._by_message = {form.message: (kind, form) for kind, form in named}
        self._unspoken = {kind.format(short_name): why for kind, why in UNSPOKEN.items()}

    def encode(self, message: Message) -> bytes:
        """Raises `BadName` for a message that has no form on the wire, or of which a value has none."""
        if (found := self._by_message.get(type(message))) is None:
            raise BadName(f"{type(message).__name__} has no form on the wire")
        kind, form = found
        body: dict[str, Any] = {"MSG_TYPE": kind, **form.constants}
        for key in form.keys:
            value = getattr(message, key.field)
            if key.spare and value == key.default:
                continue
            try:
                self._put(body, key, value)
            except values.Wrong as wrong:
                raise BadName(f"{kind}: {key.name} {wrong}") from wrong
        return _flow(body) if form.flow else _block(body)

    def decode(self, body: bytes) -> Message:
        """Raises `BadName` with a sentence for whatever is no message that we know."""
        said = _mapping(body)
        kind = said.get("MSG_TYPE")
        if not isinstance(kind, str):
            raise BadName("MSG_TYPE is missing" if kind is None else f"MSG_TYPE {values.instead(kind, 'text')}")
        if (form := self._by_type.get(kind)) is None:
            raise BadName(self._unknown(kind))
        if (ack := said.get("ACK_BOOL")) is not None:
            try:
                values.yes(ack)
            except values.Wrong as wrong:
                raise BadName(f"{kind}: ACK_BOOL {wrong}") from wrong
        return form.message(**{key.field: self._get(said, kind, key) for key in form.keys if not key.echo})

    def _unknown(self, kind: str) -> str:
        if (why := self._unspoken.get(kind)) is not None:
            return f"MSG_TYPE {kind} is not spoken here: {why}"
        return f"MSG_TYPE ‘{shown(kind[:80])}’ is none that a site of {self.short_name} knows"

    def _put(self, body: dict[str, Any], key: Key, value: Any) -> None:
        if key.kind is values.QUEUE and not (value := self.queues.queue_of(address := value)):
            raise values.Wrong(f"cannot be said: {shown(address)} has no queue")
        *outer, name = key.path
        for each in outer:
            body = body.setdefault(each, {})
        body[name] = key.kind.say(value)

    def _get(self, said: Mapping[str, Any], kind: str, key: Key) -> Any:
        *outer, name = key.path
        for each in outer:
            inner = said.get(each)
            if not isinstance(inner, dict):
                wrong = "is missing" if inner is None else values.instead(inner, "a mapping")
                raise BadName(f"{kind}: {each} {wrong}")
            said = inner
        node = said.get(name)
        if node is None and key.default is not REQUIRED:
            return key.default
        if name not in said:
            raise BadName(f"{kind}: {key.name} is missing")
        try:
            value = key.kind.read(node)
        except values.Wrong as wrong:
            raise BadName(f"{kind}: {key.name} {wrong}") from wrong
        return self.queues.address_of(value) if key.kind is values.QUEUE and value else value


def _mapping(body: bytes) -> Mapping[str, Any]:
    if len(body) > LARGEST:
        raise BadName(f"the body has {len(body)} bytes, and no more than {LARGEST} are read")
    try:
        found = documents(body.decode("utf-8-sig"), _LIMITS, _scalar)
    except UnicodeDecodeError as error:
        raise BadName(f"the body is not UTF-8 at byte {error.start}") from error
    except Unlawful as error:
        raise BadName(f"the body {error}") from error
    if len(found) != 1 or not isinstance(found[0], dict):
        raise BadName("the body is not one mapping of keys to values")
    return found[0]


def _scalar(text: str, plain: bool) -> str | None:
    return None if plain and text in _NULL else text


def _block(body: Mapping[str, Any]) -> bytes:
    said: bytes = yaml.dump(body, Dumper=_DUMPER, default_flow_style=False, width=LARGEST, encoding="utf-8")
    return said


def _flow(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
