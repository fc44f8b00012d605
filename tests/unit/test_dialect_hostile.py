"""Bodies that are no messages: a sentence for each, and never anything worse."""

from __future__ import annotations

import math
from dataclasses import fields
from time import perf_counter
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_dialect import DIALECT, FILES, MEANT

from skystow.adapters import plain_yaml
from skystow.adapters.rabbitmq.dialect import LARGEST
from skystow.adapters.rabbitmq.forms import FORMS
from skystow.errors import BadName
from skystow.model.messages import AssociatedAck, FileTransferCompleted, ImageRetrieval, Message

COMPLETED: dict[str, Any] = {
    "MSG_TYPE": "FILE_TRANSFER_COMPLETED",
    "FILENAME": "/f",
    "OBSID": "o",
    "RAFT": "22",
    "SENSOR": "00",
    "SESSION_ID": "s",
    "JOB_NUM": "3",
    "REPLY_QUEUE": "f99_consume",
}
BOMB = "a: &a [x,x]\n" + "".join(f"{n}: &{n} [*{b},*{b}]\n" for b, n in zip("abcdefgh", "bcdefghi", strict=True))


def completed(**other: str) -> bytes:
    """FILE_TRANSFER_COMPLETED in a block, with YAML instead of some of its values."""
    return "".join(f"{key}: {value}\n" for key, value in {**COMPLETED, "RAFT": "'22'", **other}.items()).encode()


BODIES: list[tuple[bytes, str]] = [
    (b"", "the body is not one mapping of keys to values"),
    (b"hello", "the body is not one mapping"),
    (b"- a\n- b\n", "the body is not one mapping"),
    (b"null", "the body is not one mapping"),
    (b"a: 1\n---\nb: 2\n", "the body is not one mapping"),
    (b"{", "the body is no YAML: "),
    (b"a: b: c\n", "the body is no YAML: "),
    (b"\x00\x01\x02", "the body is no YAML: "),
    (b'a: "\\xg"', "the body is no YAML: "),
    (b'a: "\\UFFFFFFFF"', "the body is no YAML: "),
    (b"MSG_TYPE: caf\xe9\n", "the body is not UTF-8 at byte 13"),
    ("MSG_TYPE: SCAN\n".encode("utf-16"), "the body is not UTF-8 at byte 0"),
    (b"x" * 10_000_000, "the body has 10000000 bytes, and no more than 1048576 are read"),
    (b"[" * 100_000, "the body is nested too deeply"),
    (b"- " * 100_000, "the body is nested too deeply"),
    (b"a: [" + b"x," * 20_000 + b"x]", "the body has more than 10000 nodes"),
    (b"".join(b"%%TAG !a%d! x\n" % n for n in range(50_000)), "the body has a %TAG directive"),
    (b"a: !!python/object/apply:os.system ['touch x']", "the body has the tag tag:yaml.org,2002:python/object"),
    (b"a: !!str b", "the body has the tag tag:yaml.org,2002:str"),
    (b"a: !mine b", "the body has the tag !mine"),
    (BOMB.encode(), "the body has the anchor a"),
    (b"a: *b", "the body refers to itself"),
    (b"&a {MSG_TYPE: SCAN, b: *a}", "the body has the anchor a"),
    (b"MSG_TYPE: a\nMSG_TYPE: b\n", "the body has the key MSG_TYPE twice"),
    (b"MSG_TYPE: a\nx: {y: 1, y: 2}\n", "the body has the key y twice"),
    (b"? [a]\n: b\n", "the body has a key that is no text"),
    (b"null: b\n", "the body has a key that is no text"),
    (b"a: 1\n", "MSG_TYPE is missing"),
    (b"MSG_TYPE:\n", "MSG_TYPE is missing"),
    (b"MSG_TYPE: [SCAN]\n", "MSG_TYPE is a list where text is due"),
    (b"MSG_TYPE: {a: b}\n", "MSG_TYPE is a mapping where text is due"),
    (b"MSG_TYPE: 5\n", "MSG_TYPE ‘5’ is none that a site of CC knows"),
    (b'MSG_TYPE: "\\x1b[2J"\n', "MSG_TYPE ‘\\x1b[2J’ is none that"),
    (b"MSG_TYPE: AT_FWDR_XFER_PARAMS\n", "MSG_TYPE ‘AT_FWDR_XFER_PARAMS’ is none that a site of CC knows"),
    (b"MSG_TYPE: ASSOCIATED_ACK\nACK_ID: a\n", "ASSOCIATED_ACK: ASSOCIATION_KEY is missing"),
    (completed(OBSID="{a: b}"), "FILE_TRANSFER_COMPLETED: OBSID is a mapping where text is due"),
    (completed(OBSID="[a]"), "FILE_TRANSFER_COMPLETED: OBSID is a list where text is due"),
    (completed(FILENAME="null"), "FILE_TRANSFER_COMPLETED: FILENAME is null where text is due"),
    (completed(FILENAME='"a\\0b"'), "FILE_TRANSFER_COMPLETED: FILENAME has the character U+0000"),
    (completed(FILENAME="x" * 5000), "FILE_TRANSFER_COMPLETED: FILENAME has 5000 characters, more than 4096"),
    (completed(REPLY_QUEUE="é" * 128), "FILE_TRANSFER_COMPLETED: REPLY_QUEUE has more than 255 bytes"),
    (completed(REPLY_QUEUE="[a]"), "FILE_TRANSFER_COMPLETED: REPLY_QUEUE is a list where text is due"),
    (completed(SIZE="large"), "FILE_TRANSFER_COMPLETED: SIZE is ‘large’ where an integer is due"),
    (completed(SIZE="-1"), "FILE_TRANSFER_COMPLETED: SIZE is -1, not from 0 to 9223372036854775807"),
    (completed(SIZE="9" * 5000), "where an integer is due"),
    (completed(SIZE="1.5"), "SIZE is ‘1.5’ where an integer is due"),
    (completed(SIZE="0x10"), "SIZE is ‘0x10’ where an integer is due"),
    (completed(SIZE="010"), "SIZE is ‘010’ where an integer is due"),
    (completed(SIZE="٣"), "SIZE is ‘٣’ where an integer is due"),
    (completed(SIZE="true"), "SIZE is ‘true’ where an integer is due"),
    (completed(ACK_BOOL="false"), "FILE_TRANSFER_COMPLETED: ACK_BOOL is ‘false’ where TRUE is due"),
    (completed(ACK_BOOL="'FALSE'"), "ACK_BOOL is ‘FALSE’ where TRUE is due"),
    (completed(ACK_BOOL="[TRUE]"), "ACK_BOOL is a list where TRUE is due"),
]


