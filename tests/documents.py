"""The pages of documentation as the tests see them: their code, their commands, their links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = tuple(sorted(ROOT.glob("*.md")))
PAGES = (*ROOT_PAGES, *sorted((ROOT / "docs").rglob("*.md")))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def site_hooks() -> ModuleType:
    """The module that MkDocs calls when it builds the site."""
    spec = importlib.util.spec_from_file_location(
        "site_hooks", ROOT / "scripts" / "docs_tools" / "hooks.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; an empty one for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [code for name, code in found if name == language]


def commands(page: Path) -> list[list[str]]:
    """The words of each `python -m record ...` and `python -m replay ...` on a page.

    Without those that say how a command is formed: with `[`, `...` or COMMAND.
    """
    lines = re.findall(r"python -m ((?:record|replay) [^`\n#|]+)", page.read_text())
    return [shlex.split(line) for line in lines if not re.search(r"\[|\.\.\.|COMMAND", line)]


def anchors(page: Path) -> set[str]:
    """The fragments by which the headings of a page are reached, on the site as on a forge."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-") for words in headings}
