"""What stands in README and docs/ is true: links, code, commands and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import PAGES, ROOT, ROOT_PAGES, anchors, code_blocks, commands, name_of

from record.__main__ import build_parser as record_parser
from record.launch import arguments as run_arguments
from replay.cli import parser as replay_parser

README = ROOT / "README.md"
# Pages on which every option is one of ours; elsewhere those of torchrun and of scripts/ are named.
OPTION_PAGES = [README, *(ROOT / "docs" / f"{name}.md" for name in ("replay", "record", "page"))]


def options_of_the_parsers() -> set[str]:
    words = "\n".join(
        [run_arguments.USAGE]
        + [parser.format_help() for parser in parsers(replay_parser.build_parser())]
        + [parser.format_help() for parser in parsers(record_parser())]
    )
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", words))


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            yield from action.choices.values()


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        path, _, fragment = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{target}: no such file"
        if fragment:
            assert fragment in anchors(there), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_can_be_compiled(page: Path) -> None:
    for number, block in enumerate(code_blocks(page, "python")):
        compile(block, f"{name_of(page)}, block {number}", "exec")


@pytest.mark.parametrize("page", OPTION_PAGES, ids=name_of)
def test_every_option_on_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text()))
    assert named
    assert named <= options_of_the_parsers()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_every_command_on_a_page_is_understood(page: Path) -> None:
    for program, *words in commands(page):
        if program == "replay":
            if words[0] != "--help":
                replay_parser.parse(replay_parser.spell_out(words))
        elif words[0] == "run" and words[1:]:
            run_arguments.parse(words[1:])
        elif words[0] not in ("run", "--help"):
            record_parser().parse_args(words)


def test_scripts_that_are_named_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"(?<![\w/.-])(?:scripts|tests)/[\w./-]+\w", page.read_text()):
            assert (ROOT / path).exists(), f"{name_of(page)}: {path}"


def test_the_root_pages_are_there() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= {page.name for page in ROOT_PAGES}
