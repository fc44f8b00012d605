"""Reads `sal_revCoded_<Name>.idl`: exactly what SAL's generator writes into it, and nothing else of IDL.

    // SAL_VERSION=5.2.0 XML_VERSION=10.0.0            the first line may say the versions
    module Script {
        struct logevent_state_26eba679 { // @Metadata=(…)
            long          ScriptID;
            string<8>     private_revCode; //private
            double        position[2];
            long          priority;
        };
        #pragma keylist logevent_state_26eba679 ScriptID
        const long Script_shared_ScriptState_Done=8;    enumerations, which are of no use to us
    };

A key is named by the keylist, or by `@key` (`//@key`) at its field. What is none of this is an error that names line
and word: a file that is half understood makes a type that never meets the other side's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from skystow.adapters.sal.topic import ACKCMD, INTEGERS, KINDS, MOST_ELEMENTS, Field, Topic
from skystow.errors import ConfigError
from skystow.model.records import shown

LONGEST_STRING, LONGEST_ARRAY = 1_048_576, 65_536

_VERSIONS = re.compile(r"//\s*SAL_VERSION=(\S+)\s+XML_VERSION=(\S+)\s*")
_WORD = re.compile(
    r"(?P<blank>[ \t\r\f\v]+)|(?P<line>\n)|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<pragma>\#[^\n]*)|(?P<key>@[A-Za-z]+)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*)|(?P<number>-?(?:0[xX][0-9A-Fa-f]{1,16}|[0-9]{1,20}))(?![A-Za-z0-9_])"
    r"|(?P<mark>[{}<>\[\];=])",
    re.DOTALL,
)
_KEYLIST = re.compile(r"#\s*pragma\s+keylist\s+([A-Za-z][A-Za-z0-9_]*)((?:\s+[A-Za-z][A-Za-z0-9_]*)*)\s*;?\s*(?://.*)?")
_STRUCT = re.compile(r"(.+)_([0-9A-Fa-f]{8})")
_FRAMES = ("command", "logevent")
"""Older generators add a struct of each of these names, without a revision, which no topic has as its type."""

_REMEDY = "is it a file of the directory idl of ts_idl, and whole? Where there is none, SAL interface XML will do"


@dataclass(frozen=True, slots=True)
class _Word:
    kind: str
    text: str
    line: int


def versions(text: str) -> tuple[str, str]:
    """(SAL, XML), each empty where the first line does not say it."""
    found = _VERSIONS.fullmatch(text.partition("\n")[0])
    return (found[1], found[2]) if found else ("", "")


def parse(text: str, component: str, where: str) -> dict[str, Topic]:
    """The topics of a file by their names. Raises `ConfigError` with file, line and word."""
    return _Parser(text, component, where).module()


def _words(text: str, where: str) -> Iterator[_Word]:
    at, line = 0, 1
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            odd = re.split(r"\s", text[at : at + 40], maxsplit=1)[0]
            raise ConfigError(f"{where}, line {line}: ‘{shown(odd)}’ is none of the words of SAL's IDL", remedy=_REMEDY)
        kind = found.lastgroup or ""
        if kind == "comment" and found[0].removeprefix("//").strip() in ("@key", "@Key"):
            yield _Word("keyed", found[0], line)
        elif kind not in ("blank", "line", "comment"):
            yield _Word(kind, found[0], line)
        line += found[0].count("\n")
        at = found.end()
    yield _Word("end", "", line)


class _Parser:
    def __init__(self, text: str, component: str, where: str) -> None:
        self.component, self.where = component, where
        self._words = _words(text, where)
        self._now = next(self._words)
        self.structs: dict[str, list[Field]] = {}

    # ── words ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _wrong(self, what: str, word: _Word | None = None) -> NoReturn:
        line = (word or self._now).line
        raise ConfigError(f"{self.where}, line {line}: {what}", remedy=_REMEDY)

    def _instead(self, due: str) -> NoReturn:
        found = f"‘{shown(self._now.text[:80])}’" if self._now.kind != "end" else "the end of the file"
        self._wrong(f"{found} stands where {due} is due")

    def _next(self) -> _Word:
        word, self._now = self._now, next(self._words, self._now)
        return word

    def _at(self, text: str) -> bool:
        return self._now.text == text

    def _take(self, text: str) -> _Word:
        if not self._at(text):
            self._instead(f"‘{text}’")
        return self._next()

    def _name(self, due: str) -> _Word:
        if self._now.kind != "name":
            self._instead(due)
        return self._next()

    def _number(self, due: str, most: int) -> int:
        if self._now.kind != "number":
            self._instead(due)
        word = self._next()
        value = int(word.text, 0) if word.text.lower().startswith("0x") else int(word.text)
        if not 1 <= value <= most:
            self._wrong(f"{due} is {word.text}, not 1 to {most:,}", word)
        return value

    # ── the file ────────────────────────────────────────────────────────────────────────────────────────────────

    def module(self) -> dict[str, Topic]:
        self._take("module")
        if (name := self._name("the name of the module")).text != self.component:
            self._wrong(f"the module is {shown(name.text)}, not {self.component}", name)
        self._take("{")
        while not self._at("}"):
            if self._at("struct"):
                self._struct()
            elif self._now.kind == "pragma":
                self._keylist(self._next())
            elif self._at("const"):
                self._constant()
            else:
                self._instead("a struct, a #pragma keylist or the end of the module")
        self._next()
        if self._at(";"):
            self._next()
        if self._now.kind != "end":
            self._instead("the end of the file")
        if not self.structs:
            self._wrong(f"module {self.component} has no topics")
        return self._topics()

    def _topics(self) -> dict[str, Topic]:
        topics: dict[str, Topic] = {}
        for struct, fields in self.structs.items():
            if (found := _STRUCT.fullmatch(struct)) is not None:
                if found[1] in topics:
                    raise ConfigError(f"{self.where} has {found[1]} in two revisions", remedy=_REMEDY)
                topics[found[1]] = Topic(self.component, found[1], found[2], tuple(fields))
        return topics

    def _struct(self) -> None:
        self._next()
        name = self._name("the name of a struct")
        if name.text in self.structs:
            self._wrong(f"struct {name.text} is there twice", name)
        if name.text == ACKCMD or not (_STRUCT.fullmatch(name.text) or name.text in _FRAMES):
            self._wrong(f"struct {name.text} has no revision code, as in {ACKCMD}_0858cd12", name)
        self._take("{")
        fields: dict[str, Field] = {}
        while not self._at("}"):
            word = self._now
            field = self._field()
            if field.name in fields:
                self._wrong(f"{name.text} has {field.name} twice", word)
            fields[field.name] = field
        end = self._next()
        self._take(";")
        if sum(each.count for each in fields.values()) > MOST_ELEMENTS:
            self._wrong(f"{name.text} is larger than {MOST_ELEMENTS:,} values", end)
        if not fields:
            self._wrong(f"{name.text} has no fields", end)
        self.structs[name.text] = list(fields.values())

    def _field(self) -> Field:
        key = self._now.kind == "key"
        if key and (word := self._next()).text not in ("@key", "@Key"):
            self._wrong(f"the annotation {word.text}, where only @key is known", word)
        kind, size, count, array = self._kind(), None, 1, False
        if kind == "string" and self._at("<"):
            self._next()
            size = self._number("the bound of a string", LONGEST_STRING)
            self._take(">")
        name = self._name("the name of a field").text
        if self._at("["):
            self._next()
            count, array = self._number("the length of an array", LONGEST_ARRAY), True
            self._take("]")
        self._take(";")
        if self._now.kind == "keyed":
            self._next()
            key = True
        return Field(name, kind, size, count, key, array)

    def _kind(self) -> str:
        """One or more words: `unsigned long long`."""
        if self._now.kind != "name":
            self._instead("a field or ‘}’")
        first = self._next()
        words = [first.text]
        if words == ["unsigned"]:
            words.append(self._name("short or long").text)
        if words[-1] == "long" and self._at("long"):
            words.append(self._next().text)
        kind = " ".join(words)
        if kind not in KINDS:
            self._wrong(f"‘{shown(kind)}’ is no type that SAL uses", first)
        return kind

    def _keylist(self, word: _Word) -> None:
        if (found := _KEYLIST.fullmatch(word.text)) is None:
            self._wrong(f"‘{shown(word.text[:80])}’ is no #pragma keylist", word)
        fields = self.structs.get(found[1])
        if fields is None:
            self._wrong(f"a keylist of {found[1]}, which is no struct before it", word)
        for key in found[2].split():
            places = [i for i, each in enumerate(fields) if each.name == key]
            if not places:
                self._wrong(f"{key} is a key of {found[1]}, and none of its fields", word)
            fields[places[0]] = replace(fields[places[0]], key=True)

    def _constant(self) -> None:
        self._next()
        word = self._now
        if self._kind() not in INTEGERS:
            self._wrong("a constant that is no whole number", word)
        self._name("the name of a constant")
        self._take("=")
        if self._now.kind != "number":
            self._instead("a number")
        self._next()
        self._take(";")
