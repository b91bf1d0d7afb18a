"""Shell completion, made by shtab from the parser itself."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from replay.schema import OptionError

_FILES = ("FILE", "run.h5")


def script(parser: argparse.ArgumentParser, program: str, shell: str) -> str:
    """What a shell has to run to complete the words of a program.

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
