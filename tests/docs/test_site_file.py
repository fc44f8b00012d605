"""The page on the site file and the program know the same keys; the examples are site files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from skystow.config import load, read
from skystow.config.model import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "site-file.md").read_text(encoding="utf-8")
DOCS = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)

HEADINGS = {
    (): "The site",
    ("sources", "directory"): "`directory`",
    ("sources", "directory", "host"): "`host`",
    ("sources", "directory", "retire"): "`retire`",
    ("sources", "pysmurf_files"): "`pysmurf_files`",
    ("sources", "pysmurf_files", "host"): "`host`",
    ("sources", "pysmurf_files", "table"): "`table`",
    ("sources", "pysmurf_files", "table", "tls"): "`ledger.tls`",
    ("sources", "pysmurf_files", "retire"): "`retire`",
    ("sources", "suprsync"): "`suprsync`",
    ("sources", "suprsync", "finalize"): "`finalize`",
    ("sources", "suprsync", "retire"): "`retire`",
    ("destinations", "posix"): "`destinations`",
    ("destinations", "remote"): "`destinations`",
    ("destinations", "remote", "host"): "`host`",
    ("destinations", "hardlink"): "`destinations`",
    ("destinations", "posix", "batch"): "`batch`",
    ("destinations", "remote", "batch"): "`batch`",
    ("destinations", "hardlink", "batch"): "`batch`",
    ("retry",): "`retry`",
    ("ledger", "server"): "`ledger`",
    ("ledger", "server", "tls"): "`ledger.tls`",
    ("image",): "`image`",
    ("image", "archiver"): "`image.archiver`",
    ("image", "controller"): "`image.controller`",
    ("image", "staging"): "`image.staging`",
    ("image", "backbone"): "`image.backbone`",
    ("image", "oods"): "`image.oods`",
    ("image", "oods", "expire"): "`image.oods.expire`",
    ("image", "forwarders"): "`image.forwarders`",
    ("image", "forwarders", "host"): "`host`",
    ("image", "forwarders", "camera", "raw"): "`camera: raw`",
    ("image", "forwarders", "camera", "simulated"): "`camera: simulated`",
    ("image", "bus"): "`image.bus`",
    ("image", "bus", "tls"): "`image.bus.tls`",
    ("image", "bus", "queues"): "`image.bus.queues`",
    ("image", "scoreboard"): "`image.scoreboard`",
    ("image", "scoreboard", "tls"): "`image.bus.tls`",
    ("image", "sal"): "`image.sal`",
}


def _documented(heading: str) -> set[str]:
    """The keys in the tables below a heading, up to the next one."""
    section = re.split(rf"^##+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_section_of_a_site_file_has_its_place_on_the_page() -> None:
    assert set(HEADINGS) == set(SECTIONS)


@pytest.mark.parametrize("heading", sorted(set(HEADINGS.values())))
def test_the_page_has_the_keys_of_the_program_and_no_others(heading: str) -> None:
    sections = [section for place, section in SECTIONS.items() if HEADINGS[place] == heading]
    assert _documented(heading) == {key for section in sections for key in section.model_fields}


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_site_file(example: Path) -> None:
    site = load(str(example))
    assert site.sources or site.image


def _snippets() -> list[str]:
    blocks = [block for page in DOCS for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    return [block for block in blocks if "sources:" in block]


def test_the_site_files_in_the_text_are_site_files(tmp_path: Path) -> None:
    snippets = _snippets()
    assert snippets
    for snippet in snippets:
        assert read(snippet, directory=str(tmp_path)).destinations
