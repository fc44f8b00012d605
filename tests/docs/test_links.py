"""Nothing that the pages point at is missing: files, anchors, make targets, tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE_FILE = re.compile(r"`((?:src/skystow|tests|docs|examples|bench)/[\w./-]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py(?:::\w+){0,2})`")
EVIDENCE = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        there = next((each for each in (there, there.with_suffix(".md")) if each.is_file()), there)
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = SOURCE_FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists() and not name.startswith("docs/_build")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named - targets == set()


def test_the_evidence_names_tests_that_exist() -> None:
    """Asked of pytest itself: much of it is inherited from the contract suites."""
    named = set(TEST.findall(EVIDENCE))
    files = sorted({name.partition("::")[0] for name in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert collected.returncode == 0, collected.stdout
    known: set[str] = set()
    for line in collected.stdout.splitlines():
        parts = line.partition("[")[0].split("::")
        known |= {"::".join(parts[:n]) for n in range(1, len(parts) + 1)}
    assert named - known == set()


def test_every_row_of_the_evidence_names_its_proof_or_says_none() -> None:
    rows = [line for line in EVIDENCE.splitlines() if line.startswith("| ") and not line.startswith("| item ")]
    assert rows
    assert [row for row in rows if not TEST.search(row) and "| none" not in row] == []
