"""The page on the command line and the program know the same commands and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from skystow.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
INTRODUCTION, *_ = PAGE.split("\n## ")
SECTIONS = dict(re.findall(r"^## `([\w -]+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _options(command: Any) -> set[str]:
    parameters = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
    return {flag for each in parameters for flag in (*each.opts, *each.secondary_opts)}


def _argument(argument: Any) -> str:
    written = argument.metavar if argument.required else f"[{argument.metavar}]"
    return f"{written}..." if argument.nargs != 1 else f"{written}"


def test_every_command_has_a_section_and_no_section_is_left_over() -> None:
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_section_names_the_options_of_its_command_and_no_others(name: str) -> None:
    named = set(re.findall(r"`(-{1,2}[a-z][a-z-]*)", SECTIONS[name]))
    assert named == _options(COMMANDS[name])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_section_shows_the_arguments_of_its_command(name: str) -> None:
    arguments = [each for each in COMMANDS[name].params if each.param_type_name == "argument"]
    shown = " ".join(_argument(each) for each in arguments)
    assert f"`skystow {name} {shown}" in SECTIONS[name].replace("--reason WHY", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_commands_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`(skystow [^`]+)`", text)
    named = set(re.findall(r"(?:^|bin/)skystow ([a-z][a-z-]*)", "\n".join(code), re.MULTILINE))
    assert named <= {name.split()[0] for name in COMMANDS}


def test_the_options_of_all_are_introduced() -> None:
    for option in ("--help", "--version", "--json", "--ledger", "--quiet"):
        assert f"`{option}" in INTRODUCTION or f"skystow {option}" in INTRODUCTION
