"""The words of the command line, and what they mean: all commands, parsed into options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from replay.browsercommands import add_page, add_watch
from replay.checkcommands import add_health, add_info, add_verify
from replay.copycommands import add_export, add_repair
from replay.figurecommands import add_grid, add_sheet
from replay.filmcommands import add_animate, add_compare
from replay.options import Commands, Parser

_SHELLS = ("bash", "zsh", "fish", "tcsh")

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
  python -m replay page run.h5 -o report.html
  python -m replay watch run.h5

'python -m replay COMMAND --help' describes the options of a command.
"""
_COMPLETION_EXAMPLES = """\
examples:
  eval "$(mapreel-replay completion bash)"                  in ~/.bashrc
  mapreel-replay completion zsh > ~/.zfunc/_mapreel-replay
"""


def spell_out(words: Sequence[str]) -> list[str]:
    """Words as argparse cannot mistake them.

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
        elif word.startswith("-") or not {"animate", "compare", "page", "watch"} & set(words):
            spelled.append(word)
            option = word
        elif option == "--layer" and not word.endswith((".h5", ".hdf5")):
            if spelled[-1] == "--layer":
                spelled.pop()
            spelled.append(f"--layer={word}")
        else:
            spelled.append(word)
            option = ""
    return spelled


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options; recordings may stand before, between and after them.

    Args:
        words: Spelled out.

    Returns:
        What was asked for; `call` of it runs the command.

    Raises:
        SystemExit: Help was asked for, or the words are wrong; either has been said.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    if rest and (not hasattr(options, "recordings") or any(word[:1] == "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.recordings += rest
    return options


def _parser() -> Parser:
    common = Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
    )
    parser = Parser(
        prog="python -m replay",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    commands = Commands(parser, common)
    for add in (
        *(add_info, add_verify, add_health, add_repair),
        *(add_animate, add_compare, add_grid, add_sheet),
        *(add_export, add_page, add_watch, _add_completion),
    ):
        add(commands)
    return parser


def _add_completion(commands: Commands) -> None:
    parser = commands.add(
        "completion",
        _completion,
        "print what makes a shell complete the words of mapreel-replay",
        _COMPLETION_EXAMPLES,
        recordings=False,
    )
    parser.add_argument("shell", choices=_SHELLS)


def _completion(options: argparse.Namespace) -> None:
    from replay.completion import script

    print(script(_parser(), "mapreel-replay", options.shell))
