"""The command line: the parser with all commands, what it makes of words, shell completion."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Sequence
from typing import Any

from replay.cli.figures import add_grid, add_sheet
from replay.cli.files import add_export, add_fetch, add_health, add_info, add_repair, add_verify
from replay.cli.films import add_animate, add_compare
from replay.cli.options import Commands
from replay.cli.packing import add_pack, add_unpack
from replay.cli.pages import add_page, add_watch
from replay.cli.push import add_push
from replay.options import LAYER_FLAGS
from replay.schema import OptionError
from replay.schema.addresses import is_address
from replay.schema.arguments import HelpText, Parser, ShowVersion, print_help, spoken
from replay.schema.faces import program

SHELLS = ("bash", "zsh", "fish", "tcsh")
_SEVERAL = {  # take several layers
    *("animate", "compare", "grid", "pack", "page", "push", "sheet", "watch"),
}
_FILES = ("FILE", "run.h5")  # what stands for a file in the help

_DESCRIPTION = """\
Turns a recording of feature maps into animations, figures and pages.
"""
_EXAMPLES = """\
examples:
  python -m replay info run.h5
  python -m replay animate run.h5 -o run.mp4
  python -m replay animate run.h5 -o run.gif --layer conv1 --channels top:16
  python -m replay compare a.h5 b.h5 -o both.mp4 --difference
  python -m replay grid run.h5 -o grid.pdf --epoch 0,2,-1 --kernels
  python -m replay health run.h5
  python -m replay pack run.h5 -o small.h5
  python -m replay page run.h5 -o report.html
  python -m replay watch run.h5

'python -m replay help COMMAND' describes the options of a command.
"""
_HELP_EXAMPLES = """\
examples:
  python -m replay help
  python -m replay help animate
"""
_COMPLETION_EXAMPLES = """\
examples:
  eval "$(mapreel-replay completion bash)"                  in ~/.bashrc
  mapreel-replay completion zsh > ~/.zfunc/_mapreel-replay
"""


def spell_out(words: Sequence[str]) -> list[str]:
    """Returns words as argparse cannot mistake them.

    `--clip -1,1` becomes `--clip=-1,1`, since the value looks like an option, `--probe` without a
    number `--probe=0`, and `--layer a b run.h5` becomes `--layer=a --layer=b run.h5`, since an
    option with several values would take the recording for the last of them.
    """
    spelled: list[str] = []
    option = ""
    for place, word in enumerate(words):
        if word == "--probe" and not re.fullmatch(r"-?\d+", "".join(words[place + 1 : place + 2])):
            spelled.append("--probe=0")
            option = ""
        elif re.match(r"-[\d.:]", word) and re.fullmatch(r"--[a-z]+", option):
            spelled[-1] = f"{option}={word}"
            option = ""
        elif word.startswith("-") or not _SEVERAL & set(words):
            spelled.append(word)
            option = word
        elif option in LAYER_FLAGS and not _is_recording(word):
            if spelled[-1] == option:
                spelled.pop()
            spelled.append(f"--layer={word}")
        else:
            spelled.append(word)
            option = ""
    return spelled


def _is_recording(word: str) -> bool:
    return word.endswith((".h5", ".hdf5")) or is_address(word)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parses the words; recordings may stand before, between and after them.

    Args:
        words: Spelled out.

    Returns:
        What was asked for; `call` of it runs the command.

    Raises:
        SystemExit: Help was asked for, or the words are wrong; either has been said.
    """
    parser = build_parser()
    parser.check_options(words)
    options, rest = parser.parse_known_args(words)
    if rest and (not hasattr(options, "recordings") or any(word[:1] == "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.recordings += rest
    return options


def build_parser() -> Parser:
    """Returns the parser of the whole command line."""
    common = Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
    )
    parser = Parser(
        prog=program("replay"),
        description=_DESCRIPTION,
        epilog=spoken(_EXAMPLES),
        formatter_class=HelpText,
        parents=[common],
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = Commands(parser, common)
    for add in (
        *(add_info, add_verify, add_health, add_repair, add_fetch),
        *(add_animate, add_compare, add_grid, add_sheet),
        *(add_pack, add_unpack, add_push),
        *(add_export, add_page, add_watch, _add_help, _add_completion),
    ):
        add(commands)
    return parser


def _add_help(commands: Commands) -> None:
    parser = commands.add(
        "help", _help, "describe a command", spoken(_HELP_EXAMPLES), recordings=False
    )
    parser.add_argument("about", metavar="COMMAND", nargs="*")


def _help(options: argparse.Namespace) -> None:
    print_help(build_parser(), options.about)


def _add_completion(commands: Commands) -> None:
    parser = commands.add(
        "completion",
        _completion,
        "print what makes a shell complete the words of mapreel-replay",
        _COMPLETION_EXAMPLES,
        recordings=False,
    )
    parser.add_argument("shell", choices=SHELLS)


def _completion(options: argparse.Namespace) -> None:
    print(script(build_parser(), "mapreel-replay", options.shell))


def script(parser: argparse.ArgumentParser, program: str, shell: str) -> str:
    """Returns what a shell has to run to complete the words of a program.

    Args:
        parser: The program's parser.
        program: The command's name, as it was installed.
        shell: `bash`, `zsh`, `fish` or `tcsh`.

    Raises:
        OptionError: shtab is not installed.
    """
    try:
        shtab: Any = importlib.import_module("shtab")
    except ImportError as error:
        raise OptionError(
            "completion: shtab is not installed; pip install 'mapreel[completion]'"
        ) from error
    parser.prog = program
    _mark_files(parser, shtab.FILE)
    made: str = shtab.complete(parser, shell=shell)
    return made


def _mark_files(parser: argparse.ArgumentParser, files: Any) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_files(command, files)
        elif action.metavar in _FILES:
            action.complete = files  # type: ignore[attr-defined]
