"""Where definitions of SAL topics come from: IDL, XML, our own; they agree where they are of the same version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sal_kit import INTERFACES, idl_of

from skystow.adapters.sal import interface_xml, plain_xml
from skystow.adapters.sal.definitions import LARGEST, OWN_XML_VERSION, Definitions, Topic, load
from skystow.errors import ConfigError

IDL, XML = INTERFACES / "idl", INTERFACES / "xml"
COMPONENTS = ("CCArchiver", "CCCamera", "CCHeaderService")
OURS = [f"{telescope}{role}" for telescope in ("AT", "CC", "MT") for role in ("Archiver", "Camera", "HeaderService")]

NEWER = {
    "command_setLogLevel": ["string subsystem"],
    "logevent_logLevel": ["string subsystem"],
    "logevent_logMessage": ["double timestamp"],
}
"""What version 10.2, in whose form ours are, has more than version 10.0."""


def fields(topic: Topic) -> list[str]:
    return [str(each) for each in topic.fields]


def xml_of(topics: str, root: str = "SALEventSet") -> str:
    return f'<?xml version="1.0"?>\n<{root}>\n{topics}\n</{root}>\n'


def event(name: str, items: str = "", component: str = "CCArchiver") -> str:
    return f"<SALEvent><EFDB_Topic>{component}_logevent_{name}</EFDB_Topic>{items}</SALEvent>"


def item(name: str, kind: str, more: str = "") -> str:
    return f"<item><EFDB_Name>{name}</EFDB_Name><IDL_Type>{kind}</IDL_Type>{more}</item>"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the observatory's XML, to change."""
    for name in os.listdir(XML):
        shutil.copyfile(XML / name, tmp_path / name)
    return tmp_path


# ── the three sources ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("component", COMPONENTS)
def test_idl_xml_and_ours_agree(component: str) -> None:
    of_idl, of_xml, ours = load(component, str(IDL)), load(component, str(XML)), load(component, None)
    assert set(of_xml.topics) <= set(of_idl.topics)
    for name, topic in of_xml.topics.items():
        assert topic.fields == of_idl.topic(name).fields
    for name, topic in ours.topics.items():
        newer = NEWER.get(name, [])
        assert [each for each in fields(topic) if each not in newer] == fields(of_idl.topic(name))
    assert (of_idl.sal_version, of_idl.xml_version) == ("5.2.0", "10.0.0")
    assert (of_xml.sal_version, of_xml.xml_version) == ("", "")
    assert ours.xml_version == OWN_XML_VERSION


@pytest.mark.parametrize("component", OURS)
def test_ours_have_what_the_image_door_uses(component: str) -> None:
    ours = load(component, None)
    assert {"start", "enable", "disable", "standby", "exitControl", "setLogLevel", "setAuthList"} <= set(ours.commands)
    assert {"summaryState", "errorCode", "heartbeat", "logLevel", "logMessage", "softwareVersions"} <= set(ours.events)
    assert {"simulationMode", "authList"} <= set(ours.events)
    assert "ackcmd" in ours.topics
    assert ours.topic("command_start").public[0].name == "settingsToApply"
    if component.endswith("Archiver"):
        assert "resetFromFault" in ours.commands
        assert {"imageRetrievalForArchiving", "imageInOODS"} <= set(ours.events)
    if component.endswith("Camera"):
        assert {"startIntegration", "endReadout"} <= set(ours.events)
    if component.endswith("HeaderService"):
        assert "largeFileObjectAvailable" in ours.events
    else:
        assert {"settingVersions", "settingsApplied", "appliedSettingsMatchStart"} <= set(ours.events)
    assert not any(each.key for topic in ours.topics.values() for each in topic.fields)
    for name, topic in ours.topics.items():
        assert topic == Topic(component, name, topic.revision, topic.fields)
        assert len(topic.revision) == 8


