"""The site: every command and every option has its place, and all that is public its entry."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator

import pytest
from documents import PAGES, ROOT, name_of, site_hooks

import record
import replay

HOOKS = site_hooks()
MARKER = re.compile(r"^<!-- options: (\w+ \w+) -->$", re.MULTILINE)
IDENTIFIER = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
MARKED = {
    command: HOOKS.with_options(f"<!-- options: {command} -->")
    for page in PAGES
    for command in MARKER.findall(page.read_text())
}


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for program, parser in (("record", HOOKS.record_parser()), ("replay", HOOKS.replay_parser())):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    yield f"{program} {name}", command


@pytest.mark.parametrize(("command", "parser"), list(parsers()), ids=lambda value: str(value)[:40])
def test_every_command_has_its_options_on_a_page(
    command: str, parser: argparse.ArgumentParser
) -> None:
    shown = MARKED[command]
    for action in parser._actions:
        for option in action.option_strings:
            if option not in ("-h", *HOOKS.EVERYWHERE):
                assert re.search(rf"<code>{re.escape(option)}[ <]", shown), option


def test_the_options_of_record_run_are_all_shown() -> None:
    usage = HOOKS.RUN_USAGE.split("options:\n")[1].split("examples:\n")[0]
    named = set(re.findall(r"^  .*?(--[a-z-]+)", usage, re.MULTILINE)) - set(HOOKS.EVERYWHERE)
    assert len(named) > 8
    for option in named:
        assert f"<code>{option}" in MARKED["record run"]


def test_options_of_every_command_are_named_once() -> None:
    for page in ("record", "replay"):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        assert all(f"`{option}`" in text for option in HOOKS.EVERYWHERE)


def test_defaults_are_shown() -> None:
    animate = MARKED["replay animate"]
    assert "| <code>--cmap NAME</code> | <code>gray</code> | a matplotlib colormap |" in animate
    assert "<code>-o FILE</code><br><code>--out FILE</code> | <code>run.mp4</code> |" in animate


def test_a_command_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KeyError):
        HOOKS.with_options("<!-- options: replay nothing -->")


def entries() -> dict[str, str]:
    """All that the API reference describes, by the page on which it does."""
    return {
        name: name_of(page)
        for page in sorted((ROOT / "docs" / "api").glob("*.md"))
        for name in IDENTIFIER.findall(page.read_text())
    }


@pytest.mark.parametrize("package", [record, replay], ids=lambda package: package.__name__)
def test_all_that_is_public_is_in_the_reference(package) -> None:
    described = {getattr(package, name) for name in package.__all__ if name != "__version__"}
    assert described <= {resolve(name) for name in entries() if "lightning" not in name}


def resolve(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", sorted(entries()))
def test_what_the_reference_describes_says_what_it_is(name: str) -> None:
    if "lightning" in name:
        pytest.importorskip("lightning")
    described = resolve(name)
    assert described.__doc__, name
    assert described.__doc__.strip().endswith((".", ":", ")")), name


FUNCTIONS = [
    getattr(package, name)
    for package in (record, replay)
    for name in package.__all__
    if inspect.isfunction(getattr(package, name))
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_says_what_it_takes_gives_and_raises(function) -> None:
    text = inspect.getdoc(function)
    assert text is not None
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^    \**{parameter}: ", text, re.MULTILINE), parameter
    for section in ("Args", "Returns", "Raises"):
        assert f"\n{section}:\n" in text, section


def test_what_a_docstring_refers_to_can_be_seen_by_its_reader() -> None:
    """A user of `replay.grid` does not know in which module the rules for channels lie."""
    for function in FUNCTIONS:
        referred = re.findall(r"(?:[Aa]s in|see) `([\w.]+)`", inspect.getdoc(function) or "")
        assert [name for name in referred if not hasattr(replay, name.split(".")[-1])] == []


def test_pages_of_the_root_folder_fit_into_the_site() -> None:
    page = "[a](docs/replay.md#animate) [b](CHANGELOG.md) ![c](docs/pictures/conv1.gif)"
    assert HOOKS.as_site_page(page) == (
        "[a](replay.md#animate) [b](changelog.md) ![c](pictures/conv1.gif)"
    )
    assert all((ROOT / name).exists() for name in HOOKS.ROOT_PAGES)
