"""What MkDocs asks for when it builds the site: options from the parsers, pages of the root folder.

A page names a command in a comment, `<!-- options: replay animate -->`, and gets its table of
options there, from the parser that reads them. `README.md` and its like are pages of the site, too:
their links into `docs/` are made to fit.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the packages of this checkout, whatever is installed

from record.__main__ import build_parser as record_parser  # noqa: E402
from record.launch.arguments import USAGE as RUN_USAGE  # noqa: E402
from replay.cli.parser import build_parser as replay_parser  # noqa: E402

# Pages of the site that lie in the root folder, where people look for them first.
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "ARCHITECTURE.md": "architecture.md",
}
EVERYWHERE = ("--help", "--debug")  # options of every command, which no table repeats

_MARKER = re.compile(r"^<!-- options: (record|replay) ([a-z]+) -->$", re.MULTILINE)
_DEFAULT = re.compile(r" *\(?default: ([^();]+)\)?")


class Option(NamedTuple):
    """One option of a command.

    Attributes:
        names: As they are typed, with what stands for the value: `-o FILE`, `--out FILE`.
        default: What holds without it; empty where there is nothing to say.
        help: What it does.
    """

    names: tuple[str, ...]
    default: str
    help: str


class Command(NamedTuple):
    """One command of `record` or `replay`.

    Attributes:
        summary: What it does, in a sentence.
        options: Its options and arguments, but for `EVERYWHERE`.
        epilog: What its help ends with: notes and examples.
    """

    summary: str
    options: tuple[Option, ...]
    epilog: str


def commands() -> dict[str, Command]:
    """All commands of both programs, by their names: `replay animate`, `record run`."""
    found: dict[str, Command] = {}
    for program, parser in (("record", record_parser()), ("replay", replay_parser())):
        for name, command in _subparsers(parser).items():
            options = tuple(_options(command))
            summary = " ".join((command.description or "").split())
            found[f"{program} {name}"] = Command(summary, options, command.epilog or "")
    found["record run"] = _run_command(RUN_USAGE)
    return found


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        names = action.option_strings or [str(action.metavar or action.dest)]
        if set(names) & set(EVERYWHERE) or isinstance(action, argparse._SubParsersAction):
            continue
        value = ""
        if action.option_strings and action.nargs != 0:
            value = str(
                action.metavar or "|".join(map(str, action.choices or [action.dest.upper()]))
            )
            value += " ..." if action.nargs == "+" else ""
        elif action.choices:
            value = "|".join(map(str, action.choices))
        text, default = _split_default(action.help or "", action.default)
        if action.option_strings and action.nargs == 0:
            default = ""  # a switch is off unless it is given
        yield Option(tuple(f"{name} {value}".strip() for name in names), default, text)


def _split_default(text: str, value: Any) -> tuple[str, str]:
    """The help without the default that it ends with, and the default."""
    said = _DEFAULT.search(text)
    if said is not None:
        return (text[: said.start()] + text[said.end() :]).strip(" ;"), said[1].strip()
    named = value not in (None, argparse.SUPPRESS) and not isinstance(value, (bool, list))
    return text, str(value) if named else ""


def _run_command(usage: str) -> Command:
    """`record run` from its usage: it reads its words by itself, since a script's come behind."""
    summary = usage.split("\n\n")[1].replace("\n", " ")
    lines = usage.split("options:\n")[1].split("\n\n")[0].splitlines()
    texts: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("  -"):
            names, _, text = line.strip().partition("  ")
            texts.append((names, [text.strip()]))
        else:
            texts[-1][1].append(line.strip())
    options = [Option(("script.py, or -m package.module",), "", "the script and its arguments")]
    for names, words in texts:
        text, default = _split_default(" ".join(words), None)
        each = [name for name in re.findall(r"--?[a-z][a-z-]*", names) if name != "-h"]
        if set(each) & set(EVERYWHERE):
            continue
        value = re.sub(r"(--?[a-z][a-z-]*,?\s*)+", "", names, count=1).strip()
        options.append(Option(tuple(f"{n} {value}".strip() for n in each), default, text))
    return Command(summary, tuple(options), "examples:\n" + usage.split("examples:\n")[1])


def table(name: str, command: Command) -> str:
    """What a command does, its options as a table in Markdown, and what its help ends with."""
    summary = command.summary[:1].lower() + command.summary[1:]
    rows = [
        f"**`python -m {name}`**: {summary}",
        "",
        "| option | default | what it does |",
        "|---|---|---|",
    ]
    for option in command.options:
        names = "<br>".join(f"<code>{html.escape(name)}</code>" for name in option.names)
        default = html.escape(option.default)
        if default and " " not in default:  # a value, not words about it
            default = f"<code>{default}</code>"
        cells = (names, default, html.escape(option.help, quote=False))
        rows.append("| " + " | ".join(cell.replace("|", "&#124;") for cell in cells) + " |")
    epilog = command.epilog.strip("\n")
    return "\n".join(rows) + (f"\n\n```text\n{epilog}\n```" if epilog else "")


def with_options(markdown: str) -> str:
    """A page with each of its markers replaced by the options of the command that it names.

    Raises:
        KeyError: There is no such command.
    """
    known = commands()

    def options(found: re.Match[str]) -> str:
        name = f"{found[1]} {found[2]}"
        return table(name, known[name])

    return _MARKER.sub(options, markdown)


def as_site_page(markdown: str) -> str:
    """A page of the root folder with its links as they are seen from `docs/`."""
    for name, page in ROOT_PAGES.items():
        markdown = re.sub(rf"\]\({re.escape(name)}(#[^)]*)?\)", rf"]({page}\1)", markdown)
    return markdown.replace("](docs/", "](")


# MkDocs calls these by their names.


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie in the root folder."""
    from mkdocs.structure.files import File

    for name, page in ROOT_PAGES.items():
        text = as_site_page((ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the options in."""
    return with_options(markdown)