def test_our_words_are_our_own() -> None:
    def descriptions(tree: plain_xml.Node) -> set[str]:
        below = [each for child in tree.children for each in descriptions(child)]
        return {tree.said("Description"), *below} - {""}

    own = Path(interface_xml.__file__).parent / "own"
    ours = {each for path in own.iterdir() for each in descriptions(plain_xml.parse(path.read_bytes(), path.name))}
    theirs = {each for path in XML.iterdir() for each in descriptions(plain_xml.parse(path.read_bytes(), path.name))}
    assert len(ours) > 40
    assert not ours & theirs


def test_a_revision_changes_with_the_fields_only(site: Path) -> None:
    path = site / "CCArchiver_Events.xml"
    before = load("CCArchiver", str(site))
    path.write_text(path.read_text().replace("raft designation", "something else"))
    assert load("CCArchiver", str(site)).topics == before.topics
    path.write_text(path.read_text().replace("<IDL_Size>5<", "<IDL_Size>6<"))
    after = load("CCArchiver", str(site))
    changed = {name for name in after.topics if after.topics[name] != before.topics[name]}
    assert changed == {"logevent_imageInOODS", "logevent_imageRetrievalForArchiving"}
    assert all(after.topics[name].revision != before.topics[name].revision for name in changed)
    assert len({topic.revision for topic in after.topics.values()}) == len(after.topics)


def test_the_number_of_a_command() -> None:
    """Where `command_…` stands among the names of all topics: `ackcmd` is the first of them."""
    topics = {
        name: Topic("X", name, "00000000", ())
        for name in ("logevent_a", "command_b", "telemetry", "ackcmd", "command_B", "Zero")
    }
    x = Definitions("X", topics, where="x.idl")
    assert (x.command_number("B"), x.command_number("b")) == (2, 3)
    assert (x.commands, x.events) == (("B", "b"), ("a",))
    with pytest.raises(ConfigError, match=r"X has no topic command_c in x\.idl; give a directory"):
        x.command_number("c")


# ── which files ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_idl_comes_before_xml() -> None:
    assert load("CCArchiver", str(INTERFACES)) == load("CCArchiver", str(IDL))


def test_as_ts_xml_lies(tmp_path: Path) -> None:
    """Each component in a directory of its own, those of all beside them; with or without the outer directory."""
    place = tmp_path / "sal_interfaces"
    (place / "CCArchiver").mkdir(parents=True)
    for name in os.listdir(XML):
        shutil.copyfile(XML / name, place / ("CCArchiver" if name.startswith("CCArchiver") else "") / name)
    assert load("CCArchiver", str(tmp_path)).topics == load("CCArchiver", str(XML)).topics
    assert load("CCArchiver", str(place)).topics == load("CCArchiver", str(XML)).topics