@pytest.mark.parametrize(("body", "sentence"), BODIES, ids=[sentence[:60] for _, sentence in BODIES])
def test_no_message(body: bytes, sentence: str) -> None:
    begun = perf_counter()
    with pytest.raises(BadName) as caught:
        DIALECT.decode(body)
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert perf_counter() - begun < 5, "a megabyte of directives took libyaml 12 s"


def item(**other: str) -> bytes:
    said = {"ACK_ID": "a", "JOB_NUM": "1", "SESSION_ID": "s", "IMAGE_ID": "i", **other}
    return "".join(f"{key}: {value}\n" for key, value in {"MSG_TYPE": "NEW_CC_ARCHIVE_ITEM", **said}.items()).encode()


@pytest.mark.parametrize(
    ("text", "value"), [("15", 15.0), ("15.0", 15.0), ("1e-1", 0.1), ("'1.0e+1'", 10.0), (".5", 0.5), ("null", 0.0)]
)
def test_an_exposure_time(text: str, value: float) -> None:
    assert getattr(DIALECT.decode(item(exposureTime=text)), "exposure_time", math.nan) == value


@pytest.mark.parametrize("text", [".nan", ".inf", "1e999", "NaN", "1_0", "1:30", "[1]", "{}", "x" * 3000, "9" * 99])
def test_no_exposure_time(text: str) -> None:
    with pytest.raises(BadName, match=r"NEW_CC_ARCHIVE_ITEM: exposureTime is .* where a finite number is due"):
        DIALECT.decode(item(exposureTime=text))


@pytest.mark.parametrize("text", ["{}", "x", "null", "[]"])
def test_transfer_parameters_that_are_none(text: str) -> None:
    known = "ACK_ID: a\nJOB_NUM: 1\nSESSION_ID: s\nIMAGE_ID: i\nDEVICE: CC\nTARGET_LOCATION: /t/\n"
    with pytest.raises(BadName, match=r"CC_FWDR_XFER_PARAMS: XFER_PARAMS(\.RAFT_CCD_LIST)? is (missing|.* is due)"):
        DIALECT.decode(f"MSG_TYPE: CC_FWDR_XFER_PARAMS\n{known}XFER_PARAMS: {text}\n".encode())


@pytest.mark.parametrize(
    "text", ["1e3", "yes", "2021-03-04", "12:34:56", "0x1F", "1_000", "off", ".nan", "007", "3.10", "=", "true"]
)
def test_what_yaml_takes_for_something_else_stays_text(text: str) -> None:
    heard = DIALECT.decode(completed(OBSID=text, JOB_NUM=text))
    assert isinstance(heard, FileTransferCompleted)
    assert (heard.obsid, heard.job_num) == (text, text)
    assert yaml.safe_load(DIALECT.encode(heard))["OBSID"] == text
    assert DIALECT.decode(DIALECT.encode(heard)) == heard
    assert yaml.safe_load(DIALECT.encode(AssociatedAck(text, text)))["ACK_ID"] == text


