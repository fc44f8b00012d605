"""The CCArchiver page says what the program does: its states, commands, codes and keys; the picture is the law's."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from skystow import __version__
from skystow.adapters.rabbitmq.queues import Queues
from skystow.adapters.shelf import BAD_METADATA, NOT_INGESTED
from skystow.config import read
from skystow.config.model import SECTIONS
from skystow.image import archiver, exposure, retrieval
from skystow.model.lifecycle import LAW, MAY_FAULT, Summary, Verb, obey

ROOT = Path(__file__).resolve().parents[2]
HANDBOOK = ROOT / "docs" / "operators"
PAGE = (ROOT / "docs" / "user-guide" / "ccarchiver.md").read_text(encoding="utf-8")
TEMPLATE = [
    "Overview",
    "Usage",
    "States and commands",
    "Configuration",
    "Fault codes",
    "Troubleshooting",
    "Version history",
    "Contacts",
]
SAL = {Verb.EXIT: "exitControl"}
SVG = "{http://www.w3.org/2000/svg}"
Point = tuple[float, float]


def _section(heading: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def _rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first column is headed so."""
    _, _, table = text.partition(f"\n| {head} |")
    lines = table.split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    """The directive's module, as Sphinx imports it."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        import component_states  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    module: ModuleType = component_states
    return module


@pytest.fixture(scope="module")
def drawn(picture: ModuleType) -> ElementTree.Element:
    return ElementTree.fromstring(picture.svg(LAW, MAY_FAULT))  # noqa: S314 - our own


def test_the_page_has_the_headings_of_its_template_in_their_order() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == TEMPLATE
    assert PAGE.startswith("# CCArchiver\n")


# ── the picture ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_shows_the_picture() -> None:
    assert "```{component-states}\n```" in _section("States and commands")


def test_the_picture_has_every_state_once(drawn: ElementTree.Element) -> None:
    names = [group.findtext(f"{SVG}text") for group in drawn.findall(f"{SVG}g[@class='state']")]
    assert sorted(map(str, names)) == sorted(Summary.__members__)


def test_the_picture_has_every_transition_of_the_law_and_no_other(drawn: ElementTree.Element) -> None:
    steps = [
        (group.get("data-from"), group.findtext(f"{SVG}text"), group.get("data-to"))
        for group in drawn.findall(f"{SVG}g[@class='step']")
    ]
    law = [(before.name, str(verb), after.name) for (before, verb), after in LAW.items()]
    assert sorted(map(str, steps)) == sorted(map(str, law))


def test_the_picture_has_the_falls_into_fault_and_nothing_else(drawn: ElementTree.Element) -> None:
    falls = [(group.get("data-from"), group.get("data-to")) for group in drawn.findall(f"{SVG}g[@class='fall']")]
    assert sorted(map(str, falls)) == sorted(str((state.name, "FAULT")) for state in MAY_FAULT)
    assert {group.get("class") for group in drawn.findall(f"{SVG}g")} == {"state", "step", "fall"}
    assert len(drawn.findall(f".//{SVG}path[@marker-end]")) == len(LAW) + len(MAY_FAULT)


def test_every_arrow_goes_from_the_border_of_one_box_to_that_of_the_other(drawn: ElementTree.Element) -> None:
    boxes = {}
    for group in drawn.findall(f"{SVG}g[@class='state']"):
        box = group.find(f"{SVG}rect")
        assert box is not None
        boxes[group.findtext(f"{SVG}text")] = tuple(float(box.attrib[key]) for key in ("x", "y", "width", "height"))
    for group in drawn.findall(f"{SVG}g[@data-from]"):
        path = group.find(f"{SVG}path")
        assert path is not None
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", path.attrib["d"])]
        assert _on_border((numbers[0], numbers[1]), boxes[group.get("data-from")]), ElementTree.tostring(group)
        assert _on_border((numbers[-2], numbers[-1]), boxes[group.get("data-to")]), ElementTree.tostring(group)


def _on_border(point: Point, box: tuple[float, ...]) -> bool:
    (x, y), (left, top, width, height) = point, box
    within = left <= x <= left + width and top <= y <= top + height
    return within and (x in (left, left + width) or y in (top, top + height))


def test_a_transition_that_has_no_place_in_the_picture_fails_the_build(picture: ModuleType) -> None:
    with pytest.raises(KeyError):
        picture.svg({**LAW, (Summary.ENABLED, Verb.EXIT): Summary.OFFLINE}, MAY_FAULT)


def test_the_table_beside_the_picture_is_the_law(picture: ModuleType) -> None:
    head, *rows = [
        [cell.astext() for cell in row.children] for row in picture.matrix(LAW).findall(lambda n: n.tagname == "row")
    ]
    assert head == ["in", *map(str, Verb)]
    said = {
        (Summary[state], Verb(verb)): after
        for state, *cells in rows
        for verb, after in zip(head[1:], cells, strict=True)
    }
    assert len(rows) == len(Summary)
    assert {pair: Summary[after] for pair, after in said.items() if after != "–"} == dict(LAW)


# ── states, commands, codes ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_explains_every_state_under_its_number() -> None:
    rows = _rows(_section("States and commands"), "state")
    assert {name: int(number) for name, number, _ in rows} == {state.name: int(state) for state in Summary}


def test_the_page_explains_every_command_under_both_its_names() -> None:
    rows = _rows(_section("States and commands"), "command")
    assert [(verb, sal) for verb, sal, _ in rows] == [(f"`{verb}`", f"*{SAL.get(verb, verb)}*") for verb in Verb]


def test_the_ways_that_the_page_tells_one_to_go_are_lawful() -> None:
    ways = re.findall(
        r"(?:^skystow control site\.yaml archiver (?:start|enable|disable|standby|exit)\n)+", PAGE, re.MULTILINE
    )
    assert len(ways) == 2
    state = Summary.STANDBY
    for verb in re.findall(r"archiver (\w+)\n", "".join(ways)):
        state = obey(state, Verb(verb))
    assert state is Summary.OFFLINE
    out_of_fault = re.findall(r"`(\w+)`, `(\w+)`, `(\w+)`", _section("Fault codes"))
    assert len(out_of_fault) == 2
    for way in out_of_fault:
        state = Summary.FAULT
        for verb in way:
            state = obey(state, Verb(verb))
        assert state is Summary.ENABLED


def test_the_table_of_the_other_page_is_the_law_too() -> None:
    page = (ROOT / "docs" / "user-guide" / "image-archiver.md").read_text(encoding="utf-8")
    head = re.findall(r"`(\w+)`", page.partition("\n| in |")[2].splitlines()[0])
    said = {
        (Summary[state], Verb(verb)): Summary.OFFLINE if after == "ends" else Summary[after]
        for state, *cells in _rows(page, "in")
        for verb, after in zip(head, cells, strict=True)
        if after
    }
    assert said == dict(LAW)


def test_the_page_explains_every_code_of_the_program_and_no_other() -> None:
    ours = {archiver.NOT_STARTED, archiver.CONTROLLER_SILENT, archiver.NO_FORWARDER}
    ours |= {*exposure.UNACKNOWLEDGED.values()}
    ours |= {retrieval.HEADER_FAILED, retrieval.PIXELS_FAILED, retrieval.NOT_SENT, NOT_INGESTED, BAD_METADATA, 0}
    assert {int(code) for code, *_ in _rows(_section("Fault codes"), "code")} == ours
    literal = {number for path in (ROOT / "src" / "skystow" / "image").glob("*.py") for number in _numbers(path)}
    assert {number for number in literal if 5000 <= number < 6000} <= ours


def test_the_handbook_explains_the_same_codes() -> None:
    here, there = (
        _rows(_section("Fault codes"), "code"),
        _rows((HANDBOOK / "image-archiver.md").read_text("utf-8"), "code"),
    )
    codes = {code for cell, *_ in there for code in cell.split(", ")}
    assert codes == {code for code, *_ in here} - {"0"}


def test_the_code_that_was_a_slip_of_the_pen_is_nowhere() -> None:
    assert "5071" in _section("Fault codes")
    assert [path for path in (ROOT / "src").rglob("*.py") if 5071 in _numbers(path)] == []


def _numbers(path: Path) -> set[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int}


def test_the_page_says_of_each_fault_what_makes_it() -> None:
    of = {int(code): whose for code, whose, *_ in _rows(_section("Fault codes"), "code")}
    assert {code for code, whose in of.items() if whose == "FAULT"} == {
        archiver.CONTROLLER_SILENT,
        archiver.NO_FORWARDER,
    }
    assert of[archiver.NOT_STARTED] == "`start`"
    assert {code for code, whose in of.items() if whose == "an exposure"} == set(exposure.UNACKNOWLEDGED.values())


# ── configuration and version ───────────────────────────────────────────────────────────────────────────────────────


def test_the_site_file_on_the_page_is_one(tmp_path: Path) -> None:
    [snippet] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    site = read(snippet, directory=str(tmp_path))
    assert site.image is not None
    assert site.image.bus is not None
    assert site.image.scoreboard is not None


def test_the_keys_that_stand_for_those_of_the_originals_are_keys_of_a_site_file() -> None:
    rows = _rows(_section("Configuration"), "there")
    named = [key for _, ours in rows for key in re.findall(r"`([\w.]+)`", ours) if not key.endswith("_association")]
    known = {
        ".".join([*place[1:], key])
        for place, section in SECTIONS.items()
        for key in section.model_fields
        if place[:1] == ("image",)
    }
    assert len(named) > len(rows)
    assert set(named) - known == set()


def test_the_handbook_and_the_reference_name_the_queues_and_who_reads_them() -> None:
    queues = Queues(forwarders={"f99": "f99_consume"})
    readers = {
        "archiver": "Archiver",
        "controller": "Archive Controller",
        "oods": "OODS",
        "forwarder/f99": "the forwarder `f99`",
    }
    ours = {queue: readers[queues.address_of(queue)] for queue in queues.all}
    handbook = _rows((HANDBOOK / "messages.md").read_text("utf-8"), "queue")
    assert {queue.strip("`"): reader for queue, _, reader in handbook} == ours
    reference = (ROOT / "docs" / "reference" / "site-file.md").read_text("utf-8")
    keys = _rows(reference.partition("### `image.bus.queues`")[2], "key")
    defaults = {key.strip("`"): (default.strip("`"), reader) for key, _, reader, default in keys}
    assert defaults == {key: (name, ours[name]) for key in defaults if (name := getattr(queues, key))}
    assert len(defaults) == len(ours) - 1


def test_the_version_history_begins_with_this_version() -> None:
    newest, *_ = _rows(_section("Version history"), "version")
    assert newest[0] == __version__
