"""Samples of a topic, as the Python binding of Cyclone DDS wants and gives them.

What it does by itself with values that do not fit (seen with 11.0.1 between two processes), and what we make of it:

- A bound counts the bytes of the text in UTF-8, without the NUL at its end. The binding compares it with the number of
  characters, so that `ééééé` passes it at a bound of 5, and the C library then refuses the sample (BAD_PARAMETER). A
  number out of its range, an array of another length, half of a surrogate pair: a bare `Exception` that names the
  member. Nothing of a refused sample is sent. `fitted` leaves none of this to chance.
- It writes NUL within a string, anything at all for a boolean (by its truth), NaN and infinities without a word.
- Two types whose bounds differ match, and an over-long string then ends in the receiving process: its C library drops
  the sample, tells stderr, and counts it nowhere. So readers have types without bounds (`make(topic, bounds=False)`),
  and `read` looks at the length.
- Bytes that are no UTF-8, or a char above 127, raise from within `DataReader.take`, and every other sample of that call
  is lost with the bad one. So the types that are made here give a `Garbled` in its place, which `read` refuses.
- A sample that is shorter than its type, or has a string without its NUL, is dropped by the C library as above.
"""

from __future__ import annotations

import keyword
import math
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as dds

from skystow.adapters.sal.topic import ACKCMD, FLOATS, INTEGERS, Field, Topic, Unfit
from skystow.model.records import shown

LARGEST_FLOAT = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]

_array: Any = dds.array  # both make annotations, which mypy takes for types that are not generic
_bounded: Any = dds.bounded_str

_TYPES: Mapping[str, Any] = {
    "boolean": bool,
    "octet": dds.byte,
    "char": dds.char,
    "short": dds.int16,
    "unsigned short": dds.uint16,
    "long": dds.int32,
    "unsigned long": dds.uint32,
    "long long": dds.int64,
    "unsigned long long": dds.uint64,
    "float": dds.float32,
    "double": dds.float64,
    "string": str,
}
_BLANKS: Mapping[str, Any] = {
    "boolean": False,
    "char": "\0",
    "string": "",
    **dict.fromkeys(INTEGERS, 0),
    **dict.fromkeys(FLOATS, 0.0),
}
_FINITE = ("private_sndStamp", f"{ACKCMD}.timeout")
"""What is reckoned with in any sample. The rest may be NaN, which SAL's writers say where they do not know a number."""


@dataclass(slots=True)
class Garbled:
    """Stands in `take`'s answer for a sample that cannot be decoded. `sample_info` is set by the reader."""

    fault: str
    sample_info: Any = None


class _Tolerant(IdlStruct):
    @classmethod
    def deserialize(cls, data: bytes, has_header: bool = True, use_version_2: bool | None = None) -> Any:
        try:
            return super().deserialize(data, has_header, use_version_2)
        except UnicodeDecodeError as error:
            text = bytes(error.object)[:80].decode("utf-8", "backslashreplace")
            return Garbled(f"a string that is no UTF-8: ‘{shown(text)}’")
        except (ValueError, struct.error, IndexError) as error:
            return Garbled(f"a value that cannot be decoded ({error})")


def attribute(field: str) -> str:
    """The attribute of a sample that holds a field: its name, where Python and the binding leave it free."""
    taken = keyword.iskeyword(field) or hasattr(IdlStruct, field) or field == "sample_info"
    return f"_{field}" if taken else field


def make(topic: Topic, *, bounds: bool = True) -> type[IdlStruct]:
    """The type for a writer; with `bounds` False, in which no string has one, for a reader. The same topic always has
    the same one. A dataclass whose arguments are named by `attribute`; its names on the wire are those of the topic.
    It is final, and written in XCDR1, which every DDS reads."""
    return _made(topic, bounds)


@lru_cache(maxsize=1024)
def _made(topic: Topic, bounds: bool) -> type[IdlStruct]:
    fields: dict[str, Any] = {}
    notes: dict[str, dict[str, Any]] = {}
    for each in topic.fields:
        kind = _bounded[each.size] if bounds and each.size is not None else _TYPES[each.kind]
        name = attribute(each.name)
        fields[name] = _array[kind, each.count] if each.many else kind
        notes[name] = {"name": each.name} | ({"key": True} if each.key else {})
    return make_idl_struct(topic.struct, topic.type_name, fields, field_annotations=notes, bases=(_Tolerant,))


def sample(topic: Topic, values: Mapping[str, Any]) -> IdlStruct:
    """One to write; `values` as `fitted` gives them, all of them."""
    return make(topic)(**{attribute(name): value for name, value in values.items()})


def blank(topic: Topic) -> dict[str, Any]:
    """Every field with its least value, but the revision code, which is its own."""
    values = {
        each.name: [_BLANKS[each.kind]] * each.count if each.many else _BLANKS[each.kind] for each in topic.fields
    }
    if topic.has("private_revCode"):
        values["private_revCode"] = topic.revision
    return values