@pytest.mark.parametrize("parser", [plain_yaml.PARSER, yaml.SafeLoader])
def test_both_parsers_of_pyyaml_do(parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_yaml, "PARSER", parser)
    for file in FILES:
        assert DIALECT.decode(file.read_bytes()) == MEANT[file.stem]
    for text in ('"\\ud800"', '"\\uDCFF"', '"\\UFFFFFFFF"', '"\\U00110000"', "!!str a", "&a b", "*a"):
        with pytest.raises(BadName):
            DIALECT.decode(completed(OBSID=text))


def test_a_mark_before_utf_8_is_none_of_its_text() -> None:
    assert DIALECT.decode(b"\xef\xbb\xbf" + completed()) == DIALECT.decode(completed())


# ── by chance ───────────────────────────────────────────────────────────────────────────────────────────────────


def judged(body: bytes) -> None:
    """A message that can be said again and means the same, or a sentence."""
    heard, sentence = None, "a message"
    try:
        heard = DIALECT.decode(body)
    except BadName as refused:
        sentence = str(refused)
    assert 0 < len(sentence) < 600
    assert sentence.isprintable()
    if heard is not None:
        assert DIALECT.decode(DIALECT.encode(heard)) == heard


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    judged(body)


KEYS = sorted({key.path[0] for form in FORMS for key in form.keys} | {"MSG_TYPE", "ACK_BOOL", "<<", "x"})
NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from([form.type.format("CC") for form in FORMS])


@given(NODES | st.dictionaries(st.sampled_from(KEYS), NODES), st.none() | TYPES, st.booleans())
def test_any_document(node: Any, kind: str | None, flow: bool) -> None:
    if isinstance(node, dict) and kind is not None:
        node["MSG_TYPE"] = kind
    judged(yaml.safe_dump(node, default_flow_style=flow, allow_unicode=flow).encode("utf-8", "surrogatepass"))


@given(st.sampled_from(FILES), st.data())
def test_a_golden_in_which_a_value_is_another(file: Any, data: st.DataObject) -> None:
    said = yaml.safe_load(file.read_bytes())
    key = data.draw(st.sampled_from(sorted(said)))
    if data.draw(st.booleans()):
        said[key] = data.draw(NODES)
    else:
        del said[key]
    judged(yaml.safe_dump(said).encode("utf-8", "surrogatepass"))


@given(st.sampled_from(FILES), st.data())
def test_a_golden_in_which_bytes_are_others(file: Any, data: st.DataObject) -> None:
    body = file.read_bytes()
    at = data.draw(st.integers(0, len(body)))
    judged(body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 4)) :])


# ── there and back ──────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
ADDRESSES = st.sampled_from(["", "archiver", "controller", "oods", "forwarder/f99", "queue/stranger's: own"])
SHORT = st.integers(-(2**31), 2**31 - 1)


def strategy(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name == "reply_to":
        return ADDRESSES
    if isinstance(hint, UnionType):
        return st.none() | strategy(name, get_args(hint)[0])
    if hint is int:
        return st.integers(0, 2**63 - 1) if name == "size" else SHORT
    return {str: TEXTS, float: st.floats(allow_nan=False, allow_infinity=False)}.get(
        hint, st.lists(TEXTS, max_size=4).map(tuple)
    )


def generated(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{each.name: strategy(each.name, hints[each.name]) for each in fields(kind)})


@given(st.one_of(*(generated(type(message)) for message in {type(m): m for m in MEANT.values()}.values())))
def test_there_and_back(message: Message) -> None:
    body = DIALECT.encode(message)
    assert DIALECT.decode(body) == message
    said = yaml.safe_load(body)  # as a Python original reads it
    assert (said.get("OBSID") or said.get("IMAGE_ID") or "") == message.key


def test_fast_enough_for_a_burst() -> None:
    """Well below what a commit costs; the bound is loose, for this machine may do other things."""
    said = FileTransferCompleted("/d//" + "x" * 60, "o" * 20, "22", "00", "s" * 26, "3", "forwarder/f99", 8, "ab" * 32)
    best = math.inf
    for _ in range(50):
        begun = perf_counter()
        assert DIALECT.decode(DIALECT.encode(said)) == said
        best = min(best, perf_counter() - begun)
    assert best < 0.002


def test_a_body_as_large_as_may_be_is_read() -> None:
    said = ImageRetrieval("o", "22", "00", "n", 0, "d")
    body = DIALECT.encode(said)
    assert DIALECT.decode(body + b" " * (LARGEST - len(body))) == said
    with pytest.raises(BadName, match="the body has 1048577 bytes"):
        DIALECT.decode(body + b" " * (LARGEST + 1 - len(body)))