@pytest.mark.parametrize("name", ["", "../CCArchiver", "a/b", "..", "CC Archiver", "CCArchiver\n", "Ä", "x" * 65])
def test_no_name_of_a_component(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a SAL component"):
        load(name, str(IDL))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        load("CCArchiver", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"has no definitions of CCArchiver; neither sal_revCoded_CCArchiver\.idl"):
        load("CCArchiver", str(tmp_path))
    with pytest.raises(ConfigError, match=r"CCWatcher is there 0 times"):
        load("CCWatcher", str(XML))
    with pytest.raises(ConfigError, match="no definitions of CCWatcher of its own"):
        load("CCWatcher", None)


def test_what_is_no_file_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "sal_revCoded_CCArchiver.idl"
    path.mkdir()
    with pytest.raises(ConfigError, match=r"CCArchiver\.idl"):
        load("CCArchiver", str(tmp_path))
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is no file"):
        load("CCArchiver", str(tmp_path))
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        load("CCArchiver", str(tmp_path))
    path.unlink()
    path.write_bytes(b"\n" * (LARGEST + 1))
    with pytest.raises(ConfigError, match="is larger than"):
        load("CCArchiver", str(tmp_path))


def test_descriptions_in_any_encoding(tmp_path: Path) -> None:
    topics = list(load("CCArchiver", str(IDL)).topics.values())
    text = idl_of("CCArchiver", topics, versions="").replace("not", "é").encode("latin-1")
    (tmp_path / "sal_revCoded_CCArchiver.idl").write_bytes(text)
    found = load("CCArchiver", str(tmp_path))
    assert list(found.topics.values()) == topics
    assert found.xml_version == ""


# ── XML ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def subsystems(site: Path, generics: str, more: str = "") -> None:
    entry = f"<SALSubsystem><Name>CCArchiver</Name>{more}{generics}</SALSubsystem>"
    (site / "SALSubsystems.xml").write_text(xml_of(entry, "SALSubsystemSet"))


def names(site: Path) -> set[str]:
    own = {"resetFromFault", "imageRetrievalForArchiving", "imageInOODS", "ackcmd"}
    return {
        each.removeprefix("command_").removeprefix("logevent_") for each in load("CCArchiver", str(site)).topics
    } - own


MANDATORY = {"heartbeat", "logLevel", "logMessage", "softwareVersions"}
CSC = {"start", "enable", "disable", "standby", "exitControl", "setLogLevel", "setAuthList"}
CSC |= {"summaryState", "errorCode", "simulationMode", "authList"}


def test_which_generic_topics(site: Path) -> None:
    subsystems(site, "<Generics>yes</Generics>")
    assert len(names(site)) == 22
    subsystems(site, "<Generics>no</Generics>")
    assert names(site) == set()
    subsystems(site, "<Generics>command_start, logevent_heartbeat</Generics>")
    assert names(site) == {"start", "heartbeat"}
    subsystems(site, "<AddedGenerics>csc</AddedGenerics>")
    assert names(site) == MANDATORY | CSC
    subsystems(site, "<Generics>csc, configurable</Generics>")
    configurable = {"settingVersions", "settingsApplied", "appliedSettingsMatchStart"}
    assert names(site) == MANDATORY | CSC | configurable
    subsystems(site, "<AddedGenerics>logevent_largeFileObjectAvailable</AddedGenerics>")
    assert names(site) == MANDATORY | {"largeFileObjectAvailable"}
    subsystems(site, "<AddedGenerics>csc, logevent_nonsense</AddedGenerics>")
    with pytest.raises(ConfigError, match=r"SALSubsystems\.xml, line 3: ‘logevent_nonsense’ is neither"):
        names(site)


def test_topics_may_say_their_category(site: Path) -> None:
    """Version 11 has other topics in its categories."""
    configuration = event("configurationApplied", "<Category>configurable</Category>", "SALGeneric")
    heartbeat = event("heartbeat", "<Category>mandatory</Category>", "SALGeneric")
    (site / "SALGenerics.xml").write_text(xml_of(configuration + heartbeat))
    subsystems(site, "<AddedGenerics>configurable</AddedGenerics>")
    assert names(site) == {"configurationApplied", "heartbeat"}
    subsystems(site, "<AddedGenerics>csc</AddedGenerics>")
    assert names(site) == {"heartbeat"}


@pytest.mark.parametrize(
    ("more", "keyed"),
    [
        ("<IndexEnumeration>no</IndexEnumeration>", False),
        ("<IndexEnumeration>any</IndexEnumeration>", True),
        ("<Enumeration></Enumeration>", False),
        ("<Enumeration>first,second</Enumeration>", True),
        ("", False),
    ],
)
def test_an_indexed_component_has_a_key(site: Path, more: str, keyed: bool) -> None:
    subsystems(site, "<Generics>yes</Generics>", more)
    for topic in load("CCArchiver", str(site)).topics.values():
        assert [each.name for each in topic.fields if each.key] == (["CCArchiverID"] if keyed else [])
        assert topic.fields[int(keyed)].name == "private_revCode"


def test_types_sizes_and_counts(site: Path) -> None:
    items = [
        item("a", "string", "<IDL_Size>1</IDL_Size><Count>5</Count>"),
        item("b", "char", "<IDL_Size>20</IDL_Size>"),
        item("c", "int", "<IDL_Size>9</IDL_Size><Count>3</Count><Enumeration>A,B</Enumeration>"),
        item("d", "byte"),
        item("e", "unsigned  int"),
        item("f", "long long"),
        item("g", "short", "<Count>1</Count><IsJavaArray/>"),
        item("priority", "long"),
    ]
    text = xml_of(event("x", "".join(items)) + "<Enumeration>A,B</Enumeration>" + event("bare"))
    (site / "CCArchiver_Events.xml").write_text(text)
    found = load("CCArchiver", str(site))
    assert fields(found.topic("logevent_x"))[6:] == [
        "string a",
        "string<20> b",
        "long c[3]",
        "octet d",
        "unsigned long e",
        "long long f",
        "short g[1]",
        "long priority",
    ]
    assert fields(found.topic("logevent_bare"))[6:] == ["long priority"]
    assert fields(found.topic("command_enable"))[6:] == ["boolean value"]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("<SALEventSet>\n<SALEvent>", 2, "no XML"),
        ("<!DOCTYPE SALEventSet [\n<!ENTITY a 'b'>]>\n<SALEventSet/>", 1, "DOCTYPE"),
        ("<SALEventSet>\n&nothing;</SALEventSet>", 2, "undefined entity"),
        ("<?xml version='1.0' encoding='klingon'?><SALEventSet/>", 1, "unknown encoding"),
        ("<a>" * 40, 1, "32 deep"),
        (xml_of("\n" + event("x", component="ATArchiver")), 4, "ATArchiver_logevent_x"),
        (xml_of("<SALEvent/>"), 3, "EFDB_Topic is ‘’"),
        (xml_of(event("").replace("logevent", "command")), 3, "command"),
        (xml_of(event("x") + "\n" + event("x")), 4, "twice"),
        (xml_of(event("heartbeat")), 3, "twice"),
        (xml_of(event("x", "\n" + item("a", "decimal"))), 4, "decimal"),
        (xml_of(event("x", item("a b", "long"))), 3, "a b"),
        (xml_of(event("x", item("private_seqNum", "long"))), 3, "private_seqNum"),
        (xml_of(event("x", item("a", "long") + item("a", "long"))), 3, "a twice"),
        (xml_of(event("x", item("a", "long", "\n<Count>many</Count>"))), 4, "many"),
        (xml_of(event("x", item("a", "long", "<Count>999999</Count>"))), 3, "999999"),
        (xml_of(event("x", "".join(item(f"a{i}", "long", "<Count>65536</Count>") for i in range(16)))), 3, "larger"),
        (xml_of("<SALTelemetry><EFDB_Topic>CCArchiver_x</EFDB_Topic></SALTelemetry>"), 3, "no items"),
    ],
)
def test_what_is_wrong_is_named(site: Path, text: str, line: int, word: str) -> None:
    (site / "CCArchiver_Events.xml").write_text(text)
    with pytest.raises(ConfigError, match=rf"CCArchiver_Events\.xml, line {line}: ") as caught:
        load("CCArchiver", str(site))
    assert word in caught.value.message
    assert caught.value.remedy


def test_a_file_of_very_many_elements(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_xml, "MOST", 99)
    with pytest.raises(ConfigError, match=r"CCArchiver_Events\.xml, line \d+: more than 99 elements"):
        load("CCArchiver", str(site))


def test_xml_without_what_all_have(site: Path) -> None:
    (site / "SALGenerics.xml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*SALGenerics\.xml"):
        load("CCArchiver", str(site))


@given(st.data())
def test_damaged_xml_is_refused_or_read(data: st.DataObject) -> None:
    raw = (XML / "CCArchiver_Events.xml").read_bytes()
    at, length = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 40))
    damaged = raw[:at] + data.draw(st.binary(max_size=8)) + raw[at + length :]
    common = {
        name: plain_xml.parse((XML / name).read_bytes(), name) for name in ("SALSubsystems.xml", "SALGenerics.xml")
    }
    try:
        tree = plain_xml.parse(damaged, "x")
        found = interface_xml.topics("CCArchiver", "CCArchiver", {"x": tree, **common})
    except ConfigError as error:
        seen = error.message.startswith("x, line ")
    else:
        seen = "command_start" in found
    assert seen