# ── to write ────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(topic: Topic, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`values` on top of blank ones, made to fit, and in words what had to be changed for it: what is no field of this
    topic is left out; a string is cut at its bound, between two characters; a number is brought into its range; NUL and
    halves of surrogate pairs become `?`. A value of another type raises `Unfit`, which names the field."""
    whole, remarks = blank(topic), []
    for name, value in values.items():
        if not topic.has(name):
            remarks.append(f"{topic.name} has no field {shown(name)}")
            continue
        field = topic.field(name)
        if not field.many:
            whole[name] = _fit(field, value, remarks)
        elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == field.count:
            whole[name] = [_fit(field, each, remarks) for each in value]
        else:
            raise Unfit(f"{name} is {_what(value)} where {field.count} values are due")
    return whole, remarks


def _fit(field: Field, value: Any, remarks: list[str]) -> Any:
    kind = field.kind
    if kind in ("string", "char"):
        return _fit_text(field, value, remarks)
    if kind == "boolean":
        if not isinstance(value, bool):
            raise Unfit(f"{field.name} is {_what(value)} where true or false is due")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(f"{field.name} is {_what(value)} where a number is due")
    if kind in INTEGERS:
        if not isinstance(value, int):
            raise Unfit(f"{field.name} is {_what(value)} where a whole number is due")
        least, most = INTEGERS[kind]
        fit: int | float = min(max(value, least), most)
    else:
        fit = _fit_float(value, LARGEST_FLOAT if kind == "float" else sys.float_info.max)
    if fit != value and not math.isnan(fit):
        remarks.append(f"{field.name}: {str(value)[:40]} is out of range and became {fit}")
    return fit


def _fit_float(value: float, most: float) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return float(min(max(value, -most), most))


def _fit_text(field: Field, value: Any, remarks: list[str]) -> str:
    if not isinstance(value, str):
        raise Unfit(f"{field.name} is {_what(value)} where text is due")
    if field.kind == "char":
        fit = value[:1].encode("ascii", "replace").decode() or "\0"
        if fit != (value or "\0"):
            remarks.append(f"{field.name}: {_what(value)} became ‘{shown(fit)}’")
        return fit
    raw = value.encode("utf-8", "replace").replace(b"\0", b"?")
    if field.size is not None and len(raw) > field.size:
        remarks.append(f"{field.name} was cut from {len(raw)} bytes to {field.size}")
        return raw[: field.size].decode("utf-8", "ignore")
    if (fit := raw.decode()) != value:
        remarks.append(f"{field.name} has characters that SAL cannot say")
    return fit


def _what(value: Any) -> str:
    return f"‘{shown(str(value)[:80])}’"


# ── what was read ───────────────────────────────────────────────────────────────────────────────────────────────


def read(topic: Topic, received: Any) -> dict[str, Any]:
    """All fields of a sample that `take` gave, by their names in the topic; arrays are lists. Raises `Unfit`, which
    names the field, where a string is over-long or has a NUL, a number is out of range, no number where one is reckoned
    with, or of another type, and where the sample could not be decoded at all."""
    if isinstance(received, Garbled):
        raise Unfit(f"{topic.name} has {received.fault}")
    values: dict[str, Any] = {}
    for field in topic.fields:
        try:
            value = getattr(received, attribute(field.name))
        except AttributeError as error:
            raise Unfit(f"{topic.name} came without {field.name}") from error
        if not field.many:
            values[field.name] = _looked_at(topic, field, value)
        elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == field.count:
            values[field.name] = [_looked_at(topic, field, each) for each in value]
        else:
            raise Unfit(f"{field.name} has not {field.count} values")
    return values


def _looked_at(topic: Topic, field: Field, value: Any) -> Any:
    kind, name = field.kind, field.name
    if kind in ("string", "char"):
        if not isinstance(value, str):
            raise Unfit(f"{name} is {_what(value)} where text is due")
        if kind == "string" and "\0" in value:
            raise Unfit(f"{name} has a NUL in it")
        length = len(value.encode("utf-8", "replace"))
        most = 1 if kind == "char" else field.size
        if most is not None and length > most:
            raise Unfit(f"{name} has {length} bytes, more than {most}")
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise Unfit(f"{name} is {_what(value)} where true or false is due")
    elif isinstance(value, bool) or not isinstance(value, int if kind in INTEGERS else int | float):
        raise Unfit(f"{name} is {_what(value)} where a number is due")
    elif kind in INTEGERS:
        least, most = INTEGERS[kind]
        if not least <= value <= most:
            raise Unfit(f"{name} is {value}, not {least} to {most}")
    elif not math.isfinite(value) and (name in _FINITE or f"{topic.name}.{name}" in _FINITE):
        raise Unfit(f"{name} is {value} where a number is due")
    return value
