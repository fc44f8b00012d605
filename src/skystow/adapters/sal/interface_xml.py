"""Reads SAL interface XML (ts_xml): `<Name>_Commands.xml`, `_Events.xml`, `_Telemetry.xml`, and which of the topics of
`SALGenerics.xml` the component has, by `SALSubsystems.xml`.

It makes of them what SAL's generator makes: private fields first, `priority` last in an event, a field `value` in a
command without any, strings without a bound where IDL_Size is at most 1. The generator's revision codes cannot be had
from XML (they are digests of its own intermediate files), so ours are another digest (`revision`): a component that was
built by SAL's generator has other ones and is never met. A site with such components gives the IDL files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from skystow.adapters.sal.idl import LONGEST_ARRAY, LONGEST_STRING
from skystow.adapters.sal.plain_xml import Node
from skystow.adapters.sal.topic import ACKCMD, COMMAND, EVENT, MOST_ELEMENTS, PRIORITY, Field, Topic
from skystow.errors import ConfigError
from skystow.model.records import shown

GENERIC = "SALGeneric"
PREFIXES = {"SALCommand": COMMAND, "SALEvent": EVENT, "SALTelemetry": ""}

_KINDS = {
    "boolean": "boolean",
    "byte": "octet",
    "octet": "octet",
    "char": "string",
    "string": "string",
    "short": "short",
    "int": "long",
    "long": "long",
    "long long": "long long",
    "longlong": "long long",
    "unsigned short": "unsigned short",
    "unsigned int": "unsigned long",
    "unsigned long": "unsigned long",
    "unsigned long long": "unsigned long long",
    "unsigned longlong": "unsigned long long",
    "float": "float",
    "double": "double",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_NUMBER = re.compile(r"[0-9]{1,9}")

_HEAD = (
    Field("private_revCode", "string", 8),
    Field("private_sndStamp", "double"),
    Field("private_rcvStamp", "double"),
    Field("private_seqNum", "long"),
    Field("private_identity", "string", 128),
    Field("private_origin", "long"),
)
_ACKCMD = (
    Field("ack", "long"),
    Field("error", "long"),
    Field("result", "string", 256),
    Field("identity", "string", 128),
    Field("origin", "long"),
    Field("cmdtype", "long"),
    Field("timeout", "double"),
)

_CATEGORIES = {
    "mandatory": "heartbeat logLevel logMessage softwareVersions",
    "csc": "disable enable exitControl setAuthList setLogLevel standby start "
    "authList errorCode simulationMode summaryState",
    "configurable": "settingVersions settingsApplied appliedSettingsMatchStart "
    "configurationApplied configurationsAvailable",
}
"""What the categories hold, in files that do not say the Category of a topic themselves."""

_REMEDY = "is it a file of the directory sal_interfaces of ts_xml? The IDL files of ts_idl are to be preferred"


def wrong(where: str, line: int, what: str) -> NoReturn:
    raise ConfigError(f"{where}, line {line}: {what}", remedy=_REMEDY)


def revision(component: str, name: str, fields: Sequence[Field]) -> str:
    """The first eight digits of the sha256 of the names of component and topic and of all fields, each as IDL has it:
    it changes if and only if samples do."""
    text = "\n".join([f"{component}::{name}", *map(str, fields)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def topics(component: str, subject: str, files: Mapping[str, Node]) -> dict[str, Topic]:
    """`files` by their names: the component's own, in which `subject` stands for it, and as the last two
    `SALSubsystems.xml` and `SALGenerics.xml`. Raises `ConfigError`."""
    *own, (where, root), generics = files.items()
    entry = _entry(component, where, root)
    head = (Field(f"{component}ID", "long", key=True), *_HEAD) if _indexed(entry) else _HEAD
    made: dict[str, Topic] = {}
    for file, node, whose in [
        *((generics[0], node, GENERIC) for node in _chosen(entry, where, *generics)),
        *((file, node, subject) for file, tree in own for node in _nodes(tree)),
    ]:
        name = _topic_name(node, whose, file)
        if name in made:
            wrong(file, node.line, f"{component} has the topic {name} twice")
        made[name] = _topic(component, name, (*head, *_items(node, name, file)))
    if any(name.startswith(COMMAND) for name in made):
        made[ACKCMD] = _topic(component, ACKCMD, (*head, *_ACKCMD))
    return made


def _topic(component: str, name: str, fields: tuple[Field, ...]) -> Topic:
    return Topic(component, name, revision(component, name, fields), fields)


def _nodes(tree: Node) -> Iterator[Node]:
    """The topics of a file: its root is a set of them, or holds such sets."""
    for node in tree.children:
        if node.tag in PREFIXES:
            yield node
        elif node.tag.endswith("Set"):
            yield from _nodes(node)


# ── which generic topics ────────────────────────────────────────────────────────────────────────────────────────


def _entry(component: str, where: str, root: Node) -> Node:
    found = [each for each in root.children if each.said("Name") == component]
    if len(found) != 1:
        wrong(where, root.line, f"{component} is there {len(found)} times, not once")
    return found[0]


def _indexed(entry: Node) -> bool:
    return (entry.said("IndexEnumeration") or entry.said("Enumeration")) not in ("", "no")


def _chosen(entry: Node, where: str, file: str, root: Node) -> Iterator[Node]:
    """`yes` is all of them. Else names of topics and, since XML 10.2, of categories: those and the mandatory ones."""
    of_category = entry.first("AddedGenerics")
    said = of_category or entry.first("Generics")
    wanted = {each for each in re.split(r"[\s,]+", said.text) if each} if said is not None else set()
    if of_category is not None or wanted & _CATEGORIES.keys():
        wanted.add("mandatory")
    every = list(_nodes(root))
    known: set[str] = set()
    for node in every:
        name = _topic_name(node, GENERIC, file)
        groups = {name, "yes", *_groups(node, name)}
        known |= groups
        if wanted & groups:
            yield node
    if unknown := sorted(wanted - known - {"no", *_CATEGORIES}):
        line = said.line if said is not None else entry.line
        wrong(where, line, f"‘{shown(unknown[0])}’ is neither a topic nor a category of {file}")


def _groups(node: Node, name: str) -> set[str]:
    if said := node.said("Category"):
        return {said}
    bare = name.removeprefix(COMMAND).removeprefix(EVENT)
    return {group for group, names in _CATEGORIES.items() if bare in names.split()}


# ── a topic ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _topic_name(node: Node, subject: str, file: str) -> str:
    said = node.said("EFDB_Topic")
    name = said.removeprefix(f"{subject}_")
    prefix = PREFIXES[node.tag]
    if name == said or not _NAME.fullmatch(name) or not (name.startswith(prefix) and name != prefix):
        wrong(file, node.line, f"EFDB_Topic is ‘{shown(said[:100])}’, not {subject}_{prefix}…")
    return name


def _items(node: Node, name: str, file: str) -> list[Field]:
    fields: dict[str, Field] = {}
    for item in node.children:
        if item.tag == "item":
            field = _field(item, file)
            if field.name in fields:
                wrong(file, item.line, f"{name} has {field.name} twice")
            fields[field.name] = field
    if name.startswith(EVENT) and PRIORITY not in fields:
        fields[PRIORITY] = Field(PRIORITY, "long")
    if name.startswith(COMMAND) and not fields:
        fields["value"] = Field("value", "boolean")
    if not fields:
        wrong(file, node.line, f"{name} has no items")
    if sum(each.count for each in fields.values()) > MOST_ELEMENTS:
        wrong(file, node.line, f"{name} is larger than {MOST_ELEMENTS:,} values")
    return list(fields.values())


def _field(item: Node, file: str) -> Field:
    name, said = item.said("EFDB_Name"), " ".join(item.said("IDL_Type").split())
    if not _NAME.fullmatch(name) or name.startswith("private_"):
        wrong(file, item.line, f"‘{shown(name[:100])}’ is no EFDB_Name")
    if (kind := _KINDS.get(said)) is None:
        wrong(file, item.line, f"‘{shown(said[:100])}’ is no IDL_Type of SAL ({name})")
    size = _number(item, "IDL_Size", file, LONGEST_STRING)
    count = _number(item, "Count", file, LONGEST_ARRAY)
    if kind == "string":  # the generator has no arrays of these
        return Field(name, kind, size if size > 1 else None)
    return Field(name, kind, None, max(count, 1), array=count > 1 or item.first("IsJavaArray") is not None)


def _number(item: Node, tag: str, file: str, most: int) -> int:
    said = item.first(tag)
    if said is None or not said.text:
        return 1
    if not _NUMBER.fullmatch(said.text) or int(said.text) > most:
        wrong(file, said.line, f"{tag} is ‘{shown(said.text[:100])}’, not a number up to {most:,}")
    return int(said.text)
