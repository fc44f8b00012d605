"""The reader of SAL's IDL: what the generator writes, as DDS has it; anything else by line and word."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sal_kit import HEAD, INTERFACES, idl_of

from skystow.adapters.sal import idl
from skystow.adapters.sal.topic import FLOATS, INTEGERS, KINDS, Field, Topic
from skystow.errors import ConfigError

SCRIPT = """\
// SAL_VERSION=4.1.3 XML_VERSION=7.0.0
module Script {
struct command_run_2e3a8849 { // @Metadata=(Description="a } and a {, \"quoted\"")
    long ScriptID;
HEAD    octet ignored;
    };
#pragma keylist command_run_2e3a8849 ScriptID
    const long Script_shared_ScriptState_Done=8;
    const long long indexEnumeration_any=-0x1;
struct logevent_metadata_9f580155 {
HEAD    double position[2]; unsigned long long far; unsigned short near;
    string filters; /* two
    lines */ char mark; long one[1];
    @key long kept; //@key
    long priority; //@key
};
    struct command
    {
      string<8> private_revCode;
      long ScriptID;
    };
    #pragma keylist command ScriptID
};
""".replace("HEAD", HEAD)


def test_what_the_generator_writes() -> None:
    topics = idl.parse(SCRIPT, "Script", "x")
    assert list(topics) == ["command_run", "logevent_metadata"]
    run, metadata = topics.values()
    assert (run.revision, run.dds_name, run.type_name) == (
        "2e3a8849",
        "Script_command_run_2e3a8849",
        "Script::command_run_2e3a8849",
    )
    assert run.fields[:2] == (Field("ScriptID", "long", key=True), Field("private_revCode", "string", 8))
    assert [each.name for each in run.public] == ["ignored"]
    assert metadata.fields[6:] == (
        Field("position", "double", None, 2, array=True),
        Field("far", "unsigned long long"),
        Field("near", "unsigned short"),
        Field("filters", "string"),
        Field("mark", "char"),
        Field("one", "long", array=True),
        Field("kept", "long", key=True),
        Field("priority", "long", key=True),
    )
    assert metadata.field("one").many
    assert not metadata.field("near").many
    assert idl.versions(SCRIPT) == ("4.1.3", "7.0.0")


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("module Script", "modul Script", 2, "modul"),
        ("module Script", "module Other", 2, "Other"),
        ("module Script", "typedef long x; module Script", 2, "typedef"),
        ("struct command_run_2e3a8849 {", "struct command_run_2e3a884 {", 3, "command_run_2e3a884"),
        ("struct command_run_2e3a8849 {", "struct ackcmd {", 3, "ackcmd"),
        ("struct command_run_2e3a8849 {", "struct command_run_2e3a8849 : base {", 3, ":"),
        ("octet ignored;", "octet ignored", 12, "}"),
        ("octet ignored;", "octet ScriptID;", 11, "ScriptID"),
        ("octet ignored;", "wstring ignored;", 11, "wstring"),
        ("octet ignored;", "sequence<long> ignored;", 11, "sequence"),
        ("octet ignored;", "int ignored;", 11, "int"),
        ("octet ignored;", "unsigned double ignored;", 11, "unsigned double"),
        ("octet ignored;", "unsigned ;", 11, ";"),
        ("octet ignored;", "long<4> ignored;", 11, "<"),
        ("octet ignored;", "@optional long ignored;", 11, "@optional"),
        ("octet ignored;", "octet ignored[SIZE];", 11, "SIZE"),
        ("octet ignored;", "octet ignored[0];", 11, "length of an array is 0"),
        ("octet ignored;", "octet ignored[2][3];", 11, "["),
        ("octet ignored;", "octet ignored[999999999];", 11, "999999999"),
        ("octet ignored;", "string<-1> ignored;", 11, "-1"),
        ("octet ignored;", "string<99999999> ignored;", 11, "99999999"),
        ("octet ignored;", "octet ignored, other;", 11, ","),
        ("octet ignored;", "octet ignoré;", 11, "é;"),
        ("octet ignored;", "octet 1gnored;", 11, "1gnored;"),
        ("    #pragma keylist command ScriptID", "    /* for ever", 34, "/*"),
        ("octet ignored;", "".join(f"double a{i}[65536];" for i in range(16)), 12, "larger"),
        ("const long Script_shared_ScriptState_Done=8;", "const string x=8;", 14, "constant"),
        ("const long Script_shared_ScriptState_Done=8;", "const long x=OTHER;", 14, "OTHER"),
        ("const long Script_shared_ScriptState_Done=8;", "enum State { A, B };", 14, "enum"),
        ("#pragma keylist command_run_2e3a8849 ScriptID", "#pragma topic command_run_2e3a8849", 13, "#pragma topic"),
        ("#pragma keylist command_run_2e3a8849 ScriptID", "#include <x.idl>", 13, "#include"),
        ("#pragma keylist command_run_2e3a8849 ScriptID", "#pragma keylist run_2e3a8849", 13, "run_2e3a8849"),
        ("#pragma keylist command_run_2e3a8849 ScriptID", "#pragma keylist command_run_2e3a8849 ID", 13, "ID"),
        ("struct logevent_metadata_9f580155", "struct command_run_2e3a8849", 16, "command_run_2e3a8849"),
    ],
)
def test_what_it_does_not_write_is_named(old: str, new: str, line: int, word: str) -> None:
    assert SCRIPT.count(old) == 1
    with pytest.raises(ConfigError, match=re.escape(f"x.idl, line {line}: ")) as caught:
        idl.parse(SCRIPT.replace(old, new), "Script", "x.idl")
    assert word in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "// nothing\n", "module Script {", "module Script {};", SCRIPT + "x", SCRIPT * 2])
def test_less_or_more_than_a_module(text: str) -> None:
    with pytest.raises(ConfigError, match="x, line"):
        idl.parse(text, "Script", "x")


def test_one_topic_in_two_revisions() -> None:
    text = SCRIPT.replace("logevent_metadata_9f580155", "command_run_00000000")
    with pytest.raises(ConfigError, match="command_run in two revisions"):
        idl.parse(text, "Script", "x")


# ── any topics at all; any text at all ──────────────────────────────────────────────────────────────────────────

_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True).filter(lambda name: name not in KINDS)
_SCALARS = ("boolean", "char", *INTEGERS, *FLOATS)
_FIELDS = st.lists(
    st.one_of(
        st.builds(Field, _NAMES, st.sampled_from(_SCALARS), key=st.booleans()),
        st.builds(Field, _NAMES, st.sampled_from(_SCALARS), count=st.integers(1, 65_536), array=st.just(True)),
        st.builds(Field, _NAMES, st.just("string"), st.none() | st.integers(1, 1_048_576)),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.name,
)
_TOPICS = st.lists(
    st.builds(
        lambda name, revision, fields: Topic("Name", name, revision, tuple(fields)),
        _NAMES,
        st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
        _FIELDS,
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda each: each.name,
)


@given(_TOPICS)
def test_what_is_written_is_read(topics: list[Topic]) -> None:
    assert list(idl.parse(idl_of("Name", topics), "Name", "x").values()) == topics


_WORDS = [
    *"{}<>[];=/#@",
    "module",
    "Name",
    "struct",
    "a_00000000",
    "long",
    "string",
    "unsigned",
    "const",
    "8",
    "\n",
    " ",
]
_WORDS += ["//@key", "// x", "/*", "*/", "#pragma keylist a_00000000", "@key", "é", "\0", "-1", "command"]


@given(st.lists(st.sampled_from(_WORDS), max_size=40), st.booleans())
def test_any_words_at_all(words: list[str], begun: bool) -> None:
    text = ("module Name { struct a_00000000 { " if begun else "") + " ".join(words)
    try:
        topics = idl.parse(text, "Name", "x")
    except ConfigError as error:
        named = error.message.startswith("x") and bool(error.remedy)
    else:
        named = all(topic.fields for topic in topics.values()) and (bool(topics) or "command" in words)
    assert named


@given(st.data())
def test_a_damaged_file_is_refused_or_means_the_same(data: st.DataObject) -> None:
    """One character changed, lost or added: it is seen, or it was in a comment, a name, a number or between words."""
    text = (INTERFACES / "idl" / "sal_revCoded_CCHeaderService.idl").read_text()
    whole = idl.parse(text, "CCHeaderService", "x")
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from(["", *"{}<>[];=/# \nax0é\0"]))
    damaged = text[:at] + new + text[at + data.draw(st.integers(0, 1)) :]
    try:
        found = idl.parse(damaged, "CCHeaderService", "x")
    except ConfigError as error:
        seen = error.message.startswith("x")
    else:  # a line may have become a comment
        missing = [n for n, topic in found.items() if n in whole and len(topic.fields) < len(whole[n].fields) - 1]
        seen = not missing and len(found) >= len(whole) - 1
    assert seen
