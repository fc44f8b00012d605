"""The definitions of a component's topics: from the IDL files of a directory, else from its SAL interface XML, else
our own."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from importlib import resources

from skystow.adapters.sal import idl, interface_xml, plain_xml
from skystow.adapters.sal.topic import Definitions, Field, Topic
from skystow.errors import ConfigError
from skystow.model.records import shown

__all__ = ["Definitions", "Field", "Topic", "load"]

LARGEST = 16 * 2**20
"""Bytes of a file."""

OWN_XML_VERSION = "10.2.0"
"""The version of the interfaces whose form our own definitions have."""

_COMPONENT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_OURS = re.compile(r"(?:AT|CC|MT)(Archiver|Camera|HeaderService)")
_KINDS = ("Commands", "Events", "Telemetry")
_SUBSYSTEMS, _GENERICS = "SALSubsystems.xml", "SALGenerics.xml"


def load(component: str, directory: str | None) -> Definitions:
    """`component`: as SAL names it, `CCArchiver`. `directory`: the first of these that is there counts:
    `sal_revCoded_<component>.idl` in it or in its `idl/`; `SALSubsystems.xml` with `SALGenerics.xml` in it, its `xml/`
    or its `sal_interfaces/`, with the component's own files beside them or in a directory of its name. None: our own.

    Raises `ConfigError` where there is none of these, or where one of them cannot be read or understood."""
    if not _COMPONENT.fullmatch(component):
        raise ConfigError(
            f"‘{shown(component[:80])}’ is no name of a SAL component",
            remedy="letters and digits, such as CCArchiver, CCCamera or CCHeaderService",
        )
    if directory is None:
        return _own(component)
    if not os.path.isdir(directory):
        raise ConfigError(f"the directory of SAL definitions, {shown(directory)}, is not there")
    for place in (directory, os.path.join(directory, "idl")):
        path = os.path.join(place, f"sal_revCoded_{component}.idl")
        if os.path.lexists(path):
            return _idl(component, path)
    for place in (directory, os.path.join(directory, "xml"), os.path.join(directory, "sal_interfaces")):
        if os.path.lexists(os.path.join(place, _SUBSYSTEMS)):
            return _xml(component, place)
    raise ConfigError(
        f"{shown(directory)} has no definitions of {component}",
        remedy=f"neither sal_revCoded_{component}.idl (idl/) nor {_SUBSYSTEMS} (xml/, sal_interfaces/) is there",
    )


def _idl(component: str, path: str) -> Definitions:
    text, where = _read(path).decode("utf-8-sig", "replace"), shown(path)  # descriptions may be in any encoding
    sal, xml = idl.versions(text)
    return Definitions(component, idl.parse(text, component, where), sal, xml, where)


def _xml(component: str, place: str) -> Definitions:
    own = [name for name in _files(component, place) if os.path.lexists(os.path.join(place, name))]
    files = {name: _read(os.path.join(place, name)) for name in (*own, _SUBSYSTEMS, _GENERICS)}
    topics = interface_xml.topics(component, component, _trees(files, shown(place)))
    return Definitions(component, topics, where=f"{shown(place)} ({', '.join(files)})")


def _own(component: str) -> Definitions:
    """They are in the form of SAL interface XML, too; `Archiver` in them stands for `CCArchiver` and the others."""
    found = _OURS.fullmatch(component)
    if found is None:
        raise ConfigError(
            f"skystow has no definitions of {component} of its own",
            remedy="it has AT, CC or MT before Archiver, Camera or HeaderService; else name a directory of definitions",
        )
    place = resources.files("skystow.adapters.sal") / "own"
    own = [name for kind in _KINDS if (place / (name := f"{found[1]}_{kind}.xml")).is_file()]
    files = {name: (place / name).read_bytes() for name in (*own, _SUBSYSTEMS, _GENERICS)}
    where = "skystow's own definitions"
    topics = interface_xml.topics(component, found[1], _trees(files, where))
    return Definitions(component, topics, xml_version=OWN_XML_VERSION, where=where)


def _trees(files: Mapping[str, bytes], where: str) -> dict[str, plain_xml.Node]:
    """By the names of their files, for messages; the generic ones are the last."""
    return {f"{where}/{name}": plain_xml.parse(content, f"{where}/{name}") for name, content in files.items()}


def _files(component: str, place: str) -> Iterator[str]:
    within = component if os.path.isdir(os.path.join(place, component)) else ""
    return (os.path.join(within, f"{component}_{kind}.xml") for kind in _KINDS)


def _read(path: str) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{shown(path)} is no file")
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {shown(path)}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise ConfigError(f"{shown(path)} is larger than {LARGEST} bytes", remedy="no SAL definition is that long")
    return content
